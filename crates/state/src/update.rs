//! Changing many entries in one pass.
//!
//! The recursion goes down with the slice of changes below a node, and comes back with the node that replaces it.
//! Every changed node is written and hashed once, when everything below it is known. Where a deletion leaves a branch
//! with one child, that child is read again and joined with the path above it.

use std::borrow::Cow;

use crate::batch::{NodeBatch, Writer};
use crate::errors::StateError;
use crate::nibbles::{Nibbles, nibble, pack};
use crate::node::{Branch, LOCAL, Link, Node, NodeId, NodeSource, Root};

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// Write `changes` into the trie at `root`; the new nodes go into `batch`, the old trie stays as it is.
///
/// A change is a key and either `None` (delete) or a value with its [`crate::Leaf::aux`]. An empty value deletes too.
/// Keys ascend, each once. `root` may be one that an earlier update put into the same batch. Each changed node is
/// hashed once; changes that change nothing make no node. On an error the batch is as before.
pub fn update<S, K, V>(
    source: &S,
    root: Root,
    changes: &[(K, Option<(V, NodeId)>)],
    batch: &mut NodeBatch,
) -> Result<Root, StateError>
where
    S: NodeSource + ?Sized,
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let changes: Vec<Change<'_>> = changes
        .iter()
        .map(|(key, value)| {
            let (value, aux) = value.as_ref().map_or((&[][..], 0), |(value, aux)| (value.as_ref(), *aux));
            Change { key: key.as_ref(), value, aux }
        })
        .collect();
    if let Some(at) = (1..changes.len()).find(|&at| changes[at - 1].key >= changes[at].key) {
        return Err(StateError::Unsorted(at));
    }
    if let Some(long) = changes.iter().find(|change| change.key.len() > MAX_KEY_BYTES) {
        return Err(StateError::KeyTooLong(long.key.len()));
    }
    if changes.is_empty() {
        return Ok(root);
    }
    let mut pass = Pass { source, batch, writer: Writer::after(batch) };
    let outcome = if root.id == 0 { pass.build(&changes, 0) } else { pass.apply(root.id, &changes, 0)? };
    let made = pass.writer.made;
    Ok(match outcome {
        Outcome::Same => root,
        Outcome::Gone => Root::EMPTY,
        Outcome::New(link) => {
            batch.append(&made);
            Root { hash: link.hash(), id: link.id }
        }
    })
}

/// A write of one entry; an empty value deletes.
#[derive(Clone, Copy)]
struct Change<'k> {
    key: &'k [u8],
    value: &'k [u8],
    aux: NodeId,
}

impl<'k> Change<'k> {
    fn deletes(&self) -> bool {
        self.value.is_empty()
    }

    fn path(&self, depth: usize) -> Nibbles<'k> {
        Nibbles::suffix(self.key, depth)
    }
}

/// What became of a node.
enum Outcome {
    Same,
    Gone,
    New(Link),
}

struct Pass<'a, S: ?Sized> {
    source: &'a S,
    batch: &'a NodeBatch,
    writer: Writer,
}

