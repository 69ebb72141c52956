//! The handle of a running network.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use libp2p_core::Multiaddr;
use libp2p_identity::{Keypair, PeerId};
use libp2p_swarm::{StreamProtocol, Swarm, SwarmEvent};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::addresses;
use crate::behaviour::Behaviour;
use crate::config::{Config, InvalidConfig, Protocol, StreamSpec};
use crate::dialer::{Backoff, Dialer};
use crate::events::{EventQueue, Failure, FailureKind};
use crate::gossip::{KnownTopics, PendingMessages, Verdict};
use crate::requests::{Answer, OpenRequests};
use crate::service::{Command, Service, StreamPlaces};
use crate::slots::Slots;
use crate::standing::Standings;
use crate::streams::Served;
use crate::transport;
use crate::view::{Ban, PeerView, View};

/// Why a network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("an identity is made from 32 bytes, not {0}")]
    Seed(usize),
    #[error("cannot listen on {0}: {1}; choose another address or port")]
    Listen(Multiaddr, String),
    #[error("the network cannot be started: {0}")]
    System(#[from] io::Error),
}

/// Commands that wait to be carried out.
const COMMANDS_MAX: usize = 4096;
/// How long opening the listeners may take.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// How long closing may take, in all.
const CLOSE_TIME: Duration = Duration::from_secs(3);
/// Streams of one connection that are in the middle of agreeing on a protocol.
const NEGOTIATING_MAX: usize = 32;
/// A connection that nobody uses stays: it is for the budget of connections to make room.
const IDLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The peer that an identity's seed makes.
pub fn peer_id(seed: &[u8]) -> Result<PeerId, StartError> {
    Ok(keypair(seed)?.public().to_peer_id())
}

fn keypair(seed: &[u8]) -> Result<Keypair, StartError> {
    Keypair::ed25519_from_bytes(seed.to_vec()).map_err(|_| StartError::Seed(seed.len()))
}

struct Running {
    runtime: Runtime,
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A running network. Its methods do not wait, except `start` and `close`.
pub struct Network {
    peer: PeerId,
    topics: HashMap<String, usize>,
    protocols: HashMap<String, Protocol>,
    /// The protocols of streams.
    streams: HashSet<String>,
    /// How long opening one may take.
    open_time: Duration,
    commands: mpsc::Sender<Command>,
    events: Arc<EventQueue>,
    view: Arc<View>,
    open: Arc<OpenRequests>,
    served: Served,
    tickets: Arc<AtomicU64>,
    running: Mutex<Option<Running>>,
}

impl Network {
    /// Start a network under the identity of a seed of 32 bytes; it listens when this returns.
    pub fn start(seed: &[u8], config: Config) -> Result<Self, StartError> {
        let keypair = keypair(seed)?;
        let own = keypair.public().to_peer_id();
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.threads)
            .max_blocking_threads(2)
            .thread_name("noria-network")
            .enable_all()
            .build()?;
        let (topics, protocols) = (
            config.topics.iter().map(|topic| (topic.name.clone(), topic.bytes_max)).collect(),
            config.protocols.iter().map(|protocol| (protocol.name.clone(), protocol.clone())).collect(),
        );
        let events = Arc::new(EventQueue::new(config.limits.queued_events)?);
        let (view, open) = (Arc::<View>::default(), Arc::<OpenRequests>::default());
        let own_requests = Arc::new(Semaphore::new(config.limits.own_requests_open));
        let tickets = Arc::new(AtomicU64::new(1));
        let streams = config.streams.iter().map(|spec| spec.name.clone()).collect();
        let open_time = Duration::from_secs_f64(config.limits.handshake_seconds);
        let (known, served) = (KnownTopics::default(), Served::default());
        let mut swarm = {
            let _context = runtime.enter();
            let settings = libp2p_swarm::Config::with_tokio_executor()
                .with_idle_connection_timeout(IDLE)
                .with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
            let behaviour = Behaviour::new(&config, &keypair, known.clone(), served.clone())?;
            Swarm::new(transport::build(&keypair, &config.limits)?, behaviour, own, settings)
        };
        view.lock().listening = runtime.block_on(listen(&mut swarm, &config.listen))?;
        for address in &config.external {
            swarm.add_external_address(address.clone());
        }
        let backoff = Backoff {
            shortest: Duration::from_secs_f64(config.redial_seconds.0),
            longest: Duration::from_secs_f64(config.redial_seconds.1),
        };
        let longest = config.protocols.iter().map(|one| one.request_bytes_max.max(one.response_bytes_max)).max();
        let room = config.limits.peer_request_bytes.max(2 * longest.unwrap_or(0));
        let service = Service {
            own,
            swarm,
            topics: known,
            events: events.clone(),
            view: view.clone(),
            open: open.clone(),
            pending: PendingMessages::new(&config.limits),
            asking: Slots::new(config.limits.streams_per_connection / 2, own_requests),
            slots: Slots::new(
                config.limits.peer_requests_open,
                Arc::new(Semaphore::new(config.limits.peer_requests_open * config.limits.connections as usize)),
            ),
            rooms: Slots::new(room, Arc::new(Semaphore::new(room * config.limits.connections as usize))),
            streams: stream_places(&config),
            tickets: tickets.clone(),
            standings: Standings::new(config.limits.clone()),
            dialer: Dialer::new(own, &config.bootstrap, backoff),
            dials: HashMap::new(),
            config,
        };
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (leave, told_to_leave) = oneshot::channel();
        let task = runtime.spawn(service.run(received, told_to_leave));
        Ok(Self {
            peer: own,
            topics,
            protocols,
            streams,
            open_time,
            commands,
            events,
            view,
            open,
            served,
            tickets,
            running: Mutex::new(Some(Running { runtime, leave, task })),
        })
    }

