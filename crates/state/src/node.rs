//! Node ids, roots, and the encoding of nodes on disk.
//!
//! Byte 0 holds the kind (low two bits) and flags. A branch puts its children's ids in front, so that a lookup touches
//! one of them and skips the references (what a parent's RLP holds: a hash, or the child's own RLP below 32 bytes).
//!
//! ```text
//! branch     0 | children mask u16 | ids u64.. | (length u8, reference).. | [aux u64 | value]
//! extension  1 | id u64 | length u8, reference | hex-prefix path
//! leaf       2 | path length u16 | hex-prefix path | [aux u64] | value
//! ```
//! Numbers are little-endian. A reference of 32 bytes is a hash, a shorter one inlined RLP.

use alloy_primitives::{B256, b256, keccak256};

use crate::batch::NodeBatch;
use crate::errors::StateError;
use crate::nibbles::Nibbles;

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
    pub const EMPTY: Self =
        Self { hash: b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"), id: 0 };
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
        if id & LOCAL == 0 { self.base.node(id) } else { self.batch.node(id) }
    }
}

pub(crate) const KIND: u8 = 3;
pub(crate) const BRANCH: u8 = 0;
pub(crate) const EXTENSION: u8 = 1;
pub(crate) const LEAF: u8 = 2;
/// Flag of a branch that has a value (its aux in front).
pub(crate) const HAS_VALUE: u8 = 4;
/// Flag of a leaf whose aux is not 0.
pub(crate) const HAS_AUX: u8 = 8;

/// A child as its parent knows it: where it is, and what stands for it in the parent's RLP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) id: NodeId,
    length: u8,
    reference: [u8; 32],
}

impl Link {
    /// No child.
    pub(crate) const NONE: Self = Self { id: 0, length: 0, reference: [0; 32] };

    /// The link to a node with this RLP.
    pub(crate) fn to(id: NodeId, rlp: &[u8]) -> Self {
        let mut reference = [0; 32];
        if rlp.len() < 32 {
            reference[..rlp.len()].copy_from_slice(rlp);
            Self { id, length: rlp.len() as u8, reference }
        } else {
            Self { id, length: 32, reference: keccak256(rlp).0 }
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.id != 0
    }

    pub(crate) fn is_hash(&self) -> bool {
        self.length == 32
    }

    pub(crate) fn reference(&self) -> &[u8] {
        &self.reference[..usize::from(self.length)]
    }

    /// Hash of the node behind the link; a root is hashed even where a child would be inlined.
    pub(crate) fn hash(&self) -> B256 {
        if self.is_hash() { B256::new(self.reference) } else { keccak256(self.reference()) }
    }

    fn read(id: NodeId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&length, rest) = bytes.split_first()?;
        if length == 0 || length > 32 || id == 0 {
            return None;
        }
        let (found, rest) = rest.split_at_checked(usize::from(length))?;
        let mut reference = [0; 32];
        reference[..found.len()].copy_from_slice(found);
        Some((Self { id, length, reference }, rest))
    }
}

/// A branch's parts. Children that do not exist are [`Link::NONE`].
#[derive(Clone, Debug)]
pub(crate) struct Branch<'a> {
    pub(crate) links: [Link; 16],
    pub(crate) value: Option<(&'a [u8], NodeId)>,
}

impl Branch<'_> {
    pub(crate) const EMPTY: Self = Self { links: [Link::NONE; 16], value: None };
}

/// A decoded node.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "short-lived, and boxing a branch would cost more than its copy")]
pub(crate) enum Node<'a> {
    Branch(Branch<'a>),
    Extension { path: Nibbles<'a>, child: Link },
    Leaf { path: Nibbles<'a>, value: &'a [u8], aux: NodeId },
}

/// Where a lookup goes from a node.
pub(crate) enum Step<'a> {
    Child { id: NodeId, nibbles: usize },
    Found { value: &'a [u8], aux: NodeId },
    Absent,
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn mask_of(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(1..3)?.try_into().ok()?))
}

