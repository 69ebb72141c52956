//! The network: a handle whose calls do not wait, and the events that are fetched from it.

use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use noria_network::{ByteStream, Config, Event, Failure, FailureKind, Notice, StartError, Verdict, addresses};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::{convert, errors};

/// A message of gossip that awaits its verdict.
#[pyclass(frozen, get_all, module = "noria._core")]
struct NetworkMessage {
    handle: u64,
    topic: String,
    source: String,
    data: Py<PyBytes>,
}

/// A peer's request that awaits its answer.
#[pyclass(frozen, get_all, module = "noria._core")]
struct NetworkRequest {
    handle: u64,
    protocol: String,
    peer: String,
    data: Py<PyBytes>,
}

/// What came of something that was asked for.
#[pyclass(frozen, get_all, module = "noria._core")]
struct NetworkOutcome {
    ticket: u64,
    data: Py<PyBytes>,
    failure: Option<&'static str>,
    message: String,
}

/// A stream that a peer has opened, or that was asked for. It is reset when nobody holds it any more.
#[pyclass(frozen, module = "noria._core")]
struct NetworkStream {
    #[pyo3(get)]
    ticket: Option<u64>,
    #[pyo3(get)]
    peer: String,
    #[pyo3(get)]
    protocol: String,
    #[pyo3(get)]
    buffer_bytes: usize,
    stream: Mutex<Option<ByteStream>>,
}

impl NetworkStream {
    fn new(ticket: Option<u64>, stream: ByteStream) -> Self {
        Self {
            ticket,
            peer: stream.peer.to_base58(),
            protocol: stream.protocol.clone(),
            buffer_bytes: stream.buffer_bytes,
            stream: Mutex::new(Some(stream)),
        }
    }

    fn ask(&self, ask: impl FnOnce(&ByteStream) -> Result<u64, Failure>) -> PyResult<u64> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let reset = || Failure::new(FailureKind::Reset, "this end has let go of the stream");
        stream.as_ref().ok_or_else(reset).and_then(ask).map_err(errors::network)
    }
}

#[pymethods]
impl NetworkStream {
    fn read(&self) -> PyResult<u64> {
        self.ask(ByteStream::read)
    }

    fn write(&self, data: &[u8]) -> PyResult<u64> {
        self.ask(|stream| stream.write(data.to_vec()))
    }

    fn close_write(&self) -> PyResult<u64> {
        self.ask(ByteStream::close_write)
    }

    fn reset(&self) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Something that has happened to a peer, or to the network.
#[pyclass(frozen, get_all, module = "noria._core")]
struct NetworkNotice {
    kind: &'static str,
    peer: String,
    address: String,
    reason: String,
}

/// A connected peer.
#[pyclass(frozen, get_all, module = "noria._core")]
struct NetworkPeer {
    peer: String,
    address: String,
    listens: Vec<String>,
    outbound: bool,
    agent: String,
    protocols: Vec<String>,
    score: f64,
    round_trip_seconds: Option<f64>,
    connected_seconds: f64,
}

/// A libp2p swarm on threads of its own.
#[pyclass(frozen, module = "noria._core")]
struct Network(noria_network::Network);

#[pymethods]
impl Network {
    #[new]
    fn new(py: Python<'_>, seed: PyBackedBytes, config: PyBackedBytes) -> PyResult<Self> {
        let start = || noria_network::Network::start(&seed, Config::from_json(&config).map_err(StartError::from)?);
        py.detach(start).map(Self).map_err(errors::start)
    }

    #[getter]
    fn peer_id(&self) -> String {
        self.0.peer().to_base58()
    }

    #[getter]
    fn descriptor(&self) -> Option<RawFd> {
        self.0.events().descriptor()
    }

    #[getter]
    fn listening(&self) -> Vec<String> {
        self.0.listening().iter().map(|address| addresses::with_peer(address, self.0.peer()).to_string()).collect()
    }

    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let events = py.detach(|| self.0.events().drain(limit));
        let list = PyList::empty(py);
        for event in events {
            match event {
                Event::Message { handle, topic, source, data } => {
                    let (source, data) = (source.to_base58(), convert::bytes(py, data).unbind());
                    list.append(Py::new(py, NetworkMessage { handle, topic, source, data })?)?;
                }
                Event::Request { handle, protocol, peer, data } => {
                    let (peer, data) = (peer.to_base58(), convert::bytes(py, data).unbind());
                    list.append(Py::new(py, NetworkRequest { handle, protocol, peer, data })?)?;
                }
                Event::Outcome { ticket, result } => {
                    let (data, failure, message) = match result {
                        Ok(data) => (data, None, String::new()),
                        Err(Failure { kind, message }) => (Vec::new(), Some(kind.name()), message),
                    };
                    let data = convert::bytes(py, data).unbind();
                    list.append(Py::new(py, NetworkOutcome { ticket, data, failure, message })?)?;
                }
                Event::Stream { ticket, stream } => list.append(Py::new(py, NetworkStream::new(ticket, stream))?)?,
                Event::Peer(Notice { kind, peer, address, reason }) => {
                    let address = address.map(|address| address.to_string()).unwrap_or_default();
                    let notice = NetworkNotice { kind: kind.name(), peer: peer.to_base58(), address, reason };
                    list.append(Py::new(py, notice)?)?;
                }
                Event::Listening(address) => {
                    let (peer, address) = (self.peer_id(), address.to_string());
                    let notice = NetworkNotice { kind: "listening", peer, address, reason: String::new() };
                    list.append(Py::new(py, notice)?)?;
                }
                Event::Lagged(lost) => {
                    let (peer, address, reason) = (self.peer_id(), String::new(), format!("{lost} notices were lost"));
                    list.append(Py::new(py, NetworkNotice { kind: "lagged", peer, address, reason })?)?;
                }
            }
        }
        Ok(list)
    }

