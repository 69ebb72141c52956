//! One chain's store, rules and EVM behind one object.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::{Decodable, Encodable};
use alloy_rpc_types_eth::{BlockTransactions, EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_serde::JsonStorageKey;
use alloy_trie::TrieAccount;
use noria_state::{HeadChange, NewBlock, Options, Reader, Root, Store, StoreError, TransactionLocation};

use crate::block::{self, Attributes, Executed, MAX_BLOCK_BYTES, Outcome, Parent, SystemCall};
use crate::call::At;
use crate::errors::{BlockError, RequestError};
use crate::json::{self, Place, Position};
use crate::overlay::{Overlay, StoredAccount, read_account, read_slot};
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

    fn place(&self) -> Place<'_> {
        Place { header: &self.header, hash: self.hash }
    }
}

/// Which logs are asked for.
#[derive(Debug, Default)]
pub struct LogFilter {
    /// Any of these; empty means all.
    pub addresses: Vec<Address>,
    /// Per position any of these; `None` or an empty list means all.
    pub topics: Vec<Option<Vec<B256>>>,
}

impl LogFilter {
    fn may_match(&self, bloom: &alloy_primitives::Bloom) -> bool {
        let has = |bytes: &[u8]| bloom.contains_input(alloy_primitives::BloomInput::Raw(bytes));
        (self.addresses.is_empty() || self.addresses.iter().any(|address| has(address.as_slice())))
            && self.topics.iter().flatten().all(|any| any.is_empty() || any.iter().any(|topic| has(topic.as_slice())))
    }

    fn matches(&self, log: &alloy_primitives::Log) -> bool {
        let topics = log.data.topics();
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.len() <= topics.len()
            && self.topics.iter().zip(topics).all(|(any, topic)| match any {
                Some(any) => any.is_empty() || any.contains(topic),
                None => true,
            })
    }
}

