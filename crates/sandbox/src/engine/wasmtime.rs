//! wasmtime, for machine code and for Pulley.

use std::any::Any;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::thread;

use cranelift_codegen::timing::{Pass, Profiler, set_thread_profiler};
use wasmtime::{
    Caller, Config, Engine as Compiler, Error, Extern, GcHeapOutOfMemory, Global, InstancePre, Linker, Memory, Module,
    OptLevel, ResourceLimiter, Store, Strategy, Trap, TypedFunc, Val,
};

use super::state::{End, Run, offer};
use super::{CompileError, Compiled, Engine, EngineKind, MachineError};
use crate::info::ModuleInfo;
use crate::instrument::{COUNTER_EXPORT, NanRule, Options, START_EXPORT};
use crate::progress::Progress;
use crate::unit::{Outcome, Unit};
use crate::wasi::functions::host_functions;
use crate::wasi::{Files, Function, MOST_PARAMETERS};

/// Stack for compiled code. The stack counter must always end first: its 65,535 units stand for frames that hold eight
/// values each, at most 16 bytes a value, and what the compiler adds of its own.
const GUEST_STACK: usize = 256 << 20;
/// Stack for host functions above it.
const HOST_STACK: usize = 1 << 20;
/// Stack of a thread that runs compiled code.
pub(crate) const THREAD_STACK: usize = GUEST_STACK + HOST_STACK;
/// Stack of a compiling thread: functions are nested as deep as the profile allows.
const COMPILER_STACK: usize = 64 << 20;

/// wasmtime with one set of settings.
pub struct Wasmtime {
    kind: EngineKind,
    compiler: Compiler,
}

impl Wasmtime {
    /// The engine of this kind.
    ///
    /// # Errors
    /// [`MachineError::Engine`] if the processor or operating system is not one it knows.
    pub fn new(kind: EngineKind) -> Result<Self, MachineError> {
        let settings = settings(kind).map_err(engine_failed)?;
        Ok(Self { kind, compiler: Compiler::new(&settings).map_err(engine_failed)? })
    }

    fn failed(&self, error: &Error) -> CompileError {
        CompileError::Failed { engine: self.kind, reason: format!("{error:#}") }
    }
}

fn engine_failed(error: Error) -> MachineError {
    MachineError::Engine(format!("{error:#}"))
}

