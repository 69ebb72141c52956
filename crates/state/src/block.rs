//! What the store keeps of a block.

use std::ops::Range;

use alloy_primitives::{Address, B256, Bytes};

use crate::batch::NodeBatch;
use crate::node::{NodeId, Root};

/// A block to be stored, with everything that belongs to it.
#[derive(Clone, Debug, Default)]
pub struct NewBlock {
    /// Hash of the header.
    pub hash: B256,
    /// Hash of the parent's header; not looked at for genesis.
    pub parent_hash: B256,
    /// Number; 0 only for genesis.
    pub number: u64,
    /// RLP of the header.
    pub header_rlp: Vec<u8>,
    /// Network encodings of the transactions in order.
    pub transactions: Vec<Bytes>,
    /// Their hashes.
    pub transaction_hashes: Vec<B256>,
    /// Their senders.
    pub senders: Vec<Address>,
    /// Their receipts in an encoding of the caller's.
    pub receipts: Vec<Bytes>,
    /// System calls at block start in an encoding of the caller's.
    pub system_calls: Vec<u8>,
    /// State after the block; its id may be one of `nodes`.
    pub state_root: Root,
    /// Trie nodes that the block made.
    pub nodes: NodeBatch,
    /// Contract code that the block made, by hash. Code that is stored already is left alone.
    pub codes: Vec<(B256, Bytes)>,
    /// Entries for the `extra` table, written in the same transaction; `None` deletes.
    pub extra: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A stored header with what the store knows about the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHeader<'a> {
    /// Number.
    pub number: u64,
    /// Hash of the parent.
    pub parent_hash: B256,
    /// State after the block.
    pub state_root: Root,
    /// Ids of the trie nodes that the block made.
    pub nodes: Range<NodeId>,
    /// RLP of the header.
    pub rlp: &'a [u8],
}

/// Where a transaction of the canonical chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLocation {
    /// Its block.
    pub block_hash: B256,
    /// The block's number.
    pub block_number: u64,
    /// Its index in the block.
    pub index: u32,
}

/// How the canonical chain changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadChange {
    /// Blocks that left it, newest first.
    pub removed: Vec<B256>,
    /// Blocks that joined it, oldest first.
    pub added: Vec<B256>,
}
