//! Which values of a float local can reach the same read.
//!
//! Compilers keep many variables in one local, one after the other: what was a counter of integers in one loop is a sum
//! of floats in the next. So locals are told apart by the places where they are set, and those are joined only where
//! control flow joins them and somebody reads the result.

/// What a function does that matters here, in the order of its instructions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A float local is set; the number says what to, to the caller.
    Set {
        local: u32,
        value: u32,
    },
    /// A float local is read; the number says where, to the caller.
    Get {
        local: u32,
        read: u32,
    },
    /// `block`, or `try_table` without clauses.
    Block,
    Loop,
    If,
    Else,
    End,
    /// A branch that may be taken, with its relative depth.
    Branch(u32),
    /// What follows cannot be reached from here.
    Leave,
}

/// Places that hold a value: one for each local at the function's start, one for each `set`, one wherever ways join.
pub(super) type Place = u32;

/// Where values come from and go.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Number of places. The first ones are the locals as the function begins.
    pub places: u32,
    /// A value goes from a place to another where ways join.
    pub edges: Vec<(Place, Place)>,
    /// For each `set`, in the order of the events: its place and the caller's number.
    pub sets: Vec<(Place, u32)>,
    /// For each `get`, alike.
    pub gets: Vec<(Place, u32)>,
    /// Nothing was followed: each place holds anything.
    pub unknown: bool,
}

/// Follows the events of a function with `locals` locals. Gives up after `budget` steps, which grow with the square of
/// the function's length if it is written for that.
pub(super) fn trace(events: &[Event], locals: u32, budget: usize) -> Option<Trace> {
    let changed = changed(events, budget)?;
    let mut walk = Walk {
        trace: Trace { places: locals, ..Trace::default() },
        state: (0..locals).collect(),
        frames: Vec::new(),
        reachable: true,
        left: budget,
    };
    let mut opened = changed.iter();
    for event in events {
        match *event {
            Event::Set { local, value } => {
                let place = walk.new_places(1);
                walk.state[local as usize] = place;
                walk.trace.sets.push((place, value));
            }
            Event::Get { local, read } => walk.trace.gets.push((walk.state[local as usize], read)),
            Event::Block | Event::Loop | Event::If => walk.open(*event, opened.next()?)?,
            Event::Else => walk.otherwise()?,
            Event::End => walk.close()?,
            Event::Branch(depth) => {
                if let Some(frame) = walk.frames.len().checked_sub(depth as usize + 1) {
                    walk.join(frame)?;
                }
            }
            Event::Leave => walk.reachable = false,
        }
    }
    Some(walk.trace)
}

/// For each block in the order of their beginnings: the locals that are set inside.
fn changed(events: &[Event], budget: usize) -> Option<Vec<Vec<u32>>> {
    let mut all: Vec<Vec<u32>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut left = budget;
    for event in events {
        match event {
            Event::Block | Event::Loop | Event::If => {
                open.push(all.len());
                all.push(Vec::new());
            }
            Event::Set { local, .. } => {
                if let Some(&block) = open.last() {
                    all[block].push(*local);
                }
            }
            Event::End => {
                let Some(block) = open.pop() else { continue };
                all[block].sort_unstable();
                all[block].dedup();
                left = left.checked_sub(all[block].len())?;
                if let Some(&outer) = open.last() {
                    let (before, inner) = all.split_at_mut(block);
                    before[outer].extend_from_slice(&inner[0]);
                }
            }
            _ => {}
        }
    }
    Some(all)
}

struct Frame<'a> {
    kind: Event,
    /// Locals that are set inside.
    changed: &'a [u32],
    /// First of the places, one for each changed local, where the ways to its label join.
    label: Option<Place>,
    /// What the changed locals hold at the start; kept for `if`.
    before: Vec<Place>,
    reachable_before: bool,
}

struct Walk<'a> {
    trace: Trace,
    /// Where the value of each local is now.
    state: Vec<Place>,
    frames: Vec<Frame<'a>>,
    reachable: bool,
    left: usize,
}

impl<'a> Walk<'a> {
    fn new_places(&mut self, count: usize) -> Place {
        let first = self.trace.places;
        self.trace.places += count as u32;
        first
    }

    fn open(&mut self, kind: Event, changed: &'a [u32]) -> Option<()> {
        let before = match kind {
            Event::If => changed.iter().map(|local| self.state[*local as usize]).collect(),
            _ => Vec::new(),
        };
        self.left = self.left.checked_sub(before.len())?;
        self.frames.push(Frame { kind, changed, label: None, before, reachable_before: self.reachable });
        if matches!(kind, Event::Loop) {
            self.join(self.frames.len() - 1)?;
            self.enter_label(self.frames.len() - 1);
        }
        Some(())
    }

    /// What locals hold here, they may hold at the label of a frame.
    fn join(&mut self, frame: usize) -> Option<()> {
        if !self.reachable {
            return Some(());
        }
        let changed = self.frames[frame].changed;
        self.left = self.left.checked_sub(changed.len())?;
        let label = match self.frames[frame].label {
            Some(label) => label,
            None => self.new_places(changed.len()),
        };
        self.frames[frame].label = Some(label);
        for (&local, place) in changed.iter().zip(label..) {
            let from = self.state[local as usize];
            if from != place {
                self.trace.edges.push((from, place));
            }
        }
        Some(())
    }