impl<'a> Node<'a> {
    /// Decode the node that is stored under `id`.
    pub(crate) fn decode(id: NodeId, bytes: &'a [u8]) -> Result<Self, StateError> {
        Self::read(bytes).ok_or(StateError::MalformedNode(id))
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let tag = *bytes.first()?;
        match tag & KIND {
            BRANCH => {
                let mask = mask_of(bytes)?;
                let mut branch = Branch { links: [Link::NONE; 16], value: None };
                let mut rest = bytes.get(3 + 8 * mask.count_ones() as usize..)?;
                let mut at = 3;
                for (index, link) in branch.links.iter_mut().enumerate() {
                    if mask & (1 << index) != 0 {
                        (*link, rest) = Link::read(u64_at(bytes, at)?, rest)?;
                        at += 8;
                    }
                }
                if tag & HAS_VALUE != 0 {
                    branch.value = Some((rest.get(8..)?, u64_at(rest, 0)?));
                }
                Some(Self::Branch(branch))
            }
            EXTENSION => {
                let (child, rest) = Link::read(u64_at(bytes, 1)?, bytes.get(9..)?)?;
                let (path, leaf) = Nibbles::from_hex_prefix(rest)?;
                (!leaf && !path.is_empty()).then_some(Self::Extension { path, child })
            }
            LEAF => {
                let (path, value, aux) = read_leaf(bytes, tag)?;
                Some(Self::Leaf { path, value, aux })
            }
            _ => None,
        }
    }
}

fn read_leaf(bytes: &[u8], tag: u8) -> Option<(Nibbles<'_>, &[u8], NodeId)> {
    let length = usize::from(u16::from_le_bytes(bytes.get(1..3)?.try_into().ok()?));
    let (path, rest) = bytes[3..].split_at_checked(length)?;
    let (path, leaf) = Nibbles::from_hex_prefix(path)?;
    let (value, aux) = if tag & HAS_AUX != 0 { (rest.get(8..)?, u64_at(rest, 0)?) } else { (rest, 0) };
    leaf.then_some((path, value, aux))
}

/// One step of a lookup of `key`, of which `depth` nibbles are spent. Reads only what the step needs.
pub(crate) fn step<'a>(id: NodeId, bytes: &'a [u8], key: &[u8], depth: usize) -> Result<Step<'a>, StateError> {
    let malformed = || StateError::MalformedNode(id);
    let tag = *bytes.first().ok_or_else(malformed)?;
    let rest = Nibbles::suffix(key, depth);
    match tag & KIND {
        BRANCH if rest.is_empty() => match Node::decode(id, bytes)? {
            Node::Branch(Branch { value: Some((value, aux)), .. }) => Ok(Step::Found { value, aux }),
            _ => Ok(Step::Absent),
        },
        BRANCH => {
            let mask = mask_of(bytes).ok_or_else(malformed)?;
            let bit = 1u16 << rest.at(0);
            if mask & bit == 0 {
                return Ok(Step::Absent);
            }
            let at = 3 + 8 * (mask & (bit - 1)).count_ones() as usize;
            Ok(Step::Child { id: u64_at(bytes, at).ok_or_else(malformed)?, nibbles: 1 })
        }
        LEAF => {
            let (path, value, aux) = read_leaf(bytes, tag).ok_or_else(malformed)?;
            Ok(if path.equals(&rest) { Step::Found { value, aux } } else { Step::Absent })
        }
        _ => match Node::decode(id, bytes)? {
            Node::Extension { path, child } if rest.starts_with(&path) => {
                Ok(Step::Child { id: child.id, nibbles: path.len() })
            }
            _ => Ok(Step::Absent),
        },
    }
}

/// Append a copy of an encoded node in which ids of a batch became final ids counting from `first`.
pub(crate) fn push_resolved(out: &mut Vec<u8>, node: &[u8], first: NodeId) {
    let start = out.len();
    out.extend_from_slice(node);
    let node = &mut out[start..];
    let tag = node[0];
    match tag & KIND {
        BRANCH => {
            let children = u16::from_le_bytes([node[1], node[2]]).count_ones() as usize;
            let references = 3 + 8 * children;
            resolve_slots(&mut node[3..references], first);
            if tag & HAS_VALUE != 0 {
                let at = (0..children).fold(references, |at, _| at + 1 + usize::from(node[at]));
                resolve_slots(&mut node[at..at + 8], first);
            }
        }
        EXTENSION => resolve_slots(&mut node[1..9], first),
        _ if tag & HAS_AUX != 0 => {
            let at = 3 + usize::from(u16::from_le_bytes([node[1], node[2]]));
            resolve_slots(&mut node[at..at + 8], first);
        }
        _ => {}
    }
}

fn resolve_slots(slots: &mut [u8], first: NodeId) {
    for slot in slots.chunks_exact_mut(8) {
        let id = resolved(u64::from_le_bytes(slot.try_into().unwrap_or_default()), first);
        slot.copy_from_slice(&id.to_le_bytes());
    }
}

/// The final id of `id` when its batch's nodes count from `first`.
pub(crate) fn resolved(id: NodeId, first: NodeId) -> NodeId {
    if id & LOCAL == 0 { id } else { first + (id & !LOCAL) }
}
