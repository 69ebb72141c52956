//! Python bindings of the engines: conversions and errors, nothing else.

mod block;
mod convert;
mod crypto;
mod engine;
mod errors;
mod network;
mod sandbox;
mod transaction;

use pyo3::prelude::*;

/// The extension module `noria._core`; its typed surface is `src/noria/_core.pyi`.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::register(module)?;
    crypto::register(module)?;
    transaction::register(module)?;
    block::register(module)?;
    engine::register(module)?;
    sandbox::register(module)?;
    network::register(module)
}
