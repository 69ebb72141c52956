//! Reading one entry.

use crate::errors::StateError;
use crate::node::{NodeId, NodeSource, Root};

/// What a trie holds under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The value.
    pub value: &'a [u8],
    /// The number kept beside the value and not hashed: for an account the node of its storage root, else 0.
    pub aux: NodeId,
}

/// The entry of `key` in the trie at `root`.
pub fn get<'a, S: NodeSource + ?Sized>(
    _source: &'a S,
    _root: Root,
    _key: &[u8],
) -> Result<Option<Leaf<'a>>, StateError> {
    todo!()
}
