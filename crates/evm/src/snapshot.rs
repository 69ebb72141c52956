//! What an execution reads: one snapshot of the store, and contract code that was analysed before.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use alloy_primitives::map::B256Map;
use alloy_primitives::{B256, Bytes};
use noria_state::{NodeId, NodeSource, Reader, StateError, StoreError};
use revm::state::Bytecode;

use crate::overlay::{StateSource, bytecode};

/// Code kept analysed, at most; past it the cache starts anew.
const CACHE_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Analysed contract code by its hash. Finding jump destinations takes about a microsecond per kilobyte, more than most
/// calls run for, and code never changes under its hash.
#[derive(Debug, Default)]
pub struct CodeCache(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    codes: B256Map<Bytecode>,
    bytes: usize,
}

impl CodeCache {
    fn get(&self, hash: &B256) -> Option<Bytecode> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).codes.get(hash).cloned()
    }

    fn keep(&self, hash: B256, code: &Bytecode) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + code.len() > CACHE_MAX_BYTES {
            *kept = Kept::default();
        }
        if kept.codes.insert(hash, code.clone()).is_none() {
            kept.bytes += code.len();
        }
    }
}

/// An immutable view of the store for one execution.
pub struct Snapshot {
    reader: Reader,
    codes: Arc<CodeCache>,
}

impl Snapshot {
    /// A view through this reader.
    pub fn new(reader: Reader, codes: Arc<CodeCache>) -> Self {
        Self { reader, codes }
    }
}

impl Deref for Snapshot {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl NodeSource for Snapshot {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        self.reader.node(id)
    }
}

impl StateSource for Snapshot {
    fn code(&self, hash: &B256) -> Result<Option<Bytecode>, StoreError> {
        if let Some(code) = self.codes.get(hash) {
            return Ok(Some(code));
        }
        let Some(code) = self.reader.code(*hash)?.map(|code| bytecode(Bytes::copy_from_slice(code))) else {
            return Ok(None);
        };
        self.codes.keep(*hash, &code);
        Ok(Some(code))
    }

    fn parent_hash(&self, block: &B256) -> Result<Option<B256>, StoreError> {
        Ok(self.reader.header(*block)?.filter(|header| header.number > 0).map(|header| header.parent_hash))
    }
}
