//! Snapshots of the store.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use heed::{RoTxn, WithoutTls};

use crate::block::{StoredHeader, TransactionLocation};
use crate::errors::{StateError, StoreError};
use crate::items::Items;
use crate::node::{NodeId, NodeSource};
use crate::schema::{MAX_EXTRA_KEY_BYTES, Part, Tables, addresses_of, damaged, hashes_of, parse_location};
use crate::store::Shared;

/// An immutable snapshot of a [`crate::Store`]: what was committed before it was taken.
///
/// Owns what it needs (it keeps the directory open and locked while it lives), may be sent to another thread, not
/// shared between threads: take one per thread, it costs about a microsecond.
pub struct Reader {
    // Before `shared`, so that the snapshot ends before the environment and the lock go.
    txn: RoTxn<'static, WithoutTls>,
    tables: Tables,
    _shared: Arc<Shared>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("snapshot", &self.txn.id()).finish()
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let txn = shared.env.clone().static_read_txn()?;
        Ok(Self { txn, tables: shared.tables, _shared: shared })
    }

    /// Hash of the canonical head, `None` before genesis.
    pub fn head(&self) -> Result<Option<B256>, StoreError> {
        self.tables.meta_hash(&self.txn, "head")
    }

    /// Hash of the genesis block, `None` before it is written.
    pub fn genesis(&self) -> Result<Option<B256>, StoreError> {
        self.tables.meta_hash(&self.txn, "genesis")
    }

    /// The header of a stored block.
    pub fn header(&self, hash: B256) -> Result<Option<StoredHeader<'_>>, StoreError> {
        self.tables.header(&self.txn, hash)
    }

    /// The canonical block of this number.
    pub fn canonical(&self, number: u64) -> Result<Option<B256>, StoreError> {
        self.tables.canonical(&self.txn, number)
    }

    /// Whether this stored block is on the canonical chain.
    pub fn is_canonical(&self, hash: B256) -> Result<bool, StoreError> {
        let Some(header) = self.header(hash)? else { return Ok(false) };
        Ok(self.canonical(header.number)? == Some(hash))
    }

    /// Network encodings of a block's transactions; each can be read without the others.
    pub fn transactions(&self, hash: B256) -> Result<Option<Items<'_>>, StoreError> {
        let raw = self.tables.body(&self.txn, hash, Part::Transactions)?;
        raw.map(|raw| Items::parse(raw).ok_or_else(|| damaged("list of transactions"))).transpose()
    }

    /// Hashes of a block's transactions.
    pub fn transaction_hashes(&self, hash: B256) -> Result<Option<Vec<B256>>, StoreError> {
        self.tables.body(&self.txn, hash, Part::Hashes)?.map(hashes_of).transpose()
    }

    /// Senders of a block's transactions.
    pub fn senders(&self, hash: B256) -> Result<Option<Vec<Address>>, StoreError> {
        self.tables.body(&self.txn, hash, Part::Senders)?.map(addresses_of).transpose()
    }

    /// System calls of a block, as they were given.
    pub fn system_calls(&self, hash: B256) -> Result<Option<&[u8]>, StoreError> {
        self.tables.body(&self.txn, hash, Part::SystemCalls)
    }

    /// Receipts of a block, as they were given; each can be read without the others.
    pub fn receipts(&self, hash: B256) -> Result<Option<Items<'_>>, StoreError> {
        let raw = self.tables.receipts.get(&self.txn, hash.as_slice())?;
        raw.map(|raw| Items::parse(raw).ok_or_else(|| damaged("list of receipts"))).transpose()
    }

    /// Where a transaction of the canonical chain is.
    pub fn transaction_location(&self, hash: B256) -> Result<Option<TransactionLocation>, StoreError> {
        let Some(raw) = self.tables.transactions.get(&self.txn, hash.as_slice())? else { return Ok(None) };
        let (block_number, index) = parse_location(raw).ok_or_else(|| damaged("transaction location"))?;
        let block_hash = self.canonical(block_number)?.ok_or_else(|| damaged("transaction location"))?;
        Ok(Some(TransactionLocation { block_hash, block_number, index }))
    }

    /// Contract code by its hash.
    pub fn code(&self, hash: B256) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.tables.code.get(&self.txn, hash.as_slice())?)
    }

    /// An entry of the `extra` table.
    pub fn extra(&self, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        if key.is_empty() || key.len() > MAX_EXTRA_KEY_BYTES {
            return Ok(None);
        }
        Ok(self.tables.extra.get(&self.txn, key)?)
    }
}

impl NodeSource for Reader {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        match self.tables.nodes.get(&self.txn, &id) {
            Ok(node) => node.ok_or(StateError::MissingNode(id)),
            Err(error) => Err(StateError::Database(error.to_string())),
        }
    }
}
