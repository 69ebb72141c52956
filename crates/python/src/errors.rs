//! Python exceptions of the engines.

use noria_evm::errors::{BlockError, RequestError, TransactionError};
use noria_network::{Failure, StartError};
use noria_sandbox::snapshot::SnapshotError;
use noria_sandbox::{CompileError, LoadError, MachineError, ProfileError, SandboxError};
use noria_state::StoreError as Store;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyErr, create_exception};

create_exception!(_core, NoriaError, PyException, "Base of every error that an engine raises.");
create_exception!(_core, InvalidEncoding, NoriaError, "Bytes that are not strict, canonical RLP.");
create_exception!(_core, InvalidKey, NoriaError, "A key or signature that is not valid on its curve.");
create_exception!(_core, InvalidTransaction, NoriaError, "A transaction that cannot be accepted: (kind, message).");
create_exception!(_core, InvalidBlock, NoriaError, "A block that breaks a rule: (kind, message).");
create_exception!(_core, UnknownBlock, NoriaError, "A block that the store does not hold.");
create_exception!(_core, InvalidRequest, NoriaError, "A request or specification that cannot be understood.");
create_exception!(_core, StoreError, NoriaError, "The store cannot be opened, read or written.");
create_exception!(_core, StoreLocked, StoreError, "Another process holds this data directory.");
create_exception!(_core, StoreForeign, StoreError, "The directory holds something else.");
create_exception!(_core, StoreSchema, StoreError, "The store was written by an incompatible version.");
create_exception!(_core, StoreTruncated, StoreError, "The data file is shorter than its page table says.");
create_exception!(_core, StoreUnsettled, StoreError, "The machine stopped while commits did not wait for the disk.");
create_exception!(_core, StoreFull, StoreError, "The disk or the maximum size is exhausted.");
create_exception!(_core, InvalidProgram, NoriaError, "A program that cannot be run: (kind, message).");
create_exception!(_core, CacheFailure, NoriaError, "The cache of compiled code cannot be used.");
create_exception!(_core, MachineFailure, NoriaError, "This machine failed; never the result of a unit.");
create_exception!(_core, NetworkError, NoriaError, "Something that the network did not do: (kind, message).");

/// Add every exception to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("NoriaError", py.get_type::<NoriaError>())?;
    module.add("InvalidEncoding", py.get_type::<InvalidEncoding>())?;
    module.add("InvalidKey", py.get_type::<InvalidKey>())?;
    module.add("InvalidTransaction", py.get_type::<InvalidTransaction>())?;
    module.add("InvalidBlock", py.get_type::<InvalidBlock>())?;
    module.add("UnknownBlock", py.get_type::<UnknownBlock>())?;
    module.add("InvalidRequest", py.get_type::<InvalidRequest>())?;
    module.add("StoreError", py.get_type::<StoreError>())?;
    module.add("StoreLocked", py.get_type::<StoreLocked>())?;
    module.add("StoreForeign", py.get_type::<StoreForeign>())?;
    module.add("StoreSchema", py.get_type::<StoreSchema>())?;
    module.add("StoreTruncated", py.get_type::<StoreTruncated>())?;
    module.add("StoreUnsettled", py.get_type::<StoreUnsettled>())?;
    module.add("StoreFull", py.get_type::<StoreFull>())?;
    module.add("InvalidProgram", py.get_type::<InvalidProgram>())?;
    module.add("CacheFailure", py.get_type::<CacheFailure>())?;
    module.add("MachineFailure", py.get_type::<MachineFailure>())?;
    module.add("NetworkError", py.get_type::<NetworkError>())
}

