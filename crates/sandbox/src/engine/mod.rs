//! Engines: what compiles an instrumented module and runs units of it.
//!
//! Every engine gives a unit the same status, output and fuel. What differs is speed and what each can compile:
//!
//! | engine | what it is | for |
//! |---|---|---|
//! | [`EngineKind::Wasmtime`] | machine code for this processor | work |
//! | [`EngineKind::Baseline`] | machine code for any processor of this architecture | checking that features do not matter |
//! | [`EngineKind::Pulley`] | wasmtime's portable interpreter, compiled by the same front end | a second opinion on everything |
//! | [`EngineKind::Wasmi`] | an interpreter by other authors | a second opinion on modules without exceptions, in tests only: it has crashed on random modules |
//!
//! **Time.** A unit ends by its fuel. Nothing here watches a clock: checks in compiled code cost time on every loop, so
//! whoever needs a limit in seconds runs units in a worker process and kills it.

pub(crate) mod state;
mod wasmi;
mod wasmtime;

use std::fmt;
use std::fs::File;
use std::str::FromStr;
use std::sync::Arc;

use crate::info::ModuleInfo;
use crate::instrument::Options;
use crate::progress::Progress;
use crate::unit::{Outcome, Unit};
use crate::wasi::Files;

pub(crate) use self::state::offer;
pub use self::wasmi::Wasmi;
pub use self::wasmtime::Wasmtime;
pub(crate) use self::wasmtime::{THREAD_STACK, snapshot_settings};

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// wasmtime with Cranelift, for this processor.
    Wasmtime,
    /// wasmtime with Cranelift, using no optional feature of the processor.
    Baseline,
    /// wasmtime's Pulley interpreter.
    Pulley,
    /// The wasmi interpreter.
    Wasmi,
}

impl EngineKind {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Wasmtime, Self::Baseline, Self::Pulley, Self::Wasmi];

    /// The engine's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmtime => "wasmtime",
            Self::Baseline => "baseline",
            Self::Pulley => "pulley",
            Self::Wasmi => "wasmi",
        }
    }

    /// The engine itself.
    ///
    /// # Errors
    /// [`MachineError`] if the operating system does not give what it needs.
    pub fn start(self) -> Result<Arc<dyn Engine>, MachineError> {
        Ok(match self {
            Self::Wasmtime | Self::Baseline | Self::Pulley => Arc::new(Wasmtime::new(self)?),
            Self::Wasmi => Arc::new(Wasmi::new()?),
        })
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is no engine's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no engine; choose wasmtime, baseline, pulley or wasmi")]
pub struct UnknownEngine(pub String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// What compiles and runs. Compiling and loading are two steps so that compiled code can be kept on disk.
pub trait Engine: Send + Sync {
    /// What must be injected for this engine.
    fn options(&self) -> Options;

    /// Everything that compiled code depends on beside the module: version, settings, processor features.
    fn fingerprint(&self) -> String;

    /// Whether the engine knows everything that the module uses.
    ///
    /// # Errors
    /// [`CompileError::Unsupported`] names what it does not know.
    fn supports(&self, info: &ModuleInfo) -> Result<(), CompileError>;

    /// Compile an instrumented module.
    ///
    /// # Errors
    /// [`CompileError`] if the engine cannot.
    fn compile(&self, module: &[u8], info: &ModuleInfo, progress: &Arc<Progress>) -> Result<Vec<u8>, CompileError>;

    /// Make what [`compile`](Engine::compile) returned ready to run.
    ///
    /// # Errors
    /// [`CompileError`] if this is no command: its exports or imports are not those of one.
    ///
    /// # Safety
    /// The first `length` bytes of `code` are, unmodified, what `compile` of an engine with the same
    /// [`fingerprint`](Engine::fingerprint) returned, and nobody changes the file while the program is in use.
    unsafe fn load(&self, code: File, length: u64) -> Result<Arc<dyn Compiled>, CompileError>;
}

/// A program that is ready to run.
pub trait Compiled: Send + Sync {
    /// Run a unit of this program in a fresh instance.
    ///
    /// # Errors
    /// [`MachineError`]: this machine could not; another may, or this one later.
    fn run(&self, unit: &Unit, files: &Arc<Files>) -> Result<Outcome, MachineError>;
}

/// A program that an engine cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The module uses what this engine does not know.
    #[error("the engine {engine} does not know {what}; run it with wasmtime or pulley")]
    Unsupported {
        /// The engine.
        engine: EngineKind,
        /// What it does not know.
        what: String,
    },
    /// The module is not a WASI command.
    #[error(
        "not a command: {0}; a program exports `_start` without parameters and results, and `memory` if it calls its host"
    )]
    NotACommand(String),
    /// The compiler gave up.
    #[error("the engine {engine} cannot compile the module: {reason}")]
    Failed {
        /// The engine.
        engine: EngineKind,
        /// In its words.
        reason: String,
    },
}

/// A failure of this machine. It is never the result of a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The operating system refused memory or a thread.
    #[error("no memory for the unit: {0}; free memory or run fewer units at once, then retry")]
    NoMemory(String),
    /// The processor's stack ended before the stack counter did.
    #[error("the machine's stack ended before the stack limit of the protocol; this is a defect of the engine")]
    Stack,
    /// The engine failed in a way that no unit can cause.
    #[error("the engine failed: {0}")]
    Engine(String),
}
