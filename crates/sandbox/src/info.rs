//! What a reader of a module learns from it: imports, exports, limits, features used.

/// What kind of thing an import or export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternKind {
    /// A function.
    Function,
    /// A table of references.
    Table,
    /// A linear memory.
    Memory,
    /// A global variable.
    Global,
    /// An exception tag.
    Tag,
}

/// A function the module wants from its host. Nothing but functions can be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Name of the host module: `wasi_snapshot_preview1` or `noria`.
    pub module: String,
    /// Name of the function in it.
    pub name: String,
}

/// A name the module offers to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The name, for example `_start` or `memory`.
    pub name: String,
    /// What stands behind it.
    pub kind: ExternKind,
}

/// A linear memory as delivered, in pages of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Size at the start.
    pub initial_pages: u64,
    /// What the module itself allows, if it says so.
    pub maximum_pages: Option<u64>,
}

/// A table as delivered, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Size at the start.
    pub initial: u64,
    /// What the module itself allows, if it says so.
    pub maximum: Option<u64>,
}

/// What validation found out about a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Length of the delivered module in bytes.
    pub bytes: u64,
    /// Number of functions with a body.
    pub functions: u32,
    /// Number of instructions in all bodies.
    pub instructions: u64,
    /// Imported functions in the order of their indices.
    pub imports: Vec<Import>,
    /// Exports in the order of the module.
    pub exports: Vec<Export>,
    /// The linear memory, if there is one.
    pub memory: Option<MemoryLimits>,
    /// The tables.
    pub tables: Vec<TableLimits>,
    /// The module has a start function; the instrumented one exports it as [`START_EXPORT`](crate::START_EXPORT).
    pub start: bool,
    /// The module declares tags, uses exception instructions or names their types, which not every engine knows.
    pub exceptions: bool,
    /// Some instruction is 128-bit SIMD.
    pub simd: bool,
    /// Some instruction is relaxed SIMD: the engine must execute it in its deterministic lowering.
    pub relaxed_simd: bool,
    /// The initial memory or a table's initial size is above the limit: a unit of this program ends with status 3
    /// and is never instantiated.
    pub initial_beyond_limit: bool,
}
