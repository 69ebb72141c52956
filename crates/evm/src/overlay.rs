//! The state while a block runs: a cache of what was read and written above one stored state root.

use std::collections::hash_map::Entry;

use alloy_primitives::map::{AddressMap, B256Map, HashMap, U256Map};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::TrieAccount;
use noria_state::{Leaf, MemoryNodes, NodeBatch, NodeSource, Root, StoreError};
use revm::database_interface::{Database, DatabaseCommit};
use revm::state::{Account, AccountInfo, AccountStatus, Bytecode};

use crate::errors::ReadError;

/// What lies below an overlay: trie nodes, code by hash, and the hashes of earlier blocks.
pub trait StateSource: NodeSource {
    /// Contract code, analysed.
    fn code(&self, hash: &B256) -> Result<Option<Bytecode>, StoreError>;
    /// Hash and parent hash are enough to walk back; `None` where the chain begins.
    fn parent_hash(&self, block: &B256) -> Result<Option<B256>, StoreError>;
}

/// A state that stands alone: no code, no earlier blocks (genesis).
impl StateSource for MemoryNodes {
    fn code(&self, _hash: &B256) -> Result<Option<Bytecode>, StoreError> {
        Ok(None)
    }

    fn parent_hash(&self, _block: &B256) -> Result<Option<B256>, StoreError> {
        Ok(None)
    }
}

/// An account as the trie stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredAccount {
    /// Nonce, balance, code hash and storage root hash.
    pub account: TrieAccount,
    /// The storage trie.
    pub storage: Root,
}

/// Read an account below a state root.
pub fn read_account<S: NodeSource + ?Sized>(
    source: &S,
    root: Root,
    address: &Address,
) -> Result<Option<StoredAccount>, StoreError> {
    let Some(Leaf { mut value, aux }) = noria_state::get(source, root, keccak256(address).as_slice())? else {
        return Ok(None);
    };
    let account =
        TrieAccount::decode(&mut value).map_err(|error| StoreError::Damaged(format!("account {address}: {error}")))?;
    Ok(Some(StoredAccount { account, storage: Root { hash: account.storage_root, id: aux } }))
}

/// Read a storage slot of a storage trie; zero where nothing is stored.
pub fn read_slot<S: NodeSource + ?Sized>(source: &S, storage: Root, slot: &U256) -> Result<U256, StoreError> {
    if storage.id == 0 {
        return Ok(U256::ZERO);
    }
    match noria_state::get(source, storage, keccak256(slot.to_be_bytes::<32>()).as_slice())? {
        Some(Leaf { mut value, .. }) => {
            U256::decode(&mut value).map_err(|error| StoreError::Damaged(format!("storage slot {slot:#x}: {error}")))
        }
        None => Ok(U256::ZERO),
    }
}

#[derive(Debug, Default)]
struct CachedAccount {
    /// As it was below the overlay.
    stored: Option<StoredAccount>,
    /// As it is now; `None` where no account exists.
    info: Option<AccountInfo>,
    /// Slots read or written: (value now, written).
    slots: U256Map<(U256, bool)>,
    /// The stored storage no longer counts (destroyed or created anew).
    wiped: bool,
    written: bool,
}

/// New trie nodes and code that a state change consists of.
#[derive(Debug)]
pub struct StateChange {
    /// The state root after the change.
    pub root: Root,
    /// Nodes that do not exist in the store yet.
    pub nodes: NodeBatch,
    /// Code that may not exist in the store yet.
    pub codes: Vec<(B256, Bytes)>,
}

/// Reads through to a stored state, keeps every write.
#[derive(Debug)]
pub struct Overlay<S> {
    source: S,
    root: Root,
    accounts: AddressMap<CachedAccount>,
    codes: B256Map<Bytecode>,
    new_codes: Vec<(B256, Bytes)>,
    /// `ancestors[i]` is the hash of block `next_number - 1 - i`.
    ancestors: Vec<B256>,
    next_number: u64,
    /// Overrides of single block hashes for simulated calls.
    pub block_hash_overrides: HashMap<u64, B256>,
    /// Where block hashes come from when not from the chain (official state tests define their own).
    pub block_hash_rule: Option<fn(u64) -> B256>,
    /// EIP-161: touched empty accounts vanish.
    state_clear: bool,
}

