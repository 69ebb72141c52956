//! Transactions.

use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_primitives::U256;
use noria_evm::engine::to_json;
use noria_evm::transaction::{SignedTransaction, decode_many};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt, PyList};

use crate::{convert, errors};

/// A decoded, signature-checked transaction.
#[pyclass(frozen, module = "noria._core")]
pub struct Transaction(pub Arc<SignedTransaction>);

#[pymethods]
impl Transaction {
    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.0.hash)
    }

    #[getter]
    fn sender<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.0.sender)
    }

    #[getter]
    fn nonce(&self) -> u64 {
        self.0.envelope.nonce()
    }

    #[getter]
    fn r#type(&self) -> u8 {
        self.0.kind()
    }

    #[getter]
    fn gas_limit(&self) -> u64 {
        self.0.envelope.gas_limit()
    }

    #[getter]
    fn max_fee_per_gas<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        convert::int(py, U256::from(self.0.envelope.max_fee_per_gas()))
    }

    #[getter]
    fn max_priority_fee_per_gas<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        convert::int(py, U256::from(self.0.tip_cap()))
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        convert::int(py, self.0.envelope.value())
    }

    #[getter]
    fn to<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.envelope.to().map(|to| convert::bytes(py, to))
    }

    #[getter]
    fn chain_id(&self) -> Option<u64> {
        self.0.envelope.chain_id()
    }

    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, &self.0.raw)
    }

    #[getter]
    fn size(&self) -> usize {
        self.0.raw.len()
    }

    #[getter]
    fn max_cost<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        convert::int(py, self.0.max_cost())
    }

    fn effective_tip<'py>(&self, py: Python<'py>, base_fee: u64) -> PyResult<Option<Bound<'py, PyInt>>> {
        self.0.envelope.effective_tip_per_gas(base_fee).map(|tip| convert::int(py, U256::from(tip))).transpose()
    }

    fn to_json<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, to_json(&noria_evm::json::pending_transaction(&self.0)))
    }

    fn __repr__(&self) -> String {
        format!("<Transaction {} from {} nonce {}>", self.0.hash, self.0.sender, self.0.envelope.nonce())
    }
}

#[pyfunction]
fn decode_transaction(raw: &[u8]) -> PyResult<Transaction> {
    SignedTransaction::decode(raw).map(|tx| Transaction(Arc::new(tx))).map_err(errors::transaction)
}

#[pyfunction]
fn decode_transactions<'py>(py: Python<'py>, raws: Vec<PyBackedBytes>) -> PyResult<Bound<'py, PyList>> {
    let slices: Vec<&[u8]> = raws.iter().map(AsRef::as_ref).collect();
    let decoded = py.detach(|| decode_many(&slices));
    let list = PyList::empty(py);
    for item in decoded {
        match item {
            Ok(tx) => list.append(Transaction(tx))?,
            Err(error) => list.append(errors::transaction(error).into_value(py))?,
        }
    }
    Ok(list)
}

/// Add the class and the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Transaction>()?;
    module.add_function(wrap_pyfunction!(decode_transaction, module)?)?;
    module.add_function(wrap_pyfunction!(decode_transactions, module)?)
}
