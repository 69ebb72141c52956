//! Node ids, roots, and the encoding of nodes on disk.
//!
//! Byte 0 holds the kind (low two bits) and flags. A branch puts its children's ids in front, so that a lookup touches
//! one of them and skips the references (what a parent's RLP holds: a hash, or the child's own RLP below 32 bytes).
//!
//! ```text
//! branch     0 | children mask u16 | hashed mask u16 | ids u64.. | references.. | [aux u64] | [value]
//! extension  1 | id u64 | length u8 | reference | hex-prefix path
//! leaf       2 | [aux u64] | path length u16 | hex-prefix path | value
//! ```
//! Numbers are little-endian. A hashed reference is 32 bytes; an inlined one is a length byte and that many bytes.

use alloy_primitives::{B256, b256};

use crate::batch::NodeBatch;
use crate::errors::StateError;

/// Sequence number of a node in its source. 0 is no node; the top bit marks nodes of a [`NodeBatch`].
pub type NodeId = u64;

/// Marks the id of a node that is still in a batch.
pub(crate) const LOCAL: NodeId = 1 << 63;

/// A trie: the hash that the protocol knows and the node it is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// Keccak-256 of the root node's RLP.
    pub hash: B256,
    /// The root node, 0 for the empty trie.
    pub id: NodeId,
}

impl Root {
    /// The trie without entries.
    pub const EMPTY: Self = Self {
        hash: b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"),
        id: 0,
    };
}

impl Default for Root {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Where nodes are read from.
pub trait NodeSource {
    /// The encoded node of this id, or [`StateError::MissingNode`].
    fn node(&self, id: NodeId) -> Result<&[u8], StateError>;
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        (**self).node(id)
    }
}

/// A batch that is not stored yet, on top of the source it was made against.
#[derive(Clone, Copy, Debug)]
pub struct Layered<'a, S: ?Sized> {
    /// Answers for the ids that are not the batch's.
    pub base: &'a S,
    /// Answers for its own ids.
    pub batch: &'a NodeBatch,
}

impl<'a, S: ?Sized> Layered<'a, S> {
    /// Put `batch` on top of `base`.
    pub fn new(base: &'a S, batch: &'a NodeBatch) -> Self {
        Self { base, batch }
    }
}

impl<S: NodeSource + ?Sized> NodeSource for Layered<'_, S> {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        if id & LOCAL == 0 {
            self.base.node(id)
        } else {
            self.batch.node(id)
        }
    }
}
