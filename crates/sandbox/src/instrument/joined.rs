//! Values that are read as one: what a local may hold at a read, or what a `select` chooses from. Decides for each such
//! web whether its values are canonicalised before they get in, or where they are read.

use super::nan::{Point, Value};
use super::webs::{Place, Trace};
use crate::operators::Shape;

/// Nested loops that count for how often something runs, eight times each.
const LOOPS_THAT_COUNT: u32 = 15;

/// Places whose values are read as one.
#[derive(Clone, Copy, Default)]
pub(super) struct Web {
    /// The one shape of the arithmetic results it holds.
    pub shape: Option<Shape>,
    /// Holds bits from elsewhere: arithmetic results are canonicalised before they get in.
    exact: bool,
    /// Holds canonical bits only, because it is read more often than written.
    settled: bool,
    written: u64,
    observed: u64,
}

impl Web {
    /// Whether the bits of what is read here are determined already.
    pub fn determined(&self) -> bool {
        self.exact || self.settled
    }

    /// Learns of something it is given; tells whether that was news.
    fn take(&mut self, exact: bool, shape: Option<Shape>) -> bool {
        let before = (self.exact, self.shape);
        self.exact |= exact || (shape.is_some() && self.shape.is_some() && self.shape != shape);
        self.shape = self.shape.or(shape);
        (self.exact, self.shape) != before
    }
}

/// What was decided.
pub(super) struct Joined {
    pub webs: Vec<Web>,
    /// For each point the web that is read there.
    pub read_by: Vec<Option<u32>>,
}

/// Joins places to webs, and marks the points whose results must be canonical before they get into one.
pub(super) fn joined(
    points: &mut [Point],
    trace: &Trace,
    parameters: u32,
    set_to: &[Value],
    chosen: &[(u32, [Value; 2])],
) -> Joined {
    let places = trace.places + chosen.len() as u32;
    let selects = || (trace.places..).zip(chosen);
    let live = live(places, trace);
    let mut union = Union((0..places).collect());
    for &(from, to) in trace.edges.iter().filter(|edge| live[edge.1 as usize]) {
        union.join(from, to);
    }
    let mut read_by = vec![None; points.len()];
    for &(place, point) in &trace.gets {
        read_by[point as usize] = Some(union.find(place));
    }
    for (place, (point, _)) in selects() {
        read_by[*point as usize] = Some(place);
    }
    let mut given: Vec<(u32, Value)> = Vec::new();
    let sets = trace.sets.iter().filter(|set| live[set.0 as usize]);
    given.extend(sets.map(|&(place, value)| (union.find(place), set_to[value as usize])));
    given.extend(selects().flat_map(|(place, (_, values))| values.map(|value| (place, value))));

    let mut webs = vec![Web::default(); places as usize];
    let from_elsewhere = if trace.unknown { trace.places } else { parameters };
    for place in 0..from_elsewhere {
        webs[union.find(place) as usize].exact |= live[place as usize];
    }
    for &(web, value) in &given {
        take(&mut webs[web as usize], value, points, &read_by);
    }
    spread(&mut webs, &given, &read_by);
    settle(&mut webs, points, &given, &read_by);
    for &(web, value) in &given {
        if let Value::From { point, .. } = value
            && webs[web as usize].determined()
        {
            points[point as usize].observed = true;
        }
    }
    Joined { webs, read_by }
}

/// Places from which values can reach a read.
fn live(places: u32, trace: &Trace) -> Vec<bool> {
    let mut edges = trace.edges.clone();
    edges.sort_unstable_by_key(|edge| edge.1);
    let mut live = vec![false; places as usize];
    let mut waiting: Vec<Place> = trace.gets.iter().map(|get| get.0).collect();
    while let Some(place) = waiting.pop() {
        if std::mem::replace(&mut live[place as usize], true) {
            continue;
        }
        let first = edges.partition_point(|edge| edge.1 < place);
        waiting.extend(edges[first..].iter().take_while(|edge| edge.1 == place).map(|edge| edge.0));
    }
    live
}

fn take(web: &mut Web, value: Value, points: &mut [Point], read_by: &[Option<u32>]) {
    match value {
        Value::Clean => {}
        Value::From { point, direct: true } => {
            let from = &points[point as usize];
            if read_by[point as usize].is_none() {
                web.take(false, from.shape);
            }
            web.written = web.written.saturating_add(weight(from));
        }
        Value::From { point, direct: false } => {
            points[point as usize].observed = true;
            web.exact = true;
        }
        Value::Exact => web.exact = true,
    }
}

/// Bits from elsewhere, and shapes, spread through copies from web to web until nothing changes.
fn spread(webs: &mut [Web], given: &[(u32, Value)], read_by: &[Option<u32>]) {
    let copy = |&(to, value): &(u32, Value)| match value {
        Value::From { point, .. } => read_by[point as usize].map(|from| (from, to)),
        _ => None,
    };
    let mut copies: Vec<(u32, u32)> = given.iter().filter_map(copy).collect();
    copies.sort_unstable();
    copies.dedup();
    let mut waiting: Vec<u32> = copies.iter().map(|copy| copy.0).collect();
    while let Some(from) = waiting.pop() {
        let Web { exact, shape, .. } = webs[from as usize];
        let first = copies.partition_point(|copy| copy.0 < from);
        for &(_, to) in copies[first..].iter().take_while(|copy| copy.0 == from) {
            if webs[to as usize].take(exact, shape) {
                waiting.push(to);
            }
        }
    }
}

/// What is seen more often than it is made is canonicalised when it is made.
fn settle(webs: &mut [Web], points: &[Point], given: &[(u32, Value)], read_by: &[Option<u32>]) {
    // Copies into webs with determined bits are seen as well.
    let mut observed: Vec<bool> = points.iter().map(|point| point.observed).collect();
    for &(web, value) in given {
        if let Value::From { point, .. } = value {
            observed[point as usize] |= webs[web as usize].exact;
        }
    }
    for ((point, observed), web) in points.iter().zip(observed).zip(read_by) {
        if let Some(web) = web
            && observed
        {
            let web = &mut webs[*web as usize];
            web.observed = web.observed.saturating_add(weight(point));
        }
    }
    for web in webs {
        web.settled = web.shape.is_some() && web.written < web.observed;
    }
}

fn weight(point: &Point) -> u64 {
    1 << (3 * point.loops.min(LOOPS_THAT_COUNT))
}

/// Which places are one.
struct Union(Vec<u32>);

impl Union {
    fn find(&mut self, mut place: u32) -> u32 {
        while self.0[place as usize] != place {
            self.0[place as usize] = self.0[self.0[place as usize] as usize];
            place = self.0[place as usize];
        }
        place
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.find(one), self.find(other));
        // The lower one stays, so that nothing depends on the order.
        self.0[one.max(other) as usize] = one.min(other);
    }
}
