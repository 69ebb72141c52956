//! wasmi: an interpreter by other authors, for a second opinion. It does not know exceptions.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use wasmi::errors::{ErrorKind, HostError, InstantiationError, MemoryError, TableError};
use wasmi::{
    Caller, CompilationMode, Config, Engine as Interpreter, Error, Extern, Global, ImportType, Linker, Memory, Module,
    ResourceLimiter, Store, TrapCode, Val, ValType,
};

use wasmi_core::LimiterError;

use super::state::{End, Run, offer};
use super::{CompileError, Compiled, Engine, EngineKind, MachineError};
use crate::STACK_MAX;
use crate::info::ModuleInfo;
use crate::instrument::{COUNTER_EXPORT, INSTRUMENTER_VERSION, NanRule, Options, START_EXPORT};
use crate::profile::TABLES_MAX;
use crate::progress::Progress;
use crate::unit::{Outcome, Unit};
use crate::wasi::functions::host_functions;
use crate::wasi::{Files, Function, MOST_PARAMETERS, Type};

/// Values that fit on the interpreter's stack: the stack counter must always end first.
const STACK_VALUES: usize = 64 << 20;

/// The wasmi interpreter.
pub struct Wasmi {
    interpreter: Interpreter,
}

impl Wasmi {
    /// The interpreter with the settings of the profile.
    ///
    /// # Errors
    /// None at present.
    pub fn new() -> Result<Self, MachineError> {
        let mut config = Config::default();
        config
            .set_max_recursion_depth(2 * STACK_MAX as usize)
            .set_max_stack_height(STACK_VALUES)
            .set_max_cached_stacks(1)
            .compilation_mode(CompilationMode::LazyTranslation)
            .ignore_custom_sections(true)
            .wasm_tail_call(false)
            .wasm_multi_memory(false)
            .wasm_custom_page_sizes(false)
            .wasm_wide_arithmetic(false)
            .wasm_simd(true)
            .wasm_relaxed_simd(true);
        Ok(Self { interpreter: Interpreter::new(&config) })
    }
}

fn failed(error: impl fmt::Display) -> CompileError {
    CompileError::Failed { engine: EngineKind::Wasmi, reason: error.to_string() }
}

fn engine_failed(error: impl fmt::Display) -> MachineError {
    MachineError::Engine(error.to_string())
}

impl Engine for Wasmi {
    fn options(&self) -> Options {
        // The NaN rule by injected code, so that the engines' own rule is checked against another.
        Options { nan: NanRule::Injected, ..Options::default() }
    }

    fn fingerprint(&self) -> String {
        format!("{} {INSTRUMENTER_VERSION}", EngineKind::Wasmi)
    }

    fn supports(&self, info: &ModuleInfo) -> Result<(), CompileError> {
        let unsupported = |what: &str| CompileError::Unsupported { engine: EngineKind::Wasmi, what: what.into() };
        if info.exceptions { Err(unsupported("exceptions")) } else { Ok(()) }
    }

    /// The interpreter translates functions when they are first called; there is nothing to keep but the module.
    fn compile(&self, module: &[u8], info: &ModuleInfo, progress: &Arc<Progress>) -> Result<Vec<u8>, CompileError> {
        progress.expect(u64::from(info.functions));
        // The module is valid, so what this engine cannot read is something that it does not know, such as a type of
        // exceptions that no instruction uses.
        let unsupported =
            |error: Error| CompileError::Unsupported { engine: EngineKind::Wasmi, what: error.to_string() };
        Module::new(&self.interpreter, module).map_err(unsupported)?;
        Ok(module.to_vec())
    }

    unsafe fn load(&self, code: File, length: u64) -> Result<Arc<dyn Compiled>, CompileError> {
        let mut bytes = Vec::new();
        code.take(length).read_to_end(&mut bytes).map_err(failed)?;
        let module = Module::new(&self.interpreter, &bytes).map_err(failed)?;
        let mut linker = Linker::new(&self.interpreter);
        link(&mut linker).map_err(failed)?;
        for import in module.imports() {
            if !is_offered(&import) {
                let reason = format!("nobody offers its import {}.{} of this type", import.module(), import.name());
                return Err(CompileError::NotACommand(reason));
            }
        }
        let start = module.get_export("_start");
        let start = start.as_ref().and_then(|export| export.func());
        if start.is_none_or(|start| start.params().len() + start.results().len() > 0) {
            return Err(CompileError::NotACommand("there is no function `_start` of this type".into()));
        }
        Ok(Arc::new(Program { linker, module }))
    }
}

