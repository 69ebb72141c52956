//! The swarm's own task: it carries out commands, and tells what happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::StreamExt;
use libp2p_core::Multiaddr;
use libp2p_gossipsub::{self as gossipsub, IdentTopic, MessageAcceptance, PublishError};
use libp2p_identity::PeerId;
use libp2p_swarm::{ConnectionId, StreamProtocol, Swarm, SwarmEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::addresses;
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::byte_streams::{self, Place};
use crate::config::{Config, Protocol, StreamSpec};
use crate::dialer::{Dial, Dialer, Target};
use crate::events::{Event, EventQueue, Failure, FailureKind};
use crate::gossip::{KnownTopics, PendingMessages, Verdict};
use crate::requests::{self, Asker, OpenRequests};
use crate::slots::Slots;
use crate::standing::{Pace, Standings};
use crate::streams::Opened;
use crate::view::{View, count};

/// What the swarm is told to do.
pub enum Command {
    Publish { ticket: u64, topic: String, data: Vec<u8> },
    Subscribe { topic: String, wanted: bool },
    Verdict { handle: u64, verdict: Verdict },
    Request { ticket: u64, peer: PeerId, protocol: Protocol, data: Vec<u8>, time: Duration },
    OpenStream { ticket: u64, peer: PeerId, protocol: String, time: Duration },
    Dial { ticket: u64, address: Multiaddr },
    Disconnect(PeerId),
    Score { peer: PeerId, delta: f64, reason: String },
    Ban { peer: PeerId, time: Duration, reason: String },
    Unban(PeerId),
}

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(200);
/// Looks between two refreshments of the scores.
const TICKS_PER_SCORES: u32 = 5;
/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a message of a flood, or a request or stream beyond the budget, costs.
const FLOOD_MESSAGE: f64 = -1.0;
const REQUEST_OVER_BUDGET: f64 = -1.0;
/// Addresses that one peer, or one discovery, may tell.
pub(crate) const TOLD_MAX: usize = 32;

/// A protocol of streams, and the places on it.
pub struct StreamPlaces {
    pub spec: StreamSpec,
    /// Of streams that peers have opened, and that this node has.
    pub theirs: Slots,
    pub own: Slots,
}

pub struct Service {
    pub config: Config,
    pub own: PeerId,
    pub swarm: Swarm<Behaviour>,
    pub topics: KnownTopics,
    pub events: Arc<EventQueue>,
    pub view: Arc<View>,
    pub open: Arc<OpenRequests>,
    pub pending: PendingMessages,
    /// Own requests under way: more streams than a connection may have would close it.
    pub asking: Slots,
    /// Requests of peers that are being answered, and their bytes.
    pub slots: Slots,
    pub rooms: Slots,
    pub streams: HashMap<String, StreamPlaces>,
    pub tickets: Arc<AtomicU64>,
    pub standings: Standings,
    pub dialer: Dialer,
    pub dials: HashMap<ConnectionId, Target>,
}

impl Service {
    /// Run until told to leave.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut leave: oneshot::Receiver<()>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks: u32 = 0;
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(command) = commands.recv() => self.on_command(command),
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    self.on_tick(ticks.is_multiple_of(TICKS_PER_SCORES));
                }
                _ = &mut leave => break,
            }
        }
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let gone = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(FAREWELL, gone).await;
        self.events.close();
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { ticket, topic, data } => {
                let result = self.publish(&topic, data);
                self.events.push(Event::Outcome { ticket, result });
            }
            Command::Subscribe { topic, wanted } => {
                let topic = IdentTopic::new(topic);
                self.topics.set(topic.hash(), wanted);
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                if wanted {
                    // The configured topics are all allowed; being subscribed already is no error either.
                    let _ = gossip.subscribe(&topic);
                } else {
                    gossip.unsubscribe(&topic);
                }
            }
            Command::Verdict { handle, verdict } => self.judge(handle, verdict),
            Command::Request { ticket, peer, protocol, data, time } => {
                self.request(ticket, peer, protocol, data, time);
            }
            Command::OpenStream { ticket, peer, protocol, time } => self.open_stream(ticket, peer, &protocol, time),
            Command::Dial { ticket, address } => {
                let (peer, addresses) = (addresses::peer(&address), vec![addresses::bare(&address)]);
                if let Some(peer) = peer.filter(|peer| self.swarm.is_connected(peer)) {
                    let result = Ok(peer.to_base58().into_bytes());
                    self.events.push(Event::Outcome { ticket, result });
                } else {
                    self.dial(Dial { target: Target::Ticket(ticket), peer, addresses });
                }
            }
            Command::Disconnect(peer) => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Score { peer, delta, reason } => self.score(peer, delta, &reason),
            Command::Ban { peer, time, reason } => self.ban(peer, time, reason),
            Command::Unban(peer) => self.unban(peer),
        }
    }

    // ------------------------------------------------------------ gossip

    fn publish(&mut self, topic: &str, data: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic), data) {
            // It was published before, or came from others.
            Ok(_) | Err(PublishError::Duplicate) => {
                count(&self.view.statistics.messages_published);
                Ok(vec![1])
            }
            Err(PublishError::NoPeersSubscribedToTopic) => Ok(vec![0]),
            Err(PublishError::AllQueuesFull(peers)) => {
                Err(Failure::new(FailureKind::Busy, format!("{peers} peers take messages, all too slowly")))
            }
            Err(error) => Err(Failure::new(FailureKind::Malformed, error.to_string())),
        }
    }

    fn on_message(&mut self, source: PeerId, id: gossipsub::MessageId, message: gossipsub::Message) {
        let statistics = &self.view.statistics;
        count(&statistics.messages_received);
        let pace = self.standings.of(source).send(Instant::now());
        let within = pace == Pace::Within;
        let handle = if within { self.pending.add(id.clone(), source, message.data.len()) } else { None };
        let taken = handle.is_some_and(|handle| {
            let topic = message.topic.into_string();
            self.events.push(Event::Message { handle, topic, source, data: message.data })
        });
        if taken {
            return;
        }
        if let Some(handle) = handle {
            self.pending.take(handle);
        }
        count(if within { &statistics.messages_dropped } else { &statistics.messages_over_budget });
        self.report(&id, &source, Verdict::Ignore);
        if pace == Pace::Flood {
            self.score(source, FLOOD_MESSAGE, "a flood of messages");
        }
    }

    fn judge(&mut self, handle: u64, verdict: Verdict) {
        // A verdict that comes too late has no message any more.
        let Some((id, source)) = self.pending.take(handle) else { return };
        let statistics = &self.view.statistics;
        count(match verdict {
            Verdict::Accept => &statistics.messages_accepted,
            Verdict::Ignore => &statistics.messages_ignored,
            Verdict::Reject => &statistics.messages_rejected,
        });
        self.report(&id, &source, verdict);
        if verdict == Verdict::Reject {
            self.ban_if_deserved(source, "its messages were rejected");
        }
    }

    pub(crate) fn report(&mut self, id: &gossipsub::MessageId, source: &PeerId, verdict: Verdict) {
        let acceptance = MessageAcceptance::from(verdict);
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, source, acceptance);
    }

    // ------------------------------------------------------------ requests

    fn request(&mut self, ticket: u64, peer: PeerId, protocol: Protocol, data: Vec<u8>, time: Duration) {
        let Some(slot) = self.asking.take(peer) else {
            let message = "too many requests are under way: wait for some to be answered";
            self.events.push(Event::Outcome { ticket, result: Err(Failure::new(FailureKind::Busy, message)) });
            return;
        };
        count(&self.view.statistics.requests_sent);
        let (reply, opened) = oneshot::channel();
        // Its syntax was checked with the configuration.
        if let Ok(name) = StreamProtocol::try_from_owned(protocol.name.clone()) {
            self.swarm.behaviour_mut().streams.open(peer, name, reply);
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            let gone = || Failure::new(FailureKind::NotConnected, format!("{peer} was disconnected"));
            let work = async {
                let mut stream = opened.await.map_err(|_| gone())??;
                requests::ask(&mut stream, &data, protocol.response_bytes_max).await
            };
            let result = timeout(time, work).await.unwrap_or_else(|_| {
                Err(Failure::new(FailureKind::Timeout, format!("no answer within {} seconds", time.as_secs_f64())))
            });
            drop(slot);
            events.push(Event::Outcome { ticket, result });
        });
    }

    fn on_request(&mut self, opened: Opened) {
        let Opened { peer, protocol, stream } = opened;
        let statistics = &self.view.statistics;
        count(&statistics.requests_received);
        let spec = self.config.protocols.iter().find(|spec| spec.name == protocol.as_ref());
        let (Some(protocol), Some(slot)) = (spec, self.slots.take(peer)) else {
            // No room even to say so: the stream is reset.
            count(&statistics.requests_refused);
            return;
        };
        if self.standings.of(peer).may_ask(Instant::now()) {
            let asker = Asker { peer, room: self.rooms.of(peer), slot };
            let (open, events, view) = (self.open.clone(), self.events.clone(), self.view.clone());
            tokio::spawn(requests::serve(asker, protocol.clone(), stream, open, events, view));
        } else {
            count(&statistics.requests_refused);
            tokio::spawn(requests::postpone(stream, requests::TOO_MANY, slot));
            self.score(peer, REQUEST_OVER_BUDGET, "more requests than its budget allows");
        }
    }

    // ------------------------------------------------------------ streams

    fn open_stream(&mut self, ticket: u64, peer: PeerId, protocol: &str, time: Duration) {
        let Some(StreamPlaces { spec, own, .. }) = self.streams.get_mut(protocol) else { return };
        let Some(slot) = own.take(peer) else {
            let failure = Failure::new(FailureKind::Busy, "too many streams are open: wait for some to end");
            self.events.push(Event::Outcome { ticket, result: Err(failure) });
            return;
        };
        let (spec, place) = (spec.clone(), Place::new(slot, self.view.clone()));
        let (reply, opened) = oneshot::channel();
        // Its syntax was checked with the configuration.
        if let Ok(name) = StreamProtocol::try_from_owned(spec.name.clone()) {
            self.swarm.behaviour_mut().streams.open(peer, name, reply);
        }
        let (events, view, tickets) = (self.events.clone(), self.view.clone(), self.tickets.clone());
        tokio::spawn(async move {
            let gone = |_| Err(Failure::new(FailureKind::NotConnected, format!("{peer} was disconnected")));
            let stream = timeout(time, async { opened.await.unwrap_or_else(gone) }).await.unwrap_or_else(|_| {
                let message = format!("no stream within {} seconds", time.as_secs_f64());
                Err(Failure::new(FailureKind::Timeout, message))
            });
            match stream {
                Ok(stream) => {
                    count(&view.statistics.streams_opened);
                    let (stream, driver) = byte_streams::new(stream, peer, &spec, events.clone(), tickets);
                    events.push(Event::Stream { ticket: Some(ticket), stream });
                    driver.run(place).await;
                }
                Err(Failure { kind, message }) => {
                    drop(place);
                    let kind = if kind == FailureKind::Timeout { FailureKind::Stalled } else { kind };
                    events.push(Event::Outcome { ticket, result: Err(Failure { kind, message }) });
                }
            }
        });
    }

    fn on_stream(&mut self, opened: Opened) {
        let Some(StreamPlaces { spec, theirs, .. }) = self.streams.get_mut(opened.protocol.as_ref()) else {
            self.on_request(opened);
            return;
        };
        let Opened { peer, stream, .. } = opened;
        let statistics = &self.view.statistics;
        // A stream that is refused is reset.
        let Some(slot) = theirs.take(peer) else {
            count(&statistics.streams_refused);
            return;
        };
        if !self.standings.of(peer).may_ask(Instant::now()) {
            count(&statistics.streams_refused);
            self.score(peer, REQUEST_OVER_BUDGET, "more streams than its budget allows");
            return;
        }
        let (stream, driver) = byte_streams::new(stream, peer, spec, self.events.clone(), self.tickets.clone());
        if self.events.push(Event::Stream { ticket: None, stream }) {
            count(&statistics.streams_accepted);
            tokio::spawn(driver.run(Place::new(slot, self.view.clone())));
        } else {
            count(&statistics.streams_refused);
        }
    }

    // ------------------------------------------------------------ peers

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, num_established, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint, num_established.get() == 1);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                self.on_disconnected(peer_id, cause.map(|cause| cause.to_string()).unwrap_or_default());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(target) = self.dials.remove(&connection_id) {
                    self.on_dial_failed(target, &error);
                }
            }
            SwarmEvent::IncomingConnectionError { .. } => count(&self.view.statistics.connections_refused),
            SwarmEvent::NewListenAddr { address, .. } => {
                self.view.lock().listening.push(address.clone());
                self.events.push(Event::Listening(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.view.lock().listening.retain(|listening| *listening != address);
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_message(propagation_source, message_id, message);
            }
            BehaviourEvent::Streams(opened) => self.on_stream(opened),
            BehaviourEvent::Ping(libp2p_ping::Event { peer, connection, result }) => match result {
                Ok(time) => {
                    if let Some(view) = self.view.lock().peers.get_mut(&peer) {
                        view.round_trip = Some(time);
                    }
                }
                Err(libp2p_ping::Failure::Unsupported) => {}
                Err(_) => {
                    self.swarm.close_connection(connection);
                }
            },
            BehaviourEvent::Identify(libp2p_identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Mdns(libp2p_mdns::Event::Discovered(found)) => {
                for (peer, address) in found.into_iter().take(TOLD_MAX) {
                    if peer != self.own && addresses::check(&address).is_ok() {
                        self.dialer.learn(peer, &address);
                    }
                }
            }
            _ => {}
        }
    }
}
