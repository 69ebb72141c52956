//! What a network tells, and the bounded queue in which it waits to be fetched.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::byte_streams::ByteStream;

/// Why something that was asked for did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The peer is not connected, or was disconnected meanwhile.
    NotConnected,
    /// The peer does not speak the protocol.
    Unsupported,
    /// The time is up.
    Timeout,
    /// The peer has said no; the message says why.
    Refused,
    /// The peer has said no for now: its budget for this node is used up.
    OverBudget,
    /// What the peer sent is no answer, or too long.
    Malformed,
    /// Too much is under way already.
    Busy,
    /// The connection could not be made.
    Dial,
    /// The stream is gone: one of the ends has reset it, or the connection is closed.
    Reset,
    /// Nothing moved on the stream for too long, or it was not opened in time.
    Stalled,
    /// This end has said that nothing will follow.
    Ended,
    /// The network has been closed.
    Closed,
}

impl FailureKind {
    /// The stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotConnected => "not-connected",
            Self::Unsupported => "unsupported",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::OverBudget => "over-budget",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Dial => "dial",
            Self::Reset => "reset",
            Self::Stalled => "stalled",
            Self::Ended => "ended",
            Self::Closed => "closed",
        }
    }
}

/// Why something that was asked for did not happen, in a word and in a sentence.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What has happened to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    Connected,
    /// It has said what it runs and speaks.
    Identified,
    Disconnected,
    Banned,
    Unbanned,
}

impl NoticeKind {
    /// The stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Identified => "identified",
            Self::Disconnected => "disconnected",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
        }
    }
}

/// Something that has happened to a peer.
#[derive(Clone, Debug)]
pub struct Notice {
    pub kind: NoticeKind,
    pub peer: PeerId,
    pub address: Option<Multiaddr>,
    /// Why, where there is a reason.
    pub reason: String,
}

/// Something that a network tells.
#[derive(Debug)]
pub enum Event {
    /// A message that awaits its verdict.
    Message {
        handle: u64,
        topic: String,
        source: PeerId,
        data: Vec<u8>,
    },
    /// A request that awaits its answer.
    Request {
        handle: u64,
        protocol: String,
        peer: PeerId,
        data: Vec<u8>,
    },
    /// What came of something that was asked for under this ticket.
    Outcome {
        ticket: u64,
        result: Result<Vec<u8>, Failure>,
    },
    /// A stream that a peer has opened, or that was asked for under this ticket. It is reset when it is dropped.
    Stream {
        ticket: Option<u64>,
        stream: ByteStream,
    },
    Peer(Notice),
    Listening(Multiaddr),
    /// So many notices about peers have been lost, because nobody fetched them.
    Lagged(u64),
}

impl Event {
    fn bytes(&self) -> usize {
        match self {
            Self::Message { data, .. } | Self::Request { data, .. } => data.len(),
            Self::Outcome { result: Ok(data), .. } => data.len(),
            _ => 0,
        }
    }

    /// Whether it was asked for: such events are bounded by what may be asked.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Outcome { .. } | Self::Stream { ticket: Some(_), .. })
    }
}

struct Queued {
    /// What rings and what listens; gone when the queue is closed.
    bell: Option<(UnixStream, UnixStream)>,
    events: VecDeque<Event>,
    /// Of them, those that count against the limit.
    counted: usize,
    bytes: usize,
    lost: u64,
    signalled: bool,
}

/// Events in order, fetched by one reader, who waits for the file descriptor to become readable.
pub struct EventQueue {
    queued: Mutex<Queued>,
    limit: usize,
}

