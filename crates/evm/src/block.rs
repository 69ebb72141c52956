//! Building and executing payload blocks (protocol 4.1: a standard Ethereum payload, Osaka rules).

use std::sync::Arc;
use std::time::Instant;

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxType};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_eips::{eip2935, eip4788};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log};
use noria_state::Root;
use revm::primitives::hardfork::SpecId;

use crate::errors::{BlockError, TransactionError};
use crate::evm::Machine;
use crate::machine::{Rules, RunError, block_env, machine, run_system_call, run_transaction};
use crate::overlay::{Overlay, StateChange, StateSource};
use crate::spec::{ChainSpec, blank_header};
use crate::transaction::SignedTransaction;

/// EIP-7934: largest RLP encoding of a block.
pub const MAX_BLOCK_BYTES: usize = 8 * 1024 * 1024;
/// Least gas limit of a block.
const MIN_GAS_LIMIT: u64 = 5_000;
/// A child's gas limit differs from its parent's by less than 1/1024 of it.
const GAS_LIMIT_BOUND_DIVISOR: u64 = 1_024;
/// Below this much gas left no transaction fits.
const LEAST_TRANSACTION_GAS: u64 = 21_000;

/// A contract and the calldata of a call made by the system at block start.
pub type SystemCall = (Address, Bytes);

/// What the proposer decides about a payload.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// Unix seconds.
    pub timestamp: u64,
    /// Receives the tips.
    pub fee_recipient: Address,
    /// Randomness of this block.
    pub prev_randao: B256,
    /// Root of the consensus parent.
    pub parent_beacon_block_root: B256,
    /// Gas limit.
    pub gas_limit: u64,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// Calls after EIP-4788 and EIP-2935, in order.
    pub system_calls: Vec<SystemCall>,
}

/// What a transaction left behind.
#[derive(Debug, Clone, PartialEq, Eq, alloy_rlp::RlpEncodable, alloy_rlp::RlpDecodable)]
pub struct Outcome {
    /// EIP-2718 type.
    pub kind: u8,
    /// Whether execution succeeded.
    pub success: bool,
    /// Gas used by this block up to and including this transaction.
    pub cumulative_gas_used: u64,
    /// Logs in order.
    pub logs: Vec<Log>,
}

impl Outcome {
    /// The consensus receipt.
    pub fn receipt(&self) -> ReceiptEnvelope {
        let receipt = Receipt {
            status: Eip658Value::Eip658(self.success),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: self.logs.clone(),
        };
        let kind = TxType::try_from(self.kind).expect("stored receipts have a known type");
        let logs_bloom: Bloom = self.logs.iter().collect();
        ReceiptEnvelope::from_typed(kind, ReceiptWithBloom { receipt, logs_bloom })
    }
}

/// A block with everything that follows from it; nothing is stored yet.
#[derive(Debug)]
pub struct Executed {
    /// Sealed header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// Transactions in order.
    pub transactions: Vec<Arc<SignedTransaction>>,
    /// Their outcomes.
    pub outcomes: Vec<Outcome>,
    /// Calls made at block start, kept for replays.
    pub system_calls: Vec<SystemCall>,
    /// New nodes and code.
    pub change: StateChange,
    /// Candidates that a build left out as invalid now: hash and reason.
    pub rejected: Vec<(B256, TransactionError)>,
}

/// A header and its state.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Header.
    pub header: &'a Header,
    /// Its hash.
    pub hash: B256,
    /// The state after it.
    pub state: Root,
}

/// Rules in force for a block with this header.
pub fn rules(spec: &ChainSpec, header: &Header) -> Rules {
    Rules { spec: spec.rules_at(header.timestamp), chain_id: spec.chain_id, noria_precompiles: spec.noria_precompiles }
}

/// Base fee of a child of this header, in wei per gas.
pub fn next_base_fee(parent: &Header) -> u64 {
    parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or_default()
}

