//! Writing blocks and moving the head.

use alloy_primitives::B256;
use heed::{PutFlags, RoTxn, RwTxn};

use crate::block::{HeadChange, NewBlock, StoredHeader};
use crate::errors::StoreError;
use crate::items::Items;
use crate::node::{LOCAL, Root, push_resolved, resolved};
use crate::schema::{HeaderRecord, MAX_EXTRA_KEY_BYTES, Part, Tables, damaged, encode_location, hashes_of};
use crate::store::{Failure, Store};

impl Store {
    /// Write the genesis block and make it head if the store is new; else check that it has the same one
    /// ([`StoreError::Foreign`]).
    pub fn init_genesis(&self, genesis: &NewBlock) -> Result<(), StoreError> {
        genesis.check()?;
        if genesis.number != 0 {
            return Err(genesis.inconsistent("the genesis block has number 0"));
        }
        let tables = &self.shared.tables;
        self.shared.write(|txn| match tables.meta_hash(txn, "genesis")? {
            Some(found) if found == genesis.hash => Ok(()),
            Some(found) => {
                let reason = format!("holds the chain with genesis {found}, not {}", genesis.hash);
                Err(StoreError::Foreign { path: self.path().to_owned(), reason }.into())
            }
            None => {
                tables.write_block(txn, genesis)?;
                tables.meta.put(txn, "genesis", genesis.hash.as_slice())?;
                tables.move_head(txn, genesis.hash)?;
                Ok(())
            }
        })
    }

    /// Store a block in one atomic transaction; with `make_head` the same transaction makes it the canonical head.
    ///
    /// A block that is stored already is left alone (and made head if asked). Its nodes may refer to every node that
    /// was stored when the block was made, also by other blocks. When this returns, the block survives a kill of the
    /// process, and with [`crate::Options::sync`] a power loss. On an error nothing is kept, and the store goes on
    /// working.
    pub fn commit(&self, block: &NewBlock, make_head: bool) -> Result<HeadChange, StoreError> {
        block.check()?;
        let tables = &self.shared.tables;
        self.shared.write(|txn| {
            if tables.meta_hash(txn, "genesis")?.is_none() {
                return Err(StoreError::NoGenesis.into());
            }
            if tables.header(txn, block.hash)?.is_none() {
                let parent = tables.header(txn, block.parent_hash)?;
                if parent.is_none_or(|parent| parent.number.checked_add(1) != Some(block.number)) {
                    let NewBlock { hash, parent_hash, number, .. } = *block;
                    return Err(StoreError::UnknownParent { block: hash, parent: parent_hash, number }.into());
                }
                tables.write_block(txn, block)?;
            }
            if make_head { tables.move_head(txn, block.hash) } else { Ok(HeadChange::default()) }
        })
    }

    /// Make a stored block the canonical head; rewrites the indices where the branches differ, in one transaction.
    pub fn set_head(&self, hash: B256) -> Result<HeadChange, StoreError> {
        self.shared.write(|txn| self.shared.tables.move_head(txn, hash))
    }
}

impl NewBlock {
    fn inconsistent(&self, reason: &str) -> StoreError {
        StoreError::Inconsistent { block: self.hash, reason: reason.to_owned() }
    }

    fn check(&self) -> Result<(), StoreError> {
        let count = self.transactions.len();
        if self.transaction_hashes.len() != count || self.senders.len() != count || self.receipts.len() != count {
            return Err(self.inconsistent("transactions, their hashes, senders and receipts differ in number"));
        }
        let parts =
            [&self.transactions, &self.receipts].map(|items| items.iter().map(|item| item.len()).sum::<usize>());
        if parts.iter().any(|&bytes| u32::try_from(bytes).is_err()) {
            return Err(self.inconsistent("transactions or receipts exceed 4 GiB"));
        }
        if self.state_root.id & LOCAL != 0 && (self.state_root.id & !LOCAL) >= self.nodes.len() as u64 {
            return Err(self.inconsistent("the state root is not among its nodes"));
        }
        Ok(())
    }
}

