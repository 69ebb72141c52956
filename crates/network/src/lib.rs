//! Noria's peers: gossip that is validated before it goes on, requests, streams, and what is known of who is connected.
//!
//! A [`Network`] runs a libp2p swarm on threads of its own. It is driven by its methods, none of which waits, and
//! tells what happened through one bounded [`EventQueue`], which wakes its reader through a file descriptor. What a
//! message means is nobody's business here: topics, protocols, sizes and times are given in the [`Config`].
//!
//! Nothing that a peer sends makes this crate hold more than the configuration allows: bytes are taken from a
//! connection no faster than its budget, messages await their verdict in a bounded table, requests and streams are
//! counted, and peers who go on misbehaving are banned.

pub mod addresses;
mod behaviour;
mod budget;
mod byte_streams;
mod config;
mod dialer;
mod events;
mod gate;
mod gossip;
mod network;
mod peers;
mod requests;
mod service;
mod slots;
mod standing;
mod streams;
mod transport;
mod view;

pub use byte_streams::ByteStream;
pub use config::{Budget, Config, InvalidConfig, Limits, Protocol, StreamSpec, Topic};
pub use events::{Event, EventQueue, Failure, FailureKind, Notice, NoticeKind};
pub use gossip::Verdict;
pub use libp2p_identity::PeerId;
pub use network::{Network, StartError, peer_id};
pub use view::{Ban, PeerView, Statistics};
