//! Merkle proofs.

use alloy_primitives::Bytes;

use crate::encode::node_rlp;
use crate::errors::StateError;
use crate::node::{Node, NodeSource, Root, Step, step};

/// RLP of the nodes from the root towards `key`, as `eth_getProof` lists them.
///
/// The last node holds the entry or shows that there is none. Nodes inlined in their parent are not listed by
/// themselves; the empty trie has an empty proof.
pub fn prove<S: NodeSource + ?Sized>(source: &S, root: Root, key: &[u8]) -> Result<Vec<Bytes>, StateError> {
    let mut proof = Vec::new();
    let (mut id, mut depth) = (root.id, 0);
    while id != 0 {
        let bytes = source.node(id)?;
        let mut rlp = Vec::with_capacity(600);
        node_rlp(&mut rlp, &Node::decode(id, bytes)?);
        if proof.is_empty() || rlp.len() >= 32 {
            proof.push(Bytes::from(rlp));
        }
        let Step::Child { id: child, nibbles } = step(id, bytes, key, depth)? else {
            break;
        };
        (id, depth) = (child, depth + nibbles);
    }
    Ok(proof)
}
