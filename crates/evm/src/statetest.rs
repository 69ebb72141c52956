//! Official GeneralStateTests: one transaction on a given state, the resulting root and logs compared.
//!
//! The signed bytes of the fixture (`txbytes`) go through the same decoder, the same EVM and the same trie as a block
//! on a chain. Fixtures without them are described by their parts.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use alloy_eips::eip2930::AccessList;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use noria_state::{MemoryNodes, NodeId, NodeSource, Root, StateError, StoreError};
use revm::context::either::Either;
use revm::context::{BlockEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::primitives::hardfork::SpecId;
use revm::state::Bytecode;
use serde::Deserialize;

use crate::machine::{Rules, RunError, machine, run_transaction};
use crate::overlay::{Overlay, StateSource, bytecode};
use crate::spec::hardfork;
use crate::transaction::SignedTransaction;

/// What became of one case.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// Name of the test in its file.
    pub name: String,
    /// Hardfork as the file names it.
    pub fork: String,
    /// Index of the case under this hardfork.
    pub index: usize,
    /// Whether everything came out as stated.
    pub pass: bool,
    /// Computed state root.
    pub state_root: B256,
    /// Why it failed, or empty.
    pub error: String,
}

#[derive(Deserialize)]
struct Test {
    env: Env,
    pre: BTreeMap<Address, PreAccount>,
    post: BTreeMap<String, Vec<Post>>,
    transaction: Parts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    #[serde(rename = "currentChainID")]
    current_chain_id: Option<U256>,
    current_coinbase: Address,
    #[serde(default)]
    current_difficulty: U256,
    current_gas_limit: U256,
    current_number: U256,
    current_timestamp: U256,
    current_base_fee: Option<U256>,
    current_random: Option<B256>,
    current_excess_blob_gas: Option<U256>,
}

#[derive(Deserialize)]
struct PreAccount {
    balance: U256,
    code: Bytes,
    nonce: U256,
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Post {
    hash: B256,
    logs: B256,
    txbytes: Option<Bytes>,
    expect_exception: Option<String>,
    indexes: Indexes,
}

#[derive(Deserialize)]
struct Indexes {
    data: usize,
    gas: usize,
    value: usize,
}

/// Numbers stay text here: some fixtures hold values that no transaction can carry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    data: Vec<String>,
    gas_limit: Vec<String>,
    value: Vec<String>,
    nonce: String,
    to: Option<String>,
    sender: Option<Address>,
    secret_key: Option<B256>,
    gas_price: Option<String>,
    max_fee_per_gas: Option<String>,
    max_priority_fee_per_gas: Option<String>,
    max_fee_per_blob_gas: Option<String>,
    blob_versioned_hashes: Option<Vec<B256>>,
    #[serde(default)]
    access_lists: Vec<Option<AccessList>>,
    authorization_list: Option<Vec<SignedAuthorization>>,
}

/// The pre-state of a test: a trie in memory and the code beside it.
struct Fixture {
    nodes: MemoryNodes,
    codes: BTreeMap<B256, Bytes>,
}

impl NodeSource for Fixture {
    fn node(&self, id: NodeId) -> Result<&[u8], StateError> {
        self.nodes.node(id)
    }
}

impl StateSource for Fixture {
    fn code(&self, hash: &B256) -> Result<Option<Bytecode>, StoreError> {
        Ok(self.codes.get(hash).cloned().map(bytecode))
    }

    fn parent_hash(&self, _block: &B256) -> Result<Option<B256>, StoreError> {
        Ok(None)
    }
}

