//! revm's EVM with this crate's precompiles and with EIP-7610, which revm leaves out: a contract is not created where
//! storage lies already. No chain of ours can hold such an account, but official tests and call overrides can.

use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, ResultAndState};
use revm::context::{BlockEnv, CfgEnv, Context, ContextSetters, ContextTr, Evm, FrameStack, Journal, JournalTr, TxEnv};
use revm::context_interface::context::ContextError;
use revm::context_interface::journaled_state::account::JournaledAccountTr;
use revm::handler::evm::{ContextDbError, FrameInitResult};
use revm::handler::instructions::EthInstructions;
use revm::handler::{
    EthFrame, EvmTr, FrameInitOrResult, FrameResult, FrameTr, Handler, ItemOrResult, MainnetHandler, SystemCallTx,
};
use revm::inspector::{InspectorEvmTr, InspectorHandler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::{CreateInputs, CreateOutcome, FrameInput, Gas, InstructionResult, InterpreterResult};
use revm::primitives::{Address, Bytes, constants::CALL_STACK_LIMIT};
use revm::state::EvmState;
use revm::{DatabaseCommit, ExecuteCommitEvm, ExecuteEvm, InspectEvm, Inspector, SystemCallEvm};

use crate::errors::ReadError;
use crate::overlay::{Overlay, StateSource};
use crate::precompiles::Precompiles;

/// The context of an EVM over a state overlay.
pub type MachineContext<S> = Context<BlockEnv, TxEnv, CfgEnv, Overlay<S>, Journal<Overlay<S>>, ()>;

type Instructions<S> = EthInstructions<EthInterpreter, MachineContext<S>>;
type Frame = EthFrame<EthInterpreter>;
type Inner<S, I> = Evm<MachineContext<S>, I, Instructions<S>, Precompiles, Frame>;

/// An EVM over a state overlay, watched by an inspector.
pub struct Machine<S: StateSource, I = ()>(pub Inner<S, I>);

impl<S: StateSource, I> Machine<S, I> {
    /// The state as it is now.
    pub fn state(&mut self) -> &mut Overlay<S> {
        &mut self.0.ctx.journaled_state.database
    }

    /// End execution.
    pub fn into_state(self) -> Overlay<S> {
        self.0.ctx.journaled_state.database
    }

    /// The same machine with another inspector.
    pub fn with_inspector<J>(self, inspector: J) -> Machine<S, J> {
        Machine(self.0.with_inspector(inspector))
    }

    /// EIP-7610: the result of a creation at an address that has storage; `None` where revm's own rules decide.
    fn storage_collision(
        &mut self,
        inputs: &CreateInputs,
        depth: usize,
    ) -> Result<Option<CreateOutcome>, ContextError<ReadError>> {
        let journal = &mut self.0.ctx.journaled_state;
        let address = {
            let caller = journal.load_account_mut(inputs.caller())?;
            let nonce = caller.nonce();
            if depth > CALL_STACK_LIMIT as usize || *caller.balance() < inputs.value() || nonce == u64::MAX {
                return Ok(None);
            }
            inputs.created_address(nonce)
        };
        if !journal.database.has_storage(address).map_err(ReadError::from)? {
            return Ok(None);
        }
        // What a creation has done by the time it finds the address taken: nonce raised, address warm, gas gone.
        journal.load_account_mut(inputs.caller())?.bump_nonce();
        journal.load_account(address)?;
        Ok(Some(CreateOutcome {
            result: InterpreterResult {
                result: InstructionResult::CreateCollision,
                gas: Gas::new_with_regular_gas_and_reservoir(inputs.gas_limit(), inputs.reservoir()),
                output: Bytes::new(),
            },
            address: None,
            charged_create_state_gas: inputs.charged_create_state_gas(),
        }))
    }
}

impl<S: StateSource, I> EvmTr for Machine<S, I> {
    type Context = MachineContext<S>;
    type Instructions = Instructions<S>;
    type Precompiles = Precompiles;
    type Frame = Frame;

    fn all(&self) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Frame>) {
        self.0.all()
    }

    fn all_mut(
        &mut self,
    ) -> (&mut Self::Context, &mut Self::Instructions, &mut Self::Precompiles, &mut FrameStack<Frame>) {
        self.0.all_mut()
    }

    fn frame_init(&mut self, input: FrameInit) -> Result<FrameInitResult<'_, Frame>, ContextDbError<Self::Context>> {
        if let FrameInput::Create(inputs) = &input.frame_input
            && let Some(outcome) = self.storage_collision(inputs, input.depth)?
        {
            return Ok(ItemOrResult::Result(FrameResult::Create(outcome)));
        }
        self.0.frame_init(input)
    }

    fn frame_run(&mut self) -> Result<FrameInitOrResult<Frame>, ContextDbError<Self::Context>> {
        self.0.frame_run()
    }

    fn frame_return_result(
        &mut self,
        result: <Frame as FrameTr>::FrameResult,
    ) -> Result<Option<<Frame as FrameTr>::FrameResult>, ContextDbError<Self::Context>> {
        self.0.frame_return_result(result)
    }
}

type Error = EVMError<ReadError, InvalidTransaction>;

impl<S: StateSource, I> ExecuteEvm for Machine<S, I> {
    type ExecutionResult = ExecutionResult<HaltReason>;
    type State = EvmState;
    type Error = Error;
    type Tx = TxEnv;
    type Block = BlockEnv;

    fn transact_one(&mut self, tx: TxEnv) -> Result<Self::ExecutionResult, Error> {
        self.0.ctx.set_tx(tx);
        MainnetHandler::<Self, Error, Frame>::default().run(self)
    }

    fn finalize(&mut self) -> EvmState {
        self.0.ctx.journal_mut().finalize()
    }

    fn set_block(&mut self, block: BlockEnv) {
        self.0.ctx.set_block(block);
    }

    fn replay(&mut self) -> Result<ResultAndState<HaltReason>, Error> {
        let result = MainnetHandler::<Self, Error, Frame>::default().run(self);
        let state = self.finalize();
        Ok(ResultAndState::new(result?, state))
    }
}

impl<S: StateSource, I> ExecuteCommitEvm for Machine<S, I> {
    fn commit(&mut self, state: EvmState) {
        self.state().commit(state);
    }
}

impl<S: StateSource, I> SystemCallEvm for Machine<S, I> {
    fn system_call_one_with_caller(
        &mut self,
        caller: Address,
        contract: Address,
        data: Bytes,
    ) -> Result<Self::ExecutionResult, Error> {
        self.0.ctx.set_tx(TxEnv::new_system_tx_with_caller(caller, contract, data));
        MainnetHandler::<Self, Error, Frame>::default().run_system_call(self)
    }
}

impl<S: StateSource, I: Inspector<MachineContext<S>, EthInterpreter>> InspectorEvmTr for Machine<S, I> {
    type Inspector = I;

    fn all_inspector(
        &self,
    ) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Frame>, &Self::Inspector) {
        self.0.all_inspector()
    }

    fn all_mut_inspector(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Frame>,
        &mut Self::Inspector,
    ) {
        self.0.all_mut_inspector()
    }
}

impl<S: StateSource, I: Inspector<MachineContext<S>, EthInterpreter>> InspectEvm for Machine<S, I> {
    type Inspector = I;

    fn set_inspector(&mut self, inspector: I) {
        self.0.inspector = inspector;
    }

    fn inspect_one_tx(&mut self, tx: TxEnv) -> Result<Self::ExecutionResult, Error> {
        self.0.ctx.set_tx(tx);
        MainnetHandler::<Self, Error, Frame>::default().inspect_run(self)
    }
}