impl<S: StateSource> Overlay<S> {
    /// The state under `root`, for running block `next_number` on top of block `parent`.
    pub fn new(source: S, root: Root, parent: B256, next_number: u64, state_clear: bool) -> Self {
        Self {
            source,
            root,
            accounts: AddressMap::default(),
            codes: B256Map::default(),
            new_codes: Vec::new(),
            ancestors: vec![parent],
            next_number,
            block_hash_overrides: HashMap::default(),
            block_hash_rule: None,
            state_clear,
        }
    }

    fn load(&mut self, address: Address) -> Result<&mut CachedAccount, StoreError> {
        match self.accounts.entry(address) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let stored = read_account(&self.source, self.root, &address)?;
                let info = stored.map(|stored| AccountInfo {
                    nonce: stored.account.nonce,
                    balance: stored.account.balance,
                    code_hash: stored.account.code_hash,
                    code: None,
                    ..AccountInfo::default()
                });
                Ok(entry.insert(CachedAccount { stored, info, ..CachedAccount::default() }))
            }
        }
    }

    /// Whether anything is stored at this address.
    pub fn has_storage(&mut self, address: Address) -> Result<bool, StoreError> {
        let account = self.load(address)?;
        Ok(account.stored.is_some_and(|stored| stored.storage.id != 0 && !account.wiped)
            || account.slots.values().any(|(value, written)| *written && !value.is_zero()))
    }

    /// Change an account in place, as genesis and call overrides do.
    pub fn edit(&mut self, address: Address, change: impl FnOnce(&mut AccountInfo)) -> Result<(), StoreError> {
        let account = self.load(address)?;
        let info = account.info.get_or_insert_default();
        change(info);
        account.written = true;
        let code = info.code.take().filter(|_| info.code_hash != KECCAK256_EMPTY);
        let hash = info.code_hash;
        if let Some(code) = code {
            self.keep_code(hash, code);
        }
        Ok(())
    }

    /// Give an account this code.
    pub fn set_code(&mut self, address: Address, code: Bytes) -> Result<(), StoreError> {
        let bytecode = bytecode(code.clone());
        let hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(&code) };
        self.edit(address, |info| {
            info.code_hash = hash;
            info.code = Some(bytecode);
        })
    }

    /// Write slots; with `replace` all others become zero.
    pub fn set_slots(
        &mut self,
        address: Address,
        slots: impl IntoIterator<Item = (U256, U256)>,
        replace: bool,
    ) -> Result<(), StoreError> {
        let account = self.load(address)?;
        account.info.get_or_insert_default();
        account.written = true;
        if replace {
            account.wiped = true;
            account.slots.clear();
        }
        account.slots.extend(slots.into_iter().map(|(slot, value)| (slot, (value, true))));
        Ok(())
    }

    /// Codes read from the store stand in `codes` already, so only created ones are new.
    fn keep_code(&mut self, hash: B256, code: Bytecode) {
        if let alloy_primitives::map::Entry::Vacant(entry) = self.codes.entry(hash) {
            self.new_codes.push((hash, code.original_bytes()));
            entry.insert(code);
        }
    }

    /// Fold every write into new tries.
    pub fn finish(self) -> Result<StateChange, StoreError> {
        let mut nodes = NodeBatch::new();
        let mut changes = Vec::with_capacity(self.accounts.len());
        for (address, cached) in self.accounts {
            if !cached.written {
                continue;
            }
            let key = keccak256(address);
            let Some(info) = cached.info else {
                if cached.stored.is_some() {
                    changes.push((key, None));
                }
                continue;
            };
            let before = cached.stored.map_or(Root::EMPTY, |stored| stored.storage);
            let base = if cached.wiped { Root::EMPTY } else { before };
            let mut slots: Vec<_> = cached
                .slots
                .into_iter()
                .filter(|(_, (value, written))| *written && !(base.id == 0 && value.is_zero()))
                .map(|(slot, (value, _))| {
                    let value = (!value.is_zero()).then(|| (alloy_rlp::encode(value), 0));
                    (keccak256(slot.to_be_bytes::<32>()), value)
                })
                .collect();
            let storage = if slots.is_empty() {
                base
            } else {
                slots.sort_unstable_by_key(|(key, _)| *key);
                noria_state::update(&self.source, base, &slots, &mut nodes)?
            };
            let account = TrieAccount::new(info.nonce, info.balance, storage.hash, info.code_hash);
            if cached.stored.is_some_and(|stored| stored.account == account) {
                continue;
            }
            changes.push((key, Some((alloy_rlp::encode(account), storage.id))));
        }
        changes.sort_unstable_by_key(|(key, _)| *key);
        let root = if changes.is_empty() {
            self.root
        } else {
            noria_state::update(&self.source, self.root, &changes, &mut nodes)?
        };
        Ok(StateChange { root, nodes, codes: self.new_codes })
    }
}

