//! `debug_traceTransaction` and `debug_traceCall` with geth's callTracer.

use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::geth::CallFrame;
use alloy_rpc_types_trace::geth::call::CallConfig;
use revm::InspectEvm;
use revm::context::TxEnv;
use revm_inspectors::tracing::{TraceLimitBehavior, TraceLimits, TracingInspector, TracingInspectorConfig};

use crate::block::{Parent, SystemCall, open_block};
use crate::call::{At, Overrides, call_env, call_gas};
use crate::errors::{BlockError, RequestError};
use crate::evm::Machine;
use crate::machine::{RunError, run_transaction};
use crate::overlay::StateSource;
use crate::spec::ChainSpec;
use crate::transaction::SignedTransaction;

/// Most bytes of call data that one trace records; past it the trace is refused.
const MAX_RECORDED_BYTES: usize = 64 * 1024 * 1024;

fn traced<S: StateSource>(machine: Machine<S>, tx: TxEnv, config: CallConfig) -> Result<CallFrame, RequestError> {
    let limits =
        TraceLimits::default().set_max_recorded_bytes(Some(MAX_RECORDED_BYTES)).set_behavior(TraceLimitBehavior::Halt);
    let inspector = TracingInspector::new(TracingInspectorConfig::from_geth_call_config(&config)).with_limits(limits);
    let gas_limit = tx.gas_limit;
    let mut machine = machine.with_inspector(inspector);
    let result = machine.inspect_one_tx(tx).map_err(RunError::from)?;
    let inspector = &mut machine.0.inspector;
    inspector.set_transaction_gas_limit(gas_limit);
    Ok(inspector.geth_builder().geth_call_traces(config, result.tx_gas_used()))
}

/// Re-run a stored block up to its last given transaction and trace that one.
pub fn trace_transaction<S: StateSource>(
    spec: &ChainSpec,
    source: S,
    parent: Parent<'_>,
    header: &alloy_consensus::Header,
    system_calls: &[SystemCall],
    transactions: &[SignedTransaction],
    config: CallConfig,
) -> Result<CallFrame, RequestError> {
    let (last, before) = transactions.split_last().ok_or_else(|| RequestError::invalid("no transaction to trace"))?;
    let mut machine = open_block(spec, source, parent, header, system_calls).map_err(request_error)?;
    for tx in before {
        run_transaction(&mut machine, tx.env())?;
    }
    traced(machine, last.env(), config)
}

/// Trace a simulated call.
pub fn trace_call<S: StateSource>(
    at: At<'_, S>,
    request: &TransactionRequest,
    overrides: Overrides,
    gas_cap: u64,
    config: CallConfig,
) -> Result<CallFrame, RequestError> {
    let tx = call_env(request, at.spec.chain_id, call_gas(request, gas_cap))?;
    traced(at.simulator(overrides, tx.gas_price == 0)?, tx, config)
}

fn request_error(error: BlockError) -> RequestError {
    match error {
        BlockError::Store(store) => RequestError::Store(store),
        other => RequestError::invalid(other.to_string()),
    }
}
