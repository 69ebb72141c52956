//! Streams by protocol name: those that peers open, and those that this node opens to a peer it is connected to.
//!
//! libp2p's own request-response takes one list of protocols, one time limit and one size for all, and reads a
//! request before anybody can say whether the peer may ask. Here a stream is handed over as soon as its protocol is
//! agreed, with the peer's name, and everything else is decided above: it carries a request, or bytes as they come.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite};
use libp2p_core::transport::PortUse;
use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use tokio::sync::{oneshot, watch};

use crate::events::{Failure, FailureKind};

/// Where a stream that was asked for, or the reason why there is none, is sent.
pub type Reply = oneshot::Sender<Result<Substream, Failure>>;

/// A stream that a peer has opened.
#[derive(Debug)]
pub struct Opened {
    pub peer: PeerId,
    pub protocol: StreamProtocol,
    pub stream: Substream,
}

/// A stream that fails when its connection is closed. Yamux wakes no reader where this node itself closes it.
pub struct Substream {
    stream: Stream,
    /// None when it is.
    closed: Option<BoxFuture<'static, ()>>,
}

impl Substream {
    fn new(stream: Stream, mut alive: watch::Receiver<()>) -> Self {
        let closed = async move { while alive.changed().await.is_ok() {} };
        Self { stream, closed: Some(Box::pin(closed)) }
    }
}

impl fmt::Debug for Substream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl AsyncRead for Substream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // What came before the end of the connection is still there to be read.
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            return read;
        }
        if self.closed.as_mut().is_some_and(|closed| closed.as_mut().poll(cx).is_pending()) {
            return Poll::Pending;
        }
        self.closed = None;
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The protocols that peers may open streams for; shared with every connection.
#[derive(Clone, Default)]
pub struct Served(Arc<Mutex<Arc<[StreamProtocol]>>>);

impl Served {
    pub fn get(&self) -> Arc<[StreamProtocol]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Take streams of these protocols from now on, and no others.
    pub fn set(&self, protocols: Vec<StreamProtocol>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = protocols.into();
    }
}

pub struct Behaviour {
    served: Served,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    events: VecDeque<ToSwarm<Opened, Open>>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub fn new(served: Served) -> Self {
        Self { served, connections: HashMap::new(), events: VecDeque::new(), waker: None }
    }

    /// Open a stream to a connected peer.
    pub fn open(&mut self, peer: PeerId, protocol: StreamProtocol, reply: Reply) {
        let Some(connection) = self.connections.get(&peer).and_then(|connections| connections.first()) else {
            let _ = reply.send(Err(Failure::new(FailureKind::NotConnected, format!("{peer} is not connected"))));
            return;
        };
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(*connection),
            event: Open { protocol, reply },
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handler(&self) -> Handler {
        Handler { served: self.served.clone(), events: VecDeque::new(), alive: watch::Sender::new(()) }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Opened;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                self.connections.entry(made.peer_id).or_default().push(made.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(connections) = self.connections.get_mut(&closed.peer_id) {
                    connections.retain(|connection| *connection != closed.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&closed.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        let (protocol, stream) = event;
        self.events.push_back(ToSwarm::GenerateEvent(Opened { peer, protocol, stream }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A stream that is wanted.
#[derive(Debug)]
pub struct Open {
    protocol: StreamProtocol,
    reply: Reply,
}

pub struct Handler {
    served: Served,
    events: VecDeque<ConnectionHandlerEvent<Negotiation, Reply, (StreamProtocol, Substream)>>,
    /// Dropped when the connection is closed.
    alive: watch::Sender<()>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (StreamProtocol, Substream);
    type InboundProtocol = Negotiation;
    type OutboundProtocol = Negotiation;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Negotiation> {
        SubstreamProtocol::new(Negotiation(self.served.get()), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Negotiation, Reply, Self::ToBehaviour>> {
        // Whatever adds to them is followed by a poll.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn on_behaviour_event(&mut self, Open { protocol, reply }: Open) {
        if !reply.is_closed() {
            self.events.push_back(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Negotiation(Arc::new([protocol])), reply),
            });
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Negotiation, Negotiation, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream), ..
            }) => {
                let stream = Substream::new(stream, self.alive.subscribe());
                self.events.push_back(ConnectionHandlerEvent::NotifyBehaviour((protocol, stream)));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: reply,
            }) => {
                let _ = reply.send(Ok(Substream::new(stream, self.alive.subscribe())));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: reply }) => {
                let failure = match error {
                    StreamUpgradeError::Timeout => Failure::new(FailureKind::Timeout, "the peer opens no stream"),
                    StreamUpgradeError::NegotiationFailed => {
                        Failure::new(FailureKind::Unsupported, "the peer does not speak this protocol")
                    }
                    StreamUpgradeError::Io(error) => Failure::new(FailureKind::NotConnected, error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = reply.send(Err(failure));
            }
            _ => {}
        }
    }
}

/// Agreeing on one of these protocols; the stream is then ready.
pub struct Negotiation(Arc<[StreamProtocol]>);

impl UpgradeInfo for Negotiation {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Negotiation {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, protocol: Self::Info) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

impl OutboundUpgrade<Stream> for Negotiation {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, protocol: Self::Info) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}
