//! Read-only execution: `eth_call`, gas estimation and access lists, with geth's rules and words.

use alloy_consensus::Header;
use alloy_eips::eip2930::{AccessList, AccessListResult};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::state::StateOverride;
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};
use noria_state::Root;
use revm::context::either::Either;
use revm::context::result::{ExecutionResult, HaltReason, OutOfGasError};
use revm::context::{BlockEnv, Cfg, TxEnv};
use revm::{ExecuteEvm, InspectEvm};
use revm_inspectors::access_list::AccessListInspector;

use crate::block::rules;
use crate::errors::RequestError;
use crate::evm::Machine;
use crate::machine::{RunError, block_env, machine};
use crate::overlay::{Overlay, StateSource};
use crate::spec::ChainSpec;

/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;
/// Stipend that a call with value hands on; an estimate must leave room for it.
const CALL_STIPEND_GAS: u64 = 2_300;
/// Rounds after which an access list that keeps changing is returned as it is.
const ACCESS_LIST_ROUNDS: usize = 8;

/// Outcome of a read-only execution.
#[derive(Debug, Clone)]
pub struct CallResult {
    /// `"success"`, `"revert"` or `"halt"`.
    pub status: &'static str,
    /// Return or revert data.
    pub output: Bytes,
    /// Gas used after refunds.
    pub gas_used: u64,
    /// geth's words for a halt, else empty.
    pub error: String,
}

impl From<ExecutionResult> for CallResult {
    fn from(result: ExecutionResult) -> Self {
        let gas_used = result.tx_gas_used();
        let (status, error) = match &result {
            ExecutionResult::Success { .. } => ("success", String::new()),
            ExecutionResult::Revert { .. } => ("revert", String::new()),
            ExecutionResult::Halt { reason, .. } => ("halt", halt_words(reason)),
        };
        Self { status, output: result.into_output().unwrap_or_default(), gas_used, error }
    }
}

/// geth's wording of a halt.
fn halt_words(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(OutOfGasError::InvalidOperand) => "gas uint64 overflow".into(),
        HaltReason::OutOfGas(_) => "out of gas".into(),
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode".into(),
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID".into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        HaltReason::StackUnderflow => "stack underflow".into(),
        HaltReason::StackOverflow => "stack limit reached 1024 (1023)".into(),
        HaltReason::OutOfOffset => "return data out of bounds".into(),
        HaltReason::CreateCollision => "contract address collision".into(),
        HaltReason::PrecompileErrorWithContext(what) => what.clone(),
        HaltReason::PrecompileError => "precompile failed".into(),
        HaltReason::NonceOverflow => "nonce uint64 overflow".into(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".into(),
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef".into(),
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
        HaltReason::OverflowPayment | HaltReason::OutOfFunds => "insufficient balance for transfer".into(),
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => "write protection".into(),
        HaltReason::CallTooDeep => "max call depth exceeded".into(),
    }
}

/// The state on which a call runs: a stored block.
#[derive(Debug)]
pub struct At<'a, S> {
    /// Chain rules.
    pub spec: &'a ChainSpec,
    /// Store snapshot.
    pub source: S,
    /// The block's header: its environment is the call's.
    pub header: &'a Header,
    /// The state after the block.
    pub state: Root,
}

/// Changes that a caller asks for before the call runs.
#[derive(Debug, Default)]
pub struct Overrides {
    /// Accounts.
    pub state: Option<StateOverride>,
    /// Block environment.
    pub block: Option<BlockOverrides>,
}

impl Overrides {
    /// Parse the RPC's two override objects.
    pub fn parse(state: Option<&[u8]>, block: Option<&[u8]>) -> Result<Self, RequestError> {
        Ok(Self {
            state: state.map(|json| parse(json, "state override")).transpose()?,
            block: block.map(|json| parse(json, "block override")).transpose()?,
        })
    }
}

/// Parse a JSON object of the RPC.
pub fn parse<'a, T: serde::Deserialize<'a>>(json: &'a [u8], what: &str) -> Result<T, RequestError> {
    serde_json::from_slice(json).map_err(|error| RequestError::invalid(format!("{what}: {error}")))
}

impl From<RunError> for RequestError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Transaction(invalid) => Self::Transaction(invalid),
            RunError::Read(read) => Self::Store(read.0),
        }
    }
}

impl<S: StateSource> At<'_, S> {
    /// An EVM for simulated transactions: no nonce, base fee, block gas limit or EOA checks.
    pub fn simulator(self, overrides: Overrides, gas_price_is_zero: bool) -> Result<Machine<S>, RequestError> {
        let rules = rules(self.spec, self.header);
        let mut config = rules.config();
        config.disable_nonce_check = true;
        config.disable_base_fee = true;
        config.disable_block_gas_limit = true;
        config.disable_eip3607 = true;
        config.tx_gas_limit_cap = Some(u64::MAX);
        let mut block = block_env(self.header, &config);
        if gas_price_is_zero {
            // As geth: a call that pays nothing sees a base fee of nothing.
            block.basefee = 0;
        }
        let parent = self.header.parent_hash;
        let mut overlay = Overlay::new(self.source, self.state, parent, self.header.number, true);
        if let Some(changes) = overrides.block {
            override_block(&mut block, &mut overlay, changes)?;
        }
        for (address, change) in overrides.state.into_iter().flatten() {
            override_account(&mut overlay, address, change)?;
        }
        Ok(machine(overlay, config, block, rules.noria_precompiles))
    }
}

