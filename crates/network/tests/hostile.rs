//! Peers that shake hands properly and then speak every protocol wrongly: the node stays up, within its memory, and
//! goes on serving others.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, future};
use libp2p_core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p_core::transport::{DialOpts, PortUse, upgrade::Version};
use libp2p_core::{Endpoint, Multiaddr, Transport};
use libp2p_identity::Keypair;
use noria_network::{ByteStream, Config, Event, EventQueue, Network};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Memory is measured of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const PATIENCE: Duration = Duration::from_secs(20);
const ECHO: &str = "/test/echo/1";
const RAW: &str = "/test/raw/1";
/// Its buffer, as it is configured.
const BUFFER: usize = 65536;
const GRANT: u32 = 1 << 31;
const MEBIBYTE: usize = 1 << 20;

fn start(seed: u8) -> Network {
    let document = r#"{"network": "test", "agent": "noria/0", "listen": ["/ip4/127.0.0.1/tcp/0"], "external": [],
        "bootstrap": [], "topics": [{"name": "blocks", "bytes_max": 1048576, "weight": 1.0}],
        "protocols": [{"name": "/test/echo/1", "request_bytes_max": 65536, "response_bytes_max": 1048576,
        "timeout_seconds": 20.0}], "streams": [{"name": "/test/raw/1", "idle_seconds": 30.0, "streams_per_peer": 4,
        "buffer_bytes": 65536}], "mdns": false, "peers_wanted": 8, "redial_seconds": [0.5, 60.0],
        "heartbeat_seconds": 0.2, "ban_score": -200.0, "ban_seconds": 3600.0, "threads": 1, "limits": {"connections": 64,
        "connections_per_ip": 32, "pending_connections": 32, "streams_per_connection": 64,
        "connection_bytes": {"per_second": 1e9, "burst": 1e9}, "peer_messages": {"per_second": 1e6, "burst": 1e6},
        "peer_requests": {"per_second": 1e2, "burst": 1e2}, "peer_requests_open": 8, "peer_request_bytes": 3145828, "own_requests_open": 64,
        "streams_open": 6, "own_streams_open": 64, "pending_messages": 64, "pending_message_bytes": 4194304,
        "queued_events": 64, "validation_seconds": 3.0, "handshake_seconds": 60.0, "ping_seconds": 20.0}}"#;
    let config = Config::from_json(document.as_bytes()).unwrap();
    // Starting waits, which a task must not.
    let network = std::thread::spawn(move || Network::start(&[seed; 32], config).unwrap()).join().unwrap();
    network.subscribe("blocks", true).unwrap();
    network.serve(&[ECHO.to_owned()], &[RAW.to_owned()]).unwrap();
    network
}

/// A connection of a peer that does as it likes.
struct Attacker {
    streams: mpsc::Receiver<SubstreamBox>,
    driver: JoinHandle<()>,
}

