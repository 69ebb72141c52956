//! What a network is started with. Python writes it as JSON; every number here bounds what a peer can take.

use std::collections::HashSet;

use libp2p_core::Multiaddr;
use libp2p_swarm::StreamProtocol;
use serde::Deserialize;

use crate::addresses;

/// A configuration that cannot be used; the message says which value and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(pub String);

/// A topic of gossip.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub name: String,
    /// The longest message.
    pub bytes_max: usize,
    /// What its first deliveries and its invalid messages count, beside other topics.
    pub weight: f64,
}

/// A protocol of requests and answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    pub name: String,
    pub request_bytes_max: usize,
    pub response_bytes_max: usize,
    /// From the opened stream to the last byte of the answer, at both ends.
    pub timeout_seconds: f64,
}

/// A protocol of streams of bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    pub name: String,
    /// A stream on which nothing moves for this long is reset.
    pub idle_seconds: f64,
    /// How many one peer may have opened, and how many this node may have opened to one peer.
    pub streams_per_peer: usize,
    /// Bytes that have come and wait to be read, of each stream; and as many that wait to be sent.
    pub buffer_bytes: usize,
}

/// A token bucket: so many in a second, so many at once.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    pub per_second: f64,
    pub burst: f64,
}

/// How much peers may take, together and each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub connections: u32,
    pub connections_per_ip: usize,
    /// Connections in the middle of their handshake, each way.
    pub pending_connections: u32,
    /// Streams that one connection has open at a time.
    pub streams_per_connection: usize,
    /// Bytes taken from one connection.
    pub connection_bytes: Budget,
    /// Messages of one peer that nobody had sent before.
    pub peer_messages: Budget,
    /// Requests of one peer, and streams that it opens.
    pub peer_requests: Budget,
    /// Requests of one peer that are being answered.
    pub peer_requests_open: usize,
    /// Bytes of these requests, and of their answers until the peer has them; at least two of the longest.
    pub peer_request_bytes: usize,
    /// Own requests that are under way.
    pub own_requests_open: usize,
    /// Streams that peers have opened.
    pub streams_open: usize,
    /// Streams that this node has opened, or is opening.
    pub own_streams_open: usize,
    /// Messages that await their verdict.
    pub pending_messages: usize,
    pub pending_message_bytes: usize,
    /// Events that nobody has fetched, besides the answers to own requests.
    pub queued_events: usize,
    /// How long a message may await its verdict.
    pub validation_seconds: f64,
    /// How long connecting may take, with all handshakes.
    pub handshake_seconds: f64,
    /// A peer that does not answer a ping is disconnected after this long.
    pub ping_seconds: f64,
}

/// What a network is started with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which network this is; peers that name another one are let go.
    pub network: String,
    /// What this program calls itself before its peers.
    pub agent: String,
    pub listen: Vec<Multiaddr>,
    /// Where others can reach this node, if that is not where it listens.
    pub external: Vec<Multiaddr>,
    /// Peers to be connected to at all times.
    pub bootstrap: Vec<Multiaddr>,
    pub topics: Vec<Topic>,
    pub protocols: Vec<Protocol>,
    pub streams: Vec<StreamSpec>,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// Known peers are dialled until so many are connected.
    pub peers_wanted: usize,
    /// Shortest and longest wait before a peer is dialled again.
    pub redial_seconds: (f64, f64),
    /// The time between two of gossipsub's rounds of housekeeping.
    pub heartbeat_seconds: f64,
    /// A peer is banned where its score falls to this.
    pub ban_score: f64,
    pub ban_seconds: f64,
    pub threads: usize,
    pub limits: Limits,
}

const NAME_BYTES_MAX: usize = 128;
const TOPICS_MAX: usize = 64;
const PROTOCOLS_MAX: usize = 64;
const STREAMS_PER_PEER_MAX: f64 = 256.0;
const STREAMS_OPEN_MAX: f64 = 65536.0;
const PEER_REQUEST_BYTES_MAX: f64 = (256 << 20) as f64;
const BUFFER_BYTES_MAX: f64 = (16 << 20) as f64;
/// The longest message or answer that any topic or protocol may declare.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

