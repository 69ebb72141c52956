//! Merkle proofs.

use alloy_primitives::Bytes;

use crate::errors::StateError;
use crate::node::{NodeSource, Root};

/// RLP of the nodes from the root towards `key`, as `eth_getProof` lists them.
///
/// The last node holds the entry or shows that there is none. Nodes inlined in their parent are not listed by
/// themselves; the empty trie has an empty proof.
pub fn prove<S: NodeSource + ?Sized>(
    _source: &S,
    _root: Root,
    _key: &[u8],
) -> Result<Vec<Bytes>, StateError> {
    todo!()
}