fn override_block<S: StateSource>(
    block: &mut BlockEnv,
    overlay: &mut Overlay<S>,
    changes: BlockOverrides,
) -> Result<(), RequestError> {
    if changes.beacon_root.is_some() {
        return Err(RequestError::invalid("block override: beaconRoot cannot be overridden in a call"));
    }
    block.number = changes.number.unwrap_or(block.number);
    block.difficulty = changes.difficulty.unwrap_or(block.difficulty);
    block.timestamp = changes.time.map_or(block.timestamp, U256::from);
    block.gas_limit = changes.gas_limit.unwrap_or(block.gas_limit);
    block.beneficiary = changes.coinbase.unwrap_or(block.beneficiary);
    block.prevrandao = changes.random.or(block.prevrandao);
    if let Some(fee) = changes.base_fee {
        block.basefee =
            u64::try_from(fee).map_err(|_| RequestError::invalid("block override: baseFeePerGas exceeds 2^64"))?;
    }
    if changes.blob_base_fee.is_some() {
        return Err(RequestError::invalid("block override: blobBaseFee cannot be overridden, this chain has no blobs"));
    }
    overlay.block_hash_overrides.extend(changes.block_hash.into_iter().flatten());
    Ok(())
}

fn override_account<S: StateSource>(
    overlay: &mut Overlay<S>,
    address: Address,
    change: alloy_rpc_types_eth::state::AccountOverride,
) -> Result<(), RequestError> {
    if change.move_precompile_to.is_some() {
        return Err(RequestError::invalid(format!(
            "state override of {address}: movePrecompileToAddress is not supported"
        )));
    }
    overlay.edit(address, |info| {
        info.nonce = change.nonce.unwrap_or(info.nonce);
        info.balance = change.balance.unwrap_or(info.balance);
    })?;
    if let Some(code) = change.code {
        overlay.set_code(address, code)?;
    }
    let slots = |map: alloy_primitives::map::B256Map<B256>| {
        map.into_iter().map(|(slot, value)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0)))
    };
    match (change.state, change.state_diff) {
        (Some(_), Some(_)) => {
            Err(RequestError::invalid(format!("state override of {address}: both state and stateDiff are given")))
        }
        (Some(all), None) => Ok(overlay.set_slots(address, slots(all), true)?),
        (None, Some(some)) => Ok(overlay.set_slots(address, slots(some), false)?),
        (None, None) => Ok(()),
    }
}

/// A call object of the RPC as a transaction of the EVM with this gas limit.
pub fn call_env(request: &TransactionRequest, chain_id: u64, gas_limit: u64) -> Result<TxEnv, RequestError> {
    let invalid = |what: &str| Err(RequestError::invalid(what));
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return invalid("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified");
    }
    if request.blob_versioned_hashes.is_some() || request.sidecar.is_some() {
        return invalid("blob transactions are not accepted on this chain");
    }
    if let (Some(input), Some(data)) = (&request.input.input, &request.input.data)
        && input != data
    {
        return invalid(
            r#"both "data" and "input" are set and not equal. Please use "input" to pass transaction call data"#,
        );
    }
    if request.chain_id.is_some_and(|id| id != chain_id) {
        return Err(RequestError::invalid(format!(
            "chainId does not match node's (have={}, want={chain_id})",
            request.chain_id.unwrap_or_default()
        )));
    }
    let gas_price = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
    let tip = request.max_priority_fee_per_gas;
    if tip.is_some_and(|tip| tip > gas_price) && request.max_fee_per_gas.is_some() {
        return invalid("max priority fee per gas higher than max fee per gas");
    }
    let dynamic = request.max_fee_per_gas.is_some() || tip.is_some();
    let authorization_list: Vec<_> =
        request.authorization_list.clone().unwrap_or_default().into_iter().map(Either::Left).collect();
    let tx_type = if !authorization_list.is_empty() {
        4
    } else if dynamic {
        2
    } else {
        u8::from(request.access_list.is_some())
    };
    Ok(TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        gas_limit,
        gas_price: gas_price.max(tip.unwrap_or_default()),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        nonce: request.nonce.unwrap_or_default(),
        chain_id: Some(chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: dynamic.then(|| tip.unwrap_or_default()),
        authorization_list,
        ..TxEnv::default()
    })
}

/// Gas that a request may use: what it asks for, at most the cap.
pub fn call_gas(request: &TransactionRequest, gas_cap: u64) -> u64 {
    request.gas.filter(|gas| *gas > 0).unwrap_or(gas_cap).min(gas_cap)
}

