//! Walking over all entries.

use crate::errors::StateError;
use crate::nibbles::pack;
use crate::node::{Node, NodeId, NodeSource, Root};
use crate::update::MAX_KEY_BYTES;

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
    source: &'a S,
    /// Nodes still to visit, the next one last, each with its path in nibbles.
    pending: Vec<(NodeId, Vec<u8>)>,
}

/// All entries of the trie at `root` in ascending key order. After an error the walk ends.
pub fn leaves<S: NodeSource + ?Sized>(source: &S, root: Root) -> Leaves<'_, S> {
    let pending = if root.id == 0 { Vec::new() } else { vec![(root.id, Vec::new())] };
    Leaves { source, pending }
}

impl<S: NodeSource + ?Sized> Leaves<'_, S> {
    fn visit(&mut self, id: NodeId, mut path: Vec<u8>) -> Result<Option<LeafEntry>, StateError> {
        // Damaged ids could form a circle.
        if path.len() > 2 * MAX_KEY_BYTES {
            return Err(StateError::MalformedNode(id));
        }
        match Node::decode(id, self.source.node(id)?)? {
            Node::Branch(branch) => {
                for at in (0u8..16).rev() {
                    let link = branch.links[usize::from(at)];
                    if link.exists() {
                        let mut below = path.clone();
                        below.push(at);
                        self.pending.push((link.id, below));
                    }
                }
                Ok(branch.value.map(|(value, aux)| LeafEntry { key: pack(&path), value: value.to_vec(), aux }))
            }
            Node::Extension { path: more, child } => {
                more.unpack_into(&mut path);
                self.pending.push((child.id, path));
                Ok(None)
            }
            Node::Leaf { path: more, value, aux } => {
                more.unpack_into(&mut path);
                Ok(Some(LeafEntry { key: pack(&path), value: value.to_vec(), aux }))
            }
        }
    }
}

impl<S: NodeSource + ?Sized> Iterator for Leaves<'_, S> {
    type Item = Result<LeafEntry, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((id, path)) = self.pending.pop() {
            match self.visit(id, path) {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(error) => {
                    self.pending.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
