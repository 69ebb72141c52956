//! Reading one entry.

use crate::errors::StateError;
use crate::node::{NodeId, NodeSource, Root, Step, step};

/// What a trie holds under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The value.
    pub value: &'a [u8],
    /// The number kept beside the value and not hashed: for an account the node of its storage root, else 0.
    pub aux: NodeId,
}

/// The entry of `key` in the trie at `root`.
pub fn get<'a, S: NodeSource + ?Sized>(source: &'a S, root: Root, key: &[u8]) -> Result<Option<Leaf<'a>>, StateError> {
    let (mut id, mut depth) = (root.id, 0);
    if id == 0 {
        return Ok(None);
    }
    loop {
        match step(id, source.node(id)?, key, depth)? {
            Step::Child { id: child, nibbles } => (id, depth) = (child, depth + nibbles),
            Step::Found { value, aux } => return Ok(Some(Leaf { value, aux })),
            Step::Absent => return Ok(None),
        }
    }
}