    /// Goes on at the label of a frame.
    fn enter_label(&mut self, frame: usize) {
        let frame = &self.frames[frame];
        let Some(label) = frame.label else { return };
        self.reachable = true;
        for (&local, place) in frame.changed.iter().zip(label..) {
            self.state[local as usize] = place;
        }
    }

    fn otherwise(&mut self) -> Option<()> {
        let at = self.frames.len().checked_sub(1)?;
        self.join(at)?;
        self.back_to_the_start(at);
        self.frames[at].kind = Event::Else;
        Some(())
    }

    fn back_to_the_start(&mut self, frame: usize) {
        let frame = &self.frames[frame];
        self.reachable = frame.reachable_before;
        for (&local, &place) in frame.changed.iter().zip(&frame.before) {
            self.state[local as usize] = place;
        }
    }

    fn close(&mut self) -> Option<()> {
        let Some(at) = self.frames.len().checked_sub(1) else { return Some(()) };
        let kind = self.frames[at].kind;
        // From above, and for an `if` without `else` also past it.
        if matches!(kind, Event::If | Event::Else) || (matches!(kind, Event::Block) && self.frames[at].label.is_some())
        {
            self.join(at)?;
        }
        if matches!(kind, Event::If) {
            self.back_to_the_start(at);
            self.join(at)?;
        }
        if !matches!(kind, Event::Loop) {
            self.enter_label(at);
        }
        self.frames.pop();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::Event::{Block, Branch, Else, End, Get, If, Leave, Loop, Set};
    use super::*;

    /// The numbers of the `set`s (the locals' starts count as 1000 and more) that reach each read.
    fn reaching(events: &[Event]) -> Vec<Vec<u32>> {
        let trace = trace(events, 4, 10_000).expect("a small function");
        let name = |place: Place| {
            let set = trace.sets.iter().find(|set| set.0 == place).map(|set| set.1);
            set.or((place < 4).then_some(1000 + place))
        };
        let from = |place: Place| {
            let (mut seen, mut waiting) = (vec![place], vec![place]);
            while let Some(next) = waiting.pop() {
                for (from, _) in trace.edges.iter().filter(|edge| edge.1 == next) {
                    if !seen.contains(from) {
                        seen.push(*from);
                        waiting.push(*from);
                    }
                }
            }
            let mut names: Vec<u32> = seen.into_iter().filter_map(name).collect();
            names.sort_unstable();
            names
        };
        trace.gets.iter().map(|(place, _)| from(*place)).collect()
    }

    fn set(local: u32, value: u32) -> Event {
        Set { local, value }
    }

    const GET: Event = Get { local: 0, read: 0 };

    #[test]
    fn the_last_set_on_a_straight_line_counts() {
        assert_eq!(reaching(&[GET, set(0, 1), GET, set(0, 2), set(1, 3), GET]), [vec![1000], vec![1], vec![2]]);
    }

    #[test]
    fn ways_join_after_an_if() {
        let with_else = [set(0, 1), If, GET, set(0, 2), Else, GET, set(0, 3), End, GET];
        assert_eq!(reaching(&with_else), [vec![1], vec![1], vec![2, 3]]);
        assert_eq!(reaching(&[set(0, 1), If, set(0, 2), End, GET]), [vec![1, 2]]);
        assert_eq!(reaching(&[set(0, 1), If, set(0, 2), Leave, End, GET]), [vec![1]]);
        assert_eq!(reaching(&[set(0, 1), If, set(0, 2), Leave, Else, set(0, 3), End, GET]), [vec![3]]);
    }

    #[test]
    fn a_branch_takes_what_was_set_before_it() {
        let events = [Block, set(0, 1), Branch(0), set(0, 2), Branch(0), Leave, set(0, 3), End, GET];
        assert_eq!(reaching(&events), [vec![1, 2]]);
        let past_a_block = [Block, Block, Branch(1), set(0, 1), End, set(0, 2), End, GET];
        assert_eq!(reaching(&past_a_block), [vec![2, 1000]]);
    }

    #[test]
    fn a_loop_sees_its_own_sets_again() {
        assert_eq!(reaching(&[set(0, 1), Loop, GET, set(0, 2), Branch(0), End, GET]), [vec![1, 2], vec![2]]);
        // Also on a way out that passes the set by.
        let out = [set(0, 1), Block, Loop, Branch(1), set(0, 2), Branch(0), Leave, End, End, GET];
        assert_eq!(reaching(&out), [vec![1, 2]]);
        assert_eq!(reaching(&[set(0, 1), Loop, set(0, 2), Branch(0), GET, End]), [vec![2]]);
        let nested = [Loop, Loop, GET, Branch(0), set(0, 1), Branch(1), End, End];
        assert_eq!(reaching(&nested), [vec![1, 1000]]);
    }

    #[test]
    fn a_function_written_to_be_slow_is_given_up() {
        let locals = 1_000;
        let mut events = vec![Block; 1_000];
        events.extend((0..locals).map(|local| set(local, 0)));
        events.extend([End; 1_000]);
        assert!(trace(&events, locals, 100_000).is_none());
        assert!(trace(&events, locals, 10_000_000).is_some());
    }
}
