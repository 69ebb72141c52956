//! Tables of the store and what their records look like.
//!
//! | table          | key                    | record |
//! |----------------|------------------------|--------|
//! | `meta`         | name                   | `schema` u32, `next_node` u64, `genesis` hash, `head` hash |
//! | `nodes`        | node id u64 (ascending)| encoded trie node |
//! | `code`         | code hash              | contract code |
//! | `headers`      | block hash             | [`HeaderRecord`] and header RLP |
//! | `bodies`       | block hash, [`Part`]   | transactions, their hashes and senders, system calls |
//! | `receipts`     | block hash             | receipts |
//! | `canonical`    | number u64             | block hash |
//! | `transactions` | transaction hash       | block number u64, index u32; canonical chain only |
//! | `extra`        | any                    | any |
//!
//! Nodes that a block replaces are not recorded yet; a table of their own, by block hash, has room beside these.

use alloy_primitives::{Address, B256};
use heed::byteorder::NativeEndian;
use heed::types::{Bytes, Str, U64};
use heed::{CommitOrAbort, Database, Env, IntegerComparator, RoTxn, RwTxn, WithoutTls};

use crate::block::StoredHeader;
use crate::errors::StoreError;
use crate::node::Root;

/// Version of the layout; another one is refused.
pub const SCHEMA_VERSION: u32 = 1;

/// Longest key that LMDB takes.
pub(crate) const MAX_EXTRA_KEY_BYTES: usize = 511;

/// Room for tables of later versions.
pub(crate) const MAX_TABLES: u32 = 32;

type ByBytes = Database<'static, Bytes, Bytes>;
type ByNumber = Database<'static, U64<NativeEndian>, Bytes, IntegerComparator>;

/// Handles of the open tables.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) meta: Database<'static, Str, Bytes>,
    pub(crate) nodes: ByNumber,
    pub(crate) code: ByBytes,
    pub(crate) headers: ByBytes,
    pub(crate) bodies: ByBytes,
    pub(crate) receipts: ByBytes,
    pub(crate) canonical: ByNumber,
    pub(crate) transactions: ByBytes,
    pub(crate) extra: ByBytes,
}

impl Tables {
    /// Open the tables, or create them in an environment that has none. Another schema is refused, untouched.
    pub(crate) fn open(env: &Env<WithoutTls>) -> Result<Self, StoreError> {
        let txn = env.write_txn()?;
        let opened = env.create_databases_and_commit(txn, |opener, txn| {
            let meta = opener.create_database::<Str, Bytes>(txn, Some("meta"))?;
            match meta.get(txn, "schema")? {
                Some(found) => match u32::from_le_bytes(found.try_into().unwrap_or_default()) {
                    SCHEMA_VERSION => {}
                    found => return Err(StoreError::Schema { found, expected: SCHEMA_VERSION }),
                },
                None => {
                    meta.put(txn, "schema", &SCHEMA_VERSION.to_le_bytes())?;
                    meta.put(txn, "next_node", &1u64.to_le_bytes())?;
                }
            }
            let numbered = |txn: &mut RwTxn<'_>, name| {
                let mut options = opener.database_options().types::<U64<NativeEndian>, Bytes>();
                let options = options.name(name).key_comparator::<IntegerComparator>();
                options.create(txn)
            };
            let named =
                |txn: &mut RwTxn<'_>, name| opener.database_options().types::<Bytes, Bytes>().name(name).create(txn);
            let tables = (
                meta,
                numbered(txn, "nodes")?,
                named(txn, "code")?,
                named(txn, "headers")?,
                named(txn, "bodies")?,
                named(txn, "receipts")?,
                numbered(txn, "canonical")?,
                named(txn, "transactions")?,
                named(txn, "extra")?,
            );
            Ok::<_, StoreError>(CommitOrAbort::<_, ()>::Commit(tables))
        })?;
        let (meta, nodes, code, headers, bodies, receipts, canonical, transactions, extra) = opened.unwrap_commit();
        Ok(Self { meta, nodes, code, headers, bodies, receipts, canonical, transactions, extra })
    }

    /// A hash kept in `meta`.
    pub(crate) fn meta_hash(&self, txn: &RoTxn<'_>, name: &str) -> Result<Option<B256>, StoreError> {
        self.meta.get(txn, name)?.map(|raw| hash_of(raw, name)).transpose()
    }

    /// The id that the next stored node gets.
    pub(crate) fn next_node(&self, txn: &RoTxn<'_>) -> Result<u64, StoreError> {
        let raw = self.meta.get(txn, "next_node")?.and_then(|raw| raw.try_into().ok());
        raw.map(u64::from_le_bytes).ok_or_else(|| damaged("meta record next_node"))
    }

    /// The header record of a block.
    pub(crate) fn header<'t>(&self, txn: &'t RoTxn<'_>, hash: B256) -> Result<Option<StoredHeader<'t>>, StoreError> {
        let Some(raw) = self.headers.get(txn, hash.as_slice())? else { return Ok(None) };
        HeaderRecord::parse(raw).map(Some).ok_or_else(|| damaged("header record"))
    }

    /// A part of a block's body.
    pub(crate) fn body<'t>(&self, txn: &'t RoTxn<'_>, hash: B256, part: Part) -> Result<Option<&'t [u8]>, StoreError> {
        Ok(self.bodies.get(txn, &part.key(hash))?)
    }

    /// The canonical block of a number.
    pub(crate) fn canonical(&self, txn: &RoTxn<'_>, number: u64) -> Result<Option<B256>, StoreError> {
        self.canonical.get(txn, &number)?.map(|raw| hash_of(raw, "canonical record")).transpose()
    }
}