impl<'a, S: NodeSource + ?Sized> Pass<'a, S> {
    /// A node; owned where it was made in this very pass.
    fn read(&self, id: NodeId) -> Result<Cow<'a, [u8]>, StateError> {
        if id & LOCAL == 0 {
            return self.source.node(id).map(Cow::Borrowed);
        }
        match self.writer.node(id) {
            Some(node) => Ok(Cow::Owned(node.to_vec())),
            None => self.batch.node(id).map(Cow::Borrowed),
        }
    }

    fn apply(&mut self, id: NodeId, changes: &[Change<'_>], depth: usize) -> Result<Outcome, StateError> {
        let bytes = self.read(id)?;
        match Node::decode(id, &bytes)? {
            Node::Branch(branch) => self.apply_to_branch(branch, false, changes, depth),
            Node::Extension { path, child } => self.apply_to_extension(path, child, changes, depth),
            Node::Leaf { path, value, aux } => Ok(self.apply_to_leaf(path, value, aux, changes, depth)),
        }
    }

    /// `changed` says that the branch is not stored as it is.
    fn apply_to_branch<'n>(
        &mut self,
        mut branch: Branch<'n>,
        mut changed: bool,
        changes: &[Change<'n>],
        depth: usize,
    ) -> Result<Outcome, StateError> {
        let mut rest = changes;
        if let Some(first) = rest.first().filter(|change| change.path(depth).is_empty()) {
            let value = (!first.deletes()).then_some((first.value, first.aux));
            changed |= value != branch.value;
            branch.value = value;
            rest = &rest[1..];
        }
        while let Some(first) = rest.first() {
            let at = nibble(first.key, depth);
            let (group, after) = rest.split_at(rest.partition_point(|change| nibble(change.key, depth) == at));
            rest = after;
            let slot = &mut branch.links[usize::from(at)];
            let outcome =
                if slot.exists() { self.apply(slot.id, group, depth + 1)? } else { self.build(group, depth + 1) };
            match outcome {
                Outcome::Same => continue,
                Outcome::Gone if !slot.exists() => continue,
                Outcome::Gone => *slot = Link::NONE,
                Outcome::New(link) => *slot = link,
            }
            changed = true;
        }
        if changed { self.settle(&branch) } else { Ok(Outcome::Same) }
    }

    /// Write a changed branch, or what is left of it.
    fn settle(&mut self, branch: &Branch<'_>) -> Result<Outcome, StateError> {
        let mut children = (0u8..16).filter(|&at| branch.links[usize::from(at)].exists());
        let link = match (children.next(), children.next(), branch.value) {
            (None, _, None) => return Ok(Outcome::Gone),
            (None, _, Some((value, aux))) => self.writer.leaf(Nibbles::EMPTY, Nibbles::EMPTY, value, aux),
            (Some(at), None, None) => self.join(Nibbles::single(at), branch.links[usize::from(at)])?,
            _ => self.writer.branch(branch),
        };
        Ok(Outcome::New(link))
    }

    /// Put `head` in front of a node.
    fn join(&mut self, head: Nibbles<'_>, link: Link) -> Result<Link, StateError> {
        let bytes = self.read(link.id)?;
        Ok(match Node::decode(link.id, &bytes)? {
            Node::Branch(_) => self.writer.extension(head, Nibbles::EMPTY, &link),
            Node::Extension { path, child } => {
                self.writer.retract(link.id);
                self.writer.extension(head, path, &child)
            }
            Node::Leaf { path, value, aux } => {
                self.writer.retract(link.id);
                self.writer.leaf(head, path, value, aux)
            }
        })
    }

    fn apply_to_extension(
        &mut self,
        path: Nibbles<'_>,
        child: Link,
        changes: &[Change<'_>],
        depth: usize,
    ) -> Result<Outcome, StateError> {
        let shared = |changes: &[Change<'_>]| {
            let ends = [changes.first(), changes.last()];
            ends.into_iter().flatten().map(|change| change.path(depth).common(&path)).min().unwrap_or(0)
        };
        let mut kept = Cow::Borrowed(changes);
        if shared(&kept) < path.len() {
            // What is not below the path is not there: deleting it must not split the path.
            kept.to_mut().retain(|change| !change.deletes() || change.path(depth).starts_with(&path));
        }
        if kept.is_empty() {
            return Ok(Outcome::Same);
        }
        let fork = shared(&kept);
        if fork == path.len() {
            return match self.apply(child.id, &kept, depth + fork)? {
                Outcome::New(link) => self.join(path, link).map(Outcome::New),
                other => Ok(other),
            };
        }
        let below = path.skip(fork + 1);
        let mut branch = Branch::EMPTY;
        branch.links[usize::from(path.at(fork))] =
            if below.is_empty() { child } else { self.writer.extension(below, Nibbles::EMPTY, &child) };
        match self.apply_to_branch(branch, true, &kept, depth + fork)? {
            Outcome::New(link) if fork > 0 => self.join(path.take(fork), link).map(Outcome::New),
            other => Ok(other),
        }
    }

    fn apply_to_leaf(
        &mut self,
        path: Nibbles<'_>,
        value: &[u8],
        aux: NodeId,
        changes: &[Change<'_>],
        depth: usize,
    ) -> Outcome {
        if let [change] = changes
            && change.path(depth).equals(&path)
        {
            return if change.deletes() {
                Outcome::Gone
            } else if change.value == value && change.aux == aux {
                Outcome::Same
            } else {
                Outcome::New(self.writer.leaf(path, Nibbles::EMPTY, change.value, change.aux))
            };
        }
        let mut nibbles = Vec::new();
        changes[0].path(0).take(depth).unpack_into(&mut nibbles);
        path.unpack_into(&mut nibbles);
        let key = pack(&nibbles);
        let old = Change { key: &key, value, aux };
        let mut merged: Vec<Change<'_>> = changes.to_vec();
        match merged.binary_search_by(|change| change.key.cmp(&key)) {
            Ok(at) if merged[at].value == value && merged[at].aux == aux => {}
            Ok(_) => return self.build(&merged, depth),
            Err(at) => merged.insert(at, old),
        }
        if merged.iter().filter(|change| !change.deletes()).count() == 1 {
            return Outcome::Same;
        }
        self.build(&merged, depth)
    }

    /// A trie of `entries` alone, below `depth` nibbles that they share. Deletions among them are passed over.
    fn build(&mut self, entries: &[Change<'_>], depth: usize) -> Outcome {
        let mut live = entries.iter().filter(|entry| !entry.deletes());
        let Some(first) = live.next() else {
            return Outcome::Gone;
        };
        let Some(last) = live.next_back() else {
            return Outcome::New(self.writer.leaf(first.path(depth), Nibbles::EMPTY, first.value, first.aux));
        };
        // First and last fork below what all share, so the branch there has two live entries at least.
        let shared = first.path(depth).common(&last.path(depth));
        let fork = depth + shared;
        let mut branch = Branch::EMPTY;
        let mut rest = entries;
        while let Some(entry) = rest.first() {
            if entry.path(fork).is_empty() || entry.deletes() {
                if !entry.deletes() {
                    branch.value = Some((entry.value, entry.aux));
                }
                rest = &rest[1..];
                continue;
            }
            let at = nibble(entry.key, fork);
            let below = |entry: &Change<'_>| entry.deletes() || nibble(entry.key, fork) == at;
            let (group, after) = rest.split_at(rest.iter().position(|entry| !below(entry)).unwrap_or(rest.len()));
            rest = after;
            if let Outcome::New(link) = self.build(group, fork + 1) {
                branch.links[usize::from(at)] = link;
            }
        }
        let link = self.writer.branch(&branch);
        if shared == 0 {
            return Outcome::New(link);
        }
        Outcome::New(self.writer.extension(first.path(depth).take(shared), Nibbles::EMPTY, &link))
    }
}
