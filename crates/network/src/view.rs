//! What can be seen of a network at any time, without asking the swarm.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub peer: PeerId,
    /// The other end of the connection.
    pub address: Multiaddr,
    /// Where it says that it can be reached.
    pub listens: Vec<Multiaddr>,
    /// Whether this node has dialled it.
    pub outbound: bool,
    /// What it calls itself; empty until it has been identified.
    pub agent: String,
    pub protocols: Vec<String>,
    /// What gossip and the application think of it together.
    pub score: f64,
    pub round_trip: Option<Duration>,
    pub since: Instant,
}

/// A banned peer.
#[derive(Clone, Debug)]
pub struct Ban {
    pub peer: PeerId,
    pub until: Instant,
    pub reason: String,
}

/// Counters since the start.
#[derive(Default)]
pub struct Statistics {
    pub messages_received: AtomicU64,
    pub messages_published: AtomicU64,
    /// Nobody found room for them.
    pub messages_dropped: AtomicU64,
    /// Their senders had used up their budgets.
    pub messages_over_budget: AtomicU64,
    /// Nobody judged them in time.
    pub messages_expired: AtomicU64,
    pub messages_accepted: AtomicU64,
    pub messages_ignored: AtomicU64,
    pub messages_rejected: AtomicU64,
    pub requests_received: AtomicU64,
    pub requests_refused: AtomicU64,
    pub requests_sent: AtomicU64,
    /// By this node, by peers, and those of peers for which there was no room.
    pub streams_opened: AtomicU64,
    pub streams_accepted: AtomicU64,
    pub streams_refused: AtomicU64,
    pub connections_refused: AtomicU64,
    pub dials_failed: AtomicU64,
    pub bans: AtomicU64,
    /// Levels, not counters.
    pub messages_pending: AtomicU64,
    pub streams_open: AtomicU64,
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Statistics {
    /// Every counter by its name.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        [
            ("messages_received", &self.messages_received),
            ("messages_published", &self.messages_published),
            ("messages_dropped", &self.messages_dropped),
            ("messages_over_budget", &self.messages_over_budget),
            ("messages_expired", &self.messages_expired),
            ("messages_accepted", &self.messages_accepted),
            ("messages_ignored", &self.messages_ignored),
            ("messages_rejected", &self.messages_rejected),
            ("requests_received", &self.requests_received),
            ("requests_refused", &self.requests_refused),
            ("requests_sent", &self.requests_sent),
            ("streams_opened", &self.streams_opened),
            ("streams_accepted", &self.streams_accepted),
            ("streams_refused", &self.streams_refused),
            ("connections_refused", &self.connections_refused),
            ("dials_failed", &self.dials_failed),
            ("bans", &self.bans),
            ("messages_pending", &self.messages_pending),
            ("streams_open", &self.streams_open),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .to_vec()
    }
}

/// What the swarm's thread writes and everybody reads.
#[derive(Default)]
pub struct View {
    pub statistics: Statistics,
    seen: Mutex<Seen>,
}

#[derive(Default)]
pub struct Seen {
    pub peers: HashMap<PeerId, PeerView>,
    pub bans: HashMap<PeerId, Ban>,
    pub listening: Vec<Multiaddr>,
}

impl View {
    pub fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
