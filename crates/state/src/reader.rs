//! Snapshots of the store.

use alloy_primitives::{Address, B256};

use crate::block::{StoredHeader, TransactionLocation};
use crate::errors::{StateError, StoreError};
use crate::items::Items;
use crate::node::{NodeId, NodeSource};

/// An immutable snapshot of a [`crate::Store`]: what was committed before it was taken.
///
/// Owns what it needs, may be sent to another thread, not shared between threads (take one per thread; it costs about
/// a microsecond).
pub struct Reader {}

impl Reader {
    /// Hash of the canonical head, `None` before genesis.
    pub fn head(&self) -> Result<Option<B256>, StoreError> {
        todo!()
    }

    /// Hash of the genesis block, `None` before it is written.
    pub fn genesis(&self) -> Result<Option<B256>, StoreError> {
        todo!()
    }

    /// The header of a stored block.
    pub fn header(&self, _hash: B256) -> Result<Option<StoredHeader<'_>>, StoreError> {
        todo!()
    }

    /// The canonical block of this number.
    pub fn canonical(&self, _number: u64) -> Result<Option<B256>, StoreError> {
        todo!()
    }

    /// Whether this stored block is on the canonical chain.
    pub fn is_canonical(&self, _hash: B256) -> Result<bool, StoreError> {
        todo!()
    }

    /// Network encodings of a block's transactions.
    pub fn transactions(&self, _hash: B256) -> Result<Option<Items<'_>>, StoreError> {
        todo!()
    }

    /// Hashes of a block's transactions.
    pub fn transaction_hashes(&self, _hash: B256) -> Result<Option<Vec<B256>>, StoreError> {
        todo!()
    }

    /// Senders of a block's transactions.
    pub fn senders(&self, _hash: B256) -> Result<Option<Vec<Address>>, StoreError> {
        todo!()
    }

    /// System calls of a block, as they were given.
    pub fn system_calls(&self, _hash: B256) -> Result<Option<&[u8]>, StoreError> {
        todo!()
    }

    /// Receipts of a block, as they were given.
    pub fn receipts(&self, _hash: B256) -> Result<Option<Items<'_>>, StoreError> {
        todo!()
    }

    /// Where a transaction of the canonical chain is.
    pub fn transaction_location(
        &self,
        _hash: B256,
    ) -> Result<Option<TransactionLocation>, StoreError> {
        todo!()
    }

    /// Contract code by its hash.
    pub fn code(&self, _hash: B256) -> Result<Option<&[u8]>, StoreError> {
        todo!()
    }

    /// An entry of the `extra` table.
    pub fn extra(&self, _key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        todo!()
    }
}

impl NodeSource for Reader {
    fn node(&self, _id: NodeId) -> Result<&[u8], StateError> {
        todo!()
    }
}
