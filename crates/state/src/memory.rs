//! Tries in memory.

use alloy_primitives::B256;

use crate::batch::NodeBatch;
use crate::errors::StateError;
use crate::node::{NodeId, NodeSource, Root};

/// Nodes in memory: a source for tests, for tries of one block and for [`trie_root`].
#[derive(Clone, Debug, Default)]
pub struct MemoryNodes {
    nodes: NodeBatch,
}

impl MemoryNodes {
    /// An empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Take over a batch that was made against this source; returns `root` with its final id.
    pub fn absorb(&mut self, _batch: NodeBatch, _root: Root) -> Root {
        todo!()
    }
}

impl NodeSource for MemoryNodes {
    fn node(&self, _id: NodeId) -> Result<&[u8], StateError> {
        todo!()
    }
}

/// Root of the trie after these writes in order; an empty value deletes, `secure` hashes the keys.
pub fn trie_root<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    _items: &[(K, V)],
    _secure: bool,
) -> Result<B256, StateError> {
    todo!()
}
