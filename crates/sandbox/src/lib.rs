//! The sandbox of the Noria protocol: any program, metered, with the same result on every machine (protocol 2).
//!
//! [`instrument`](instrument::instrument) checks a WebAssembly module as delivered against the determinism profile and
//! injects what makes its execution countable: fuel, the stack rule and, where the engine does not do it, the NaN rule.
//!
//! [`Sandbox`] compiles the result once per machine and runs units of it: [`engine`] with one of several engines, [`wasi`]
//! as the only thing that a program sees of the world, [`cache`] with the compiled code of all processes.

pub mod cache;
pub mod engine;
pub mod info;
pub mod instrument;
mod operators;
pub mod prices;
pub mod profile;
pub mod program;
pub mod progress;
mod scan;
pub mod snapshot;
pub mod unit;
pub mod wasi;

pub use engine::{CompileError, EngineKind, MachineError};
pub use info::{Export, ExternKind, Import, MemoryLimits, ModuleInfo, TableLimits};
pub use instrument::{
    COUNTER_EXPORT, Counter, INSTRUMENTER_VERSION, Instrumented, NanRule, Options, RESERVED_PREFIX, START_EXPORT,
    fuel_of, instrument, instrument_with, set_fuel, stack_of, with_fuel,
};
pub use profile::{
    CODE_MAX, EXPORTS_MAX, FUEL_MAX, FUNCTION_MAX, FUNCTIONS_MAX, IMPORTS_MAX, MEMORY_MAX_PAGES, MODULE_MAX,
    NESTING_MAX, OPERANDS_MAX, ProfileError, STACK_MAX, TABLE_MAX, TABLES_MAX, validate,
};
pub use program::{LoadError, Program, Sandbox, SandboxError};
pub use progress::{Progress, Stage};
pub use unit::{Outcome, Status, Unit, blob_id, program_id, unit_id};
