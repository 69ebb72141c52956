//! Where peers can be reached: `/ip4/127.0.0.1/tcp/30400/p2p/12D3Koo…`.

use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;

/// Whether this transport can use an address; the error says what one looks like.
pub fn check(address: &Multiaddr) -> Result<(), String> {
    let mut parts = address.iter();
    let usable = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)))
        && matches!(parts.next(), Some(Protocol::Tcp(_)))
        && matches!(parts.next(), None | Some(Protocol::P2p(_)))
        && parts.next().is_none();
    if usable { Ok(()) } else { Err(format!("an address is like /ip4/127.0.0.1/tcp/30400, unlike {address}")) }
}

/// Read an address.
pub fn parse(text: &str) -> Result<Multiaddr, String> {
    let address = text.parse().map_err(|_| format!("an address is like /ip4/127.0.0.1/tcp/30400, unlike {text:?}"))?;
    check(&address)?;
    Ok(address)
}

/// Read a peer's name.
pub fn parse_peer(text: &str) -> Result<PeerId, String> {
    text.parse()
        .map_err(|_| format!("a peer's name is like 12D3KooW…, unlike {:?}", text.chars().take(80).collect::<String>()))
}

/// The peer that an address names, if it does.
pub fn peer(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The address without the peer's name.
pub fn bare(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// The address with the peer's name.
pub fn with_peer(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    bare(address).with(Protocol::P2p(peer))
}

/// The internet address in it.
pub fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)),
        _ => None,
    }
}

/// The internet address and the port.
pub fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })?;
    Some(SocketAddr::new(ip(address)?, port))
}

/// Whether a peer connected from `seen` may be dialled at `told`, which it says is its own: a real address and port,
/// and a loopback address only where it came over one.
pub fn believable(told: &Multiaddr, seen: &Multiaddr) -> bool {
    let real_port = socket(told).is_some_and(|socket| socket.port() != 0);
    match (ip(told), ip(seen)) {
        (Some(told), Some(seen)) => {
            real_port && !told.is_unspecified() && !told.is_multicast() && (!told.is_loopback() || seen.is_loopback())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_dialled_is_an_address() {
        for good in ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/30400"] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        for bad in
            ["", "127.0.0.1:1", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/dns4/a.example/tcp/1", "/ip4/1/tcp/1"]
        {
            assert!(parse(bad).unwrap_err().contains("unlike"), "{bad}");
        }
    }

    #[test]
    fn a_peer_is_not_believed_that_it_lives_on_our_loopback() {
        let address = |text: &str| parse(text).unwrap();
        assert!(believable(&address("/ip4/10.0.0.2/tcp/9"), &address("/ip4/10.0.0.2/tcp/4000")));
        assert!(believable(&address("/ip4/127.0.0.1/tcp/9"), &address("/ip4/127.0.0.1/tcp/4000")));
        assert!(!believable(&address("/ip4/127.0.0.1/tcp/9"), &address("/ip4/10.0.0.2/tcp/4000")));
        assert!(!believable(&address("/ip4/0.0.0.0/tcp/9"), &address("/ip4/10.0.0.2/tcp/4000")));
        assert!(!believable(&address("/ip4/10.0.0.2/tcp/0"), &address("/ip4/10.0.0.2/tcp/4000")));
    }
}