impl EventQueue {
    /// A queue of at most `limit` events besides what was asked for.
    pub fn new(limit: usize) -> io::Result<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let queued = Queued {
            bell: Some((bell, ear)),
            events: VecDeque::new(),
            counted: 0,
            bytes: 0,
            lost: 0,
            signalled: false,
        };
        Ok(Self { queued: Mutex::new(queued), limit })
    }

    /// Readable while there is something to fetch; none when the queue is closed.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.lock().bell.as_ref().map(|(_, ear)| ear.as_raw_fd())
    }

    /// Add an event, or return false where it does not fit. Lost notices about peers are counted and told.
    pub fn push(&self, event: Event) -> bool {
        let mut queued = self.lock();
        if queued.bell.is_none() {
            return false;
        }
        if !event.is_answer() {
            if queued.counted >= self.limit {
                queued.lost += u64::from(matches!(event, Event::Peer(_) | Event::Listening(_)));
                return false;
            }
            queued.counted += 1;
        }
        queued.bytes += event.bytes();
        queued.events.push_back(event);
        ring(&mut queued);
        true
    }

    /// Take at most `limit` events; the descriptor stays readable while more are there.
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        let mut queued = self.lock();
        if let Some((_, ear)) = &mut queued.bell {
            // It rings once at a time, so that one read silences it.
            let _ = ear.read(&mut [0; 16]);
        }
        queued.signalled = false;
        let taken = limit.min(queued.events.len());
        let mut events: Vec<Event> = queued.events.drain(..taken).collect();
        for event in &events {
            queued.counted -= usize::from(!event.is_answer());
            queued.bytes -= event.bytes();
        }
        if queued.lost > 0 && queued.events.is_empty() {
            events.push(Event::Lagged(std::mem::take(&mut queued.lost)));
        }
        if !queued.events.is_empty() {
            ring(&mut queued);
        }
        events
    }

    /// How many events and bytes wait to be fetched.
    pub fn waiting(&self) -> (usize, usize) {
        let queued = self.lock();
        (queued.events.len(), queued.bytes)
    }

    /// Forget what waits, and take nothing more. The descriptor is closed.
    pub fn close(&self) {
        let mut queued = self.lock();
        queued.bell = None;
        queued.events.clear();
        (queued.counted, queued.bytes, queued.lost) = (0, 0, 0);
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ring(queued: &mut Queued) {
    if !queued.signalled
        && let Some((bell, _)) = &mut queued.bell
    {
        queued.signalled = true;
        let _ = bell.write(&[1]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::byte_streams;
    use crate::config::StreamSpec;

    /// Whether the bell has rung; asking silences it, as fetching does.
    fn rung(queue: &EventQueue) -> bool {
        queue.lock().bell.as_mut().is_some_and(|(_, ear)| ear.read(&mut [0; 8]).is_ok_and(|rings| rings == 1))
    }

    fn request(size: usize) -> Event {
        Event::Request { handle: 0, protocol: String::new(), peer: PeerId::random(), data: vec![0; size] }
    }

    fn outcome(ticket: u64) -> Event {
        Event::Outcome { ticket, result: Ok(vec![0; 3]) }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_outcomes_always_fit() {
        let queue = EventQueue::new(2).unwrap();
        assert!(queue.push(request(5)) && queue.push(request(6)));
        assert!(!queue.push(request(7)));
        assert!(queue.push(outcome(1)));
        assert_eq!(queue.waiting(), (3, 14));
        assert_eq!(queue.drain(10).len(), 3);
        assert_eq!(queue.waiting(), (0, 0));
        assert!(queue.push(request(7)));
    }

    #[test]
    fn a_peer_s_stream_counts_and_one_that_was_asked_for_does_not() {
        let queue = Arc::new(EventQueue::new(1).unwrap());
        let spec = StreamSpec { name: "/raw".to_owned(), idle_seconds: 1.0, streams_per_peer: 1, buffer_bytes: 1 };
        let stream = |ticket| {
            let (wire, tickets) = (futures::io::Cursor::new(Vec::<u8>::new()), Arc::default());
            let (stream, _) = byte_streams::new(wire, PeerId::random(), &spec, queue.clone(), tickets);
            Event::Stream { ticket, stream }
        };
        assert!(queue.push(stream(None)));
        assert!(!queue.push(stream(None)));
        assert!(queue.push(stream(Some(1))) && queue.push(stream(Some(2))));
        assert_eq!(queue.drain(9).len(), 3);
        assert!(queue.push(stream(None)));
    }

    #[test]
    fn lost_notices_are_told_after_what_was_kept() {
        let queue = EventQueue::new(1).unwrap();
        let notice = || {
            Event::Peer(Notice {
                kind: NoticeKind::Connected,
                peer: PeerId::random(),
                address: None,
                reason: String::new(),
            })
        };
        assert!(queue.push(notice()));
        assert!(!queue.push(notice()) && !queue.push(notice()) && !queue.push(request(1)));
        let events = queue.drain(10);
        assert!(matches!(events[..], [Event::Peer(_), Event::Lagged(2)]), "{events:?}");
        assert!(queue.drain(10).is_empty());
    }

    #[test]
    fn the_bell_rings_once_and_again_while_something_is_left() {
        let queue = EventQueue::new(9).unwrap();
        assert!(!rung(&queue));
        queue.push(outcome(1));
        queue.push(outcome(2));
        assert!(rung(&queue), "two wait, and it rang once");
        assert_eq!(queue.drain(1).len(), 1);
        assert!(rung(&queue), "one is left");
        assert_eq!(queue.drain(1).len(), 1);
        assert!(!rung(&queue), "none is left");
    }

    #[test]
    fn a_closed_queue_takes_nothing() {
        let queue = EventQueue::new(9).unwrap();
        queue.push(outcome(1));
        queue.close();
        assert!(!queue.push(outcome(2)));
        assert!(queue.drain(9).is_empty());
        assert_eq!(queue.descriptor(), None);
    }
}
