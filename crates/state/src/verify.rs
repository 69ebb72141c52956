//! Checking a stored trie by hashing it anew.

use alloy_primitives::{B256, keccak256};

use crate::encode::node_rlp;
use crate::errors::StateError;
use crate::lookup::Leaf;
use crate::nibbles::pack;
use crate::node::{Link, Node, NodeId, NodeSource, Root};
use crate::update::MAX_KEY_BYTES;

/// What [`verify`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Nodes hashed.
    pub nodes: u64,
    /// Entries found.
    pub leaves: u64,
}

/// Called with every key and entry by [`verify`].
type OnLeaf<'f> = &'f mut dyn FnMut(&[u8], Leaf<'_>) -> Result<(), StateError>;

/// Read the whole trie at `root` and check every reference by hashing the node behind it.
///
/// `on_leaf` sees every key and entry, so that the caller can go on into storage tries.
pub fn verify<S: NodeSource + ?Sized>(source: &S, root: Root, on_leaf: OnLeaf<'_>) -> Result<Verified, StateError> {
    let mut walk = Walk { source, on_leaf, seen: Verified::default(), path: Vec::new() };
    if root.id == 0 {
        return match root.hash == Root::EMPTY.hash {
            true => Ok(walk.seen),
            false => Err(StateError::WrongHash { id: 0, expected: root.hash, found: Root::EMPTY.hash }),
        };
    }
    let rlp = walk.rlp(root.id)?;
    expect_hash(root.id, root.hash, &rlp)?;
    walk.below(root.id)?;
    Ok(walk.seen)
}

fn expect_hash(id: NodeId, expected: B256, rlp: &[u8]) -> Result<(), StateError> {
    let found = keccak256(rlp);
    if found == expected { Ok(()) } else { Err(StateError::WrongHash { id, expected, found }) }
}

struct Walk<'a, S: ?Sized> {
    source: &'a S,
    on_leaf: OnLeaf<'a>,
    seen: Verified,
    /// Nibbles to the current node.
    path: Vec<u8>,
}

impl<S: NodeSource + ?Sized> Walk<'_, S> {
    fn rlp(&mut self, id: NodeId) -> Result<Vec<u8>, StateError> {
        let mut rlp = Vec::with_capacity(600);
        node_rlp(&mut rlp, &Node::decode(id, self.source.node(id)?)?);
        self.seen.nodes += 1;
        Ok(rlp)
    }

    fn child(&mut self, link: &Link) -> Result<(), StateError> {
        let rlp = self.rlp(link.id)?;
        if link.is_hash() {
            expect_hash(link.id, link.hash(), &rlp)?;
        } else if link.reference() != rlp {
            return Err(StateError::WrongHash { id: link.id, expected: link.hash(), found: keccak256(&rlp) });
        }
        self.below(link.id)
    }

    /// Check what is below a node that has been checked itself.
    fn below(&mut self, id: NodeId) -> Result<(), StateError> {
        let depth = self.path.len();
        // Damaged ids could form a circle.
        if depth > 2 * MAX_KEY_BYTES {
            return Err(StateError::MalformedNode(id));
        }
        match Node::decode(id, self.source.node(id)?)? {
            Node::Branch(branch) => {
                if let Some((value, aux)) = branch.value {
                    self.leaf(Leaf { value, aux })?;
                }
                for at in 0u8..16 {
                    let link = &branch.links[usize::from(at)];
                    if link.exists() {
                        self.path.push(at);
                        self.child(link)?;
                        self.path.truncate(depth);
                    }
                }
            }
            Node::Extension { path, child } => {
                path.unpack_into(&mut self.path);
                self.child(&child)?;
            }
            Node::Leaf { path, value, aux } => {
                path.unpack_into(&mut self.path);
                self.leaf(Leaf { value, aux })?;
            }
        }
        self.path.truncate(depth);
        Ok(())
    }

    fn leaf(&mut self, leaf: Leaf<'_>) -> Result<(), StateError> {
        self.seen.leaves += 1;
        (self.on_leaf)(&pack(&self.path), leaf)
    }
}
