//! From a module's bytes to results: checked, instrumented, compiled once per machine, run many times.

use std::path::Path;
use std::sync::Arc;

use noria_crypto::B256;

use crate::cache::{BuildError, Cache, CacheError};
use crate::engine::{CompileError, Compiled, Engine, EngineKind, MachineError};
use crate::info::{Import, ModuleInfo};
use crate::instrument::{INSTRUMENTER_VERSION, NanRule, Options, instrument_with};
use crate::profile::ProfileError;
use crate::progress::{Progress, Stage};
use crate::unit::{Outcome, Status, Unit, program_id};
use crate::wasi::{Files, Function};

/// An engine with its cache of compiled code.
///
/// ```no_run
/// # use std::{path::Path, sync::Arc};
/// # use noria_sandbox::{EngineKind, Sandbox, wasi::Files};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sandbox = Sandbox::new(Path::new("cache"), EngineKind::Wasmtime)?;
/// let program = sandbox.load(&std::fs::read("program.wasm")?, Arc::new(Files::default()))?;
/// let outcome = program.run(Arc::from(&b"input"[..]), 1_000_000)?;
/// println!("{:?}, {} fuel", outcome.status, outcome.fuel);
/// # Ok(())
/// # }
/// ```
pub struct Sandbox {
    kind: EngineKind,
    engine: Arc<dyn Engine>,
    cache: Cache,
    progress: Arc<Progress>,
}

/// A program that is ready to run; an instance of it is made for each unit.
pub struct Program {
    id: B256,
    /// Nothing if the module's initial memory or table exceeds the limit: every unit of it ends with that.
    compiled: Option<Arc<dyn Compiled>>,
    files: Arc<Files>,
}

/// Why a program cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The module is outside the determinism profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The engine cannot run it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The cache fails.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl From<BuildError<LoadError>> for LoadError {
    fn from(error: BuildError<LoadError>) -> Self {
        match error {
            BuildError::Cache(error) => Self::Cache(error),
            BuildError::Build(error) => error,
        }
    }
}

/// What could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Sandbox {
    /// An engine of this kind with its compiled code in `cache`.
    ///
    /// # Errors
    /// [`SandboxError`] if the cache cannot be trusted or the engine cannot be started.
    pub fn new(cache: &Path, kind: EngineKind) -> Result<Self, SandboxError> {
        let cache = Cache::open(cache)?;
        Ok(Self { kind, engine: kind.start()?, cache, progress: Arc::new(Progress::default()) })
    }

    /// Which engine this is.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        self.kind
    }

    /// How far the load that is under way is. If several are, they overwrite each other.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Make the module ready to run, with these files. Compiles it unless some process of this machine already has.
    ///
    /// # Errors
    /// [`LoadError`] if the module is outside the profile, cannot run on this engine, or the cache fails.
    pub fn load(&self, module: &[u8], files: Arc<Files>) -> Result<Program, LoadError> {
        let loaded = self.load_unfinished(module, files);
        self.progress.enter(Stage::Idle);
        loaded
    }

    fn load_unfinished(&self, module: &[u8], files: Arc<Files>) -> Result<Program, LoadError> {
        self.progress.expect(0);
        self.progress.enter(Stage::Loading);
        let id = program_id(module);
        let waiting = || self.progress.enter(Stage::Waiting);
        let entry = self.cache.get_or_build(&self.key(&id), waiting, || self.build(module))?;
        self.progress.enter(Stage::Loading);
        self.ready(id, entry, files)
    }

    /// The program of this name, if some process of this machine has already compiled it.
    ///
    /// # Errors
    /// [`LoadError`] if the cache fails.
    pub fn load_cached(&self, id: &B256, files: Arc<Files>) -> Result<Option<Program>, LoadError> {
        let entry = self.cache.get(&self.key(id))?;
        entry.map(|entry| self.ready(*id, entry, files)).transpose()
    }

    fn ready(&self, id: B256, entry: crate::cache::Entry, files: Arc<Files>) -> Result<Program, LoadError> {
        let compiled = match entry.length {
            0 => None,
            // SAFETY: the entry has the hash with which it was stored, in a directory that only this user can write to,
            // under a key that names the module and the engine's fingerprint. Entries are never written to again.
            length => Some(unsafe { self.engine.load(entry.file, length) }?),
        };
        Ok(Program { id, compiled, files })
    }

    /// Compiled code; nothing for a module that is too large to be instantiated.
    fn build(&self, module: &[u8]) -> Result<Vec<u8>, LoadError> {
        self.progress.enter(Stage::Instrumenting);
        let options = self.engine.options();
        let mut instrumented = instrument_with(module, options)?;
        // Where the processor has no fused multiply-add, wasmtime calls a function for the relaxed one and lets the NaN
        // pass that it returns. Injected code stops it.
        if instrumented.info.relaxed_simd && options.nan == NanRule::Engine {
            instrumented = instrument_with(module, Options { nan: NanRule::Injected, ..options })?;
        }
        check_imports(&instrumented.info)?;
        if instrumented.info.initial_beyond_limit {
            return Ok(Vec::new());
        }
        self.engine.supports(&instrumented.info)?;
        self.progress.enter(Stage::Compiling);
        let code = self.engine.compile(&instrumented.bytes, &instrumented.info, &self.progress)?;
        self.progress.enter(Stage::Loading);
        Ok(code)
    }

    /// Names everything that compiled code depends on.
    fn key(&self, id: &B256) -> B256 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"noria/compiled/1").update(&id.0).update(&INSTRUMENTER_VERSION.to_be_bytes());
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes()).update(&[0]).update(self.engine.fingerprint().as_bytes());
        B256::new(*hasher.finalize().as_bytes())
    }
}

/// Whether somebody offers every import, asked before a long compilation; their types are checked after it.
fn check_imports(info: &ModuleInfo) -> Result<(), CompileError> {
    let unknown = info.imports.iter().find(|import| Function::find(&import.module, &import.name).is_none());
    unknown.map_or(Ok(()), |Import { module, name }| {
        Err(CompileError::NotACommand(format!("nobody offers its import {module}.{name}")))
    })
}

impl Program {
    /// The program's name.
    #[must_use]
    pub fn id(&self) -> B256 {
        self.id
    }

    /// Run it on this input with at most this much fuel.
    ///
    /// # Errors
    /// [`MachineError`]: this machine could not; that says nothing about the unit.
    pub fn run(&self, input: Arc<[u8]>, fuel_limit: u64) -> Result<Outcome, MachineError> {
        let unit = Unit { program_id: self.id, input, fuel_limit };
        match &self.compiled {
            Some(compiled) => compiled.run(&unit, &self.files),
            None => Ok(Outcome { status: Status::TooLarge, output: Vec::new(), log: Vec::new(), fuel: 0 }),
        }
    }
}