impl Config {
    /// Read and check a configuration.
    pub fn from_json(document: &[u8]) -> Result<Self, InvalidConfig> {
        let config: Self = serde_json::from_slice(document)
            .map_err(|error| InvalidConfig(format!("the network's configuration cannot be read: {error}")))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let wrong = |message: String| Err(InvalidConfig(message));
        for (what, value) in [("network name", &self.network), ("agent", &self.agent)] {
            if value.is_empty() || value.len() > NAME_BYTES_MAX || !value.chars().all(|c| c.is_ascii_graphic()) {
                return wrong(format!("a {what} is 1 to {NAME_BYTES_MAX} printable ASCII characters, not {value:?}"));
            }
        }
        if self.topics.len() > TOPICS_MAX || self.protocols.len() + self.streams.len() > PROTOCOLS_MAX {
            return wrong(format!("at most {TOPICS_MAX} topics and {PROTOCOLS_MAX} protocols"));
        }
        let mut names = HashSet::new();
        for topic in &self.topics {
            check_name("topic", &topic.name, &mut names)?;
            check_size(&topic.name, topic.bytes_max)?;
            check_range(&format!("the weight of {}", topic.name), topic.weight, 0.0, 100.0)?;
        }
        for protocol in &self.protocols {
            check_protocol(&protocol.name, &mut names)?;
            check_size(&protocol.name, protocol.request_bytes_max)?;
            check_size(&protocol.name, protocol.response_bytes_max)?;
            check_range(&format!("the time limit of {}", protocol.name), protocol.timeout_seconds, 0.01, 3600.0)?;
        }
        for stream in &self.streams {
            check_protocol(&stream.name, &mut names)?;
            check_range(&format!("the idle time of {}", stream.name), stream.idle_seconds, 0.01, 3600.0)?;
            let (each, buffer) = (stream.streams_per_peer as f64, stream.buffer_bytes as f64);
            check_range(&format!("the streams of one peer on {}", stream.name), each, 1.0, STREAMS_PER_PEER_MAX)?;
            check_range(&format!("the buffer of {}", stream.name), buffer, 1.0, BUFFER_BYTES_MAX)?;
        }
        // Opened from both ends; the other half of a connection's streams is for gossip and requests.
        let (each, all) = (
            self.streams.iter().map(|stream| stream.streams_per_peer).sum::<usize>(),
            self.limits.streams_per_connection,
        );
        if 4 * each > all {
            return wrong(format!(
                "{each} streams of one peer are too many for a connection of {all}: at most a quarter"
            ));
        }
        for address in self.listen.iter().chain(&self.external).chain(&self.bootstrap) {
            addresses::check(address).map_err(InvalidConfig)?;
        }
        check_range("the shorter wait before a redial", self.redial_seconds.0, 0.01, 3600.0)?;
        check_range("the longer wait before a redial", self.redial_seconds.1, self.redial_seconds.0, 86400.0)?;
        check_range("the heartbeat", self.heartbeat_seconds, 0.05, 10.0)?;
        check_range("the score that bans", self.ban_score, -1e9, -1.0)?;
        check_range("the length of a ban", self.ban_seconds, 0.1, 1e8)?;
        check_range("the number of threads", self.threads as f64, 1.0, 64.0)?;
        check_range("the time for a verdict", self.limits.validation_seconds, 0.01, 60.0)?;
        check_range("the time for a handshake", self.limits.handshake_seconds, 0.1, 60.0)?;
        check_range("the time for a ping", self.limits.ping_seconds, 0.1, 600.0)?;
        let bytes = self.limits.peer_request_bytes as f64;
        check_range("the bytes of a peer's requests", bytes, 1.0, PEER_REQUEST_BYTES_MAX)?;
        check_range("the number of streams", self.limits.streams_per_connection as f64, 8.0, 1024.0)?;
        check_range("the number of peers' streams", self.limits.streams_open as f64, 1.0, STREAMS_OPEN_MAX)?;
        check_range("the number of own streams", self.limits.own_streams_open as f64, 1.0, STREAMS_OPEN_MAX)?;
        for (what, budget) in [
            ("bytes", self.limits.connection_bytes),
            ("messages", self.limits.peer_messages),
            ("requests", self.limits.peer_requests),
        ] {
            check_range(&format!("the budget of {what} per second"), budget.per_second, 0.001, 1e12)?;
            check_range(&format!("the budget of {what} at once"), budget.burst, 1.0, 1e12)?;
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str, names: &mut HashSet<String>) -> Result<(), InvalidConfig> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err(InvalidConfig(format!(
            "a {what}'s name is 1 to {NAME_BYTES_MAX} printable ASCII characters, not {name:?}"
        )));
    }
    if !names.insert(format!("{what} {name}")) {
        return Err(InvalidConfig(format!("there are two {what}s of the name {name:?}")));
    }
    Ok(())
}

fn check_protocol(name: &str, names: &mut HashSet<String>) -> Result<(), InvalidConfig> {
    check_name("protocol", name, names)?;
    if StreamProtocol::try_from_owned(name.to_owned()).is_err() {
        return Err(InvalidConfig(format!("a protocol's name begins with '/', unlike {name:?}")));
    }
    Ok(())
}

fn check_size(name: &str, bytes: usize) -> Result<(), InvalidConfig> {
    if bytes == 0 || bytes > FRAME_BYTES_MAX {
        return Err(InvalidConfig(format!("the sizes of {name:?} are 1 to {FRAME_BYTES_MAX} bytes, not {bytes}")));
    }
    Ok(())
}

