//! Everything that a connection does, in one behaviour.

use std::io;
use std::time::Duration;

use libp2p_allow_block_list::BlockedPeers;
use libp2p_connection_limits::ConnectionLimits;
use libp2p_identity::Keypair;
use libp2p_swarm::NetworkBehaviour;
use libp2p_swarm::behaviour::toggle::Toggle;

use crate::config::Config;
use crate::gossip::{self, KnownTopics};
use crate::streams::Served;
use crate::{gate, streams};

/// Both ends may dial at once: with one connection each, both would close the other's.
const CONNECTIONS_PER_PEER: u32 = 2;

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub struct Behaviour {
    // Those who turn connections away come first.
    pub bans: libp2p_allow_block_list::Behaviour<BlockedPeers>,
    pub gate: gate::Behaviour,
    pub limits: libp2p_connection_limits::Behaviour,
    pub ping: libp2p_ping::Behaviour,
    pub identify: libp2p_identify::Behaviour,
    pub mdns: Toggle<libp2p_mdns::tokio::Behaviour>,
    pub gossip: gossip::Behaviour,
    pub streams: streams::Behaviour,
}

impl Behaviour {
    pub fn new(config: &Config, keypair: &Keypair, topics: KnownTopics, served: Served) -> io::Result<Self> {
        let limits = ConnectionLimits::default()
            .with_max_established(Some(config.limits.connections))
            // Room for peers that this node has chosen itself: those who dial it may all be one and the same.
            .with_max_established_incoming(Some(config.limits.connections.div_ceil(4) * 3))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
            .with_max_pending_incoming(Some(config.limits.pending_connections))
            .with_max_pending_outgoing(Some(config.limits.pending_connections));
        let identify = libp2p_identify::Config::new(config.network.clone(), keypair.public())
            .with_agent_version(config.agent.clone())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let ping_time = Duration::from_secs_f64(config.limits.ping_seconds / 2.0);
        let mdns = if config.mdns {
            let peer = keypair.public().to_peer_id();
            Some(libp2p_mdns::tokio::Behaviour::new(libp2p_mdns::Config::default(), peer)?)
        } else {
            None
        };
        Ok(Self {
            bans: libp2p_allow_block_list::Behaviour::default(),
            gate: gate::Behaviour::new(config.limits.connections_per_ip),
            limits: libp2p_connection_limits::Behaviour::new(limits),
            ping: libp2p_ping::Behaviour::new(
                libp2p_ping::Config::new().with_interval(ping_time).with_timeout(ping_time),
            ),
            identify: libp2p_identify::Behaviour::new(identify),
            mdns: mdns.into(),
            gossip: gossip::build(config, topics).map_err(io::Error::other)?,
            streams: streams::Behaviour::new(served),
        })
    }
}
