//! Tries in memory.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};

use crate::batch::NodeBatch;
use crate::errors::StateError;
use crate::node::{NodeId, NodeSource, Root, push_resolved, resolved};
use crate::update::update;

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

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Take over a batch that was made against this source; returns `root` with its final id.
    pub fn absorb(&mut self, batch: NodeBatch, root: Root) -> Root {
        let first = self.nodes.len() as NodeId + 1;
        for node in batch.iter() {
            self.nodes.push(|out| push_resolved(out, node, first));
        }
        Root { hash: root.hash, id: resolved(root.id, first) }
    }
}

impl NodeSource for MemoryNodes {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        let index = id.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.nodes.at(index)).ok_or(StateError::MissingNode(id))
    }
}

/// Root of the trie after these writes in order; an empty value deletes, `secure` hashes the keys.
pub fn trie_root<K: AsRef<[u8]>, V: AsRef<[u8]>>(items: &[(K, V)], secure: bool) -> Result<B256, StateError> {
    let key = |key: &[u8]| {
        if secure { keccak256(key).to_vec() } else { key.to_vec() }
    };
    let last_writes: BTreeMap<Vec<u8>, &[u8]> =
        items.iter().map(|(item, value)| (key(item.as_ref()), value.as_ref())).collect();
    let changes: Vec<_> = last_writes.into_iter().map(|(key, value)| (key, Some((value, 0)))).collect();
    Ok(update(&MemoryNodes::new(), Root::EMPTY, &changes, &mut NodeBatch::new())?.hash)
}
