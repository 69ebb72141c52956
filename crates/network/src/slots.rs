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

/// A place, given back when it is dropped.
pub struct Slot(#[allow(dead_code)] (OwnedSemaphorePermit, OwnedSemaphorePermit));

impl Slots {
    /// So many places for each peer, out of those that there are for all.
    pub fn new(each: usize, all: Arc<Semaphore>) -> Self {
        Self { each, all, peers: HashMap::new() }
    }

    /// A place for this peer, if there is one.
    pub fn take(&mut self, peer: PeerId) -> Option<Slot> {
        let own = self.peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Some(Slot((own.clone().try_acquire_owned().ok()?, self.all.clone().try_acquire_owned().ok()?)))
    }

    /// A peer is gone; what it has under way keeps its places until it is done or its time is up.
    pub fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
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
}