/// Code as the EVM takes it; bytes that only look like a delegation are plain code.
pub fn bytecode(code: Bytes) -> Bytecode {
    Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code))
}

impl<S: StateSource> Database for Overlay<S> {
    type Error = ReadError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.load(address)?.info.clone())
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, ReadError> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.codes.get(&hash) {
            return Ok(code.clone());
        }
        let code = self
            .source
            .code(&hash)?
            .ok_or_else(|| StoreError::Damaged(format!("code {hash} is missing from the store")))?;
        self.codes.insert(hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, ReadError> {
        let account = self.load(address)?;
        if let Some((value, _)) = account.slots.get(&slot) {
            return Ok(*value);
        }
        let value = match account.stored {
            Some(stored) if !account.wiped => read_slot(&self.source, stored.storage, &slot)?,
            _ => U256::ZERO,
        };
        self.load(address)?.slots.insert(slot, (value, false));
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
        if let Some(hash) = self.block_hash_overrides.get(&number) {
            return Ok(*hash);
        }
        if let Some(rule) = self.block_hash_rule {
            return Ok(rule(number));
        }
        if number >= self.next_number {
            return Ok(B256::ZERO);
        }
        let back = (self.next_number - 1 - number) as usize;
        while self.ancestors.len() <= back {
            let last = self.ancestors[self.ancestors.len() - 1];
            match self.source.parent_hash(&last)? {
                Some(parent) => self.ancestors.push(parent),
                None => return Ok(B256::ZERO),
            }
        }
        Ok(self.ancestors[back])
    }
}

impl<S: StateSource> DatabaseCommit for Overlay<S> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            // The EVM loads every account before it touches it.
            let cached = self.accounts.entry(address).or_default();
            cached.written = true;
            if account.is_selfdestructed() {
                cached.info = None;
                cached.wiped = true;
                cached.slots.clear();
                continue;
            }
            if account.status.contains(AccountStatus::Created) {
                cached.wiped = true;
                cached.slots.clear();
            }
            for (slot, value) in &account.storage {
                let present = value.present_value();
                if value.is_changed() {
                    cached.slots.insert(*slot, (present, true));
                } else {
                    cached.slots.entry(*slot).or_insert((present, false));
                }
            }
            let mut info = account.info;
            let code = info.code.take();
            cached.info = if self.state_clear && info.is_empty() {
                // EIP-161; what storage a state test may have given such an account goes with it.
                cached.wiped = true;
                cached.slots.clear();
                None
            } else {
                Some(info.clone())
            };
            if let Some(code) = code.filter(|_| info.code_hash != KECCAK256_EMPTY) {
                self.keep_code(info.code_hash, code);
            }
        }
    }
}