fn check_range(what: &str, value: f64, least: f64, most: f64) -> Result<(), InvalidConfig> {
    if value.is_finite() && (least..=most).contains(&value) {
        return Ok(());
    }
    Err(InvalidConfig(format!("{what} is between {least} and {most}, not {value}")))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn limits() -> Limits {
        let budget = Budget { per_second: 100.0, burst: 100.0 };
        Limits {
            connections: 64,
            connections_per_ip: 16,
            pending_connections: 32,
            streams_per_connection: 64,
            connection_bytes: Budget { per_second: 1e7, burst: 1e7 },
            peer_messages: budget,
            peer_requests: budget,
            peer_requests_open: 8,
            peer_request_bytes: 1 << 20,
            own_requests_open: 64,
            streams_open: 64,
            own_streams_open: 64,
            pending_messages: 64,
            pending_message_bytes: 1 << 20,
            queued_events: 64,
            validation_seconds: 3.0,
            handshake_seconds: 10.0,
            ping_seconds: 20.0,
        }
    }

    fn document(change: &[(&str, &str)]) -> Vec<u8> {
        let mut text = r#"{"network": "test", "agent": "noria/0", "listen": ["/ip4/127.0.0.1/tcp/0"], "external": [],
            "bootstrap": [], "topics": [{"name": "blocks", "bytes_max": 10, "weight": 1.0}],
            "protocols": [{"name": "/status", "request_bytes_max": 1, "response_bytes_max": 1, "timeout_seconds": 1.0}],
            "streams": [{"name": "/raw", "idle_seconds": 1.0, "streams_per_peer": 4, "buffer_bytes": 1024}],
            "mdns": false, "peers_wanted": 8, "redial_seconds": [0.5, 60.0], "heartbeat_seconds": 0.7,
            "ban_score": -200.0, "ban_seconds": 3600.0, "threads": 1, "limits": {"connections": 64,
            "connections_per_ip": 16, "pending_connections": 32, "streams_per_connection": 64,
            "connection_bytes": {"per_second": 1e6, "burst": 1e6}, "peer_messages": {"per_second": 1e3, "burst": 1e3},
            "peer_requests": {"per_second": 1e2, "burst": 1e2}, "peer_requests_open": 8,
            "peer_request_bytes": 1048576, "own_requests_open": 64,
            "streams_open": 64, "own_streams_open": 64, "pending_messages": 64, "pending_message_bytes": 1048576,
            "queued_events": 64, "validation_seconds": 3.0, "handshake_seconds": 10.0, "ping_seconds": 20.0}}"#
            .to_owned();
        for (old, new) in change {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        text.into_bytes()
    }

    #[test]
    fn a_sound_configuration_is_read() {
        let config = Config::from_json(&document(&[])).unwrap();
        assert_eq!((config.topics.len(), config.protocols.len(), config.streams.len()), (1, 1, 1));
        assert_eq!(config.limits.connections, 64);
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        for (old, new, said) in [
            ("\"test\"", "\"te st\"", "network name"),
            ("\"mdns\": false", "\"mdns\": 7", "cannot be read"),
            ("\"mdns\": false", "\"mdns\": false, \"quic\": 1", "unknown field `quic`"),
            ("\"blocks\"", "\"\"", "topic's name"),
            ("\"bytes_max\": 10", "\"bytes_max\": 0", "sizes of \"blocks\""),
            ("\"/status\"", "\"status\"", "begins with '/'"),
            ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0", "unlike /ip4/127.0.0.1/udp/0"),
            ("\"ban_score\": -200.0", "\"ban_score\": 0.0", "score that bans"),
            ("\"peer_messages\": {\"per_second\": 1e3", "\"peer_messages\": {\"per_second\": 0", "messages per second"),
            ("[0.5, 60.0]", "[0.5, 0.1]", "longer wait"),
            ("\"/raw\"", "\"raw\"", "begins with '/'"),
            ("\"/raw\"", "\"/status\"", "two protocols"),
            ("\"idle_seconds\": 1.0", "\"idle_seconds\": 0.0", "idle time of /raw"),
            ("\"streams_per_peer\": 4", "\"streams_per_peer\": 0", "streams of one peer on /raw"),
            ("\"streams_per_peer\": 4", "\"streams_per_peer\": -1", "cannot be read"),
            ("\"streams_per_peer\": 4", "\"streams_per_peer\": 17", "at most a quarter"),
            ("\"buffer_bytes\": 1024", "\"buffer_bytes\": 0", "buffer of /raw"),
            ("\"buffer_bytes\": 1024", "\"buffer_bytes\": 1e9", "cannot be read"),
            ("\"buffer_bytes\": 1024", "\"buffer_bytes\": 1073741824", "buffer of /raw"),
            ("\"streams_open\": 64, \"own", "\"streams_open\": 0, \"own", "peers' streams"),
            ("\"peer_request_bytes\": 1048576", "\"peer_request_bytes\": 0", "bytes of a peer's requests"),
            ("\"peer_request_bytes\": 1048576", "\"peer_request_bytes\": 1073741824", "bytes of a peer's requests"),
            ("\"own_streams_open\": 64", "\"own_streams_open\": 0", "own streams"),
        ] {
            let error = Config::from_json(&document(&[(old, new)])).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn no_two_topics_share_a_name() {
        let topic = r#"{"name": "blocks", "bytes_max": 10, "weight": 1.0}"#;
        let error = Config::from_json(&document(&[(topic, &format!("{topic}, {topic}"))])).unwrap_err();
        assert!(error.to_string().contains("two topics"), "{error}");
    }
}
