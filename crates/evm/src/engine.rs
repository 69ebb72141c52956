//! One chain's store, rules and EVM behind one object.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256};
use alloy_rlp::Decodable;
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_serde::JsonStorageKey;
use alloy_trie::TrieAccount;
use noria_state::{HeadChange, NewBlock, Options, Reader, Root, Store, StoreError};

use crate::block::{self, Attributes, Executed, MAX_BLOCK_BYTES, Parent, SystemCall};
use crate::block_codec::{decode_block, decode_system_calls, encode_system_calls};
use crate::call::At;
use crate::errors::{BlockError, RequestError};
use crate::json::Place;
use crate::overlay::{Overlay, StoredAccount, read_account, read_slot};
use crate::snapshot::{CodeCache, Snapshot};
use crate::spec::{ChainSpec, RulesRecord};
use crate::transaction::SignedTransaction;

/// A header with its hash and state.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// The state after it.
    pub state: Root,
}

impl Sealed {
    fn parent(&self) -> Parent<'_> {
        Parent { header: &self.header, hash: self.hash, state: self.state }
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { header: &self.header, hash: self.hash }
    }
}

/// Store, state and EVM of one chain. Safe from every thread; each call reads one consistent snapshot.
#[derive(Debug)]
pub struct Engine {
    spec: ChainSpec,
    pub(crate) store: Store,
    codes: Arc<CodeCache>,
    genesis_hash: B256,
}

impl Engine {
    /// Open or create the chain that this specification describes.
    pub fn open(path: &Path, genesis: &[u8], options: Options) -> Result<Self, RequestError> {
        let spec = ChainSpec::parse(genesis)?;
        let store = Store::open(path, options)?;
        let mut genesis = genesis_block(&spec)?;
        genesis.hash = spec.genesis_header(genesis.state_root.hash).hash_slow();
        let genesis_hash = genesis.hash;
        genesis.extra = vec![(RULES_KEY.to_vec(), Some(to_json(&spec.rules_record())))];
        store.init_genesis(&genesis)?;
        check_rules(&spec, &store)?;
        Ok(Self { spec, store, codes: Arc::default(), genesis_hash })
    }

