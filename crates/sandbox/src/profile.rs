//! The determinism profile (protocol 2): which modules are accepted, as delivered, and why others are not.

use wasmparser::{BinaryReaderError, WasmFeatures};

use crate::info::ModuleInfo;

/// Pages of 64 KiB that a linear memory can have: 1 GiB.
pub const MEMORY_MAX_PAGES: u64 = 16_384;
/// Entries that a table can have.
pub const TABLE_MAX: u64 = 1_000_000;
/// Tables that a module can have.
pub const TABLES_MAX: u64 = 8;
/// Units of the stack rule that nested calls can use.
pub const STACK_MAX: u64 = 65_535;
/// The most fuel that a unit can use, whatever its limit: about an hour.
pub const FUEL_MAX: u64 = 1 << 45;
/// Bytes of a module, runtimes included; a network's limit for published programs is lower.
pub const MODULE_MAX: u64 = 256 << 20;
/// Function types. Each gets a second one with the counter, and engines compile something for each.
pub const TYPES_MAX: u64 = 50_000;
/// Globals: what engines agree on, less what the instrumenter adds.
pub const GLOBALS_MAX: u64 = 999_999;
/// Segments of elements: what engines agree on, less what the instrumenter adds.
pub const ELEMENTS_MAX: u64 = 99_999;
/// Functions with a body.
pub const FUNCTIONS_MAX: u64 = 500_000;
/// Imported functions.
pub const IMPORTS_MAX: u64 = 1_000;
/// Exports.
pub const EXPORTS_MAX: u64 = 10_000;
/// Parameters of a function or block.
pub const PARAMETERS_MAX: u64 = 256;
/// Results of a function or block.
pub const RESULTS_MAX: u64 = 64;
/// Depth of nested blocks in one function.
pub const NESTING_MAX: u64 = 4_096;
/// Operands that can wait on the stack of one function.
pub const OPERANDS_MAX: u64 = 16_384;
/// Bytes of one function, before and after instrumentation: what engines agree on.
pub const FUNCTION_MAX: u64 = 7_654_321;
/// Bytes of all functions together after instrumentation.
pub const CODE_MAX: u64 = 1 << 30;
/// Locals of one function, parameters included: what engines agree on, less what the instrumenter adds.
pub const LOCALS_MAX: u64 = 49_984;

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

/// The features that are on. Everything else is refused, by name where it has one.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::GC_TYPES // only so that `externref` is known: GC itself is off
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXCEPTIONS
}

/// Where the parser's messages speak of a feature instead of a mistake: a part of the message, and the feature.
/// Instructions are not here: they are recognised before the validator sees them.
const MESSAGES: &[(&str, &str)] = &[
    ("memory64", "64-bit memories"),
    ("64-bit", "64-bit memories"),
    ("multi-memory", "several memories"),
    ("multiple memories", "several memories"),
    ("threads must be enabled", "shared memories"),
    ("shared-everything-threads", "shared-everything threads"),
    ("custom page sizes", "custom page sizes"),
    ("custom-page-sizes", "custom page sizes"),
    ("function references", "typed function references"),
    ("gc proposal", "garbage-collected types"),
    ("GC proposal", "garbage-collected types"),
    ("gc feature", "garbage-collected types"),
    ("gc types", "garbage-collected types"),
    ("stack switching", "stack switching types"),
    ("custom descriptors", "custom descriptors"),
    ("non-constant operator: i32.", "extended constant expressions"),
    ("non-constant operator: i64.", "extended constant expressions"),
    ("legacy_exceptions", "legacy exceptions"),
];

impl ProfileError {
    pub(crate) fn of_parser(error: &BinaryReaderError, function: Option<u32>) -> Self {
        let (reason, offset) = (error.message(), error.offset() as u64);
        let feature = MESSAGES.iter().find(|(part, _)| reason.contains(part));
        match feature {
            Some(&(_, feature)) => Self::Feature { feature, offset, function },
            None => Self::Invalid { reason: reason.to_owned(), offset, function },
        }
    }
}

/// Refuses more of something than the profile allows.
pub(crate) fn limit(what: &'static str, found: u64, limit: u64, at: usize) -> Result<(), ProfileError> {
    if found <= limit {
        return Ok(());
    }
    Err(ProfileError::Limit { what, found, limit, offset: at as u64, function: None })
}

/// Checks a module as delivered against the determinism profile.
pub fn validate(module: &[u8]) -> Result<ModuleInfo, ProfileError> {
    crate::instrument::instrument(module).map(|done| done.info)
}
