//! Changing many entries in one pass.

use crate::batch::NodeBatch;
use crate::errors::StateError;
use crate::node::{NodeId, NodeSource, Root};

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// Write `changes` into the trie at `root`; the new nodes go into `batch`, the old trie stays as it is.
///
/// A change is a key and either `None` (delete) or a value with its [`crate::Leaf::aux`]. An empty value deletes too.
/// Keys ascend, each once. `root` may be one that an earlier update put into the same batch. Each changed node is
/// hashed once; changes that change nothing make no node.
pub fn update<S, K, V>(
    _source: &S,
    _root: Root,
    _changes: &[(K, Option<(V, NodeId)>)],
    _batch: &mut NodeBatch,
) -> Result<Root, StateError>
where
    S: NodeSource + ?Sized,
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    todo!()
}
