//! TCP, Noise and Yamux, each connection read within its budget.

use std::io;
use std::time::Duration;

use libp2p_core::Transport;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{Boxed, upgrade::Version};
use libp2p_identity::{Keypair, PeerId};

use crate::budget::Metered;
use crate::config::Limits;

/// Streams between two peers that know each other's keys.
pub fn build(keypair: &Keypair, limits: &Limits) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let noise = libp2p_noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut yamux = libp2p_yamux::Config::default();
    yamux.set_max_num_streams(limits.streams_per_connection);
    let budget = limits.connection_bytes;
    Ok(libp2p_tcp::tokio::Transport::new(libp2p_tcp::Config::default().nodelay(true))
        .map(move |stream, _| Metered::new(stream, budget))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(Duration::from_secs_f64(limits.handshake_seconds))
        .boxed())
}