/// Store, state and EVM of one chain. Safe from every thread; each call reads one consistent snapshot.
#[derive(Debug)]
pub struct Engine {
    spec: ChainSpec,
    store: Store,
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
        Ok(Self { spec, store, genesis_hash })
    }

    /// The chain's rules.
    pub fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
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

    // ------------------------------------------------------------------ blocks

    /// All transactions of a stored block.
    pub fn transactions(&self, hash: B256) -> Result<Vec<SignedTransaction>, RequestError> {
        transactions(&self.store.reader()?, hash, usize::MAX)
    }

    /// Location on the canonical chain.
    pub fn transaction_location(&self, hash: B256) -> Result<Option<TransactionLocation>, RequestError> {
        Ok(self.store.reader()?.transaction_location(hash)?)
    }

    /// `rlp([header, transactions, [], []])`.
    pub fn block_rlp(&self, hash: B256) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let header = reader.header(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        Ok(encode_block(header.rlp, items.iter()))
    }

    /// The RPC's block object.
    pub fn block_json(&self, hash: B256, full: bool) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let sealed = sealed(&reader, hash)?;
        let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        let size = encode_block(&alloy_rlp::encode(&sealed.header), items.iter()).len();
        let body = if full {
            let all = transactions(&reader, hash, usize::MAX)?;
            BlockTransactions::Full(
                all.iter().zip(0..).map(|(tx, index)| json::transaction(tx, sealed.place(), index)).collect(),
            )
        } else {
            BlockTransactions::Hashes(reader.transaction_hashes(hash)?.unwrap_or_default())
        };
        Ok(to_json(&json::block(sealed.place(), size, body)))
    }

    /// The RPC's transaction object; `None` past the end.
    pub fn transaction_json(&self, hash: B256, index: usize) -> Result<Option<Vec<u8>>, RequestError> {
        let reader = self.store.reader()?;
        let sealed = sealed(&reader, hash)?;
        Ok(transaction(&reader, hash, index)?.map(|tx| to_json(&json::transaction(&tx, sealed.place(), index as u64))))
    }

    /// The network encoding of a transaction; `None` past the end.
    pub fn raw_transaction(&self, hash: B256, index: usize) -> Result<Option<Vec<u8>>, RequestError> {
        let reader = self.store.reader()?;
        let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
        Ok(items.get(index).map(<[u8]>::to_vec))
    }

    /// The RPC's receipts: one, or all of a block as an array.
    pub fn receipts_json(&self, hash: B256, only: Option<usize>) -> Result<Option<Vec<u8>>, RequestError> {
        let reader = self.store.reader()?;
        let sealed = sealed(&reader, hash)?;
        let outcomes = outcomes(&reader, hash, only.map_or(usize::MAX, |index| index.saturating_add(1)))?;
        if only.is_some_and(|index| index >= outcomes.len()) {
            return Ok(None);
        }
        let mut first_log = 0;
        let mut gas_before = 0;
        let mut receipts = Vec::new();
        for (index, outcome) in outcomes.iter().enumerate() {
            if only.is_none_or(|only| only == index) {
                let tx = transaction(&reader, hash, index)?
                    .ok_or_else(|| StoreError::Damaged(format!("block {hash} lacks transaction {index}")))?;
                let position = Position { hash: tx.hash, index: index as u64, first_log };
                receipts.push(json::receipt(&tx, outcome, sealed.place(), position, gas_before));
            }
            first_log += outcome.logs.len() as u64;
            gas_before = outcome.cumulative_gas_used;
        }
        Ok(Some(match only {
            Some(_) => to_json(&receipts[0]),
            None => to_json(&receipts),
        }))
    }

    /// Matching logs of these blocks, in order; more than `limit` is an error.
    pub fn logs(
        &self,
        blocks: impl IntoIterator<Item = B256>,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let mut found = Vec::new();
        for hash in blocks {
            block_logs(&reader, hash, filter, limit, &mut found)?;
        }
        Ok(to_json(&found))
    }

    /// Matching logs of the canonical blocks `first..=last`.
    pub fn logs_range(&self, first: u64, last: u64, filter: &LogFilter, limit: usize) -> Result<Vec<u8>, RequestError> {
        let reader = self.store.reader()?;
        let mut found = Vec::new();
        for number in first..=last {
            let Some(hash) = reader.canonical(number)? else { break };
            block_logs(&reader, hash, filter, limit, &mut found)?;
        }
        Ok(to_json(&found))
    }

    /// Headers of up to `count` blocks ending with `newest`, oldest first, with tips at percentiles of gas used.
    pub fn fee_history(
        &self,
        newest: B256,
        count: usize,
        percentiles: &[f64],
    ) -> Result<Vec<(Sealed, Vec<u128>)>, RequestError> {
        let reader = self.store.reader()?;
        let mut history = Vec::new();
        let mut next = newest;
        for _ in 0..count {
            let block = sealed(&reader, next)?;
            let tips = tips(&reader, &block, percentiles)?;
            next = block.header.parent_hash;
            let genesis = block.header.number == 0;
            history.push((block, tips));
            if genesis {
                break;
            }
        }
        history.reverse();
        Ok(history)
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
        f: impl FnOnce(At<'_, Reader>) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let reader = self.store.reader()?;
        let block = sealed(&reader, hash)?;
        f(At { spec: &self.spec, source: reader, header: &block.header, state: block.state })
    }

    /// callTracer output of a transaction of a stored block.
    pub fn trace_transaction(&self, hash: B256, index: usize, config: &[u8]) -> Result<Vec<u8>, RequestError> {
        let config = crate::call::parse(config, "tracer configuration")?;
        let reader = self.store.reader()?;
        let block = sealed(&reader, hash)?;
        let parent = sealed(&reader, block.header.parent_hash)?;
        let calls = system_calls(&reader, hash)?;
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
        let reader = self.store.reader()?;
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
        let reader = self.store.reader()?;
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

fn sealed(reader: &Reader, hash: B256) -> Result<Sealed, RequestError> {
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

fn transactions(reader: &Reader, hash: B256, most: usize) -> Result<Vec<SignedTransaction>, RequestError> {
    let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let senders = reader.senders(hash)?.unwrap_or_default();
    Ok(items.iter().zip(senders).take(most).map(|(raw, sender)| restore(raw, sender)).collect::<Result<_, _>>()?)
}

fn transaction(reader: &Reader, hash: B256, index: usize) -> Result<Option<SignedTransaction>, RequestError> {
    let items = reader.transactions(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let senders = reader.senders(hash)?.unwrap_or_default();
    match (items.get(index), senders.get(index)) {
        (Some(raw), Some(sender)) => Ok(Some(restore(raw, *sender)?)),
        _ => Ok(None),
    }
}

fn outcomes(reader: &Reader, hash: B256, most: usize) -> Result<Vec<Outcome>, RequestError> {
    let items = reader.receipts(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let decode = |mut item: &[u8]| {
        Outcome::decode(&mut item).map_err(|error| StoreError::Damaged(format!("receipt of {hash}: {error}")))
    };
    Ok(items.iter().take(most).map(decode).collect::<Result<_, _>>()?)
}

fn block_logs(
    reader: &Reader,
    hash: B256,
    filter: &LogFilter,
    limit: usize,
    found: &mut Vec<alloy_rpc_types_eth::Log>,
) -> Result<(), RequestError> {
    let block = sealed(reader, hash)?;
    if block.header.logs_bloom.is_zero() || !filter.may_match(&block.header.logs_bloom) {
        return Ok(());
    }
    let hashes = reader.transaction_hashes(hash)?.unwrap_or_default();
    let mut first_log = 0;
    for (index, (outcome, hash)) in outcomes(reader, hash, usize::MAX)?.iter().zip(hashes).enumerate() {
        let position = Position { hash, index: index as u64, first_log };
        first_log += outcome.logs.len() as u64;
        found.extend(json::logs(outcome, block.place(), position).filter(|log| filter.matches(&log.inner)));
        if found.len() > limit {
            return Err(RequestError::invalid(format!("query returned more than {limit} results")));
        }
    }
    Ok(())
}

fn tips(reader: &Reader, block: &Sealed, percentiles: &[f64]) -> Result<Vec<u128>, RequestError> {
    if percentiles.is_empty() {
        return Ok(Vec::new());
    }
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut gas_before = 0;
    let mut paid: Vec<(u128, u64)> = transactions(reader, block.hash, usize::MAX)?
        .iter()
        .zip(outcomes(reader, block.hash, usize::MAX)?)
        .map(|(tx, outcome)| {
            let gas = outcome.cumulative_gas_used - gas_before;
            gas_before = outcome.cumulative_gas_used;
            (tx.envelope.effective_tip_per_gas(base_fee).unwrap_or_default(), gas)
        })
        .collect();
    paid.sort_unstable();
    let mut index = 0;
    let mut sum = paid.first().map_or(0, |(_, gas)| *gas);
    Ok(percentiles
        .iter()
        .map(|percentile| {
            let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
            while sum < threshold && index + 1 < paid.len() {
                index += 1;
                sum += paid[index].1;
            }
            paid.get(index).map_or(0, |(tip, _)| *tip)
        })
        .collect())
}

fn encode_system_calls(calls: &[SystemCall]) -> Vec<u8> {
    let flat: Vec<Bytes> =
        calls.iter().flat_map(|(to, data)| [Bytes::copy_from_slice(to.as_slice()), data.clone()]).collect();
    alloy_rlp::encode(flat)
}

fn system_calls(reader: &Reader, hash: B256) -> Result<Vec<SystemCall>, RequestError> {
    let damaged = || StoreError::Damaged(format!("system calls of block {hash}"));
    let mut bytes = reader.system_calls(hash)?.ok_or(RequestError::UnknownBlock(hash))?;
    let flat = Vec::<Bytes>::decode(&mut bytes).map_err(|_| damaged())?;
    flat.chunks(2)
        .map(|pair| match pair {
            [to, data] if to.len() == 20 => Ok((Address::from_slice(to), data.clone())),
            _ => Err(damaged().into()),
        })
        .collect()
}

/// `rlp([header, transactions, [], []])`: legacy transactions are lists inside, typed ones are strings.
pub fn encode_block<'a>(header_rlp: &[u8], transactions: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for raw in transactions {
        if raw.first().is_some_and(|first| *first >= 0xc0) {
            body.extend_from_slice(raw)
        } else {
            raw.encode(&mut body)
        }
    }
    let list = alloy_rlp::Header { list: true, payload_length: body.len() };
    let payload_length = header_rlp.len() + list.length() + body.len() + 2;
    let mut out = Vec::with_capacity(payload_length + 9);
    alloy_rlp::Header { list: true, payload_length }.encode(&mut out);
    out.extend_from_slice(header_rlp);
    list.encode(&mut out);
    out.extend_from_slice(&body);
    // No ommers, no withdrawals.
    out.extend_from_slice(&[0xc0, 0xc0]);
    out
}

fn decode_block(rlp: &[u8]) -> Result<(Header, Vec<Bytes>), BlockError> {
    let bad = |what: String| BlockError::invalid("encoding", format!("invalid block encoding: {what}"));
    let from_rlp = |error: alloy_rlp::Error| bad(error.to_string());
    let mut rest = rlp;
    let mut fields = alloy_rlp::Header::decode_bytes(&mut rest, true).map_err(from_rlp)?;
    if !rest.is_empty() {
        return Err(bad("bytes after the end".into()));
    }
    let header = Header::decode(&mut fields).map_err(from_rlp)?;
    let mut list = alloy_rlp::Header::decode_bytes(&mut fields, true).map_err(from_rlp)?;
    let mut raws = Vec::new();
    while !list.is_empty() {
        let start = list;
        let item = alloy_rlp::Header::decode(&mut list).map_err(from_rlp)?;
        if list.len() < item.payload_length {
            return Err(bad("a transaction is cut off".into()));
        }
        let (payload, after) = list.split_at(item.payload_length);
        let raw = if item.list { &start[..start.len() - after.len()] } else { payload };
        raws.push(Bytes::copy_from_slice(raw));
        list = after;
    }
    if fields != [0xc0, 0xc0] {
        return Err(bad("ommers and withdrawals must be empty lists".into()));
    }
    Ok((header, raws))
}
