//! The chain engine.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use alloy_primitives::U256;
use alloy_rpc_types_eth::TransactionRequest;
use noria_evm::call::{self, Overrides};
use noria_evm::engine::{Engine as Chain, to_json};
use noria_evm::errors::RequestError;
use noria_evm::history::LogFilter;
use noria_evm::{statetest, trace};
use noria_state::Options;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict, PyInt, PyList};

use crate::block::{Account, BlockAttributes, CallResult, Calls, ExecutedBlock, Header, system_calls};
use crate::transaction::Transaction;
use crate::{convert, errors};

type Topics = Vec<Option<Vec<PyBackedBytes>>>;

/// Store, state and EVM of one chain in one data directory.
#[pyclass(frozen, module = "noria._core")]
pub struct Engine(RwLock<Option<Arc<Chain>>>);

impl Engine {
    fn chain(&self) -> PyResult<Arc<Chain>> {
        let guard = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        guard.clone().ok_or_else(|| errors::StoreError::new_err("the engine is closed"))
    }

    /// Run a read off the GIL.
    fn read<T: Send>(&self, py: Python<'_>, f: impl FnOnce(&Chain) -> Result<T, RequestError> + Send) -> PyResult<T> {
        let chain = self.chain()?;
        py.detach(|| f(&chain)).map_err(errors::request)
    }

    /// A read whose unknown block is no error.
    fn find<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Chain) -> Result<T, RequestError> + Send,
    ) -> PyResult<Option<T>> {
        self.read(py, |chain| match f(chain) {
            Ok(found) => Ok(Some(found)),
            Err(RequestError::UnknownBlock(_)) => Ok(None),
            Err(error) => Err(error),
        })
    }
}

fn filter(addresses: &[PyBackedBytes], topics: &Topics) -> PyResult<LogFilter> {
    let topics = topics.iter().map(|any| any.as_deref().map(convert::hashes).transpose()).collect::<PyResult<_>>()?;
    Ok(LogFilter { addresses: convert::addresses(addresses)?, topics })
}

fn parse_call(request: &[u8]) -> Result<TransactionRequest, RequestError> {
    call::parse(request, "call object")
}

