//! Nodes made by updates and not stored yet.

use crate::errors::StateError;
use crate::node::{NodeId, NodeSource};

/// Nodes made by one or more [`crate::update`]s and not stored yet.
///
/// Their ids carry a mark and count from 0; [`crate::Store::commit`] and [`crate::MemoryNodes::absorb`] give them
/// their final ids. One batch may hold the storage tries of many accounts and the account trie above them.
#[derive(Clone, Debug, Default)]
pub struct NodeBatch {
    pub(crate) data: Vec<u8>,
    /// End of node `i` in `data`.
    pub(crate) ends: Vec<usize>,
}

impl NodeBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Size of the nodes in bytes.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}

impl NodeSource for NodeBatch {
    fn node(&self, _id: NodeId) -> Result<&[u8], StateError> {
        todo!()
    }
}