/// Run every case of a fixture file, or only those of these hardforks.
pub fn run(document: &[u8], forks: Option<&[String]>) -> Result<Vec<CaseResult>, String> {
    let tests: BTreeMap<String, Test> =
        serde_json::from_slice(document).map_err(|error| format!("not a state test: {error}"))?;
    let mut results = Vec::new();
    for (name, test) in &tests {
        for (fork, cases) in &test.post {
            if forks.is_some_and(|forks| !forks.iter().any(|wanted| wanted.eq_ignore_ascii_case(fork))) {
                continue;
            }
            for (index, case) in cases.iter().enumerate() {
                let outcome = catch_unwind(AssertUnwindSafe(|| run_case(test, fork, case)))
                    .unwrap_or_else(|_| (B256::ZERO, Err("the engine panicked".to_owned())));
                let (state_root, verdict) = outcome;
                let error = verdict.err().unwrap_or_default();
                let (name, fork) = (name.clone(), fork.clone());
                results.push(CaseResult { name, fork, index, pass: error.is_empty(), state_root, error });
            }
        }
    }
    Ok(results)
}

fn run_case(test: &Test, fork: &str, case: &Post) -> (B256, Result<(), String>) {
    let Some(spec) = hardfork(fork) else {
        return (B256::ZERO, Err(format!("unknown hardfork {fork}")));
    };
    let (fixture, root) = match pre_state(test) {
        Ok(state) => state,
        Err(error) => return (B256::ZERO, Err(error)),
    };
    let state_clear = spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
    let mut overlay = Overlay::new(fixture, root, B256::ZERO, 0, state_clear);
    // The suite defines the hash of block n as the hash of n written in decimal.
    overlay.block_hash_rule = Some(|number| keccak256(number.to_string()));
    let chain_id = test.env.current_chain_id.map_or(1, |id| id.saturating_to());
    let rules = Rules { spec, chain_id, noria_precompiles: false };
    let config = rules.config();
    let block = block_env(&test.env, spec, config.blob_base_fee_update_fraction());
    let gas_limit = block.gas_limit;
    let mut machine = machine(overlay, config, block, false);
    let executed = transaction_env(test, case).and_then(|tx| {
        if tx.gas_limit > gas_limit {
            return Err("exceeds block gas limit".to_owned());
        }
        run_transaction(&mut machine, tx).map_err(|error| match error {
            RunError::Transaction(error) => error.message,
            RunError::Read(error) => format!("state: {error}"),
        })
    });
    let after = match machine.into_state().finish() {
        Ok(change) => change.root.hash,
        Err(error) => return (B256::ZERO, Err(error.to_string())),
    };
    (after, judge(case, after, executed.map(|result| result.into_logs())))
}

fn judge(case: &Post, after: B256, executed: Result<Vec<alloy_primitives::Log>, String>) -> Result<(), String> {
    let logs = match (executed, &case.expect_exception) {
        (Ok(_), Some(expected)) => return Err(format!("accepted, but {expected} was expected")),
        (Err(error), None) => return Err(format!("refused: {error}")),
        (Err(_), Some(_)) => Vec::new(),
        (Ok(logs), None) => logs,
    };
    if after != case.hash {
        return Err(format!("state root {after}, expected {}", case.hash));
    }
    let logs = keccak256(alloy_rlp::encode(&logs));
    if logs != case.logs {
        return Err(format!("logs hash {logs}, expected {}", case.logs));
    }
    Ok(())
}

fn pre_state(test: &Test) -> Result<(Fixture, Root), String> {
    let mut overlay = Overlay::new(MemoryNodes::new(), Root::EMPTY, B256::ZERO, 0, false);
    let fill = |overlay: &mut Overlay<MemoryNodes>| -> Result<(), StoreError> {
        for (address, account) in &test.pre {
            overlay.edit(*address, |info| {
                info.balance = account.balance;
                info.nonce = account.nonce.saturating_to();
            })?;
            overlay.set_code(*address, account.code.clone())?;
            overlay.set_slots(*address, account.storage.iter().map(|(slot, value)| (*slot, *value)), false)?;
        }
        Ok(())
    };
    fill(&mut overlay).map_err(|error| error.to_string())?;
    let change = overlay.finish().map_err(|error| error.to_string())?;
    let mut nodes = MemoryNodes::new();
    let root = nodes.absorb(change.nodes, change.root);
    Ok((Fixture { nodes, codes: change.codes.into_iter().collect() }, root))
}

