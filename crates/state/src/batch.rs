//! Nodes made by updates and not stored yet.

use crate::encode::{branch_record, branch_rlp, extension_record, extension_rlp, leaf_record, leaf_rlp};
use crate::errors::StateError;
use crate::nibbles::Nibbles;
use crate::node::{Branch, LOCAL, Link, NodeId, NodeSource};

/// Nodes made by one or more [`crate::update`]s and not stored yet.
///
/// Their ids carry a mark and count from 0; [`crate::Store::commit`] and [`crate::MemoryNodes::absorb`] give them
/// their final ids. One batch may hold the storage tries of many accounts and the account trie above them.
#[derive(Clone, Debug, Default)]
pub struct NodeBatch {
    data: Vec<u8>,
    /// End of node `i` in `data`.
    ends: Vec<usize>,
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

    /// Node number `index`.
    pub(crate) fn at(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.data[start..end])
    }

    /// All nodes in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.at(index))
    }

    /// Add a node by appending to the bytes.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.data);
        self.ends.push(self.data.len());
    }

    fn pop(&mut self) {
        self.ends.pop();
        self.data.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Add the nodes of `next`, whose ids continue this batch's.
    pub(crate) fn append(&mut self, next: &NodeBatch) {
        let offset = self.data.len();
        self.data.extend_from_slice(&next.data);
        self.ends.extend(next.ends.iter().map(|end| end + offset));
    }
}

impl NodeSource for NodeBatch {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        if id & LOCAL == 0 {
            return Err(StateError::MissingNode(id));
        }
        self.at((id & !LOCAL) as usize).ok_or(StateError::MissingNode(id))
    }
}

/// Makes nodes whose ids continue those of a batch.
pub(crate) struct Writer {
    pub(crate) made: NodeBatch,
    first: usize,
    rlp: Vec<u8>,
}

impl Writer {
    pub(crate) fn after(batch: &NodeBatch) -> Self {
        Self { made: NodeBatch::new(), first: batch.len(), rlp: Vec::with_capacity(600) }
    }

    /// The node of this id, if it was made here.
    pub(crate) fn node(&self, id: NodeId) -> Option<&[u8]> {
        if id & LOCAL == 0 {
            return None;
        }
        self.made.at(((id & !LOCAL) as usize).checked_sub(self.first)?)
    }

    fn next_id(&self) -> NodeId {
        LOCAL | (self.first + self.made.len()) as u64
    }

    /// Forget this node if it was the last one made: its parent swallows it.
    pub(crate) fn retract(&mut self, id: NodeId) {
        if id & LOCAL != 0 && id + 1 == self.next_id() && !self.made.is_empty() {
            self.made.pop();
        }
    }

    pub(crate) fn leaf(&mut self, head: Nibbles<'_>, tail: Nibbles<'_>, value: &[u8], aux: NodeId) -> Link {
        self.rlp.clear();
        leaf_rlp(&mut self.rlp, head, tail, value);
        let link = Link::to(self.next_id(), &self.rlp);
        self.made.push(|out| leaf_record(out, head, tail, value, aux));
        link
    }

    pub(crate) fn extension(&mut self, head: Nibbles<'_>, tail: Nibbles<'_>, child: &Link) -> Link {
        self.rlp.clear();
        extension_rlp(&mut self.rlp, head, tail, child);
        let link = Link::to(self.next_id(), &self.rlp);
        self.made.push(|out| extension_record(out, head, tail, child));
        link
    }

    pub(crate) fn branch(&mut self, branch: &Branch<'_>) -> Link {
        self.rlp.clear();
        branch_rlp(&mut self.rlp, branch);
        let link = Link::to(self.next_id(), &self.rlp);
        self.made.push(|out| branch_record(out, branch));
        link
    }
}
