//! The determinism profile (protocol 2): which modules are accepted, as delivered, and why others are not.

use crate::info::ModuleInfo;

/// Pages of 64 KiB that a linear memory can have: 1 GiB.
pub const MEMORY_MAX_PAGES: u64 = 16_384;
/// Entries that a table can have.
pub const TABLE_MAX: u64 = 1_000_000;
/// Tables that a module can have.
pub const TABLES_MAX: u64 = 8;
/// Units of the stack rule that nested calls can use.
pub const STACK_MAX: u64 = 65_536;
/// Bytes of a module, runtimes included; a network's limit for published programs is lower.
pub const MODULE_MAX: u64 = 256 << 20;
/// Functions with a body.
pub const FUNCTIONS_MAX: u64 = 500_000;
/// Imported functions.
pub const IMPORTS_MAX: u64 = 1_000;
/// Exports.
pub const EXPORTS_MAX: u64 = 100_000;
/// Depth of nested blocks in one function.
pub const NESTING_MAX: u64 = 4_096;
/// Operands that can wait on the stack of one function.
pub const OPERANDS_MAX: u64 = 16_384;

/// Why a module is not accepted. Offsets are bytes from the start of the module; function indices count imports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The bytes are not a WebAssembly core module.
    #[error(
        "not a WebAssembly module: {reason}; deliver the binary format (.wasm), not text, an archive or a component"
    )]
    NotWebAssembly {
        /// What was found instead.
        reason: String,
    },
    /// The module is truncated or breaks a rule of WebAssembly itself.
    #[error("invalid module: {reason} at offset {offset:#x}{}; rebuild it, or copy it again if it was cut short", in_function(.function))]
    Invalid {
        /// The rule that is broken.
        reason: String,
        /// Where.
        offset: u64,
        /// In which function, if in one.
        function: Option<u32>,
    },
    /// The module uses something that is off in the determinism profile.
    #[error("{feature} are not part of the determinism profile (offset {offset:#x}{}); rebuild without them", in_function(.function))]
    Feature {
        /// Name of the feature, plural.
        feature: &'static str,
        /// Where.
        offset: u64,
        /// In which function, if in one.
        function: Option<u32>,
    },
    /// Something is larger than the profile allows.
    #[error("too many {what}: {found}, limit {limit} (offset {offset:#x}{})", in_function(.function))]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The count found (at least this much).
        found: u64,
        /// The largest allowed.
        limit: u64,
        /// Where.
        offset: u64,
        /// In which function, if in one.
        function: Option<u32>,
    },
    /// An import that no host offers.
    #[error(
        "import {module}.{name}: {reason} (offset {offset:#x}); programs can import functions from wasi_snapshot_preview1 and noria"
    )]
    Import {
        /// Module named by the import.
        module: String,
        /// Name of the import.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
        /// Where.
        offset: u64,
    },
    /// An export under a name that belongs to the instrumenter.
    #[error("export {name:?} (offset {offset:#x}) uses the reserved prefix {}; rename it", crate::RESERVED_PREFIX)]
    ReservedExport {
        /// The name.
        name: String,
        /// Where.
        offset: u64,
    },
}

fn in_function(function: &Option<u32>) -> String {
    function.map_or_else(String::new, |index| format!(", function {index}"))
}

/// Checks a module as delivered against the determinism profile.
pub fn validate(module: &[u8]) -> Result<ModuleInfo, ProfileError> {
    crate::instrument::instrument(module).map(|done| done.info)
}