/// The settings that results may depend on are fixed here; none comes from outside.
fn settings(kind: EngineKind) -> Result<Config, Error> {
    let mut config = Config::new();
    match kind {
        EngineKind::Pulley => config.target(if cfg!(target_endian = "big") { "pulley64be" } else { "pulley64" })?,
        // A named target is compiled for without its optional features.
        EngineKind::Baseline => config.target(&baseline())?,
        EngineKind::Wasmtime | EngineKind::Wasmi => &mut config,
    };
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(nan_rule(kind) == NanRule::Engine)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .wasm_exceptions(true)
        // The profile decides what is accepted; what it turns off stays off here too.
        .wasm_tail_call(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .concurrency_support(false)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(THREAD_STACK)
        .memory_init_cow(true)
        // Traces of the guest's functions are never shown; their tables only make compiled code larger.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    Ok(config)
}

/// Settings for running a module once: what it computes is the same, and it is compiled in less time.
pub(crate) fn snapshot_settings() -> Result<Config, Error> {
    let mut config = settings(EngineKind::Wasmtime)?;
    // The module runs as it is, so the compiler has the NaN rule.
    config.cranelift_opt_level(OptLevel::None).cranelift_nan_canonicalization(true);
    Ok(config)
}

/// Machine code is made with the injected rule, which costs a fraction of the compiler's own; Pulley keeps the compiler's, so
/// that each is checked against the other.
fn nan_rule(kind: EngineKind) -> NanRule {
    if kind == EngineKind::Pulley { NanRule::Engine } else { NanRule::Injected }
}

fn baseline() -> String {
    let vendor_and_system = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-gnu" };
    format!("{}-{vendor_and_system}", std::env::consts::ARCH)
}

impl Engine for Wasmtime {
    fn options(&self) -> Options {
        Options { nan: nan_rule(self.kind), ..Options::default() }
    }

    fn fingerprint(&self) -> String {
        let mut hasher = Fingerprint(blake3::Hasher::new());
        self.compiler.precompile_compatibility_hash().hash(&mut hasher);
        format!("{} {}", self.kind, hasher.0.finalize().to_hex())
    }

    fn supports(&self, _info: &ModuleInfo) -> Result<(), CompileError> {
        Ok(())
    }

    fn compile(&self, module: &[u8], info: &ModuleInfo, progress: &Arc<Progress>) -> Result<Vec<u8>, CompileError> {
        progress.expect(u64::from(info.functions));
        // Threads of its own for this compilation, so that each can count the functions it has finished.
        let counted = progress.clone();
        rayon::ThreadPoolBuilder::new()
            .stack_size(COMPILER_STACK)
            .start_handler(move |_| {
                set_thread_profiler(Box::new(CountFunctions(counted.clone())));
            })
            .build()
            .map_err(|error| CompileError::Failed { engine: self.kind, reason: error.to_string() })?
            .install(|| self.compiler.precompile_module(module))
            .map_err(|error| self.failed(&error))
    }

    unsafe fn load(&self, code: File, _length: u64) -> Result<Arc<dyn Compiled>, CompileError> {
        // SAFETY: the caller vouches for the file; wasmtime checks that version and settings are its own.
        let module =
            unsafe { Module::deserialize_open_file(&self.compiler, code) }.map_err(|error| self.failed(&error))?;
        let mut linker = Linker::new(&self.compiler);
        link(&mut linker).map_err(|error| self.failed(&error))?;
        let instance =
            linker.instantiate_pre(&module).map_err(|error| CompileError::NotACommand(format!("{error:#}")))?;
        let start = module.get_export("_start").and_then(|export| export.func().cloned());
        if start.is_none_or(|start| start.params().len() + start.results().len() > 0) {
            return Err(CompileError::NotACommand("there is no function `_start` of this type".into()));
        }
        Ok(Arc::new(Program { instance }))
    }
}

/// Feeds what wasmtime hashes about itself into BLAKE3, so that it is the same in every process.
struct Fingerprint(blake3::Hasher);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Counts compiled functions: the compiler reports its passes, of which one is the whole function's.
struct CountFunctions(Arc<Progress>);

impl Profiler for CountFunctions {
    fn start_pass(&self, pass: Pass) -> Box<dyn Any> {
        if pass == Pass::compile {
            self.0.compiled_one();
        }
        Box::new(())
    }
}

/// What a store holds beside the instance.
struct State {
    run: Run,
    counter: Option<Global>,
    memory: Option<Memory>,
    /// Whether the memory that the program asked for last is within its limits: the machine owes it.
    memory_is_due: bool,
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool, Error> {
        let allowed = Run::memory_may_be(desired);
        self.memory_is_due = allowed && maximum.is_none_or(|maximum| desired <= maximum);
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<(), Error> {
        // Also called where the program asks for more than it may have, which is no failure of the machine.
        if self.memory_is_due {
            self.run.fail(MachineError::NoMemory(format!("{error:#}")));
            return Err(error);
        }
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        Ok(Run::table_may_be(desired))
    }
}

/// The error that ends compiled code when the host stopped the program.
#[derive(Debug, thiserror::Error)]
#[error("the host stopped the program")]
struct Stopped;

/// A host call: the engine's part of it.
fn call(mut caller: Caller<'_, State>, function: Function, arguments: &[u64; MOST_PARAMETERS]) -> Result<i32, Error> {
    let counter = caller.data().counter.ok_or(Stopped)?;
    let before = counter.get(&mut caller).i64().unwrap_or(-1);
    let (after, errno) = match caller.data().memory {
        Some(memory) => {
            let (bytes, state) = memory.data_and_store_mut(&mut caller);
            state.run.call(function, arguments, bytes, before)
        }
        None => caller.data_mut().run.call(function, arguments, &mut [], before),
    };
    counter.set(&mut caller, Val::I64(after))?;
    Ok(errno.ok_or(Stopped)?)
}

/// Offer every host function.
fn link(linker: &mut Linker<State>) -> Result<(), Error> {
    host_functions!(offer linker);
    Ok(())
}

/// A loaded module with its imports resolved: an instance of it is one mapping of memory away.
struct Program {
    instance: InstancePre<State>,
}

impl Compiled for Program {
    fn run(&self, unit: &Unit, files: &Arc<Files>) -> Result<Outcome, MachineError> {
        let run = Run::new(unit, files);
        // A thread of its own, because compiled code needs more stack than any caller has.
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("unit".into())
                .stack_size(THREAD_STACK)
                .spawn_scoped(scope, || self.run_here(run))
                .map_err(|error| MachineError::NoMemory(error.to_string()))?;
            thread.join().unwrap_or_else(|_| Err(MachineError::Engine("the engine panicked".into())))
        })
    }
}

