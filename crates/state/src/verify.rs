//! Checking a stored trie by hashing it anew.

use crate::errors::StateError;
use crate::lookup::Leaf;
use crate::node::{NodeSource, Root};

/// What [`verify`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Nodes hashed.
    pub nodes: u64,
    /// Entries found.
    pub leaves: u64,
}

/// Read the whole trie at `root` and check every reference by hashing the node behind it.
///
/// `on_leaf` sees every key and entry, so that the caller can go on into storage tries.
pub fn verify<S: NodeSource + ?Sized>(
    _source: &S,
    _root: Root,
    _on_leaf: &mut dyn FnMut(&[u8], Leaf<'_>) -> Result<(), StateError>,
) -> Result<Verified, StateError> {
    todo!()
}