/// A record that cannot be read.
pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("a {what} is malformed"))
}

fn hash_of(raw: &[u8], what: &str) -> Result<B256, StoreError> {
    B256::try_from(raw).map_err(|_| damaged(what))
}

/// Hashes stored one after the other.
pub(crate) fn hashes_of(raw: &[u8]) -> Result<Vec<B256>, StoreError> {
    let (hashes, []) = raw.as_chunks::<32>() else { return Err(damaged("list of hashes")) };
    Ok(hashes.iter().copied().map(B256::new).collect())
}

/// Addresses stored one after the other.
pub(crate) fn addresses_of(raw: &[u8]) -> Result<Vec<Address>, StoreError> {
    let (addresses, []) = raw.as_chunks::<20>() else { return Err(damaged("list of addresses")) };
    Ok(addresses.iter().copied().map(Address::new).collect())
}

/// Parts of a body, stored under the block's hash and this byte.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Transactions = 0,
    Hashes = 1,
    Senders = 2,
    SystemCalls = 3,
}

impl Part {
    pub(crate) fn key(self, hash: B256) -> [u8; 33] {
        let mut key = [self as u8; 33];
        key[..32].copy_from_slice(hash.as_slice());
        key
    }
}

/// The fixed part of a header record: `number u64 | parent | state hash | state id u64 | first node u64 | nodes u64`.
pub(crate) struct HeaderRecord;

impl HeaderRecord {
    const FIXED: usize = 8 + 32 + 32 + 8 + 8 + 8;

    pub(crate) fn encode(header: &StoredHeader<'_>) -> Vec<u8> {
        let mut raw = Vec::with_capacity(Self::FIXED + header.rlp.len());
        raw.extend_from_slice(&header.number.to_le_bytes());
        raw.extend_from_slice(header.parent_hash.as_slice());
        raw.extend_from_slice(header.state_root.hash.as_slice());
        raw.extend_from_slice(&header.state_root.id.to_le_bytes());
        raw.extend_from_slice(&header.nodes.start.to_le_bytes());
        raw.extend_from_slice(&(header.nodes.end - header.nodes.start).to_le_bytes());
        raw.extend_from_slice(header.rlp);
        raw
    }

    fn parse(raw: &[u8]) -> Option<StoredHeader<'_>> {
        let (fixed, rlp) = raw.split_at_checked(Self::FIXED)?;
        let number = |at: usize| fixed[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let first = number(80)?;
        Some(StoredHeader {
            number: number(0)?,
            parent_hash: B256::from_slice(&fixed[8..40]),
            state_root: Root { hash: B256::from_slice(&fixed[40..72]), id: number(72)? },
            nodes: first..first.checked_add(number(88)?)?,
            rlp,
        })
    }
}

/// The record of a canonical transaction: `block number u64 | index u32`.
pub(crate) fn encode_location(number: u64, index: u32) -> [u8; 12] {
    let mut raw = [0; 12];
    raw[..8].copy_from_slice(&number.to_le_bytes());
    raw[8..].copy_from_slice(&index.to_le_bytes());
    raw
}

/// Read what [`encode_location`] wrote.
pub(crate) fn parse_location(raw: &[u8]) -> Option<(u64, u32)> {
    let (number, index) = raw.split_at_checked(8)?;
    Some((u64::from_le_bytes(number.try_into().ok()?), u32::from_le_bytes(index.try_into().ok()?)))
}