/// A store's error as its exception.
pub fn store(error: Store) -> PyErr {
    let message = error.to_string();
    match error {
        Store::Locked(_) => StoreLocked::new_err(message),
        Store::Foreign { .. } => StoreForeign::new_err(message),
        Store::Schema { .. } => StoreSchema::new_err(message),
        Store::Truncated { .. } => StoreTruncated::new_err(message),
        Store::Unsettled(_) => StoreUnsettled::new_err(message),
        Store::Full(_) => StoreFull::new_err(message),
        Store::UnknownParent { .. } | Store::UnknownBlock(_) => UnknownBlock::new_err(message),
        _ => StoreError::new_err(message),
    }
}

/// A refused transaction as its exception.
pub fn transaction(error: TransactionError) -> PyErr {
    InvalidTransaction::new_err((error.kind, error.message))
}

/// A refused block as its exception.
pub fn block(error: BlockError) -> PyErr {
    match error {
        BlockError::Invalid { kind, message } => InvalidBlock::new_err((kind, message)),
        BlockError::UnknownParent(_) => UnknownBlock::new_err(error.to_string()),
        BlockError::Store(error) => store(error),
    }
}

/// A refused request as its exception.
pub fn request(error: RequestError) -> PyErr {
    match error {
        RequestError::Invalid(message) => InvalidRequest::new_err(message),
        RequestError::UnknownBlock(_) => UnknownBlock::new_err(error.to_string()),
        RequestError::Transaction(error) => transaction(error),
        RequestError::Store(error) => store(error),
    }
}

/// A module outside the determinism profile as its exception.
pub fn profile(error: ProfileError) -> PyErr {
    let kind = match error {
        ProfileError::NotWebAssembly { .. } => "not-webassembly",
        ProfileError::Invalid { .. } => "invalid",
        ProfileError::Feature { .. } => "feature",
        ProfileError::Limit { .. } => "limit",
        ProfileError::Import { .. } => "import",
        ProfileError::ReservedExport { .. } => "reserved-export",
    };
    InvalidProgram::new_err((kind, error.to_string()))
}

/// A program that cannot be loaded as its exception.
pub fn load(error: LoadError) -> PyErr {
    let kind = match error {
        LoadError::Profile(error) => return profile(error),
        LoadError::Cache(error) => return CacheFailure::new_err(error.to_string()),
        LoadError::Compile(CompileError::Unsupported { .. }) => "unsupported",
        LoadError::Compile(CompileError::NotACommand(_)) => "not-a-command",
        LoadError::Compile(CompileError::Failed { .. }) => "compiler",
    };
    InvalidProgram::new_err((kind, error.to_string()))
}

/// A snapshot that cannot be taken as its exception.
pub fn snapshot(error: SnapshotError) -> PyErr {
    let kind = match error {
        SnapshotError::Machine(error) => return machine(error),
        SnapshotError::Invalid(_) => "invalid",
        SnapshotError::Unfit(_) | SnapshotError::Needed { .. } => "unfit",
        SnapshotError::Turn { .. } => "turn",
    };
    InvalidProgram::new_err((kind, error.to_string()))
}

/// A failure of this machine as its exception.
pub fn machine(error: MachineError) -> PyErr {
    MachineFailure::new_err(error.to_string())
}

/// A sandbox that cannot be started as its exception.
pub fn sandbox(error: SandboxError) -> PyErr {
    match error {
        SandboxError::Cache(error) => CacheFailure::new_err(error.to_string()),
        SandboxError::Machine(error) => machine(error),
    }
}

/// An argument of the wrong length: a mistake of the calling program.
pub fn length(what: &str, expected: usize, found: usize) -> PyErr {
    PyValueError::new_err(format!("{what} must be {expected} bytes long, got {found}"))
}

/// Why a network did not start, as its exception.
pub fn start(error: StartError) -> PyErr {
    let kind = match error {
        StartError::Config(_) | StartError::Seed(_) => "configuration",
        StartError::Listen(..) => "listen",
        StartError::System(_) => "system",
    };
    NetworkError::new_err((kind, error.to_string()))
}

/// Something that the network did not do, as its exception.
pub fn network(failure: Failure) -> PyErr {
    NetworkError::new_err((failure.kind.name(), failure.message))
}