/// An EVM ready for the first transaction of the block: system calls done.
pub fn open_block<S: StateSource>(
    spec: &ChainSpec,
    source: S,
    parent: Parent<'_>,
    header: &Header,
    system_calls: &[SystemCall],
) -> Result<Machine<S>, BlockError> {
    let rules = rules(spec, header);
    let config = rules.config();
    let overlay = Overlay::new(source, parent.state, parent.hash, header.number, true);
    let block = block_env(header, &config);
    let mut machine = machine(overlay, config, block, rules.noria_precompiles);
    let beacon_root = header.parent_beacon_block_root.unwrap_or_default();
    run_system_call(&mut machine, eip4788::BEACON_ROOTS_ADDRESS, Bytes::copy_from_slice(beacon_root.as_slice()))?;
    if rules.spec.is_enabled_in(SpecId::PRAGUE) {
        let data = Bytes::copy_from_slice(parent.hash.as_slice());
        run_system_call(&mut machine, eip2935::HISTORY_STORAGE_ADDRESS, data)?;
    }
    for (contract, data) in system_calls {
        run_system_call(&mut machine, *contract, data.clone())?;
    }
    Ok(machine)
}

/// Runs transactions in order and collects their outcomes.
struct Progress {
    transactions: Vec<Arc<SignedTransaction>>,
    outcomes: Vec<Outcome>,
    gas_used: u64,
    bytes: usize,
}

impl Progress {
    fn new() -> Self {
        // Header and list prefixes.
        Self { transactions: Vec::new(), outcomes: Vec::new(), gas_used: 0, bytes: 1_024 }
    }

    fn run<S: StateSource>(&mut self, machine: &mut Machine<S>, tx: &Arc<SignedTransaction>) -> Result<(), RunError> {
        let result = run_transaction(machine, tx.env())?;
        self.gas_used += result.tx_gas_used();
        self.bytes += tx.raw.len() + 4;
        self.outcomes.push(Outcome {
            kind: tx.kind(),
            success: result.is_success(),
            cumulative_gas_used: self.gas_used,
            logs: result.into_logs(),
        });
        self.transactions.push(Arc::clone(tx));
        Ok(())
    }
}

fn seal<S: StateSource>(
    mut header: Header,
    machine: Machine<S>,
    progress: Progress,
    system_calls: Vec<SystemCall>,
    rejected: Vec<(B256, TransactionError)>,
) -> Result<Executed, BlockError> {
    let change = machine.into_state().finish()?;
    let receipts: Vec<ReceiptEnvelope> = progress.outcomes.iter().map(Outcome::receipt).collect();
    let envelopes: Vec<_> = progress.transactions.iter().map(|tx| &tx.envelope).collect();
    header.gas_used = progress.gas_used;
    header.state_root = change.root.hash;
    header.transactions_root = calculate_transaction_root(&envelopes);
    header.receipts_root = calculate_receipt_root(&receipts);
    header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
    let hash = header.hash_slow();
    Ok(Executed {
        header,
        hash,
        transactions: progress.transactions,
        outcomes: progress.outcomes,
        system_calls,
        change,
        rejected,
    })
}

/// Build a block from candidates in order, until it is full or the deadline passes.
///
/// A candidate that is invalid here and now is skipped and reported; so are, silently, those that do not fit any more.
pub fn build<S: StateSource>(
    spec: &ChainSpec,
    source: S,
    parent: Parent<'_>,
    attributes: Attributes,
    candidates: &[Arc<SignedTransaction>],
    deadline: Option<Instant>,
) -> Result<Executed, BlockError> {
    let header = Header {
        parent_hash: parent.hash,
        number: parent.header.number + 1,
        timestamp: attributes.timestamp,
        gas_limit: attributes.gas_limit,
        base_fee_per_gas: Some(next_base_fee(parent.header)),
        beneficiary: attributes.fee_recipient,
        mix_hash: attributes.prev_randao,
        extra_data: attributes.extra_data,
        parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
        ..blank_header(spec.rules_at(attributes.timestamp), B256::ZERO)
    };
    check_header(spec, parent, &header)?;
    let mut machine = open_block(spec, source, parent, &header, &attributes.system_calls)?;
    let mut progress = Progress::new();
    let mut rejected = Vec::new();
    for tx in candidates {
        let left = header.gas_limit - progress.gas_used;
        if left < LEAST_TRANSACTION_GAS || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        if tx.envelope.gas_limit() > left || progress.bytes + tx.raw.len() + 4 > MAX_BLOCK_BYTES {
            continue;
        }
        match progress.run(&mut machine, tx) {
            Ok(()) => {}
            Err(RunError::Transaction(error)) => rejected.push((tx.hash, error)),
            Err(error @ RunError::Read(_)) => return Err(error.into()),
        }
    }
    seal(header, machine, progress, attributes.system_calls, rejected)
}