/// `eth_call`.
pub fn call<S: StateSource>(
    at: At<'_, S>,
    request: &TransactionRequest,
    overrides: Overrides,
    gas_cap: u64,
) -> Result<CallResult, RequestError> {
    let tx = call_env(request, at.spec.chain_id, call_gas(request, gas_cap))?;
    let mut machine = at.simulator(overrides, tx.gas_price == 0)?;
    Ok(machine.transact_one(tx).map_err(RunError::from)?.into())
}

/// `eth_estimateGas`: the least gas limit with which the transaction succeeds, found by bisection.
///
/// Returns gas 0 and the failing result where no limit up to the allowance succeeds.
pub fn estimate_gas<S: StateSource>(
    at: At<'_, S>,
    request: &TransactionRequest,
    overrides: Overrides,
    gas_cap: u64,
) -> Result<(u64, CallResult), RequestError> {
    let rules = rules(at.spec, at.header);
    let transaction_cap = rules.config().tx_gas_limit_cap().min(at.header.gas_limit);
    let mut high = call_gas(request, gas_cap.min(transaction_cap));
    let mut tx = call_env(request, at.spec.chain_id, high)?;
    let mut machine = at.simulator(overrides, tx.gas_price == 0)?;
    if tx.gas_price > 0 {
        // A sender that pays cannot buy more gas than it has money for.
        let balance =
            revm::Database::basic(machine.state(), tx.caller).map_err(RunError::Read)?.unwrap_or_default().balance;
        let funds =
            balance.checked_sub(tx.value).ok_or_else(|| RequestError::invalid("insufficient funds for transfer"))?;
        high = high.min((funds / U256::from(tx.gas_price)).saturating_to());
    }
    let mut attempt = |gas: u64, tx: &mut TxEnv| -> Result<CallResult, RequestError> {
        tx.gas_limit = gas;
        match machine.transact(tx.clone()).map_err(RunError::from) {
            Ok(outcome) => Ok(outcome.result.into()),
            Err(RunError::Transaction(error)) if error.kind == "intrinsic-gas" => {
                Ok(CallResult { status: "halt", output: Bytes::new(), gas_used: gas, error: error.message })
            }
            Err(error) => Err(error.into()),
        }
    };
    if tx.data.is_empty() && matches!(tx.kind, TxKind::Call(_)) && high >= TRANSFER_GAS {
        let plain = attempt(TRANSFER_GAS, &mut tx)?;
        if plain.status == "success" {
            return Ok((TRANSFER_GAS, plain));
        }
    }
    let first = attempt(high, &mut tx)?;
    if first.status != "success" {
        return Ok((0, first));
    }
    let mut low = first.gas_used.saturating_sub(1);
    // Refunds and the 63/64 rule mean that more than what was used may be needed; try the usual bound first.
    let likely = (first.gas_used + CALL_STIPEND_GAS).saturating_mul(64) / 63;
    if likely < high {
        if attempt(likely, &mut tx)?.status == "success" { high = likely } else { low = likely }
    }
    while low + 1 < high {
        // Most estimates are close to what was used, so the bisection leans to the low side.
        let middle = (low + (high - low) / 2).min(low.saturating_mul(2).max(low + 1));
        if attempt(middle, &mut tx)?.status == "success" { high = middle } else { low = middle }
    }
    Ok((high, first))
}

/// `eth_createAccessList`: run until the list that the run touches is the list that it was given.
pub fn access_list<S: StateSource>(
    at: At<'_, S>,
    request: &TransactionRequest,
    gas_cap: u64,
) -> Result<AccessListResult, RequestError> {
    let mut tx = call_env(request, at.spec.chain_id, call_gas(request, gas_cap))?;
    tx.tx_type = tx.tx_type.max(1);
    let mut machine = at
        .simulator(Overrides::default(), tx.gas_price == 0)?
        .with_inspector(AccessListInspector::new(AccessList::default()));
    let mut list = tx.access_list.clone();
    for _ in 0..ACCESS_LIST_ROUNDS {
        tx.access_list = list.clone();
        let outcome = machine.inspect(tx.clone(), AccessListInspector::new(list.clone())).map_err(RunError::from)?;
        let touched = machine.0.inspector.access_list();
        let result = CallResult::from(outcome.result);
        if touched == list || result.status != "success" {
            return Ok(describe(touched, result));
        }
        list = touched;
    }
    tx.access_list = list.clone();
    let outcome = machine.transact(tx).map_err(RunError::from)?;
    Ok(describe(list, outcome.result.into()))
}

fn describe(access_list: AccessList, result: CallResult) -> AccessListResult {
    let error = match result.status {
        "success" => None,
        "revert" => Some("execution reverted".to_owned()),
        _ => Some(result.error),
    };
    AccessListResult { access_list, gas_used: U256::from(result.gas_used), error }
}
