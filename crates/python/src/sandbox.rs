//! The sandbox: programs, what checks them, and what runs them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use noria_sandbox::snapshot::{self, Recipe, Word};
use noria_sandbox::wasi::Files;
use noria_sandbox::{EngineKind, FUEL_MAX, INSTRUMENTER_VERSION, MemoryLimits, TableLimits};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};

use crate::{convert, errors};

/// The result of a unit.
#[pyclass(frozen, get_all, module = "noria._core")]
struct Outcome {
    status: u8,
    output: Py<PyBytes>,
    log: Py<PyBytes>,
    fuel: u64,
}

#[pymethods]
impl Outcome {
    fn __repr__(&self, py: Python<'_>) -> String {
        let (output, log) = (self.output.as_bytes(py).len(), self.log.as_bytes(py).len());
        format!("Outcome(status={}, output={output} bytes, log={log} bytes, fuel={})", self.status, self.fuel)
    }
}

/// A program that is ready to run.
#[pyclass(frozen, module = "noria._core")]
struct Program(noria_sandbox::Program);

#[pymethods]
impl Program {
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        convert::bytes(py, self.0.id())
    }

    fn run(&self, py: Python<'_>, input: PyBackedBytes, fuel_limit: u64) -> PyResult<Outcome> {
        let outcome = py.detach(|| self.0.run(Arc::from(&*input), fuel_limit)).map_err(errors::machine)?;
        Ok(Outcome {
            status: outcome.status as u8,
            output: convert::bytes(py, outcome.output).unbind(),
            log: convert::bytes(py, outcome.log).unbind(),
            fuel: outcome.fuel,
        })
    }
}

/// An engine with its cache of compiled code.
#[pyclass(frozen, module = "noria._core")]
struct Sandbox(noria_sandbox::Sandbox);

#[pymethods]
impl Sandbox {
    #[new]
    #[pyo3(signature = (cache_dir, engine = "wasmtime"))]
    fn new(py: Python<'_>, cache_dir: PathBuf, engine: &str) -> PyResult<Self> {
        let kind: EngineKind = engine.parse().map_err(|error| PyValueError::new_err(format!("{error}")))?;
        py.detach(|| noria_sandbox::Sandbox::new(&cache_dir, kind)).map(Self).map_err(errors::sandbox)
    }

    #[getter]
    fn engine(&self) -> &'static str {
        self.0.engine().name()
    }

    #[pyo3(signature = (module, files = None))]
    fn load(
        &self,
        py: Python<'_>,
        module: PyBackedBytes,
        files: Option<HashMap<String, PyBackedBytes>>,
    ) -> PyResult<Program> {
        let files = file_system(files)?;
        py.detach(|| self.0.load(&module, files)).map(Program).map_err(errors::load)
    }

    #[pyo3(signature = (program_id, files = None))]
    fn load_cached(
        &self,
        py: Python<'_>,
        program_id: &[u8],
        files: Option<HashMap<String, PyBackedBytes>>,
    ) -> PyResult<Option<Program>> {
        let (id, files) = (convert::hash(program_id)?, file_system(files)?);
        Ok(py.detach(|| self.0.load_cached(&id, files)).map_err(errors::load)?.map(Program))
    }

    fn progress(&self) -> (&'static str, u64, u64) {
        let (stage, done, total) = self.0.progress().get();
        (stage.name(), done, total)
    }
}

fn file_system(files: Option<HashMap<String, PyBackedBytes>>) -> PyResult<Arc<Files>> {
    let files = files.unwrap_or_default().into_iter().map(|(path, contents)| (path, Arc::from(&*contents)));
    Files::new(files).map(Arc::new).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pyfunction]
fn instrument<'py>(py: Python<'py>, module: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
    let instrumented = py.detach(|| noria_sandbox::instrument(&module)).map_err(errors::profile)?;
    Ok(convert::bytes(py, instrumented.bytes))
}

#[pyfunction]
fn inspect<'py>(py: Python<'py>, module: PyBackedBytes) -> PyResult<Bound<'py, PyDict>> {
    let (id, info) = py.detach(|| (noria_sandbox::program_id(&module), noria_sandbox::validate(&module)));
    let info = info.map_err(errors::profile)?;
    let fields = PyDict::new(py);
    fields.set_item("program_id", convert::bytes(py, id))?;
    fields.set_item("bytes", info.bytes)?;
    fields.set_item("functions", info.functions)?;
    fields.set_item("instructions", info.instructions)?;
    let imports: Vec<_> = info.imports.into_iter().map(|import| (import.module, import.name)).collect();
    fields.set_item("imports", imports)?;
    let exports: Vec<_> =
        info.exports.into_iter().map(|export| (export.name, format!("{:?}", export.kind).to_lowercase())).collect();
    fields.set_item("exports", exports)?;
    let memory = info.memory.map(|MemoryLimits { initial_pages, maximum_pages }| (initial_pages, maximum_pages));
    fields.set_item("memory_pages", memory)?;
    let tables: Vec<_> = info.tables.into_iter().map(|TableLimits { initial, maximum }| (initial, maximum)).collect();
    fields.set_item("tables", tables)?;
    fields.set_item("start", info.start)?;
    fields.set_item("exceptions", info.exceptions)?;
    fields.set_item("simd", info.simd)?;
    fields.set_item("relaxed_simd", info.relaxed_simd)?;
    fields.set_item("initial_beyond_limit", info.initial_beyond_limit)?;
    Ok(fields)
}

/// Functions to leave out, as ranges of indices.
type Ranges = Vec<(u32, u32)>;

#[pyfunction]
#[pyo3(signature = (module, files, turns, entry, cut = Vec::new(), constructors = None, words = Vec::new(), padded = Vec::new()))]
#[expect(clippy::too_many_arguments, reason = "a recipe, by keyword")]
fn take_snapshot<'py>(
    py: Python<'py>,
    module: PyBackedBytes,
    files: HashMap<String, PyBackedBytes>,
    turns: Vec<String>,
    entry: &str,
    cut: Ranges,
    constructors: Option<u32>,
    words: Vec<(u32, u32, u32)>,
    padded: Vec<(u32, u32)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let files = file_system(Some(files))?;
    let turns: Vec<&str> = turns.iter().map(String::as_str).collect();
    let cut: Vec<_> = cut.into_iter().map(|(first, end)| first..end).collect();
    let words: Vec<_> = words.into_iter().map(|(address, from, to)| Word { address, from, to }).collect();
    let recipe = Recipe { cut: &cut, constructors, padded: &padded, words: &words, files, turns: &turns, entry };
    let taken = py.detach(|| snapshot::take(&module, &recipe)).map_err(errors::snapshot)?;
    Ok(convert::bytes(py, taken))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INSTRUMENTER_VERSION", INSTRUMENTER_VERSION)?;
    module.add("FUEL_MAX", FUEL_MAX)?;
    module.add_class::<Outcome>()?;
    module.add_class::<Program>()?;
    module.add_class::<Sandbox>()?;
    module.add_function(wrap_pyfunction!(instrument, module)?)?;
    module.add_function(wrap_pyfunction!(inspect, module)?)?;
    module.add_function(wrap_pyfunction!(take_snapshot, module)?)
}
