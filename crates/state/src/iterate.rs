//! Walking over all entries.

use crate::errors::StateError;
use crate::node::{NodeId, NodeSource, Root};

/// One entry of a trie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafEntry {
    /// The key (hashed, in a state trie).
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// See [`crate::Leaf::aux`].
    pub aux: NodeId,
}

/// Entries of a trie in ascending key order; see [`leaves`].
#[derive(Debug)]
pub struct Leaves<'a, S: ?Sized> {
    #[allow(dead_code)]
    source: &'a S,
}

/// All entries of the trie at `root` in ascending key order.
pub fn leaves<S: NodeSource + ?Sized>(source: &S, _root: Root) -> Leaves<'_, S> {
    Leaves { source }
}

impl<S: NodeSource + ?Sized> Iterator for Leaves<'_, S> {
    type Item = Result<LeafEntry, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
