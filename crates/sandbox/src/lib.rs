//! The sandbox of the Noria protocol: any program, metered, with the same result on every machine (protocol 2).
//!
//! [`instrument`](instrument::instrument) checks a WebAssembly module as delivered against the determinism profile and
//! injects what makes its execution countable: fuel, the stack rule and, where the engine does not do it, the NaN rule.

pub mod info;
pub mod instrument;
pub mod prices;
pub mod profile;

pub use info::{Export, ExternKind, Import, MemoryLimits, ModuleInfo, TableLimits};
pub use instrument::{
    FUEL_EXPORT, INSTRUMENTER_VERSION, Instrumented, NanRule, Options, RESERVED_PREFIX, STACK_EXPORT, START_EXPORT,
    instrument, instrument_with,
};
pub use profile::{
    EXPORTS_MAX, FUNCTIONS_MAX, IMPORTS_MAX, MEMORY_MAX_PAGES, MODULE_MAX, NESTING_MAX, OPERANDS_MAX, ProfileError,
    STACK_MAX, TABLE_MAX, TABLES_MAX, validate,
};