    fn publish(&self, topic: &str, data: &[u8]) -> PyResult<u64> {
        self.0.publish(topic, data.to_vec()).map_err(errors::network)
    }

    fn subscribe(&self, topic: &str, wanted: bool) -> PyResult<()> {
        self.0.subscribe(topic, wanted).map_err(errors::network)
    }

    fn verdict(&self, handle: u64, verdict: &str) -> PyResult<()> {
        let verdict = match verdict {
            "accept" => Verdict::Accept,
            "ignore" => Verdict::Ignore,
            "reject" => Verdict::Reject,
            other => {
                return Err(PyValueError::new_err(format!("a verdict is accept, ignore or reject, not {other:?}")));
            }
        };
        self.0.verdict(handle, verdict).map_err(errors::network)
    }

    #[pyo3(signature = (peer, protocol, data, timeout_seconds = None))]
    fn request(&self, peer: &str, protocol: &str, data: &[u8], timeout_seconds: Option<f64>) -> PyResult<u64> {
        let time = timeout_seconds.map(seconds).transpose()?;
        self.0.request(convert::peer(peer)?, protocol, data.to_vec(), time).map_err(errors::network)
    }

    fn serve(&self, protocols: Vec<String>, streams: Vec<String>) -> PyResult<()> {
        self.0.serve(&protocols, &streams).map_err(errors::network)
    }

    #[pyo3(signature = (peer, protocol, timeout_seconds = None))]
    fn open_stream(&self, peer: &str, protocol: &str, timeout_seconds: Option<f64>) -> PyResult<u64> {
        let time = timeout_seconds.map(seconds).transpose()?;
        self.0.open_stream(convert::peer(peer)?, protocol, time).map_err(errors::network)
    }

    fn respond(&self, handle: u64, data: &[u8]) -> bool {
        self.0.respond(handle, Ok(data.to_vec()))
    }

    fn refuse(&self, handle: u64, reason: String) -> bool {
        self.0.respond(handle, Err(reason))
    }

    fn dial(&self, address: &str) -> PyResult<u64> {
        let address = addresses::parse(address).map_err(PyValueError::new_err)?;
        self.0.dial(address).map_err(errors::network)
    }

    fn disconnect(&self, peer: &str) -> PyResult<()> {
        self.0.disconnect(convert::peer(peer)?).map_err(errors::network)
    }

    fn score(&self, peer: &str, delta: f64, reason: String) -> PyResult<()> {
        self.0.score(convert::peer(peer)?, delta, reason).map_err(errors::network)
    }

    fn ban(&self, peer: &str, duration_seconds: f64, reason: String) -> PyResult<()> {
        self.0.ban(convert::peer(peer)?, seconds(duration_seconds)?, reason).map_err(errors::network)
    }

    fn unban(&self, peer: &str) -> PyResult<()> {
        self.0.unban(convert::peer(peer)?).map_err(errors::network)
    }

    fn peers(&self) -> Vec<NetworkPeer> {
        let peers = self.0.peers().into_iter().map(|view| NetworkPeer {
            peer: view.peer.to_base58(),
            address: view.address.to_string(),
            listens: view.listens.iter().map(ToString::to_string).collect(),
            outbound: view.outbound,
            agent: view.agent,
            protocols: view.protocols,
            score: view.score,
            round_trip_seconds: view.round_trip.map(|time| time.as_secs_f64()),
            connected_seconds: view.since.elapsed().as_secs_f64(),
        });
        peers.collect()
    }

    fn bans(&self) -> Vec<(String, f64, String)> {
        let now = Instant::now();
        let bans = self.0.bans().into_iter();
        bans.map(|ban| (ban.peer.to_base58(), ban.until.saturating_duration_since(now).as_secs_f64(), ban.reason))
            .collect()
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        for (name, value) in self.0.statistics() {
            counters.set_item(name, value)?;
        }
        Ok(counters)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("a time is a positive number of seconds, not {value}")))
}

#[pyfunction]
fn peer_id(seed: &[u8]) -> PyResult<String> {
    noria_network::peer_id(seed).map(|peer| peer.to_base58()).map_err(errors::start)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<NetworkMessage>()?;
    module.add_class::<NetworkRequest>()?;
    module.add_class::<NetworkOutcome>()?;
    module.add_class::<NetworkStream>()?;
    module.add_class::<NetworkNotice>()?;
    module.add_class::<NetworkPeer>()?;
    module.add_class::<Network>()?;
    module.add_function(wrap_pyfunction!(peer_id, module)?)
}
