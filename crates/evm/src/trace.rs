//! `debug_traceTransaction` and `debug_traceCall` with geth's callTracer.

use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::geth::CallFrame;
use alloy_rpc_types_trace::geth::call::CallConfig;
use revm::InspectEvm;
use revm_inspectors::tracing::{TracingInspector, TracingInspectorConfig};

use crate::block::{Parent, SystemCall, open_block};
use crate::call::{At, Overrides, call_env, call_gas};
use crate::errors::{BlockError, RequestError};
use crate::machine::{RunError, run_transaction};
use crate::overlay::StateSource;
use crate::spec::ChainSpec;
use crate::transaction::SignedTransaction;

fn inspector(config: CallConfig) -> TracingInspector {
    TracingInspector::new(TracingInspectorConfig::from_geth_call_config(&config))
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
    let (traced, before) = transactions.split_last().ok_or_else(|| RequestError::invalid("no transaction to trace"))?;
    let mut machine = open_block(spec, source, parent, header, system_calls).map_err(request_error)?;
    for tx in before {
        run_transaction(&mut machine, tx.env())?;
    }
    let tx = traced.env();
    let mut machine = machine.with_inspector(inspector(config).with_transaction_gas_limit(tx.gas_limit));
    let result = machine.inspect_one_tx(tx).map_err(RunError::from)?;
    Ok(machine.0.inspector.geth_builder().geth_call_traces(config, result.tx_gas_used()))
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
    let mut machine = at
        .simulator(overrides, tx.gas_price == 0)?
        .with_inspector(inspector(config).with_transaction_gas_limit(tx.gas_limit));
    let result = machine.inspect_one_tx(tx).map_err(RunError::from)?;
    Ok(machine.0.inspector.geth_builder().geth_call_traces(config, result.tx_gas_used()))
}

fn request_error(error: BlockError) -> RequestError {
    match error {
        BlockError::Store(store) => RequestError::Store(store),
        other => RequestError::invalid(other.to_string()),
    }
}