/// Check a block against its parent and execute it; every stated root must come out the same.
pub fn execute<S: StateSource>(
    spec: &ChainSpec,
    source: S,
    parent: Parent<'_>,
    header: &Header,
    transactions: Vec<Arc<SignedTransaction>>,
    system_calls: Vec<SystemCall>,
) -> Result<Executed, BlockError> {
    check_header(spec, parent, header)?;
    let mut machine = open_block(spec, source, parent, header, &system_calls)?;
    let mut progress = Progress::new();
    for (index, tx) in transactions.iter().enumerate() {
        if tx.envelope.gas_limit() > header.gas_limit - progress.gas_used {
            return Err(BlockError::invalid(
                "gas-limit",
                format!("transaction {index} does not fit into the block's gas limit"),
            ));
        }
        progress.run(&mut machine, tx).map_err(|error| match error {
            RunError::Transaction(error) => {
                BlockError::invalid("transaction", format!("transaction {index}: {}", error.message))
            }
            other => other.into(),
        })?;
    }
    let executed = seal(header.clone(), machine, progress, system_calls, Vec::new())?;
    compare("gas-used", &header.gas_used, &executed.header.gas_used)?;
    compare("transactions-root", &header.transactions_root, &executed.header.transactions_root)?;
    compare("receipts-root", &header.receipts_root, &executed.header.receipts_root)?;
    compare("logs-bloom", &header.logs_bloom, &executed.header.logs_bloom)?;
    compare("state-root", &header.state_root, &executed.header.state_root)?;
    Ok(executed)
}

fn compare<T: PartialEq + std::fmt::Display>(kind: &'static str, stated: &T, computed: &T) -> Result<(), BlockError> {
    if stated == computed {
        return Ok(());
    }
    Err(BlockError::invalid(kind, format!("{kind} is stated as {stated}, execution gives {computed}")))
}

/// The rules that a header must keep with regard to its parent, cheapest first.
fn check_header(spec: &ChainSpec, parent: Parent<'_>, header: &Header) -> Result<(), BlockError> {
    let rules = spec.rules_at(header.timestamp);
    let before = parent.header;
    let fail = |kind, message: String| Err(BlockError::invalid(kind, message));
    if header.number != before.number + 1 {
        return fail("number", format!("number is {}, the parent's is {}", header.number, before.number));
    }
    if header.timestamp <= before.timestamp {
        return fail(
            "timestamp",
            format!("timestamp {} is not after the parent's {}", header.timestamp, before.timestamp),
        );
    }
    if header.extra_data.len() > 32 {
        return fail(
            "extra-data",
            format!("extra data is {} bytes long, at most 32 are allowed", header.extra_data.len()),
        );
    }
    let bound = before.gas_limit / GAS_LIMIT_BOUND_DIVISOR;
    if header.gas_limit < MIN_GAS_LIMIT || header.gas_limit.abs_diff(before.gas_limit) >= bound.max(1) {
        return fail(
            "gas-limit",
            format!("gas limit {} is out of bounds after the parent's {}", header.gas_limit, before.gas_limit),
        );
    }
    if header.gas_used > header.gas_limit {
        return fail("gas-used", format!("gas used {} exceeds the limit {}", header.gas_used, header.gas_limit));
    }
    let base_fee = next_base_fee(before);
    if header.base_fee_per_gas != Some(base_fee) {
        return fail("base-fee", format!("base fee is {:?}, must be {base_fee}", header.base_fee_per_gas));
    }
    if header.parent_beacon_block_root.is_none() {
        return fail("beacon-root", "the parent beacon block root is missing".into());
    }
    let blank = blank_header(rules, header.state_root);
    let fixed = [
        ("ommers", header.ommers_hash == blank.ommers_hash),
        ("difficulty", header.difficulty.is_zero()),
        ("nonce", header.nonce.is_zero()),
        ("withdrawals", header.withdrawals_root == blank.withdrawals_root),
        ("blob-gas", header.blob_gas_used == Some(0) && header.excess_blob_gas == Some(0)),
        ("requests", header.requests_hash == blank.requests_hash),
        ("extension", header.block_access_list_hash.is_none() && header.slot_number.is_none()),
    ];
    match fixed.iter().find(|(_, holds)| !holds) {
        Some((kind, _)) => fail(kind, format!("the header's {kind} field is not what this chain fixes")),
        None => Ok(()),
    }
}
