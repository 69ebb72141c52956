//! Putting the EVM together: rules, block environment, precompiles, and one transaction at a time.

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, U256};
use revm::context::result::{EVMError, ExecutionResult};
use revm::context::{BlockEnv, CfgEnv, Context, Evm, FrameStack, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::handler::SYSTEM_ADDRESS;
use revm::handler::instructions::EthInstructions;
use revm::primitives::hardfork::SpecId;
use revm::{Database, ExecuteCommitEvm, MainContext, SystemCallEvm};

use crate::errors::{BlockError, ReadError, TransactionError};
use crate::evm::Machine;
use crate::overlay::{Overlay, StateSource};
use crate::precompiles::Precompiles;

/// Rules of one block.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Hardfork.
    pub spec: SpecId,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Whether this chain's own precompiles exist.
    pub noria_precompiles: bool,
}

impl Rules {
    /// The EVM configuration under these rules.
    pub fn config(&self) -> CfgEnv {
        // Our chains refuse blob transactions before they come here; official tests do not. EIP-7691 raised the block's
        // limit from 6 to 9, EIP-7594 set 6 per transaction.
        let per_prague_block = self.spec.is_enabled_in(SpecId::PRAGUE) && !self.spec.is_enabled_in(SpecId::OSAKA);
        CfgEnv::new_with_spec(self.spec).with_chain_id(self.chain_id).with_max_blobs_per_tx(if per_prague_block {
            9
        } else {
            6
        })
    }
}

/// The block environment that a header describes.
pub fn block_env(header: &Header, config: &CfgEnv) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: header.difficulty,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(
            header.excess_blob_gas.unwrap_or_default(),
            config.blob_base_fee_update_fraction(),
        )),
        ..BlockEnv::default()
    }
}

/// An EVM over this state and block.
pub fn machine<S: StateSource>(
    state: Overlay<S>,
    config: CfgEnv,
    block: BlockEnv,
    noria_precompiles: bool,
) -> Machine<S> {
    let precompiles = Precompiles::new(config.spec, noria_precompiles);
    let instruction = EthInstructions::new_mainnet_with_spec(config.spec);
    Machine(Evm {
        ctx: Context::mainnet().with_db(state).with_cfg(config).with_block(block),
        inspector: (),
        instruction,
        precompiles,
        // A frame is 32 KiB of stack. revm's eight at once are more than the allocator keeps from one call to the next.
        frame_stack: FrameStack::new_prealloc(1),
    })
}

/// Why one transaction did not run.
#[derive(Debug)]
pub enum RunError {
    /// It is invalid here and now.
    Transaction(TransactionError),
    /// The state could not be read.
    Read(ReadError),
}

impl From<EVMError<ReadError>> for RunError {
    fn from(error: EVMError<ReadError>) -> Self {
        match error {
            EVMError::Transaction(invalid) => Self::Transaction(invalid.into()),
            EVMError::Database(read) => Self::Read(read),
            EVMError::Header(header) => Self::Transaction(TransactionError::new("other", header.to_string())),
            EVMError::Custom(what) => Self::Transaction(TransactionError::new("other", what)),
            EVMError::CustomAny(what) => Self::Transaction(TransactionError::new("other", what.to_string())),
        }
    }
}

impl From<RunError> for BlockError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Transaction(invalid) => Self::invalid("transaction", invalid.message),
            RunError::Read(read) => Self::from(read),
        }
    }
}

impl From<ReadError> for BlockError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.0)
    }
}

/// Run a transaction and keep its effects.
pub fn run_transaction<S: StateSource>(machine: &mut Machine<S>, tx: TxEnv) -> Result<ExecutionResult, RunError> {
    Ok(machine.transact_commit(tx)?)
}

/// Run a system call and keep its effects; a contract without code is skipped, as EIP-4788 and EIP-2935 say.
pub fn run_system_call<S: StateSource>(
    machine: &mut Machine<S>,
    contract: Address,
    data: Bytes,
) -> Result<(), BlockError> {
    let info = machine.state().basic(contract)?;
    if info.is_none_or(|info| info.is_empty_code_hash()) {
        return Ok(());
    }
    let mut outcome = machine.system_call(contract, data).map_err(RunError::from)?;
    if !outcome.result.is_success() {
        let reason = outcome.result.output().and_then(|output| alloy_sol_types::decode_revert_reason(output));
        let reason = reason.unwrap_or_else(|| outcome.result.to_string());
        return Err(BlockError::invalid("system-call", format!("the system call to {contract} failed: {reason}")));
    }
    // The caller is no account and the call pays nothing.
    outcome.state.remove(&SYSTEM_ADDRESS);
    machine.commit(outcome.state);
    Ok(())
}
