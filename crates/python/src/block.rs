//! Headers, accounts, block attributes and executed blocks.

use alloy_consensus::Header as PayloadHeader;
use alloy_primitives::{B256, Bytes, U256};
use noria_evm::block::{Attributes, Executed, SystemCall, next_base_fee};
use noria_evm::block_codec::encode_block;
use noria_evm::call::CallResult as Outcome;
use noria_evm::engine::{Sealed, to_json};
use noria_evm::json::{self, Place};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt, PyList};

use crate::convert;

/// (contract, calldata) pairs as Python gives them.
pub type Calls = Vec<(PyBackedBytes, PyBackedBytes)>;

/// System calls from Python.
pub fn system_calls(calls: &Calls) -> PyResult<Vec<SystemCall>> {
    calls.iter().map(|(to, data)| Ok((convert::address(to)?, Bytes::copy_from_slice(data)))).collect()
}

/// A payload header.
#[pyclass(frozen, module = "noria._core")]
pub struct Header {
    header: PayloadHeader,
    hash: B256,
}

impl From<Sealed> for Header {
    fn from(sealed: Sealed) -> Self {
        Self { header: sealed.header, hash: sealed.hash }
    }
}

#[pymethods]
impl Header {
    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.hash)
    }

    #[getter]
    fn parent_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.parent_hash)
    }

    #[getter]
    fn number(&self) -> u64 {
        self.header.number
    }

    #[getter]
    fn timestamp(&self) -> u64 {
        self.header.timestamp
    }

    #[getter]
    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.state_root)
    }

    #[getter]
    fn transactions_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.transactions_root)
    }

    #[getter]
    fn receipts_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.receipts_root)
    }

    #[getter]
    fn fee_recipient<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.beneficiary)
    }

    #[getter]
    fn prev_randao<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.mix_hash)
    }

    #[getter]
    fn parent_beacon_block_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.parent_beacon_block_root.unwrap_or_default())
    }

    #[getter]
    fn gas_limit(&self) -> u64 {
        self.header.gas_limit
    }

    #[getter]
    fn gas_used(&self) -> u64 {
        self.header.gas_used
    }

    #[getter]
    fn base_fee_per_gas(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    #[getter]
    fn extra_data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, &self.header.extra_data)
    }

    #[getter]
    fn logs_bloom<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.header.logs_bloom)
    }

    fn next_base_fee(&self) -> u64 {
        next_base_fee(&self.header)
    }

    fn to_json<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let place = Place { header: &self.header, hash: self.hash };
        convert::bytes(py, to_json(&json::header(place, None)))
    }

    fn __repr__(&self) -> String {
        format!("<Header {} {}>", self.header.number, self.hash)
    }
}

/// An account of the state.
#[pyclass(frozen, module = "noria._core")]
pub struct Account {
    pub nonce: u64,
    pub balance: U256,
    pub code_hash: B256,
    pub storage_root: B256,
}

#[pymethods]
impl Account {
    #[getter]
    fn nonce(&self) -> u64 {
        self.nonce
    }

    #[getter]
    fn balance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        convert::int(py, self.balance)
    }

    #[getter]
    fn code_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.code_hash)
    }

    #[getter]
    fn storage_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.storage_root)
    }
}

/// What the proposer decides about a payload.
#[pyclass(frozen, module = "noria._core")]
pub struct BlockAttributes(pub Attributes);

#[pymethods]
impl BlockAttributes {
    #[new]
    #[pyo3(signature = (*, timestamp, fee_recipient, prev_randao, parent_beacon_block_root, gas_limit,
                        extra_data = None, system_calls = Calls::new()))]
    fn new(
        timestamp: u64,
        fee_recipient: &[u8],
        prev_randao: &[u8],
        parent_beacon_block_root: &[u8],
        gas_limit: u64,
        extra_data: Option<PyBackedBytes>,
        system_calls: Calls,
    ) -> PyResult<Self> {
        Ok(Self(Attributes {
            timestamp,
            fee_recipient: convert::address(fee_recipient)?,
            prev_randao: convert::hash(prev_randao)?,
            parent_beacon_block_root: convert::hash(parent_beacon_block_root)?,
            gas_limit,
            extra_data: extra_data.map(|data| Bytes::copy_from_slice(&data)).unwrap_or_default(),
            system_calls: self::system_calls(&system_calls)?,
        }))
    }
}

/// A built or executed block that is not stored yet.
#[pyclass(frozen, module = "noria._core")]
pub struct ExecutedBlock(pub Executed);

#[pymethods]
impl ExecutedBlock {
    #[getter]
    fn header(&self) -> Header {
        Header { header: self.0.header.clone(), hash: self.0.hash }
    }

    #[getter]
    fn transaction_hashes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.0.transactions.iter().map(|tx| convert::bytes(py, tx.hash)))
    }

    #[getter]
    fn rejected<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, &'static str, String)> {
        let row = |(hash, error): &(B256, noria_evm::errors::TransactionError)| {
            (convert::bytes(py, hash), error.kind, error.message.clone())
        };
        self.0.rejected.iter().map(row).collect()
    }

    fn rlp<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let header = alloy_rlp::encode(&self.0.header);
        convert::bytes(py, encode_block(&header, self.0.transactions.iter().map(|tx| tx.raw.as_ref())))
    }
}

/// Outcome of a read-only execution.
#[pyclass(frozen, module = "noria._core")]
pub struct CallResult(pub Outcome);

#[pymethods]
impl CallResult {
    #[getter]
    fn status(&self) -> &'static str {
        self.0.status
    }

    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, &self.0.output)
    }

    #[getter]
    fn gas_used(&self) -> u64 {
        self.0.gas_used
    }

    #[getter]
    fn error(&self) -> &str {
        &self.0.error
    }
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Header>()?;
    module.add_class::<Account>()?;
    module.add_class::<BlockAttributes>()?;
    module.add_class::<ExecutedBlock>()?;
    module.add_class::<CallResult>()
}
