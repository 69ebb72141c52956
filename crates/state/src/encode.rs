//! Writing nodes: their RLP, whose hash the protocol knows, and the form they have on disk.

use alloy_rlp::{EMPTY_STRING_CODE, Encodable, Header};

use crate::nibbles::{Nibbles, hex_prefix_len, push_hex_prefix};
use crate::node::{BRANCH, Branch, EXTENSION, HAS_AUX, HAS_VALUE, LEAF, Link, Node, NodeId};

/// Length of the RLP string whose content has `length` bytes and begins with `first`.
fn string_len(length: usize, first: u8) -> usize {
    if length == 1 && first < 0x80 { 1 } else { length + Header { list: false, payload_length: length }.length() }
}

fn push_list_header(out: &mut Vec<u8>, payload_length: usize) {
    Header { list: true, payload_length }.encode(out);
}

/// Append the path `head` ‖ `tail` as an RLP string.
fn push_path(out: &mut Vec<u8>, leaf: bool, head: Nibbles<'_>, tail: Nibbles<'_>) {
    let length = hex_prefix_len(head.len() + tail.len());
    // A single byte of hex prefix is below 0x40 and thus its own RLP.
    if length > 1 {
        Header { list: false, payload_length: length }.encode(out);
    }
    push_hex_prefix(out, leaf, head, tail);
}

fn push_reference(out: &mut Vec<u8>, link: &Link) {
    if link.is_hash() {
        out.push(EMPTY_STRING_CODE + 32);
    }
    out.extend_from_slice(link.reference());
}

fn reference_len(link: &Link) -> usize {
    link.reference().len() + usize::from(link.is_hash())
}

/// Append the RLP of a leaf with the path `head` ‖ `tail`.
pub(crate) fn leaf_rlp(out: &mut Vec<u8>, head: Nibbles<'_>, tail: Nibbles<'_>, value: &[u8]) {
    let path = string_len(hex_prefix_len(head.len() + tail.len()), 0);
    push_list_header(out, path + string_len(value.len(), value.first().copied().unwrap_or(0)));
    push_path(out, true, head, tail);
    value.encode(out);
}

/// Append the RLP of an extension with the path `head` ‖ `tail`.
pub(crate) fn extension_rlp(out: &mut Vec<u8>, head: Nibbles<'_>, tail: Nibbles<'_>, child: &Link) {
    let path = string_len(hex_prefix_len(head.len() + tail.len()), 0);
    push_list_header(out, path + reference_len(child));
    push_path(out, false, head, tail);
    push_reference(out, child);
}

/// Append the RLP of a branch.
pub(crate) fn branch_rlp(out: &mut Vec<u8>, branch: &Branch<'_>) {
    let value = branch.value.map_or(&[][..], |(value, _)| value);
    let children: usize = branch.links.iter().map(|link| if link.exists() { reference_len(link) } else { 1 }).sum();
    push_list_header(out, children + string_len(value.len(), value.first().copied().unwrap_or(0)));
    for link in &branch.links {
        if link.exists() {
            push_reference(out, link);
        } else {
            out.push(EMPTY_STRING_CODE);
        }
    }
    value.encode(out);
}

/// Append the RLP of a node.
pub(crate) fn node_rlp(out: &mut Vec<u8>, node: &Node<'_>) {
    match node {
        Node::Branch(branch) => branch_rlp(out, branch),
        Node::Extension { path, child } => extension_rlp(out, *path, Nibbles::EMPTY, child),
        Node::Leaf { path, value, .. } => leaf_rlp(out, *path, Nibbles::EMPTY, value),
    }
}

/// Append the stored form of a leaf.
pub(crate) fn leaf_record(out: &mut Vec<u8>, head: Nibbles<'_>, tail: Nibbles<'_>, value: &[u8], aux: NodeId) {
    out.push(if aux == 0 { LEAF } else { LEAF | HAS_AUX });
    out.extend_from_slice(&(hex_prefix_len(head.len() + tail.len()) as u16).to_le_bytes());
    push_hex_prefix(out, true, head, tail);
    if aux != 0 {
        out.extend_from_slice(&aux.to_le_bytes());
    }
    out.extend_from_slice(value);
}

/// Append the stored form of an extension.
pub(crate) fn extension_record(out: &mut Vec<u8>, head: Nibbles<'_>, tail: Nibbles<'_>, child: &Link) {
    out.push(EXTENSION);
    out.extend_from_slice(&child.id.to_le_bytes());
    out.push(child.reference().len() as u8);
    out.extend_from_slice(child.reference());
    push_hex_prefix(out, false, head, tail);
}

/// Append the stored form of a branch.
pub(crate) fn branch_record(out: &mut Vec<u8>, branch: &Branch<'_>) {
    let children = || branch.links.iter().filter(|link| link.exists());
    let mask = (0..16).filter(|&index| branch.links[index].exists()).fold(0u16, |mask, index| mask | 1 << index);
    out.push(if branch.value.is_some() { BRANCH | HAS_VALUE } else { BRANCH });
    out.extend_from_slice(&mask.to_le_bytes());
    children().for_each(|link| out.extend_from_slice(&link.id.to_le_bytes()));
    for link in children() {
        out.push(link.reference().len() as u8);
        out.extend_from_slice(link.reference());
    }
    if let Some((value, aux)) = branch.value {
        out.extend_from_slice(&aux.to_le_bytes());
        out.extend_from_slice(value);
    }
}