impl Program {
    fn run_here(&self, run: Run) -> Result<Outcome, MachineError> {
        let granted = run.granted();
        let state = State { run, counter: None, memory: None, memory_is_due: false };
        let mut store = Store::new(self.instance.module().engine(), state);
        store.limiter(|state| state);
        let instance = match self.instance.instantiate(&mut store) {
            Ok(instance) => instance,
            // An initial segment outside its memory or table: a trap before the first instruction.
            Err(error) => {
                let end = end(Err(error), store.data_mut());
                return store.into_data().run.finish(&end, granted);
            }
        };
        let missing = || MachineError::Engine(format!("the instrumented module has no {COUNTER_EXPORT}"));
        let counter = instance.get_global(&mut store, COUNTER_EXPORT).ok_or_else(missing)?;
        let at_start = granted + counter.get(&mut store).i64().unwrap_or(0);
        if at_start < 0 {
            return store.into_data().run.finish(&End::Trapped, at_start);
        }
        counter.set(&mut store, Val::I64(at_start)).map_err(engine_failed)?;
        store.data_mut().counter = Some(counter);
        store.data_mut().memory = instance.get_memory(&mut store, "memory");

        let mut result = Ok(());
        for name in [START_EXPORT, "_start"] {
            let Some(Extern::Func(function)) = instance.get_export(&mut store, name) else { continue };
            let function: TypedFunc<(), ()> = function.typed(&store).map_err(engine_failed)?;
            result = function.call(&mut store, ());
            if result.is_err() {
                break;
            }
        }
        let left = counter.get(&mut store).i64().unwrap_or(-1);
        let end = end(result, store.data_mut());
        store.into_data().run.finish(&end, left)
    }
}

/// How the program ended. What no program can cause is noted as the machine's failure.
fn end(result: Result<(), Error>, state: &mut State) -> End {
    let Err(error) = result else { return End::Returned };
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => state.run.fail(MachineError::Stack),
        Some(Trap::AllocationTooLarge | Trap::Interrupt | Trap::OutOfFuel | Trap::DisabledOpcode) => {
            state.run.fail(MachineError::Engine(error.to_string()));
        }
        Some(_) => {}
        None if error.is::<Stopped>() || error.is::<wasmtime::ThrownException>() => {}
        // Exceptions live in a memory of their own, with the same limit. Where the operating system has none left for
        // it, the limiter has noted that.
        None if error.is::<GcHeapOutOfMemory<()>>() => {}
        None if error.is::<std::io::Error>() => state.run.fail(MachineError::NoMemory(format!("{error:#}"))),
        None => state.run.fail(engine_failed(error)),
    }
    End::Trapped
}