impl Attacker {
    async fn connect(victim: &Network) -> io::Result<Self> {
        let keypair = Keypair::generate_ed25519();
        let mut transport = libp2p_tcp::tokio::Transport::new(libp2p_tcp::Config::default().nodelay(true))
            .upgrade(Version::V1Lazy)
            .authenticate(libp2p_noise::Config::new(&keypair).unwrap())
            .multiplex(libp2p_yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let address: Multiaddr = victim.listening()[0].clone();
        let (_, muxer) = transport.dial(address, options).map_err(io::Error::other)?.await?;
        let (sender, streams) = mpsc::channel(1);
        Ok(Self { streams, driver: tokio::spawn(drive(muxer, sender)) })
    }

    /// A stream on which the protocol has been agreed, or, without one, nothing yet.
    async fn stream(&mut self, protocol: Option<&'static str>) -> io::Result<Box<dyn AsyncStream>> {
        let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
        let stream = timeout(PATIENCE, self.streams.recv()).await.map_err(io::Error::other)?.ok_or_else(gone)?;
        let Some(protocol) = protocol else { return Ok(Box::new(stream)) };
        let agreed = multistream_select::dialer_select_proto(stream, [protocol], multistream_select::Version::V1);
        let (_, stream) = timeout(PATIENCE, agreed).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Box::new(stream))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

trait AsyncStream: futures::AsyncRead + futures::AsyncWrite + Unpin + Send {}
impl<T: futures::AsyncRead + futures::AsyncWrite + Unpin + Send> AsyncStream for T {}

/// Open streams as they are taken, and hold those that the victim opens without a word: it would give up gossip with a
/// peer that does not speak it.
async fn drive(mut muxer: StreamMuxerBox, sender: mpsc::Sender<SubstreamBox>) {
    let (mut opened, mut held) = (None, Vec::new());
    future::poll_fn(|cx| {
        loop {
            if muxer.poll_unpin(cx).is_ready() {
                return Poll::Ready(());
            }
            while let Poll::Ready(inbound) = muxer.poll_inbound_unpin(cx) {
                match inbound {
                    Ok(stream) => held.push(stream),
                    Err(_) => return Poll::Ready(()),
                }
            }
            if opened.is_none() {
                match muxer.poll_outbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => opened = Some(stream),
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match sender.try_reserve() {
                Ok(place) => place.send(opened.take().unwrap()),
                Err(mpsc::error::TrySendError::Closed(())) => return Poll::Ready(()),
                Err(mpsc::error::TrySendError::Full(())) => {
                    // Looked at again when the connection stirs, or after a moment.
                    let waker = cx.waker().clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        waker.wake();
                    });
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
}

/// Numbers that look random and are the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(number: u64, contents: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(contents.len() as u64), contents.to_vec()].concat()
}

/// A packet of gossip with one message.
fn packet(topic: &str, data: &[u8]) -> Vec<u8> {
    let message = field(2, &[field(2, data), field(4, topic.as_bytes())].concat());
    [varint(message.len() as u64), message].concat()
}

fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// The next event that this finds something in.
async fn event<T>(events: &EventQueue, mut find: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = events.drain(1).into_iter().find_map(&mut find) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("an event")
}

fn outcome(ticket: u64) -> impl FnMut(Event) -> Option<Vec<u8>> {
    move |event| match event {
        Event::Outcome { ticket: told, result } if told == ticket => Some(result.unwrap()),
        _ => None,
    }
}

/// An honest peer connects, asks, and is answered.
async fn still_serves(victim: &Network, seed: u8) {
    let honest = start(seed);
    let ticket = honest.dial(victim.listening()[0].clone()).unwrap();
    event(honest.events(), outcome(ticket)).await;
    let ticket = honest.request(victim.peer(), ECHO, b"hello".to_vec(), None).unwrap();
    let (handle, data) = event(victim.events(), |event| match event {
        Event::Request { handle, peer, data, .. } if peer == honest.peer() => Some((handle, data)),
        _ => None,
    })
    .await;
    assert!(victim.respond(handle, Ok(data)));
    assert_eq!(event(honest.events(), outcome(ticket)).await, b"hello");
    std::thread::spawn(move || honest.close()).join().unwrap();
}

fn asked(event: Event) -> Option<u64> {
    match event {
        Event::Request { handle, .. } => Some(handle),
        _ => None,
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// What one protocol is sent; every attempt may end with the stream, or the connection, being closed.
async fn abuse(attacker: &mut Attacker, protocol: Option<&'static str>, random: &mut Random) -> io::Result<()> {
    let mut stream = attacker.stream(protocol).await?;
    let size = (random.next() % 5000) as usize;
    let garbage = random.bytes(size);
    let sent = match random.next() % 6 {
        0 => garbage,
        1 => [varint(random.next() >> (random.next() % 64)), garbage].concat(),
        2 => [varint(garbage.len() as u64), garbage].concat(),
        3 => [vec![0xff; 1 + size % 12], garbage].concat(),
        4 => [varint(garbage.len() as u64 + 2), field(2, &garbage)].concat(),
        _ => [vec![0xff, 0xff, 0xff, 0xff], garbage].concat(),
    };
    stream.write_all(&sent).await?;
    stream.flush().await?;
    match random.next() % 3 {
        0 => stream.close().await,
        1 => {
            timeout(Duration::from_millis(20), stream.read(&mut [0; 64])).await.map_or(Ok(()), |read| read.map(|_| ()))
        }
        _ => Ok(()),
    }
}

#[test]
fn nonsense_in_every_protocol_hurts_nobody_else() {
    let _alone = alone();
    let victim = start(1);
    runtime().block_on(async {
        let mut random = Random(7);
        let protocols = [
            None,
            Some("/meshsub/1.1.0"),
            Some("/meshsub/1.2.0"),
            Some("/ipfs/id/1.0.0"),
            Some("/ipfs/id/push/1.0.0"),
            Some("/ipfs/ping/1.0.0"),
            Some(ECHO),
            Some(RAW),
        ];
        let before = memory();
        let mut reached = 0;
        for round in 0..60 {
            let Ok(mut attacker) = Attacker::connect(&victim).await else { continue };
            for _ in 0..8 {
                let protocol = protocols[(random.next() % protocols.len() as u64) as usize];
                reached += usize::from(abuse(&mut attacker, protocol, &mut random).await.is_ok());
            }
            if round % 20 == 19 {
                still_serves(&victim, 2).await;
            }
        }
        assert!(reached > 200, "the attacks did not get through: {reached}");
        let grown = memory().saturating_sub(before);
        assert!(grown < 64 * MEBIBYTE, "{grown} bytes");
    });
    victim.close();
}

#[test]
fn answers_that_nobody_reads_are_held_up_to_a_peers_room() {
    let _alone = alone();
    let victim = start(6);
    runtime().block_on(async {
        let mut attacker = Attacker::connect(&victim).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = attacker.stream(Some(ECHO)).await.unwrap();
            stream.write_all(&[0, 0, 0, 1, 9]).await.unwrap();
            stream.flush().await.unwrap();
            streams.push(stream);
        }
        // None is read to its end, so that none is done; there is room for three.
        let mut handles = Vec::new();
        while handles.len() < 8 {
            handles.push(event(victim.events(), asked).await);
        }
        assert!(handles.into_iter().all(|handle| victim.respond(handle, Ok(vec![7; MEBIBYTE]))));
        let mut answered = Vec::new();
        for mut stream in streams {
            let mut kind = [0];
            timeout(PATIENCE, stream.read_exact(&mut kind)).await.unwrap().unwrap();
            if kind == [0] {
                answered.push(stream);
                continue;
            }
            let mut said = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap().unwrap();
            assert_eq!(kind, [2]);
            assert!(said[4..].starts_with(b"more bytes than your budget allows"), "{said:?}");
        }
        assert_eq!(answered.len(), 3);
        still_serves(&victim, 7).await;
        // What has been read makes room.
        let mut data = Vec::new();
        timeout(PATIENCE, answered[0].read_to_end(&mut data)).await.unwrap().unwrap();
        assert_eq!(data.len(), 4 + MEBIBYTE);
        let mut stream = attacker.stream(Some(ECHO)).await.unwrap();
        stream.write_all(&[0, 0, 0, 1, 9]).await.unwrap();
        stream.flush().await.unwrap();
        let handle = event(victim.events(), asked).await;
        assert!(victim.respond(handle, Ok(vec![7; MEBIBYTE])));
        let mut kind = [1];
        timeout(PATIENCE, stream.read_exact(&mut kind)).await.unwrap().unwrap();
        assert_eq!(kind, [0]);
    });
    victim.close();
}

/// Send packets until so many bytes are through, or the victim has had enough.
async fn flood(attacker: &mut Attacker, bytes: usize, mut next: impl FnMut(usize) -> Vec<u8>) -> usize {
    let mut stream = attacker.stream(Some("/meshsub/1.1.0")).await.unwrap();
    let (mut sent, mut number) = (0, 0);
    while sent < bytes {
        let packet = next(number);
        number += 1;
        match timeout(PATIENCE, stream.write_all(&packet)).await {
            Ok(Ok(())) => sent += packet.len(),
            _ => break,
        }
    }
    let _ = timeout(PATIENCE, stream.flush()).await;
    sent
}

#[test]
fn messages_that_nobody_judges_take_no_more_memory_than_declared() {
    let _alone = alone();
    let victim = start(3);
    runtime().block_on(async {
        let before = memory();
        let mut attacker = Attacker::connect(&victim).await.unwrap();
        let mut data = Random(9).bytes(500_000);
        // Nobody fetches the victim's events: its queue and the messages awaiting a verdict are all there is room for.
        let sent = flood(&mut attacker, 300 * MEBIBYTE, |number| {
            data[..8].copy_from_slice(&(number as u64).to_be_bytes());
            packet("blocks", &data)
        })
        .await;
        assert!(sent >= 300 * MEBIBYTE, "{sent}");
        let grown = memory().saturating_sub(before);
        assert!(grown < 48 * MEBIBYTE, "{grown} bytes");
        victim.events().drain(1000);
        still_serves(&victim, 4).await;
    });
    let dropped = victim.statistics().into_iter().find(|(name, _)| *name == "messages_dropped").unwrap().1;
    assert!(dropped > 400, "{dropped}");
    victim.close();
}

#[test]
fn messages_on_topics_that_nobody_has_take_no_memory_at_all() {
    let _alone = alone();
    let victim = start(5);
    runtime().block_on(async {
        let before = memory();
        let mut attacker = Attacker::connect(&victim).await.unwrap();
        let data = Random(9).bytes(500_000);
        let sent =
            flood(&mut attacker, 200 * MEBIBYTE, |number| packet(&format!("topic {number}"), &data[number..])).await;
        assert!(sent >= 200 * MEBIBYTE, "{sent}");
        let grown = memory().saturating_sub(before);
        assert!(grown < 48 * MEBIBYTE, "{grown} bytes");
        still_serves(&victim, 6).await;
    });
    victim.close();
}

#[test]
fn connections_that_say_nothing_do_not_shut_others_out() {
    let _alone = alone();
    let victim = start(7);
    let address = victim.listening()[0].to_string();
    let port: u16 = address.rsplit('/').next().unwrap().parse().unwrap();
    // Silent before the handshake: they end with its time.
    let silent: Vec<_> = (0..24).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    runtime().block_on(async { still_serves(&victim, 8).await });
    drop(silent);
    victim.close();
}

/// The streams that a peer has opened, as soon as there are so many.
async fn accepted(victim: &Network, count: usize) -> Vec<ByteStream> {
    let mut streams = Vec::new();
    while streams.len() < count {
        let stream = event(victim.events(), |event| match event {
            Event::Stream { ticket: None, stream } => Some(stream),
            _ => None,
        });
        streams.push(stream.await);
    }
    streams
}

fn statistic(network: &Network, name: &str) -> u64 {
    network.statistics().into_iter().find(|(known, _)| *known == name).unwrap().1
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect(what);
}

/// An honest peer opens a stream, and what it says comes back.
async fn still_streams(victim: &Network, seed: u8) {
    let honest = start(seed);
    let ticket = honest.dial(victim.listening()[0].clone()).unwrap();
    event(honest.events(), outcome(ticket)).await;
    let ticket = honest.open_stream(victim.peer(), RAW, None).unwrap();
    let own = event(honest.events(), |event| match event {
        Event::Stream { ticket: Some(told), stream } if told == ticket => Some(stream),
        _ => None,
    })
    .await;
    let theirs = accepted(victim, 1).await.remove(0);
    assert_eq!(theirs.peer, honest.peer());
    for (from, at, network, other) in [(&own, &theirs, &honest, victim), (&theirs, &own, victim, &honest)] {
        event(network.events(), outcome(from.write(b"hello".to_vec()).unwrap())).await;
        event(network.events(), outcome(from.close_write().unwrap())).await;
        assert_eq!(event(other.events(), outcome(at.read().unwrap())).await, b"hello");
        assert_eq!(event(other.events(), outcome(at.read().unwrap())).await, b"");
    }
    std::thread::spawn(move || honest.close()).join().unwrap();
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

#[test]
fn streams_that_nobody_reads_take_no_more_memory_than_declared() {
    let _alone = alone();
    let victim = start(9);
    runtime().block_on(async {
        let before = memory();
        let mut attackers = Vec::new();
        for _ in 0..3 {
            attackers.push(Attacker::connect(&victim).await.unwrap());
        }
        // Four of one peer, six of all.
        let mut streams = Vec::new();
        for attacker in &mut attackers {
            for _ in 0..6 {
                streams.push(attacker.stream(Some(RAW)).await.unwrap());
            }
        }
        eventually("refusals", || statistic(&victim, "streams_refused") == 12).await;
        let held = accepted(&victim, 6).await;
        assert_eq!((statistic(&victim, "streams_accepted"), statistic(&victim, "streams_open")), (6, 6));
        let mut granted = Vec::new();
        for stream in &mut streams {
            let mut word = [0; 4];
            // A stream that was refused ends at once.
            if let Ok(Ok(())) = timeout(PATIENCE, stream.read_exact(&mut word)).await {
                assert_eq!(u32::from_be_bytes(word), GRANT + BUFFER as u32);
                granted.push(stream);
            }
        }
        assert_eq!(granted.len(), 6);
        // All that it may send, byte by byte; and then more, again and again, for which there is no room.
        let crumbs = chunk(b"x").repeat(BUFFER);
        for stream in &mut granted {
            for part in crumbs.chunks(500) {
                timeout(PATIENCE, stream.write_all(part)).await.unwrap().unwrap();
            }
            timeout(PATIENCE, stream.flush()).await.unwrap().unwrap();
        }
        for stream in granted.iter_mut().take(3) {
            let more = chunk(&[7; 100_000]);
            for _ in 0..200 {
                if !matches!(timeout(Duration::from_secs(1), stream.write_all(&more)).await, Ok(Ok(()))) {
                    break;
                }
            }
        }
        let grown = memory().saturating_sub(before);
        assert!(grown < 32 * MEBIBYTE, "{grown} bytes");
        // What came within the bounds is there, also of those that were cut off then.
        for stream in &held {
            assert_eq!(event(victim.events(), outcome(stream.read().unwrap())).await, vec![b'x'; BUFFER]);
        }
        eventually("the end of those cut off", || statistic(&victim, "streams_open") == 3).await;
        drop(attackers);
        eventually("the end of all", || statistic(&victim, "streams_open") == 0).await;
        still_streams(&victim, 10).await;
    });
    victim.close();
}

#[test]
fn a_stream_is_reset_with_its_connection_whoever_closes_it() {
    let _alone = alone();
    let victim = start(11);
    runtime().block_on(async {
        for closes in [true, false] {
            let mut attacker = Attacker::connect(&victim).await.unwrap();
            let _stream = attacker.stream(Some(RAW)).await.unwrap();
            let stream = accepted(&victim, 1).await.remove(0);
            let ticket = stream.read().unwrap();
            if closes {
                victim.disconnect(stream.peer).unwrap();
            } else {
                drop(attacker);
            }
            let failure = event(victim.events(), |event| match event {
                Event::Outcome { ticket: told, result: Err(failure) } if told == ticket => Some(failure),
                _ => None,
            });
            assert_eq!(failure.await.kind.name(), "reset");
            eventually("the place", || statistic(&victim, "streams_open") == 0).await;
        }
    });
    victim.close();
}
