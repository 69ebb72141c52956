//! The store: one LMDB environment in one directory.

use std::path::Path;

use alloy_primitives::B256;

use crate::block::{HeadChange, NewBlock};
use crate::errors::StoreError;
use crate::reader::Reader;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether a commit returns only when it is on the disk. `false` gives up the last commits on a power loss (and,
    /// in the worst case, the store), never on a killed process.
    pub sync: bool,
    /// The most bytes that the data file may take. Address space, not memory.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: true,
            max_bytes: 1 << 40,
        }
    }
}

/// Blocks, state and indices of one chain in one directory. Cheap to share (`Arc` inside), safe from every thread.
///
/// Writers wait for each other, readers for nobody.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Open or create the store in `path`.
    ///
    /// A new store is empty until [`Store::init_genesis`].
    pub fn open(_path: &Path, _options: Options) -> Result<Self, StoreError> {
        todo!()
    }

    /// Write the genesis block and make it head if the store is new; else check that it has the same one
    /// ([`StoreError::Foreign`]).
    pub fn init_genesis(&self, _genesis: &NewBlock) -> Result<(), StoreError> {
        todo!()
    }

    /// Hash of the genesis block, `None` for a new store.
    pub fn genesis_hash(&self) -> Result<Option<B256>, StoreError> {
        todo!()
    }

    /// A snapshot of the store as it is now. Keep it no longer than needed: pages it can see are not reused.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        todo!()
    }

    /// Store a block in one atomic transaction; with `make_head` the same transaction makes it the canonical head.
    ///
    /// A block that is stored already is left alone (and made head if asked). On an error nothing is kept.
    pub fn commit(&self, _block: &NewBlock, _make_head: bool) -> Result<HeadChange, StoreError> {
        todo!()
    }

    /// Make a stored block the canonical head; rewrites the indices where the branches differ in one transaction.
    pub fn set_head(&self, _hash: B256) -> Result<HeadChange, StoreError> {
        todo!()
    }

    /// Write entries of the `extra` table outside of a block, in one transaction; `None` deletes.
    pub fn put_extra(&self, _entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        todo!()
    }

    /// Flush everything to the disk (for stores opened without `sync`).
    pub fn flush(&self) -> Result<(), StoreError> {
        todo!()
    }
}
