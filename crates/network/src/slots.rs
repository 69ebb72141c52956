//! Places among what is under way, for each peer and for all.

use std::collections::HashMap;
use std::sync::Arc;

use libp2p_identity::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much is under way at a time, for one peer and for all.
pub struct Slots {
    each: usize,
    all: Arc<Semaphore>,
    peers: HashMap<PeerId, Arc<Semaphore>>,
}

/// What one peer may have of it.
#[derive(Clone)]
pub struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// A place, or several, given back when it is dropped.
pub struct Slot(#[allow(dead_code)] (OwnedSemaphorePermit, OwnedSemaphorePermit));

impl Slots {
    /// So many places for each peer, out of those that there are for all.
    pub fn new(each: usize, all: Arc<Semaphore>) -> Self {
        Self { each, all, peers: HashMap::new() }
    }

    /// What this peer may have.
    pub fn of(&mut self, peer: PeerId) -> Share {
        let own = self.peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Share { own: own.clone(), all: self.all.clone() }
    }

    /// A place for this peer, if there is one.
    pub fn take(&mut self, peer: PeerId) -> Option<Slot> {
        self.of(peer).take(1)
    }

    /// A peer is gone; what it has under way keeps its places until it is done or its time is up.
    pub fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }
}

impl Share {
    /// Whether so many places are free now.
    pub fn has(&self, count: usize) -> bool {
        self.own.available_permits().min(self.all.available_permits()) >= count
    }

    /// So many places at once, if there are as many.
    pub fn take(&self, count: usize) -> Option<Slot> {
        let count = u32::try_from(count).ok()?;
        let own = self.own.clone().try_acquire_many_owned(count).ok()?;
        Some(Slot((own, self.all.clone().try_acquire_many_owned(count).ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_peer_and_for_all() {
        let mut slots = Slots::new(2, Arc::new(Semaphore::new(4)));
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        let taken: Vec<Slot> = (0..3).filter_map(|_| slots.take(peers[0])).collect();
        assert_eq!(taken.len(), 2);
        let (_other, third) = ([slots.take(peers[1]), slots.take(peers[1])], slots.take(peers[2]));
        assert!(third.is_none(), "all places are taken");
        // Coming back as somebody new does not help while the old ones are there.
        slots.forget(&peers[0]);
        assert!(slots.take(peers[0]).is_none());
        drop(taken);
        assert!(slots.take(peers[0]).is_some());
    }

    #[test]
    fn several_places_are_had_together_or_not_at_all() {
        let mut slots = Slots::new(5, Arc::new(Semaphore::new(7)));
        let [one, other] = [PeerId::random(), PeerId::random()].map(|peer| slots.of(peer));
        let taken = one.take(3).unwrap();
        assert!(one.take(3).is_none());
        assert!(one.has(2) && !one.has(3));
        let all = other.take(4).unwrap();
        assert!(one.take(1).is_none(), "all places are taken");
        assert!(!one.has(1));
        drop((taken, all));
        assert!(one.take(6).is_none());
        assert!(one.take(5).is_some());
    }
}