fn is_offered(import: &ImportType) -> bool {
    let Some(function) = Function::find(import.module(), import.name()) else { return false };
    let Some(wanted) = import.ty().func() else { return false };
    let is = |wanted: &ValType, offered: Type| match offered {
        Type::I32 => *wanted == ValType::I32,
        Type::I64 => *wanted == ValType::I64,
    };
    let offered = function.parameters();
    let results: &[ValType] = if function.has_result() { &[ValType::I32] } else { &[] };
    wanted.params().len() == offered.len()
        && wanted.params().iter().zip(offered).all(|(wanted, offered)| is(wanted, *offered))
        && wanted.results() == results
}

/// What a store holds beside the instance.
struct State {
    run: Run,
    counter: Option<Global>,
    memory: Option<Memory>,
}

/// The error that ends interpretation when the host stopped the program.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the host stopped the program")
    }
}

impl HostError for Stopped {}

/// A host call: the engine's part of it.
fn call(mut caller: Caller<'_, State>, function: Function, arguments: &[u64; MOST_PARAMETERS]) -> Result<i32, Error> {
    let counter = caller.data().counter.ok_or_else(|| Error::host(Stopped))?;
    let before = counter.get(&caller).i64().unwrap_or(-1);
    let (after, errno) = match caller.data().memory {
        Some(memory) => {
            let (bytes, state) = memory.data_and_store_mut(&mut caller);
            state.run.call(function, arguments, bytes, before)
        }
        None => caller.data_mut().run.call(function, arguments, &mut [], before),
    };
    counter.set(&mut caller, Val::I64(after))?;
    errno.ok_or_else(|| Error::host(Stopped))
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(Run::memory_may_be(desired))
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(Run::table_may_be(desired))
    }

    fn memory_grow_failed(&mut self, error: &MemoryError) -> Result<(), LimiterError> {
        if matches!(error, MemoryError::OutOfSystemMemory) {
            self.run.fail(MachineError::NoMemory(error.to_string()));
        }
        Ok(())
    }

    fn table_grow_failed(&mut self, error: &TableError) -> Result<(), LimiterError> {
        if matches!(error, TableError::OutOfSystemMemory) {
            self.run.fail(MachineError::NoMemory(error.to_string()));
        }
        Ok(())
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        1
    }
}

/// Offer every host function.
fn link(linker: &mut Linker<State>) -> Result<(), Error> {
    host_functions!(offer linker);
    Ok(())
}

struct Program {
    linker: Linker<State>,
    module: Module,
}

impl Compiled for Program {
    fn run(&self, unit: &Unit, files: &Arc<Files>) -> Result<Outcome, MachineError> {
        let run = Run::new(unit, files);
        let granted = run.granted();
        let mut store = Store::new(self.linker.engine(), State { run, counter: None, memory: None });
        store.limiter(|state| state);
        let instance = match self.linker.instantiate_and_start(&mut store, &self.module) {
            Ok(instance) => instance,
            Err(error) => {
                let end = end(Err(error), store.data_mut());
                return store.into_data().run.finish(&end, granted);
            }
        };
        let missing = || MachineError::Engine(format!("the instrumented module has no {COUNTER_EXPORT}"));
        let counter = instance.get_global(&store, COUNTER_EXPORT).ok_or_else(missing)?;
        let at_start = granted + counter.get(&store).i64().unwrap_or(0);
        if at_start < 0 {
            return store.into_data().run.finish(&End::Trapped, at_start);
        }
        counter.set(&mut store, Val::I64(at_start)).map_err(engine_failed)?;
        store.data_mut().counter = Some(counter);
        store.data_mut().memory = instance.get_memory(&store, "memory");

        let mut result = Ok(());
        for name in [START_EXPORT, "_start"] {
            let Some(Extern::Func(function)) = instance.get_export(&store, name) else { continue };
            let function = function.typed::<(), ()>(&store).map_err(engine_failed)?;
            result = function.call(&mut store, ());
            if result.is_err() {
                break;
            }
        }
        let left = counter.get(&store).i64().unwrap_or(-1);
        let end = end(result, store.data_mut());
        store.into_data().run.finish(&end, left)
    }
}

/// How the program ended. What no program can cause is noted as the machine's failure.
fn end(result: Result<(), Error>, state: &mut State) -> End {
    let Err(error) = result else { return End::Returned };
    match error.kind() {
        _ if error.downcast_ref::<Stopped>().is_some() => {}
        ErrorKind::TrapCode(TrapCode::StackOverflow) => state.run.fail(MachineError::Stack),
        ErrorKind::TrapCode(TrapCode::OutOfSystemMemory) => {
            state.run.fail(MachineError::NoMemory(error.to_string()));
        }
        ErrorKind::TrapCode(TrapCode::OutOfFuel | TrapCode::GrowthOperationLimited) => {
            state.run.fail(engine_failed(error));
        }
        // Initial segments that do not fit are traps of the program.
        ErrorKind::TrapCode(_)
        | ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. })
        | ErrorKind::Memory(MemoryError::OutOfBoundsAccess) => {}
        _ => state.run.fail(engine_failed(error)),
    }
    End::Trapped
}