impl Tables {
    /// Store everything of a block except what makes it canonical.
    fn write_block(&self, txn: &mut RwTxn<'_>, block: &NewBlock) -> Result<(), Failure> {
        let first = self.next_node(txn)?;
        if block.state_root.id & LOCAL == 0 && block.state_root.id >= first {
            return Err(block.inconsistent("the state root is not stored").into());
        }
        let (mut next, mut record) = (first, Vec::with_capacity(1024));
        for node in block.nodes.iter() {
            record.clear();
            push_resolved(&mut record, node, first);
            self.nodes.put_with_flags(txn, PutFlags::APPEND, &next, &record)?;
            next += 1;
        }
        self.meta.put(txn, "next_node", &next.to_le_bytes())?;
        for (hash, code) in &block.codes {
            if self.code.get(txn, hash.as_slice())?.is_none() {
                self.code.put(txn, hash.as_slice(), code)?;
            }
        }
        let header = StoredHeader {
            number: block.number,
            parent_hash: block.parent_hash,
            state_root: Root { hash: block.state_root.hash, id: resolved(block.state_root.id, first) },
            nodes: first..next,
            rlp: &block.header_rlp,
        };
        self.headers.put(txn, block.hash.as_slice(), &HeaderRecord::encode(&header))?;
        let hashes: Vec<u8> = block.transaction_hashes.iter().flat_map(|hash| hash.0).collect();
        let senders: Vec<u8> = block.senders.iter().flat_map(|sender| sender.0.0).collect();
        self.bodies.put(txn, &Part::Transactions.key(block.hash), &Items::encode(&block.transactions))?;
        self.bodies.put(txn, &Part::Hashes.key(block.hash), &hashes)?;
        self.bodies.put(txn, &Part::Senders.key(block.hash), &senders)?;
        self.bodies.put(txn, &Part::SystemCalls.key(block.hash), &block.system_calls)?;
        self.receipts.put(txn, block.hash.as_slice(), &Items::encode(&block.receipts))?;
        self.write_extra(txn, &block.extra)
    }

    /// Write or delete entries of the `extra` table.
    pub(crate) fn write_extra(
        &self,
        txn: &mut RwTxn<'_>,
        entries: &[(Vec<u8>, Option<Vec<u8>>)],
    ) -> Result<(), Failure> {
        for (key, value) in entries {
            if key.is_empty() || key.len() > MAX_EXTRA_KEY_BYTES {
                return Err(StoreError::ExtraKey(key.len()).into());
            }
            match value {
                Some(value) => self.extra.put(txn, key, value)?,
                None => drop(self.extra.delete(txn, key)?),
            }
        }
        Ok(())
    }

    /// Make a stored block head: number and transaction indices follow the new branch.
    fn move_head(&self, txn: &mut RwTxn<'_>, hash: B256) -> Result<HeadChange, Failure> {
        let change = self.head_change(txn, hash)?;
        for &removed in &change.removed {
            let number = self.stored(txn, removed)?.0;
            self.canonical.delete(txn, &number)?;
            for transaction in self.hashes_in(txn, removed)? {
                self.transactions.delete(txn, transaction.as_slice())?;
            }
        }
        for &added in &change.added {
            let number = self.stored(txn, added)?.0;
            self.canonical.put(txn, &number, added.as_slice())?;
            for (index, transaction) in (0u32..).zip(self.hashes_in(txn, added)?) {
                self.transactions.put(txn, transaction.as_slice(), &encode_location(number, index))?;
            }
        }
        self.meta.put(txn, "head", hash.as_slice())?;
        Ok(change)
    }

    /// The blocks between the present head and `hash`.
    fn head_change(&self, txn: &RoTxn<'_>, hash: B256) -> Result<HeadChange, StoreError> {
        let mut change = HeadChange::default();
        let parent = |(number, parent): (u64, B256)| match number {
            0 => Ok(None),
            _ => self.stored(txn, parent).map(|found| Some((parent, found))),
        };
        let mut new = Some((hash, self.stored(txn, hash)?));
        let head = self.meta_hash(txn, "head")?;
        let mut old = head.map(|head| self.stored(txn, head).map(|found| (head, found))).transpose()?;
        while old.map(|(hash, _)| hash) != new.map(|(hash, _)| hash) {
            // The higher one goes down; at equal height both do, in two turns.
            let height = |block: Option<(B256, (u64, B256))>| block.map(|(_, (number, _))| number);
            if height(old) >= height(new) {
                let Some((removed, at)) = old else { break };
                change.removed.push(removed);
                old = parent(at)?;
            } else {
                let Some((added, at)) = new else { break };
                change.added.push(added);
                new = parent(at)?;
            }
        }
        change.added.reverse();
        Ok(change)
    }

    /// Number and parent of a stored block.
    fn stored(&self, txn: &RoTxn<'_>, hash: B256) -> Result<(u64, B256), StoreError> {
        let header = self.header(txn, hash)?.ok_or(StoreError::UnknownBlock(hash))?;
        Ok((header.number, header.parent_hash))
    }

    fn hashes_in(&self, txn: &RoTxn<'_>, hash: B256) -> Result<Vec<B256>, StoreError> {
        hashes_of(self.body(txn, hash, Part::Hashes)?.ok_or_else(|| damaged("body"))?)
    }
}
