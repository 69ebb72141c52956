//! Hashes, RLP, keys and signatures.

use noria_crypto::{bls, ecdsa, hash, rlp, tree};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::convert;
use crate::errors::{InvalidEncoding, InvalidKey};

fn key_error(error: impl std::fmt::Display) -> PyErr {
    InvalidKey::new_err(error.to_string())
}

#[pyfunction]
fn keccak256<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    convert::bytes(py, hash::keccak256(data))
}

#[pyfunction]
fn blake3<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    convert::bytes(py, hash::blake3(data))
}

#[pyfunction]
fn blake3_leaf<'py>(py: Python<'py>, place: u64, data: PyBackedBytes, alone: bool) -> PyResult<Bound<'py, PyBytes>> {
    let value = py.detach(|| tree::leaf(place, &data, alone));
    Ok(convert::bytes(py, value.map_err(|error| PyValueError::new_err(error.to_string()))?))
}

#[pyfunction]
fn blake3_root<'py>(py: Python<'py>, leaves: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let root = tree::root(leaves).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(convert::bytes(py, root))
}

#[pyfunction]
fn rlp_encode<'py>(py: Python<'py>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    fn read<'py>(item: &Bound<'py, PyAny>, depth: usize) -> PyResult<rlp::Item<'static>> {
        if let Ok(bytes) = item.cast::<PyBytes>() {
            return Ok(rlp::Item::Bytes(bytes.as_bytes().to_vec().into()));
        }
        let list = item.cast::<PyList>().map_err(|_| PyTypeError::new_err("RLP items are bytes and lists of items"))?;
        if depth == rlp::MAX_DEPTH {
            return Err(InvalidEncoding::new_err(rlp::RlpError::TooDeep.to_string()));
        }
        Ok(rlp::Item::List(list.iter().map(|item| read(&item, depth + 1)).collect::<PyResult<_>>()?))
    }
    let encoded = rlp::encode(&read(item, 0)?).map_err(|error| InvalidEncoding::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &encoded))
}

#[pyfunction]
fn rlp_decode<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    fn build<'py>(py: Python<'py>, item: &rlp::Item<'_>) -> PyResult<Bound<'py, PyAny>> {
        match item {
            rlp::Item::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
            rlp::Item::List(items) => {
                let list = PyList::empty(py);
                for item in items {
                    list.append(build(py, item)?)?;
                }
                Ok(list.into_any())
            }
        }
    }
    let item = rlp::decode(data).map_err(|error| InvalidEncoding::new_err(error.to_string()))?;
    build(py, &item)
}

#[pyfunction]
#[pyo3(signature = (items, secure = false))]
fn trie_root<'py>(
    py: Python<'py>,
    items: Vec<(PyBackedBytes, PyBackedBytes)>,
    secure: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let root = py
        .detach(|| noria_state::trie_root(&items, secure))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(convert::bytes(py, root))
}

#[pyfunction]
fn private_key_address<'py>(py: Python<'py>, private_key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let key = ecdsa::PrivateKey::from_bytes(private_key).map_err(key_error)?;
    Ok(convert::bytes(py, key.address()))
}

#[pyfunction]
fn sign_digest<'py>(py: Python<'py>, private_key: &[u8], digest: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let key = ecdsa::PrivateKey::from_bytes(private_key).map_err(key_error)?;
    Ok(convert::bytes(py, key.sign(&convert::hash(digest)?)))
}

#[pyfunction]
fn recover_address<'py>(py: Python<'py>, digest: &[u8], signature: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let address = ecdsa::recover_address(&convert::hash(digest)?, signature).map_err(key_error)?;
    Ok(convert::bytes(py, address))
}

#[pyfunction]
fn bls_secret_key<'py>(py: Python<'py>, seed: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let key = bls::SecretKey::from_seed(seed).map_err(key_error)?;
    Ok(convert::bytes(py, key.to_bytes()))
}

#[pyfunction]
fn bls_public_key<'py>(py: Python<'py>, secret_key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let key = bls::SecretKey::from_bytes(secret_key).map_err(key_error)?;
    Ok(convert::bytes(py, key.public_key()))
}

#[pyfunction]
fn bls_sign<'py>(py: Python<'py>, secret_key: &[u8], message: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
    let key = bls::SecretKey::from_bytes(secret_key).map_err(key_error)?;
    let signature = py.detach(|| key.sign(&message));
    Ok(convert::bytes(py, signature))
}

#[pyfunction]
fn bls_verify(py: Python<'_>, public_key: PyBackedBytes, message: PyBackedBytes, signature: PyBackedBytes) -> bool {
    py.detach(|| bls::verify(&public_key, &message, &signature).is_ok())
}

#[pyfunction]
fn bls_aggregate(py: Python<'_>, signatures: Vec<PyBackedBytes>) -> PyResult<Bound<'_, PyBytes>> {
    let sum = py.detach(|| bls::aggregate(&signatures)).map_err(key_error)?;
    Ok(convert::bytes(py, sum))
}

#[pyfunction]
fn bls_verify_aggregate(
    py: Python<'_>,
    public_keys: Vec<PyBackedBytes>,
    message: PyBackedBytes,
    signature: PyBackedBytes,
) -> bool {
    py.detach(|| bls::verify_aggregate(&public_keys, &message, &signature).is_ok())
}

#[pyfunction]
fn bls_verify_many(py: Python<'_>, signed: Vec<(PyBackedBytes, PyBackedBytes, PyBackedBytes)>, seed: [u8; 32]) -> bool {
    py.detach(|| bls::verify_many(&signed, &seed).is_ok())
}

/// Add the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(keccak256, module)?)?;
    module.add_function(wrap_pyfunction!(blake3, module)?)?;
    module.add("BLAKE3_LEAF_BYTES", tree::LEAF_BYTES)?;
    module.add_function(wrap_pyfunction!(blake3_leaf, module)?)?;
    module.add_function(wrap_pyfunction!(blake3_root, module)?)?;
    module.add_function(wrap_pyfunction!(rlp_encode, module)?)?;
    module.add_function(wrap_pyfunction!(rlp_decode, module)?)?;
    module.add_function(wrap_pyfunction!(trie_root, module)?)?;
    module.add_function(wrap_pyfunction!(private_key_address, module)?)?;
    module.add_function(wrap_pyfunction!(sign_digest, module)?)?;
    module.add_function(wrap_pyfunction!(recover_address, module)?)?;
    module.add_function(wrap_pyfunction!(bls_secret_key, module)?)?;
    module.add_function(wrap_pyfunction!(bls_public_key, module)?)?;
    module.add_function(wrap_pyfunction!(bls_sign, module)?)?;
    module.add_function(wrap_pyfunction!(bls_verify, module)?)?;
    module.add_function(wrap_pyfunction!(bls_aggregate, module)?)?;
    module.add_function(wrap_pyfunction!(bls_verify_aggregate, module)?)?;
    module.add_function(wrap_pyfunction!(bls_verify_many, module)?)
}