    /// The chain's rules.
    pub fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new(self.store.reader()?, Arc::clone(&self.codes)))
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Canonical head.
    pub fn head(&self) -> Result<Sealed, RequestError> {
        let reader = self.store.reader()?;
        let hash = reader.head()?.ok_or(StoreError::NoGenesis)?;
        sealed(&reader, hash)
    }

    /// A stored block's header.
    pub fn header(&self, hash: B256) -> Result<Option<Sealed>, RequestError> {
        let reader = self.store.reader()?;
        match sealed(&reader, hash) {
            Ok(sealed) => Ok(Some(sealed)),
            Err(RequestError::UnknownBlock(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    // ------------------------------------------------------------------ state

    /// The account after this block; the empty one where none exists.
    pub fn account(&self, hash: B256, address: Address) -> Result<TrieAccount, RequestError> {
        Ok(self.accounts(hash, &[address])?[0])
    }

    /// Many accounts in one snapshot.
    pub fn accounts(&self, hash: B256, addresses: &[Address]) -> Result<Vec<TrieAccount>, RequestError> {
        let reader = self.store.reader()?;
        let state = sealed(&reader, hash)?.state;
        addresses
            .iter()
            .map(|address| Ok(read_account(&reader, state, address)?.map_or_else(TrieAccount::default, |a| a.account)))
            .collect()
    }

    /// Contract code after this block.
    pub fn code(&self, hash: B256, address: Address) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let state = sealed(&reader, hash)?.state;
        match read_account(&reader, state, &address)? {
            Some(StoredAccount { account, .. }) if account.code_hash != alloy_primitives::KECCAK256_EMPTY => {
                Ok(reader.code(account.code_hash)?.map(<[u8]>::to_vec).unwrap_or_default())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A storage slot after this block.
    pub fn storage(&self, hash: B256, address: Address, slot: U256) -> Result<U256, RequestError> {
        let reader = self.store.reader()?;
        let state = sealed(&reader, hash)?.state;
        match read_account(&reader, state, &address)? {
            Some(account) => Ok(read_slot(&reader, account.storage, &slot)?),
            None => Ok(U256::ZERO),
        }
    }

    /// `eth_getProof`.
    pub fn proof_json(&self, hash: B256, address: Address, slots: &[B256]) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let state = sealed(&reader, hash)?.state;
        let stored = read_account(&reader, state, &address)?;
        let account = stored.map_or_else(TrieAccount::default, |stored| stored.account);
        let storage = stored.map_or(Root::EMPTY, |stored| stored.storage);
        let storage_proof = slots
            .iter()
            .map(|slot| {
                let key = alloy_primitives::keccak256(slot);
                Ok(EIP1186StorageProof {
                    key: JsonStorageKey::Hash(*slot),
                    value: read_slot(&reader, storage, &U256::from_be_bytes(slot.0))?,
                    proof: noria_state::prove(&reader, storage, key.as_slice()).map_err(StoreError::from)?,
                })
            })
            .collect::<Result<_, RequestError>>()?;
        let key = alloy_primitives::keccak256(address);
        Ok(to_json(&EIP1186AccountProofResponse {
            address,
            balance: account.balance,
            code_hash: account.code_hash,
            nonce: account.nonce,
            storage_hash: account.storage_root,
            account_proof: noria_state::prove(&reader, state, key.as_slice()).map_err(StoreError::from)?,
            storage_proof,
        }))
    }

    /// Run `f` on the state after this block, as calls, estimates and traces do.
    pub fn at<T>(
        &self,
        hash: B256,
        f: impl FnOnce(At<'_, Snapshot>) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let reader = self.snapshot()?;
        let block = sealed(&reader, hash)?;
        f(At { spec: &self.spec, source: reader, header: &block.header, state: block.state })
    }

    /// callTracer output of a transaction of a stored block.
    pub fn trace_transaction(&self, hash: B256, index: usize, config: &[u8]) -> Result<Vec<u8>, RequestError> {
        let config = crate::call::parse(config, "tracer configuration")?;
        let reader = self.snapshot()?;
        let block = sealed(&reader, hash)?;
        let parent = sealed(&reader, block.header.parent_hash)?;
        let calls = reader.system_calls(hash)?.and_then(decode_system_calls);
        let calls = calls.ok_or_else(|| StoreError::Damaged(format!("system calls of block {hash}")))?;
        let txs = transactions(&reader, hash, index.saturating_add(1))?;
        if txs.len() <= index {
            return Err(RequestError::invalid(format!("block {hash} has no transaction {index}")));
        }
        let frame =
            crate::trace::trace_transaction(&self.spec, reader, parent.parent(), &block.header, &calls, &txs, config)?;
        Ok(to_json(&frame))
    }

    // ------------------------------------------------------------------ building and importing

    /// Build a block on top of a stored one.
    pub fn build(
        &self,
        parent: B256,
        attributes: Attributes,
        candidates: &[Arc<SignedTransaction>],
        deadline: Option<Instant>,
    ) -> Result<Executed, BlockError> {
        let reader = self.snapshot()?;
        let parent = known_parent(&reader, parent)?;
        block::build(&self.spec, reader, parent.parent(), attributes, candidates, deadline)
    }

    /// Check and execute a block received as RLP.
    pub fn execute(&self, rlp: &[u8], system_calls: Vec<SystemCall>) -> Result<Executed, BlockError> {
        if rlp.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::invalid(
                "size",
                format!("block of {} bytes, at most {MAX_BLOCK_BYTES} are allowed", rlp.len()),
            ));
        }
        let (header, raws) = decode_block(rlp)?;
        let reader = self.snapshot()?;
        let parent = known_parent(&reader, header.parent_hash)?;
        let transactions = crate::transaction::decode_many(&raws.iter().map(AsRef::as_ref).collect::<Vec<_>>())
            .into_iter()
            .enumerate()
            .map(|(index, tx)| {
                tx.map_err(|error| {
                    BlockError::invalid("transaction", format!("transaction {index}: {}", error.message))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        block::execute(&self.spec, reader, parent.parent(), &header, transactions, system_calls)
    }

    /// Store a block, atomically and durably.
    pub fn commit(&self, executed: &Executed, make_head: bool) -> Result<HeadChange, StoreError> {
        let new = NewBlock {
            hash: executed.hash,
            parent_hash: executed.header.parent_hash,
            number: executed.header.number,
            header_rlp: alloy_rlp::encode(&executed.header),
            transactions: executed.transactions.iter().map(|tx| tx.raw.clone()).collect(),
            transaction_hashes: executed.transactions.iter().map(|tx| tx.hash).collect(),
            senders: executed.transactions.iter().map(|tx| tx.sender).collect(),
            receipts: executed.outcomes.iter().map(|outcome| alloy_rlp::encode(outcome).into()).collect(),
            system_calls: encode_system_calls(&executed.system_calls),
            state_root: executed.change.root,
            nodes: executed.change.nodes.clone(),
            codes: executed.change.codes.clone(),
            extra: Vec::new(),
        };
        self.store.commit(&new, make_head)
    }

    /// Make a stored block the canonical head.
    pub fn set_head(&self, hash: B256) -> Result<HeadChange, StoreError> {
        self.store.set_head(hash)
    }
}

/// JSON of an object of the RPC.
pub fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("RPC objects have string keys and always serialise")
}

/// Where the store keeps the rules that its blocks were executed under.
const RULES_KEY: &[u8] = b"rules";

/// The genesis hash says nothing about chain id, precompiles and hardforks: refuse a store whose blocks were executed
/// under others. Hardforks that lie ahead of the head may still change.
fn check_rules(spec: &ChainSpec, store: &Store) -> Result<(), RequestError> {
    let reader = store.reader()?;
    let head = reader.head()?.ok_or(StoreError::NoGenesis)?;
    let now = sealed(&reader, head)?.header.timestamp;
    let found: RulesRecord = match reader.extra(RULES_KEY)? {
        Some(json) => serde_json::from_slice(json).map_err(|error| StoreError::Damaged(format!("rules: {error}")))?,
        None => return Err(StoreError::Damaged("the rules are missing".into()).into()),
    };
    let wanted = spec.rules_record();
    if found.until(now) != wanted.until(now) {
        let path = store.path().to_owned();
        let reason = "holds a chain with another chain id, other precompiles or other past hardforks".to_owned();
        return Err(StoreError::Foreign { path, reason }.into());
    }
    if found != wanted {
        store.put_extra(&[(RULES_KEY.to_vec(), Some(to_json(&wanted)))])?;
    }
    Ok(())
}

fn genesis_block(spec: &ChainSpec) -> Result<NewBlock, RequestError> {
    let mut overlay = Overlay::new(noria_state::MemoryNodes::new(), Root::EMPTY, B256::ZERO, 0, true);
    for (address, account) in &spec.alloc {
        overlay.edit(*address, |info| {
            info.balance = account.balance;
            info.nonce = account.nonce.to();
        })?;
        overlay.set_code(*address, account.code.clone())?;
        let slots =
            account.storage.iter().map(|(slot, value)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0)));
        overlay.set_slots(*address, slots, false)?;
    }
    let change = overlay.finish()?;
    let header = spec.genesis_header(change.root.hash);
    Ok(NewBlock {
        header_rlp: alloy_rlp::encode(&header),
        system_calls: encode_system_calls(&[]),
        state_root: change.root,
        nodes: change.nodes,
        codes: change.codes,
        ..NewBlock::default()
    })
}

pub(crate) fn sealed(reader: &Reader, hash: B256) -> Result<Sealed, RequestError> {
    let stored = reader.header(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let header =
        Header::decode(&mut &*stored.rlp).map_err(|error| StoreError::Damaged(format!("header {hash}: {error}")))?;
    Ok(Sealed { header, hash, state: stored.state_root })
}

fn known_parent(reader: &Reader, hash: B256) -> Result<Sealed, BlockError> {
    sealed(reader, hash).map_err(|error| match error {
        RequestError::Store(store) => BlockError::Store(store),
        _ => BlockError::UnknownParent(hash),
    })
}

fn restore(raw: &[u8], sender: Address) -> Result<SignedTransaction, StoreError> {
    SignedTransaction::restore(raw, sender)
        .ok_or_else(|| StoreError::Damaged("a stored transaction does not decode".into()))
}

pub(crate) fn transactions(reader: &Reader, hash: B256, most: usize) -> Result<Vec<SignedTransaction>, RequestError> {
    let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let senders = reader.senders(hash)?.unwrap_or_default();
    Ok(items.iter().zip(senders).take(most).map(|(raw, sender)| restore(raw, sender)).collect::<Result<_, _>>()?)
}

pub(crate) fn transaction(
    reader: &Reader,
    hash: B256,
    index: usize,
) -> Result<Option<SignedTransaction>, RequestError> {
    let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let senders = reader.senders(hash)?.unwrap_or_default();
    match (items.get(index), senders.get(index)) {
        (Some(raw), Some(sender)) => Ok(Some(restore(raw, *sender)?)),
        _ => Ok(None),
    }
}
