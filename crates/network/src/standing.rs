//! What is remembered of a peer while it is connected, and for some time after: its budgets and its reputation.

use std::collections::HashMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use tokio::time::Instant;

use crate::budget::Bucket;
use crate::config::{Budget, Limits};

/// Half of what the application holds against, or for, a peer is forgotten in this time.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Bounds of an application's score, so that no praise buys impunity.
const SCORE_MAX: f64 = 50.0;
const SCORE_MIN: f64 = -100_000.0;
/// Peers that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// A peer may be this many times over its budget of messages before it is held against it: in a busy network an honest
/// one passes on what others made.
const FLOOD: f64 = 4.0;

/// How a message fits its sender's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Within,
    /// It is ignored.
    Over,
    /// It is ignored, and held against the sender.
    Flood,
}

/// What is remembered of a peer.
pub struct Standing {
    messages: Bucket,
    flood: Bucket,
    requests: Bucket,
    score: f64,
    scored: Instant,
    seen: Instant,
}

impl Standing {
    /// Take from its budget of messages.
    pub fn send(&mut self, now: Instant) -> Pace {
        match (self.flood.take(now), self.messages.take(now)) {
            (true, true) => Pace::Within,
            (true, false) => Pace::Over,
            (false, _) => Pace::Flood,
        }
    }

    /// Take from its budget of requests.
    pub fn may_ask(&mut self, now: Instant) -> bool {
        self.requests.take(now)
    }

    /// What the application thinks of it.
    pub fn score(&mut self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.scored).as_secs_f64();
        self.score *= 0.5_f64.powf(passed / HALF_LIFE.as_secs_f64());
        self.scored = now;
        self.score
    }

    /// Change what the application thinks of it.
    pub fn change(&mut self, delta: f64, now: Instant) -> f64 {
        self.score = (self.score(now) + delta).clamp(SCORE_MIN, SCORE_MAX);
        self.score
    }
}

/// What is remembered of everybody; those seen longest ago are forgotten first.
pub struct Standings {
    limits: Limits,
    peers: HashMap<PeerId, Standing>,
}

impl Standings {
    pub fn new(limits: Limits) -> Self {
        Self { limits, peers: HashMap::new() }
    }

    pub fn of(&mut self, peer: PeerId) -> &mut Standing {
        let now = Instant::now();
        if self.peers.len() >= REMEMBERED_MAX && !self.peers.contains_key(&peer) {
            self.forget_older_half();
        }
        let limits = &self.limits;
        let standing = self.peers.entry(peer).or_insert_with(|| Standing {
            messages: Bucket::new(limits.peer_messages),
            flood: Bucket::new(Budget {
                per_second: limits.peer_messages.per_second * FLOOD,
                burst: limits.peer_messages.burst * FLOOD,
            }),
            requests: Bucket::new(limits.peer_requests),
            score: 0.0,
            scored: now,
            seen: now,
        });
        standing.seen = now;
        standing
    }

    /// Forget what the application held against a peer.
    pub fn pardon(&mut self, peer: &PeerId) {
        if let Some(standing) = self.peers.get_mut(peer) {
            standing.score = standing.score.max(0.0);
        }
    }

    fn forget_older_half(&mut self) {
        let mut seen: Vec<Instant> = self.peers.values().map(|standing| standing.seen).collect();
        let middle = seen.len() / 2;
        let (_, median, _) = seen.select_nth_unstable(middle);
        let median = *median;
        self.peers.retain(|_, standing| standing.seen > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::limits;

    #[test]
    fn half_of_a_score_is_forgotten_in_its_time_and_praise_is_bounded() {
        let mut standings = Standings::new(limits());
        let (standing, now) = (standings.of(PeerId::random()), Instant::now());
        assert_eq!(standing.change(1e9, now), SCORE_MAX);
        standing.change(-SCORE_MAX - 80.0, now);
        let later = standing.score(now + HALF_LIFE);
        assert!((later + 40.0).abs() < 0.1, "{later}");
    }

    #[test]
    fn what_is_over_the_budget_is_not_yet_a_flood() {
        let budget = Budget { per_second: 1.0, burst: 10.0 };
        let mut standings = Standings::new(Limits { peer_messages: budget, ..limits() });
        let (standing, now) = (standings.of(PeerId::random()), Instant::now());
        let paces: Vec<Pace> = (0..50).map(|_| standing.send(now)).collect();
        let count = |wanted| paces.iter().filter(|pace| **pace == wanted).count();
        assert_eq!((count(Pace::Within), count(Pace::Over), count(Pace::Flood)), (10, 30, 10));
    }

    #[test]
    fn so_many_peers_are_remembered_and_no_more() {
        let mut standings = Standings::new(limits());
        for _ in 0..REMEMBERED_MAX * 2 {
            standings.of(PeerId::random());
        }
        let last = PeerId::random();
        standings.of(last).change(-7.0, Instant::now());
        assert!(standings.peers.len() <= REMEMBERED_MAX);
        assert!(standings.of(last).score(Instant::now()) < -6.9);
    }
}