    /// Who this node is.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// What happens.
    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    /// Send a message to everybody; the outcome is one byte, 1 where at least one peer was there to be sent it.
    pub fn publish(&self, topic: &str, data: Vec<u8>) -> Result<u64, Failure> {
        let most = self.topic(topic)?;
        if data.len() > most {
            let message = format!("a message of {topic} has at most {most} bytes, not {}", data.len());
            return Err(Failure::new(FailureKind::Malformed, message));
        }
        self.ticketed(|ticket| Command::Publish { ticket, topic: topic.to_owned(), data })
    }

    /// Take part in a topic, or leave it.
    pub fn subscribe(&self, topic: &str, wanted: bool) -> Result<(), Failure> {
        self.topic(topic)?;
        self.send(Command::Subscribe { topic: topic.to_owned(), wanted })
    }

    /// Say what was found of a message. Too late is no error: the message was ignored by then.
    pub fn verdict(&self, handle: u64, verdict: Verdict) -> Result<(), Failure> {
        self.send(Command::Verdict { handle, verdict })
    }

    /// Ask a connected peer; the outcome is its answer.
    pub fn request(&self, peer: PeerId, protocol: &str, data: Vec<u8>, time: Option<Duration>) -> Result<u64, Failure> {
        let protocol = self.protocol(protocol)?.clone();
        if data.len() > protocol.request_bytes_max {
            let most = protocol.request_bytes_max;
            let message = format!("a request of {} has at most {most} bytes, not {}", protocol.name, data.len());
            return Err(Failure::new(FailureKind::Malformed, message));
        }
        let longest = Duration::from_secs_f64(protocol.timeout_seconds);
        let time = time.unwrap_or(longest).min(longest);
        self.ticketed(|ticket| Command::Request { ticket, peer, protocol, data, time })
    }

    /// Take requests of these protocols, and streams of those, from now on, and no others.
    pub fn serve(&self, protocols: &[String], streams: &[String]) -> Result<(), Failure> {
        let mut names = Vec::new();
        for name in protocols {
            names.push(self.protocol(name)?.name.clone());
        }
        for name in streams {
            names.push(self.stream(name)?.clone());
        }
        self.served.set(names.into_iter().filter_map(|name| StreamProtocol::try_from_owned(name).ok()).collect());
        Ok(())
    }

    /// Open a stream to a connected peer; it comes as an event under this ticket.
    pub fn open_stream(&self, peer: PeerId, protocol: &str, time: Option<Duration>) -> Result<u64, Failure> {
        let protocol = self.stream(protocol)?.clone();
        let time = time.unwrap_or(self.open_time).min(self.open_time);
        self.ticketed(|ticket| Command::OpenStream { ticket, peer, protocol, time })
    }

    /// Answer a peer's request; false where nobody waits any more.
    pub fn respond(&self, handle: u64, answer: Answer) -> bool {
        self.open.answer(handle, answer)
    }

    /// Connect to an address; the outcome is the name of the peer that answers there.
    pub fn dial(&self, address: Multiaddr) -> Result<u64, Failure> {
        self.ticketed(|ticket| Command::Dial { ticket, address })
    }

    /// Close all connections to a peer. It may come back.
    pub fn disconnect(&self, peer: PeerId) -> Result<(), Failure> {
        self.send(Command::Disconnect(peer))
    }

    /// Change what the application thinks of a peer; at the score that bans, it is banned for this reason.
    pub fn score(&self, peer: PeerId, delta: f64, reason: String) -> Result<(), Failure> {
        if !delta.is_finite() {
            return Err(Failure::new(FailureKind::Malformed, format!("a score changes by a number, not {delta}")));
        }
        self.send(Command::Score { peer, delta, reason })
    }

