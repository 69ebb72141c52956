//! Runs a unit on every engine and compares.

#![allow(dead_code)] // each test program uses its part

pub mod modules;

use std::sync::Arc;

use noria_sandbox::wasi::Files;
use noria_sandbox::{CompileError, EngineKind, LoadError, Outcome, Program, Sandbox};
use tempfile::TempDir;

pub const PLENTY: u64 = 200_000_000;

pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("the test's module is malformed: {error}"))
}

pub struct Everywhere {
    sandboxes: Vec<Sandbox>,
    files: Arc<Files>,
    _cache: TempDir,
}

impl Everywhere {
    pub fn new() -> Self {
        Self::with_files(Files::default())
    }

    pub fn with_files(files: Files) -> Self {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let start = |kind| Sandbox::new(cache.path(), kind).expect("the engine starts");
        Self { sandboxes: EngineKind::ALL.map(start).into(), files: Arc::new(files), _cache: cache }
    }

    pub fn try_load(&self, kind: EngineKind, module: &[u8]) -> Result<Program, LoadError> {
        let sandbox = self.sandboxes.iter().find(|sandbox| sandbox.engine() == kind).expect("all were started");
        sandbox.load(module, self.files.clone())
    }

    /// The outcome, which every engine that knows the module agrees on.
    pub fn run(&self, module: &[u8], input: &[u8], fuel_limit: u64) -> Outcome {
        let mut first: Option<(EngineKind, Outcome)> = None;
        for kind in EngineKind::ALL {
            let program = match self.try_load(kind, module) {
                Err(LoadError::Compile(CompileError::Unsupported { .. })) if kind == EngineKind::Wasmi => continue,
                loaded => loaded.unwrap_or_else(|error| panic!("{kind}: {error}")),
            };
            let outcome = program.run(Arc::from(input), fuel_limit).unwrap_or_else(|error| panic!("{kind}: {error}"));
            match &first {
                None => first = Some((kind, outcome)),
                Some((other, expected)) => assert_eq!(brief(&outcome), brief(expected), "{kind} and {other} differ"),
            }
        }
        first.expect("wasmtime knows every module").1
    }
}

/// An outcome whose long outputs are shown by their hash.
fn brief(outcome: &Outcome) -> (noria_sandbox::Status, u64, usize, String, String) {
    let shown = |bytes: &[u8]| {
        if bytes.len() > 64 { blake3::hash(bytes).to_string() } else { format!("{bytes:02x?}") }
    };
    (outcome.status, outcome.fuel, outcome.output.len(), shown(&outcome.output), shown(&outcome.log))
}