fn block_env(env: &Env, spec: SpecId, blob_fraction: u64) -> BlockEnv {
    let merged = spec.is_enabled_in(SpecId::MERGE);
    BlockEnv {
        number: env.current_number,
        beneficiary: env.current_coinbase,
        timestamp: env.current_timestamp,
        gas_limit: env.current_gas_limit.saturating_to(),
        basefee: env.current_base_fee.unwrap_or_default().saturating_to(),
        difficulty: if merged { U256::ZERO } else { env.current_difficulty },
        prevrandao: merged.then(|| env.current_random.unwrap_or_default()),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(
            env.current_excess_blob_gas.unwrap_or_default().saturating_to(),
            blob_fraction,
        )),
        ..BlockEnv::default()
    }
}

fn transaction_env(test: &Test, case: &Post) -> Result<TxEnv, String> {
    match &case.txbytes {
        Some(raw) => SignedTransaction::decode_any(raw).map(|tx| tx.env()).map_err(|error| error.message),
        None => parts_env(&test.transaction, &case.indexes),
    }
}

fn number(text: &str) -> Result<U256, String> {
    match text {
        "" | "0x" => Ok(U256::ZERO),
        text => text.parse().map_err(|_| format!("invalid value {text:?}")),
    }
}

fn pick<'a>(list: &'a [String], index: usize, what: &str) -> Result<&'a str, String> {
    list.get(index).map(String::as_str).ok_or_else(|| format!("no {what} with index {index}"))
}

fn parts_env(parts: &Parts, indexes: &Indexes) -> Result<TxEnv, String> {
    let wide = |text: &Option<String>| -> Result<Option<u128>, String> {
        text.as_deref().map(|text| number(text)?.try_into().map_err(|_| format!("invalid value {text:?}"))).transpose()
    };
    let caller = match (parts.sender, parts.secret_key) {
        (Some(sender), _) => sender,
        (None, Some(key)) => {
            noria_crypto::ecdsa::PrivateKey::from_bytes(key.as_slice()).map_err(|error| error.to_string())?.address()
        }
        (None, None) => return Err("no sender".to_owned()),
    };
    let to = parts.to.as_deref().filter(|to| !to.is_empty() && *to != "0x");
    let kind = match to {
        Some(to) => TxKind::Call(to.parse().map_err(|_| format!("invalid recipient {to:?}"))?),
        None => TxKind::Create,
    };
    let max_fee = wide(&parts.max_fee_per_gas)?;
    let blob_fee = wide(&parts.max_fee_per_blob_gas)?;
    let access_list = parts.access_lists.get(indexes.data).cloned().flatten();
    let tx_type = match () {
        () if parts.authorization_list.is_some() => 4,
        () if blob_fee.is_some() => 3,
        () if max_fee.is_some() => 2,
        () => u8::from(access_list.is_some()),
    };
    let data = pick(&parts.data, indexes.data, "data")?;
    Ok(TxEnv {
        tx_type,
        caller,
        gas_limit: number(pick(&parts.gas_limit, indexes.gas, "gas limit")?)?.saturating_to(),
        gas_price: wide(&parts.gas_price)?.or(max_fee).unwrap_or_default(),
        kind,
        value: number(pick(&parts.value, indexes.value, "value")?)?,
        data: data.parse().map_err(|_| format!("invalid data {data:?}"))?,
        nonce: number(&parts.nonce)?.try_into().map_err(|_| "nonce overflow".to_owned())?,
        chain_id: Some(1),
        access_list: access_list.unwrap_or_default(),
        gas_priority_fee: wide(&parts.max_priority_fee_per_gas)?,
        blob_hashes: parts.blob_versioned_hashes.clone().unwrap_or_default(),
        max_fee_per_blob_gas: blob_fee.unwrap_or_default(),
        authorization_list: parts.authorization_list.iter().flatten().cloned().map(Either::Left).collect(),
    })
}