type Json<'py> = Bound<'py, PyBytes>;

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (path, genesis, *, sync = true, max_bytes = 1 << 40))]
    fn new(py: Python<'_>, path: PathBuf, genesis: PyBackedBytes, sync: bool, max_bytes: u64) -> PyResult<Self> {
        let chain = py.detach(|| Chain::open(&path, &genesis, Options { sync, max_bytes })).map_err(errors::request)?;
        Ok(Self(RwLock::new(Some(Arc::new(chain)))))
    }

    #[getter]
    fn genesis_hash<'py>(&self, py: Python<'py>) -> PyResult<Json<'py>> {
        Ok(convert::bytes(py, self.chain()?.genesis_hash()))
    }

    #[getter]
    fn chain_id(&self) -> PyResult<u64> {
        Ok(self.chain()?.spec().chain_id)
    }

    #[getter]
    fn head(&self) -> PyResult<Header> {
        Ok(self.chain()?.head().map_err(errors::request)?.into())
    }

    /// Calls that are under way finish; later ones fail.
    fn close(&self, py: Python<'_>) {
        let chain = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        py.detach(|| drop(chain));
    }

    // ---------------------------------------------------------------- blocks

    fn header(&self, block_hash: &[u8]) -> PyResult<Option<Header>> {
        let hash = convert::hash(block_hash)?;
        Ok(self.chain()?.header(hash).map_err(errors::request)?.map(Into::into))
    }

    fn canonical_hash<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Option<Json<'py>>> {
        let reader = self.chain()?.store().reader().map_err(errors::store)?;
        Ok(reader.canonical(number).map_err(errors::store)?.map(|hash| convert::bytes(py, hash)))
    }

    fn is_canonical(&self, block_hash: &[u8]) -> PyResult<bool> {
        let hash = convert::hash(block_hash)?;
        self.chain()?.store().reader().and_then(|reader| reader.is_canonical(hash)).map_err(errors::store)
    }

    fn transaction_hashes<'py>(&self, py: Python<'py>, block_hash: &[u8]) -> PyResult<Option<Vec<Json<'py>>>> {
        let hash = convert::hash(block_hash)?;
        let reader = self.chain()?.store().reader().map_err(errors::store)?;
        let hashes = reader.transaction_hashes(hash).map_err(errors::store)?;
        Ok(hashes.map(|hashes| hashes.into_iter().map(|hash| convert::bytes(py, hash)).collect()))
    }

    fn transactions(&self, py: Python<'_>, block_hash: &[u8]) -> PyResult<Option<Vec<Transaction>>> {
        let hash = convert::hash(block_hash)?;
        let found = self.find(py, |chain| chain.transactions(hash))?;
        Ok(found.map(|txs| txs.into_iter().map(|tx| Transaction(Arc::new(tx))).collect()))
    }

    fn transaction_location<'py>(&self, py: Python<'py>, tx_hash: &[u8]) -> PyResult<Option<(Json<'py>, u64, u32)>> {
        let hash = convert::hash(tx_hash)?;
        let found = self.chain()?.transaction_location(hash).map_err(errors::request)?;
        Ok(found.map(|at| (convert::bytes(py, at.block_hash), at.block_number, at.index)))
    }

    fn block_rlp<'py>(&self, py: Python<'py>, block_hash: &[u8]) -> PyResult<Option<Json<'py>>> {
        let hash = convert::hash(block_hash)?;
        Ok(self.find(py, |chain| chain.block_rlp(hash))?.map(|rlp| convert::bytes(py, rlp)))
    }

    fn block_json<'py>(&self, py: Python<'py>, block_hash: &[u8], full: bool) -> PyResult<Option<Json<'py>>> {
        let hash = convert::hash(block_hash)?;
        Ok(self.find(py, |chain| chain.block_json(hash, full))?.map(|json| convert::bytes(py, json)))
    }

    fn transaction_json<'py>(&self, py: Python<'py>, block_hash: &[u8], index: usize) -> PyResult<Option<Json<'py>>> {
        let hash = convert::hash(block_hash)?;
        let found = self.find(py, |chain| chain.transaction_json(hash, index))?.flatten();
        Ok(found.map(|json| convert::bytes(py, json)))
    }

    fn receipt_json<'py>(&self, py: Python<'py>, block_hash: &[u8], index: usize) -> PyResult<Option<Json<'py>>> {
        let hash = convert::hash(block_hash)?;
        let found = self.find(py, |chain| chain.receipts_json(hash, Some(index)))?.flatten();
        Ok(found.map(|json| convert::bytes(py, json)))
    }

    fn block_receipts_json<'py>(&self, py: Python<'py>, block_hash: &[u8]) -> PyResult<Option<Json<'py>>> {
        let hash = convert::hash(block_hash)?;
        let found = self.find(py, |chain| chain.receipts_json(hash, None))?.flatten();
        Ok(found.map(|json| convert::bytes(py, json)))
    }

    fn raw_transaction<'py>(&self, py: Python<'py>, block_hash: &[u8], index: usize) -> PyResult<Option<Json<'py>>> {
        let hash = convert::hash(block_hash)?;
        let found = self.find(py, |chain| chain.raw_transaction(hash, index))?.flatten();
        Ok(found.map(|raw| convert::bytes(py, raw)))
    }

    fn logs_json<'py>(
        &self,
        py: Python<'py>,
        block_hashes: Vec<PyBackedBytes>,
        addresses: Vec<PyBackedBytes>,
        topics: Topics,
        limit: usize,
    ) -> PyResult<Json<'py>> {
        let (blocks, filter) = (convert::hashes(&block_hashes)?, filter(&addresses, &topics)?);
        Ok(convert::bytes(py, self.read(py, |chain| chain.logs(blocks, &filter, limit))?))
    }

    fn logs_range_json<'py>(
        &self,
        py: Python<'py>,
        first: u64,
        last: u64,
        addresses: Vec<PyBackedBytes>,
        topics: Topics,
        limit: usize,
    ) -> PyResult<Json<'py>> {
        let filter = filter(&addresses, &topics)?;
        Ok(convert::bytes(py, self.read(py, |chain| chain.logs_range(first, last, &filter, limit))?))
    }

    fn fee_history<'py>(
        &self,
        py: Python<'py>,
        newest: &[u8],
        count: usize,
        percentiles: Vec<f64>,
    ) -> PyResult<Vec<(Header, Vec<Bound<'py, PyInt>>)>> {
        let newest = convert::hash(newest)?;
        self.read(py, |chain| chain.fee_history(newest, count, &percentiles))?
            .into_iter()
            .map(|(block, tips)| {
                let tips = tips.into_iter().map(|tip| convert::int(py, U256::from(tip))).collect::<PyResult<_>>()?;
                Ok((block.into(), tips))
            })
            .collect()
    }

    // ---------------------------------------------------------------- state

    fn account(&self, block_hash: &[u8], address: &[u8]) -> PyResult<Account> {
        let (hash, address) = (convert::hash(block_hash)?, convert::address(address)?);
        let account = self.chain()?.account(hash, address).map_err(errors::request)?;
        Ok(Account {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
            storage_root: account.storage_root,
        })
    }

    fn nonces<'py>(
        &self,
        py: Python<'py>,
        block_hash: &[u8],
        addresses: Vec<PyBackedBytes>,
    ) -> PyResult<Vec<(u64, Bound<'py, PyInt>)>> {
        let (hash, addresses) = (convert::hash(block_hash)?, convert::addresses(&addresses)?);
        self.read(py, |chain| chain.accounts(hash, &addresses))?
            .into_iter()
            .map(|account| Ok((account.nonce, convert::int(py, account.balance)?)))
            .collect()
    }

    fn code<'py>(&self, py: Python<'py>, block_hash: &[u8], address: &[u8]) -> PyResult<Json<'py>> {
        let (hash, address) = (convert::hash(block_hash)?, convert::address(address)?);
        Ok(convert::bytes(py, self.chain()?.code(hash, address).map_err(errors::request)?))
    }

    fn storage<'py>(&self, py: Python<'py>, block_hash: &[u8], address: &[u8], slot: &[u8]) -> PyResult<Json<'py>> {
        let (hash, address) = (convert::hash(block_hash)?, convert::address(address)?);
        let slot = U256::from_be_bytes(convert::hash(slot)?.0);
        let value = self.chain()?.storage(hash, address, slot).map_err(errors::request)?;
        Ok(convert::bytes(py, value.to_be_bytes::<32>()))
    }

    fn proof_json<'py>(
        &self,
        py: Python<'py>,
        block_hash: &[u8],
        address: &[u8],
        slots: Vec<PyBackedBytes>,
    ) -> PyResult<Json<'py>> {
        let (hash, address, slots) = (convert::hash(block_hash)?, convert::address(address)?, convert::hashes(&slots)?);
        Ok(convert::bytes(py, self.read(py, |chain| chain.proof_json(hash, address, &slots))?))
    }

    // ---------------------------------------------------------------- read-only execution

    #[pyo3(signature = (block_hash, request, *, gas_cap, state_overrides = None, block_overrides = None))]
    fn call(
        &self,
        py: Python<'_>,
        block_hash: &[u8],
        request: PyBackedBytes,
        gas_cap: u64,
        state_overrides: Option<PyBackedBytes>,
        block_overrides: Option<PyBackedBytes>,
    ) -> PyResult<CallResult> {
        let hash = convert::hash(block_hash)?;
        let result = self.read(py, |chain| {
            let request = parse_call(&request)?;
            let overrides = Overrides::parse(state_overrides.as_deref(), block_overrides.as_deref())?;
            chain.at(hash, |at| call::call(at, &request, overrides, gas_cap))
        })?;
        Ok(CallResult(result))
    }

    #[pyo3(signature = (block_hash, request, *, gas_cap, state_overrides = None))]
    fn estimate_gas(
        &self,
        py: Python<'_>,
        block_hash: &[u8],
        request: PyBackedBytes,
        gas_cap: u64,
        state_overrides: Option<PyBackedBytes>,
    ) -> PyResult<(u64, CallResult)> {
        let hash = convert::hash(block_hash)?;
        let (gas, result) = self.read(py, |chain| {
            let request = parse_call(&request)?;
            let overrides = Overrides::parse(state_overrides.as_deref(), None)?;
            chain.at(hash, |at| call::estimate_gas(at, &request, overrides, gas_cap))
        })?;
        Ok((gas, CallResult(result)))
    }

    #[pyo3(signature = (block_hash, request, *, gas_cap))]
    fn access_list_json<'py>(
        &self,
        py: Python<'py>,
        block_hash: &[u8],
        request: PyBackedBytes,
        gas_cap: u64,
    ) -> PyResult<Json<'py>> {
        let hash = convert::hash(block_hash)?;
        let list = self.read(py, |chain| {
            let request = parse_call(&request)?;
            chain.at(hash, |at| call::access_list(at, &request, gas_cap))
        })?;
        Ok(convert::bytes(py, to_json(&list)))
    }

    fn trace_transaction_json<'py>(
        &self,
        py: Python<'py>,
        block_hash: &[u8],
        index: usize,
        tracer_config: PyBackedBytes,
    ) -> PyResult<Json<'py>> {
        let hash = convert::hash(block_hash)?;
        let frame = self.read(py, |chain| chain.trace_transaction(hash, index, &tracer_config))?;
        Ok(convert::bytes(py, frame))
    }

    #[pyo3(signature = (block_hash, request, tracer_config, *, gas_cap, state_overrides = None, block_overrides = None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn trace_call_json<'py>(
        &self,
        py: Python<'py>,
        block_hash: &[u8],
        request: PyBackedBytes,
        tracer_config: PyBackedBytes,
        gas_cap: u64,
        state_overrides: Option<PyBackedBytes>,
        block_overrides: Option<PyBackedBytes>,
    ) -> PyResult<Json<'py>> {
        let hash = convert::hash(block_hash)?;
        let frame = self.read(py, |chain| {
            let request = parse_call(&request)?;
            let config = call::parse(&tracer_config, "tracer configuration")?;
            let overrides = Overrides::parse(state_overrides.as_deref(), block_overrides.as_deref())?;
            chain.at(hash, |at| trace::trace_call(at, &request, overrides, gas_cap, config))
        })?;
        Ok(convert::bytes(py, to_json(&frame)))
    }

    // ---------------------------------------------------------------- building and importing

    #[pyo3(signature = (parent_hash, attributes, transactions, *, deadline_seconds = None))]
    fn build(
        &self,
        py: Python<'_>,
        parent_hash: &[u8],
        attributes: &Bound<'_, BlockAttributes>,
        transactions: Vec<Bound<'_, Transaction>>,
        deadline_seconds: Option<f64>,
    ) -> PyResult<ExecutedBlock> {
        let hash = convert::hash(parent_hash)?;
        let chain = self.chain()?;
        let attributes = attributes.get().0.clone();
        let candidates: Vec<_> = transactions.iter().map(|tx| Arc::clone(&tx.get().0)).collect();
        let deadline =
            deadline_seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)));
        py.detach(|| chain.build(hash, attributes, &candidates, deadline)).map(ExecutedBlock).map_err(errors::block)
    }

    fn execute(&self, py: Python<'_>, block_rlp: PyBackedBytes, system_calls: Calls) -> PyResult<ExecutedBlock> {
        let chain = self.chain()?;
        let calls = self::system_calls(&system_calls)?;
        py.detach(|| chain.execute(&block_rlp, calls)).map(ExecutedBlock).map_err(errors::block)
    }

    #[pyo3(signature = (block, *, make_head))]
    fn commit(&self, py: Python<'_>, block: &Bound<'_, ExecutedBlock>, make_head: bool) -> PyResult<()> {
        let chain = self.chain()?;
        let executed = &block.get().0;
        py.detach(|| chain.commit(executed, make_head)).map(|_| ()).map_err(errors::store)
    }

    fn relax(&self, py: Python<'_>) -> PyResult<()> {
        let chain = self.chain()?;
        py.detach(|| chain.store().relax()).map_err(errors::store)
    }

    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let chain = self.chain()?;
        py.detach(|| chain.store().settle()).map_err(errors::store)
    }

    fn set_head<'py>(&self, py: Python<'py>, block_hash: &[u8]) -> PyResult<(Vec<Json<'py>>, Vec<Json<'py>>)> {
        let chain = self.chain()?;
        let hash = convert::hash(block_hash)?;
        let change = py.detach(|| chain.set_head(hash)).map_err(errors::store)?;
        let list = |hashes: Vec<_>| hashes.into_iter().map(|hash| convert::bytes(py, hash)).collect();
        Ok((list(change.removed), list(change.added)))
    }
}

#[pyfunction]
#[pyo3(signature = (document, forks = None))]
fn run_state_test<'py>(
    py: Python<'py>,
    document: PyBackedBytes,
    forks: Option<Vec<PyBackedStr>>,
) -> PyResult<Bound<'py, PyList>> {
    let forks: Option<Vec<String>> = forks.map(|forks| forks.iter().map(|fork| fork.to_string()).collect());
    let results = py.detach(|| statetest::run(&document, forks.as_deref())).map_err(errors::InvalidRequest::new_err)?;
    let list = PyList::empty(py);
    for case in results {
        let row = PyDict::new(py);
        row.set_item("name", case.name)?;
        row.set_item("fork", case.fork)?;
        row.set_item("index", case.index)?;
        row.set_item("pass", case.pass)?;
        row.set_item("stateRoot", case.state_root.to_string())?;
        row.set_item("error", case.error)?;
        list.append(row)?;
    }
    Ok(list)
}

/// Add the class and the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(run_state_test, module)?)
}