    /// Close all connections to a peer, and take none from it for a time.
    pub fn ban(&self, peer: PeerId, time: Duration, reason: String) -> Result<(), Failure> {
        self.send(Command::Ban { peer, time, reason })
    }

    /// End a ban.
    pub fn unban(&self, peer: PeerId) -> Result<(), Failure> {
        self.send(Command::Unban(peer))
    }

    /// Who is connected.
    pub fn peers(&self) -> Vec<PeerView> {
        self.view.lock().peers.values().cloned().collect()
    }

    /// Who is banned.
    pub fn bans(&self) -> Vec<Ban> {
        self.view.lock().bans.values().cloned().collect()
    }

    /// Where this node listens.
    pub fn listening(&self) -> Vec<Multiaddr> {
        self.view.lock().listening.clone()
    }

    /// Counters since the start.
    pub fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.view.statistics.all()
    }

    /// Say goodbye and stop all threads. Closing twice is no error.
    pub fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { runtime, leave, task }) = running {
            let _ = leave.send(());
            let _ = runtime.block_on(async { timeout(CLOSE_TIME, task).await });
            runtime.shutdown_timeout(CLOSE_TIME);
        }
        self.events.close();
    }

    fn topic(&self, name: &str) -> Result<usize, Failure> {
        self.topics.get(name).copied().ok_or_else(|| {
            Failure::new(FailureKind::Unsupported, format!("there is no topic {name:?} in the configuration"))
        })
    }

    fn protocol(&self, name: &str) -> Result<&Protocol, Failure> {
        self.protocols.get(name).ok_or_else(|| {
            Failure::new(FailureKind::Unsupported, format!("there is no protocol {name:?} in the configuration"))
        })
    }

    fn stream(&self, name: &str) -> Result<&String, Failure> {
        self.streams.get(name).ok_or_else(|| {
            let message = format!("there is no protocol of streams {name:?} in the configuration");
            Failure::new(FailureKind::Unsupported, message)
        })
    }

    fn ticketed(&self, command: impl FnOnce(u64) -> Command) -> Result<u64, Failure> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.send(command(ticket))?;
        Ok(ticket)
    }

    fn send(&self, command: Command) -> Result<(), Failure> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Failure::new(FailureKind::Busy, "too many commands wait: ask for less at a time")
            }
            mpsc::error::TrySendError::Closed(_) => Failure::new(FailureKind::Closed, "the network is closed"),
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { runtime, leave, .. }) = running {
            let _ = leave.send(());
            runtime.shutdown_background();
        }
    }
}

/// Every protocol of streams, with places for the peers of each, out of those that there are for all.
fn stream_places(config: &Config) -> HashMap<String, StreamPlaces> {
    let theirs = Arc::new(Semaphore::new(config.limits.streams_open));
    let own = Arc::new(Semaphore::new(config.limits.own_streams_open));
    let places = |spec: &StreamSpec| StreamPlaces {
        theirs: Slots::new(spec.streams_per_peer, theirs.clone()),
        own: Slots::new(spec.streams_per_peer, own.clone()),
        spec: spec.clone(),
    };
    config.streams.iter().map(|spec| (spec.name.clone(), places(spec))).collect()
}

/// Open the listeners and return their addresses, with the ports that the system chose.
async fn listen(swarm: &mut Swarm<Behaviour>, wanted: &[Multiaddr]) -> Result<Vec<Multiaddr>, StartError> {
    let mut waiting = HashMap::new();
    for address in wanted {
        ensure_free(address)?;
        let listener =
            swarm.listen_on(address.clone()).map_err(|error| StartError::Listen(address.clone(), root(&error)))?;
        waiting.insert(listener, address.clone());
    }
    let mut listening = Vec::new();
    let opened = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    waiting.remove(&listener_id);
                    listening.push(address);
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    if let Some(address) = waiting.remove(&listener_id) {
                        return Err(StartError::Listen(address, error.to_string()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    };
    match timeout(LISTEN_TIME, opened).await {
        Ok(result) => result?,
        Err(_) => {
            let address = wanted.first().cloned().unwrap_or_else(Multiaddr::empty);
            return Err(StartError::Listen(address, "the system gives no address".to_owned()));
        }
    }
    Ok(listening)
}

fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The swarm shares a port with whoever listens on it already. Ask the system for it alone first.
fn ensure_free(address: &Multiaddr) -> Result<(), StartError> {
    match addresses::socket(address) {
        Some(socket) if socket.port() != 0 => std::net::TcpListener::bind(socket)
            .map(drop)
            .map_err(|error| StartError::Listen(address.clone(), error.to_string())),
        _ => Ok(()),
    }
}
