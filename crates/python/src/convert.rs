//! Between Python's bytes and integers and the engines' types.

use alloy_primitives::{Address, B256, U256};
use noria_network::PeerId;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyInt};

use crate::errors::length;

/// Exactly 32 bytes.
pub fn hash(bytes: &[u8]) -> PyResult<B256> {
    B256::try_from(bytes).map_err(|_| length("hash", 32, bytes.len()))
}

/// Exactly 20 bytes.
pub fn address(bytes: &[u8]) -> PyResult<Address> {
    Address::try_from(bytes).map_err(|_| length("address", 20, bytes.len()))
}

/// Many addresses.
pub fn addresses(list: &[PyBackedBytes]) -> PyResult<Vec<Address>> {
    list.iter().map(|bytes| address(bytes)).collect()
}

/// Many hashes.
pub fn hashes(list: &[PyBackedBytes]) -> PyResult<Vec<B256>> {
    list.iter().map(|bytes| hash(bytes)).collect()
}

/// The name of a peer.
pub fn peer(text: &str) -> PyResult<PeerId> {
    noria_network::addresses::parse_peer(text).map_err(PyValueError::new_err)
}

/// Python bytes.
pub fn bytes<'py>(py: Python<'py>, data: impl AsRef<[u8]>) -> Bound<'py, PyBytes> {
    PyBytes::new(py, data.as_ref())
}

/// A Python integer of any size.
pub fn int(py: Python<'_>, value: U256) -> PyResult<Bound<'_, PyInt>> {
    if let Ok(small) = u64::try_from(value) {
        return Ok(small.into_pyobject(py)?);
    }
    let big = value.to_be_bytes::<32>();
    let order = PyDict::new(py);
    order.set_item("byteorder", "big")?;
    let built = py.get_type::<PyInt>().call_method("from_bytes", (PyBytes::new(py, &big),), Some(&order))?;
    Ok(built.cast_into::<PyInt>()?)
}
