//! Two-way streams of bytes for the application.
//!
//! Either end sends words of four bytes, big-endian. A word below 2³¹ says how many bytes follow it; 0 says that none
//! ever will. A word from 2³¹ on grants the other end, less 2³¹, so many bytes more: nothing may be sent that was not
//! granted. A stream that ends without its 0 was reset.
//!
//! Yamux alone would not do. Its reader cannot tell a reset from an end, its writer cannot reset what it has ended, and
//! its windows grow to a gigabyte for a peer that answers pings late, where a byte that comes alone costs sixty. So
//! whatever comes is read at once, into a buffer that the grants keep within its bounds.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p_identity::PeerId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::config::StreamSpec;
use crate::events::{Event, EventQueue, Failure, FailureKind};
use crate::slots::Slot;
use crate::view::{View, count};

/// Words from here on are grants.
const GRANT: u32 = 1 << 31;
/// What is asked and not looked at yet; there is one answer outstanding for each direction.
const OPS_MAX: usize = 4;
/// Memory is taken as bytes arrive, this much at a time, not as a word promises.
const STEP_BYTES: usize = 64 << 10;

/// A stream, as the application holds it. Its methods do not wait; their outcomes come as events. Dropping it resets it.
#[derive(Debug)]
pub struct ByteStream {
    pub peer: PeerId,
    pub protocol: String,
    /// The most that one call of `write` takes.
    pub buffer_bytes: usize,
    ops: mpsc::Sender<Op>,
    over: Arc<OnceLock<Failure>>,
    tickets: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Op {
    ticket: u64,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Read,
    Write(Vec<u8>),
    End,
}

impl ByteStream {
    /// Ask for what comes; the outcome is at least one byte, or none at the end.
    pub fn read(&self) -> Result<u64, Failure> {
        self.ask(Wanted::Read)
    }

    /// Send bytes; the outcome comes when the other end has room for them and they are on their way.
    pub fn write(&self, data: Vec<u8>) -> Result<u64, Failure> {
        if data.len() > self.buffer_bytes {
            let message = format!("at most {} bytes are written at a time, not {}", self.buffer_bytes, data.len());
            return Err(Failure::new(FailureKind::Malformed, message));
        }
        self.ask(Wanted::Write(data))
    }

    /// Say that nothing more will be written.
    pub fn close_write(&self) -> Result<u64, Failure> {
        self.ask(Wanted::End)
    }

    fn ask(&self, wanted: Wanted) -> Result<u64, Failure> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.ops.try_send(Op { ticket, wanted }).map(|()| ticket).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => busy(),
            mpsc::error::TrySendError::Closed(_) => self.over.get().cloned().unwrap_or_else(|| {
                // It was not told why it ends: the whole network has stopped.
                Failure::new(FailureKind::Closed, "the network is closed")
            }),
        })
    }
}

fn busy() -> Failure {
    Failure::new(FailureKind::Busy, "the stream is being read, or written, already")
}

fn reset() -> Failure {
    Failure::new(FailureKind::Reset, "the other end has reset the stream, or the connection is closed")
}

/// A place among the open streams, given back when it is dropped.
pub struct Place(#[allow(dead_code)] Slot, Arc<View>);

impl Place {
    pub fn new(slot: Slot, view: Arc<View>) -> Self {
        count(&view.statistics.streams_open);
        Self(slot, view)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.1.statistics.streams_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What comes from the other end.
struct Incoming {
    reading: Option<u64>,
    word: [u8; 4],
    /// Of the word.
    known: usize,
    /// Bytes that a word has announced and that have not come.
    left: usize,
    buffer: Vec<u8>,
    window: usize,
    /// Bytes that the other end may still announce.
    granted: usize,
    /// The last word has come; and the application knows.
    ended: bool,
    told: bool,
}

impl Incoming {
    /// Bytes that there is room for and that have not been granted yet.
    fn room(&self) -> usize {
        self.window - self.buffer.len() - self.left - self.granted
    }
}

/// What goes to the other end.
struct Outgoing {
    writing: Option<Writing>,
    word: [u8; 4],
    /// Of the word.
    unsent: usize,
    /// Bytes that the word announces and that have not been sent.
    left: usize,
    /// Bytes that the other end takes.
    credit: usize,
    /// The last word is on its way.
    ended: bool,
}

struct Writing {
    ticket: u64,
    data: Vec<u8>,
    sent: usize,
    last: bool,
}

/// A stream, as it is kept going.
pub struct Driver<S> {
    stream: S,
    ops: mpsc::Receiver<Op>,
    events: Arc<EventQueue>,
    over: Arc<OnceLock<Failure>>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Nothing more comes or goes.
    cut: bool,
    idle: Duration,
    moved: Instant,
}

/// Both ends of what is done with a stream: what the application holds, and what keeps it going.
pub fn new<S>(
    stream: S,
    peer: PeerId,
    spec: &StreamSpec,
    events: Arc<EventQueue>,
    tickets: Arc<AtomicU64>,
) -> (ByteStream, Driver<S>) {
    let ((sender, ops), over) = (mpsc::channel(OPS_MAX), Arc::<OnceLock<Failure>>::default());
    let held = ByteStream {
        peer,
        protocol: spec.name.clone(),
        buffer_bytes: spec.buffer_bytes,
        ops: sender,
        over: over.clone(),
        tickets,
    };
    let incoming = Incoming {
        reading: None,
        word: [0; 4],
        known: 0,
        left: 0,
        buffer: Vec::new(),
        window: spec.buffer_bytes,
        granted: 0,
        ended: false,
        told: false,
    };
    let outgoing = Outgoing { writing: None, word: [0; 4], unsent: 0, left: 0, credit: 0, ended: false };
    let driver = Driver {
        stream,
        ops,
        events,
        over,
        incoming,
        outgoing,
        cut: false,
        idle: Duration::from_secs_f64(spec.idle_seconds),
        moved: Instant::now(),
    };
    (held, driver)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Keep the stream going until it is over. It is reset then, which does no harm to what was ended.
    pub async fn run(mut self, place: Place) {
        let mut idle = pin!(sleep(self.idle));
        let failure = poll_fn(|cx| {
            if let Poll::Ready(failure) = self.poll(cx) {
                return Poll::Ready(failure);
            }
            loop {
                ready!(idle.as_mut().poll(cx));
                let until = self.moved + self.idle;
                if until <= Instant::now() {
                    let message = format!("nothing moved on the stream for {} seconds", self.idle.as_secs_f64());
                    return Poll::Ready(Failure::new(FailureKind::Stalled, message));
                }
                idle.as_mut().reset(until);
            }
        })
        .await;
        drop(place);
        let _ = self.over.set(failure.clone());
        self.ops.close();
        let reading = self.incoming.reading.take();
        for ticket in reading.into_iter().chain(self.outgoing.writing.take().map(|writing| writing.ticket)) {
            self.tell(ticket, Err(failure.clone()));
        }
        while let Ok(op) = self.ops.try_recv() {
            self.tell(op.ticket, Err(failure.clone()));
        }
    }

    /// Do whatever can be done; ready when the stream is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            match self.ops.poll_recv(cx) {
                Poll::Ready(Some(op)) => self.begin(op),
                Poll::Ready(None) => {
                    return Poll::Ready(Failure::new(FailureKind::Reset, "this end has let go of the stream"));
                }
                Poll::Pending => break,
            }
        }
        if !self.cut && self.poll_receive(cx).is_ready() {
            self.cut = true;
        }
        self.deliver();
        if !self.cut && matches!(self.poll_send(cx), Poll::Ready(Err(_))) {
            // What the other end said before it left is still there.
            let _ = self.poll_receive(cx);
            self.cut = true;
            self.deliver();
        }
        if self.cut
            && let Some(writing) = self.outgoing.writing.take()
        {
            self.tell(writing.ticket, Err(reset()));
        }
        let (incoming, outgoing) = (&self.incoming, &self.outgoing);
        if incoming.told && outgoing.ended && outgoing.unsent == 0 {
            return Poll::Ready(Failure::new(FailureKind::Ended, "both ends have said all that they had to say"));
        }
        let unread = !incoming.buffer.is_empty() || incoming.ended && !incoming.told;
        if self.cut && !unread { Poll::Ready(reset()) } else { Poll::Pending }
    }

    fn begin(&mut self, Op { ticket, wanted }: Op) {
        let (data, last) = match wanted {
            Wanted::Read if self.incoming.reading.is_none() => {
                self.incoming.reading = Some(ticket);
                return;
            }
            Wanted::Read => return self.tell(ticket, Err(busy())),
            Wanted::Write(data) => (data, false),
            Wanted::End => (Vec::new(), true),
        };
        if self.outgoing.writing.is_some() {
            self.tell(ticket, Err(busy()));
        } else if self.outgoing.ended {
            self.tell(ticket, Err(Failure::new(FailureKind::Ended, "this end has said all that it had to say")));
        } else if data.is_empty() && !last {
            self.tell(ticket, Ok(Vec::new()));
        } else {
            self.outgoing.writing = Some(Writing { ticket, data, sent: 0, last });
        }
    }

    /// Take whatever comes; ready when nothing will.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let (stream, incoming) = (Pin::new(&mut self.stream), &mut self.incoming);
            let (filled, step) = (incoming.buffer.len(), incoming.left.min(STEP_BYTES));
            let into = if step == 0 {
                &mut incoming.word[incoming.known..]
            } else {
                incoming.buffer.resize(filled + step, 0);
                &mut incoming.buffer[filled..]
            };
            let read = stream.poll_read(cx, into);
            let came = if let Poll::Ready(Ok(came)) = &read { *came } else { 0 };
            if step > 0 {
                incoming.buffer.truncate(filled + came);
                incoming.left -= came;
            } else {
                incoming.known += came;
            }
            if let Err(error) = ready!(read) {
                return Poll::Ready(error);
            }
            if came == 0 {
                return Poll::Ready(io::ErrorKind::UnexpectedEof.into());
            }
            if step > 0 {
                self.moved = Instant::now();
            } else if incoming.known == incoming.word.len() {
                incoming.known = 0;
                let word = u32::from_be_bytes(incoming.word);
                if !self.hear(word) {
                    return Poll::Ready(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }

    /// Heed a word; false where it may not be said.
    fn hear(&mut self, word: u32) -> bool {
        if let Some(more) = word.checked_sub(GRANT) {
            self.outgoing.credit += more as usize;
            return more > 0 && self.outgoing.credit < GRANT as usize;
        }
        let (incoming, size) = (&mut self.incoming, word as usize);
        if incoming.ended || size > incoming.granted {
            return false;
        }
        (incoming.granted, incoming.left, incoming.ended) = (incoming.granted - size, size, size == 0);
        true
    }

    /// Give the application what has come, if it waits for it.
    fn deliver(&mut self) {
        let incoming = &mut self.incoming;
        if incoming.buffer.is_empty() && !incoming.ended {
            return;
        }
        if let Some(ticket) = incoming.reading.take() {
            incoming.told = incoming.buffer.is_empty();
            let data = std::mem::take(&mut incoming.buffer);
            self.moved = Instant::now();
            self.tell(ticket, Ok(data));
        }
    }

    /// Send whatever may be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (stream, outgoing) = (Pin::new(&mut self.stream), &mut self.outgoing);
            if outgoing.unsent > 0 {
                let start = outgoing.word.len() - outgoing.unsent;
                outgoing.unsent -= ready!(stream.poll_write(cx, &outgoing.word[start..]))?;
            } else if outgoing.left > 0
                && let Some(writing) = &mut outgoing.writing
            {
                let sent = ready!(stream.poll_write(cx, &writing.data[writing.sent..writing.sent + outgoing.left]))?;
                (outgoing.left, writing.sent) = (outgoing.left - sent, writing.sent + sent);
                self.moved = Instant::now();
            } else {
                self.finish();
                let Some(word) = self.next_word() else { return Pin::new(&mut self.stream).poll_flush(cx) };
                (self.outgoing.word, self.outgoing.unsent) = (word.to_be_bytes(), 4);
            }
        }
    }

    /// Tell the application of what has been sent entirely.
    fn finish(&mut self) {
        let ended = self.outgoing.ended;
        let sent = |writing: &Writing| writing.sent == writing.data.len() && (ended || !writing.last);
        if let Some(writing) = self.outgoing.writing.take_if(|writing| sent(writing)) {
            self.tell(writing.ticket, Ok(Vec::new()));
        }
    }

    fn next_word(&mut self) -> Option<u32> {
        let (incoming, outgoing) = (&mut self.incoming, &mut self.outgoing);
        let room = incoming.room();
        if !incoming.ended && room >= incoming.window.div_ceil(2) {
            incoming.granted += room;
            return Some(GRANT + room as u32);
        }
        let writing = outgoing.writing.as_ref()?;
        if writing.last {
            outgoing.ended = true;
            return Some(0);
        }
        outgoing.left = outgoing.credit.min(writing.data.len() - writing.sent);
        outgoing.credit -= outgoing.left;
        (outgoing.left > 0).then_some(outgoing.left as u32)
    }

    fn tell(&self, ticket: u64, result: Result<Vec<u8>, Failure>) {
        self.events.push(Event::Outcome { ticket, result });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::task::Waker;

    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;
    use crate::slots::Slots;

    const WINDOW: usize = 100;

    /// One direction of a wire that holds few bytes.
    #[derive(Default)]
    struct Half {
        bytes: VecDeque<u8>,
        room: usize,
        closed: bool,
        wakers: Vec<Waker>,
    }

    impl Half {
        fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
            self.wakers.push(cx.waker().clone());
            Poll::Pending
        }

        fn wake(&mut self) {
            self.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// An end of a wire; dropping it cuts both directions.
    struct Wire {
        comes: Arc<Mutex<Half>>,
        goes: Arc<Mutex<Half>>,
    }

    fn wire(room: usize) -> (Wire, Wire) {
        let half = || Arc::new(Mutex::new(Half { room, ..Half::default() }));
        let (one, other) = (half(), half());
        (Wire { comes: one.clone(), goes: other.clone() }, Wire { comes: other, goes: one })
    }

    impl Wire {
        fn say(&self, words: &[u32], bytes: &[u8]) {
            let mut half = self.goes.lock().unwrap();
            half.bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()).chain(bytes.iter().copied()));
            half.wake();
        }

        /// All that has come.
        fn heard(&self) -> Vec<u8> {
            let mut half = self.comes.lock().unwrap();
            half.wake();
            half.bytes.drain(..).collect()
        }
    }

    impl Drop for Wire {
        fn drop(&mut self) {
            for half in [&self.comes, &self.goes] {
                let mut half = half.lock().unwrap();
                half.closed = true;
                half.wake();
            }
        }
    }

    impl AsyncRead for Wire {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            let mut half = self.comes.lock().unwrap();
            if half.bytes.is_empty() && !half.closed {
                return half.wait(cx);
            }
            let count = buffer.len().min(half.bytes.len());
            buffer.iter_mut().zip(half.bytes.drain(..count)).for_each(|(to, from)| *to = from);
            half.wake();
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
            let mut half = self.goes.lock().unwrap();
            if half.closed {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let count = buffer.len().min(half.room.saturating_sub(half.bytes.len()));
            if count == 0 {
                return half.wait(cx);
            }
            half.bytes.extend(&buffer[..count]);
            half.wake();
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A stream as the application holds it, with what it is told.
    struct Held {
        stream: ByteStream,
        events: Arc<EventQueue>,
        view: Arc<View>,
    }

    fn held(wire: Wire, idle_seconds: f64) -> Held {
        let spec = StreamSpec { name: "/test/1".to_owned(), idle_seconds, streams_per_peer: 1, buffer_bytes: WINDOW };
        let (events, view) = (Arc::new(EventQueue::new(1).unwrap()), Arc::<View>::default());
        let (stream, driver) = new(wire, PeerId::random(), &spec, events.clone(), Arc::new(AtomicU64::new(1)));
        let slot = Slots::new(1, Arc::new(Semaphore::new(1))).take(stream.peer).unwrap();
        tokio::spawn(driver.run(Place::new(slot, view.clone())));
        Held { stream, events, view }
    }

    impl Held {
        /// What came of a ticket.
        async fn outcome(&self, ticket: u64) -> Result<Vec<u8>, Failure> {
            loop {
                match self.events.drain(1).pop() {
                    Some(Event::Outcome { ticket: told, result }) if told == ticket => return result,
                    Some(other) => panic!("{other:?}"),
                    None => yield_now().await,
                }
            }
        }

        async fn read(&self) -> Result<Vec<u8>, FailureKind> {
            match self.stream.read() {
                Ok(ticket) => self.outcome(ticket).await.map_err(|failure| failure.kind),
                Err(failure) => Err(failure.kind),
            }
        }

        async fn write(&self, data: &[u8]) -> Result<Vec<u8>, FailureKind> {
            match self.stream.write(data.to_vec()) {
                Ok(ticket) => self.outcome(ticket).await.map_err(|failure| failure.kind),
                Err(failure) => Err(failure.kind),
            }
        }
    }

    fn block<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), work).await.unwrap() })
    }

    /// Let everything go on that can.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    fn grant(bytes: usize) -> u32 {
        GRANT + bytes as u32
    }

    async fn send(from: &Held, data: &[u8], size: usize) {
        for piece in data.chunks(size) {
            from.write(piece).await.unwrap();
        }
        from.outcome(from.stream.close_write().unwrap()).await.unwrap();
    }

    async fn take(at: &Held, size: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            let data = at.read().await.unwrap();
            assert!(data.len() <= WINDOW);
            if data.is_empty() {
                assert_eq!(taken.len(), size);
                return taken;
            }
            taken.extend(data);
        }
    }

    #[test]
    fn what_one_end_says_comes_out_at_the_other_however_it_was_cut() {
        for (room, size) in [(1, 1), (3, 7), (7, 100), (1000, 33), (1000, 100)] {
            block(async {
                let (one, other) = wire(room);
                let (one, other) = (held(one, 30.0), held(other, 30.0));
                let data: Vec<u8> = (0..3000_u32).map(|number| ((number * number) >> 3) as u8).collect();
                let back: Vec<u8> = data.iter().map(|byte| !byte).collect();
                // Both reads and writes of one end under way at once: their outcomes would be mixed up here.
                tokio::join!(send(&one, &data, size), async { assert_eq!(take(&other, data.len()).await, data) });
                tokio::join!(send(&other, &back, size), async { assert_eq!(take(&one, back.len()).await, back) });
                settle().await;
                for end in [&one, &other] {
                    assert_eq!(end.stream.read().unwrap_err().kind, FailureKind::Ended, "it is over");
                    assert_eq!(end.view.statistics.streams_open.load(Ordering::Relaxed), 0);
                }
            });
        }
    }

    #[test]
    fn no_more_is_sent_than_was_granted() {
        block(async {
            let (peer, own) = wire(10_000);
            let stream = held(own, 30.0);
            let writing = stream.stream.write(vec![7; WINDOW]).unwrap();
            settle().await;
            assert_eq!(peer.heard(), grant(WINDOW).to_be_bytes(), "its own buffer is granted, and nothing is sent");
            peer.say(&[grant(30)], b"");
            settle().await;
            assert_eq!(peer.heard(), [&30_u32.to_be_bytes()[..], &[7; 30]].concat());
            assert!(stream.events.drain(1).is_empty());
            peer.say(&[grant(1000)], b"");
            stream.outcome(writing).await.unwrap();
            assert_eq!(peer.heard(), [&70_u32.to_be_bytes()[..], &[7; 70]].concat());
        });
    }

    #[test]
    fn room_is_granted_again_when_the_application_has_read() {
        block(async {
            let (peer, own) = wire(10_000);
            let stream = held(own, 30.0);
            settle().await;
            peer.heard();
            peer.say(&[WINDOW as u32], &[1; WINDOW]);
            settle().await;
            assert!(peer.heard().is_empty(), "the buffer is full");
            assert_eq!(stream.read().await.unwrap(), [1; WINDOW]);
            settle().await;
            assert_eq!(peer.heard(), grant(WINDOW).to_be_bytes());
            peer.say(&[10], &[2; 10]);
            assert_eq!(stream.read().await.unwrap(), [2; 10]);
            settle().await;
            assert!(peer.heard().is_empty(), "not for every byte");
        });
    }

    #[test]
    fn whoever_says_what_may_not_be_said_is_cut_off() {
        let window = WINDOW as u32;
        for words in
            [&[window + 1][..], &[GRANT - 1], &[GRANT], &[u32::MAX, grant(1)], &[grant(5), u32::MAX], &[0, 1], &[0, 0]]
        {
            block(async {
                let (peer, own) = wire(10_000);
                let stream = held(own, 30.0);
                settle().await;
                peer.say(words, &[]);
                while let Ok(data) = stream.read().await {
                    assert_eq!((data.len(), words[0]), (0, 0), "{words:?}: the end was told before");
                }
                assert_eq!(stream.write(b"more").await, Err(FailureKind::Reset), "{words:?}");
                settle().await;
                assert!(peer.comes.lock().unwrap().closed);
            });
        }
    }

    #[test]
    fn an_end_and_a_reset_are_told_apart_and_what_came_before_is_read() {
        for ended in [true, false] {
            block(async {
                let (peer, own) = wire(10_000);
                let stream = held(own, 30.0);
                settle().await;
                peer.say(&[5], b"hello");
                if ended {
                    peer.say(&[0], b"");
                }
                drop(peer);
                settle().await;
                assert_eq!(stream.read().await.unwrap(), b"hello");
                let end = stream.read().await;
                assert_eq!(end, if ended { Ok(Vec::new()) } else { Err(FailureKind::Reset) });
                assert_eq!(stream.write(b"back").await, Err(FailureKind::Reset));
            });
        }
    }

    #[test]
    fn a_reset_wakes_whoever_reads_and_whoever_waits_for_room() {
        block(async {
            let (peer, own) = wire(10_000);
            let stream = held(own, 30.0);
            let tickets = [stream.stream.read().unwrap(), stream.stream.write(vec![7; 50]).unwrap()];
            settle().await;
            drop(peer);
            let mut told = Vec::new();
            while told.len() < 2 {
                told.extend(stream.events.drain(9));
                yield_now().await;
            }
            for event in told {
                let Event::Outcome { ticket, result: Err(failure) } = event else { panic!("{event:?}") };
                assert!(tickets.contains(&ticket) && failure.kind == FailureKind::Reset);
            }
        });
    }

    #[test]
    fn one_end_that_has_said_all_still_hears() {
        block(async {
            let (peer, own) = wire(10_000);
            let stream = held(own, 30.0);
            stream.outcome(stream.stream.close_write().unwrap()).await.unwrap();
            assert_eq!(peer.heard(), [grant(WINDOW).to_be_bytes(), [0; 4]].concat());
            assert_eq!(stream.write(b"late").await, Err(FailureKind::Ended));
            peer.say(&[3], b"yes");
            assert_eq!(stream.read().await.unwrap(), b"yes");
        });
    }

    #[test]
    fn one_read_and_one_write_are_under_way_and_a_write_is_bounded() {
        block(async {
            let (_peer, own) = wire(10_000);
            let stream = held(own, 30.0);
            stream.stream.read().unwrap();
            stream.stream.write(vec![1]).unwrap();
            settle().await;
            assert_eq!(stream.read().await, Err(FailureKind::Busy));
            assert_eq!(stream.write(b"2").await, Err(FailureKind::Busy));
            assert_eq!(stream.write(&[0; WINDOW + 1]).await, Err(FailureKind::Malformed));
            let refused: Vec<bool> = (0..9).map(|_| stream.stream.read().is_err()).collect();
            assert_eq!(refused[OPS_MAX..], [true; 9 - OPS_MAX], "what is asked is bounded");
        });
    }

    #[test]
    fn a_stream_on_which_nothing_moves_is_over() {
        block(async {
            let (peer, own) = wire(10_000);
            let (stream, begun) = (held(own, 0.2), Instant::now());
            tokio::time::sleep(Duration::from_millis(120)).await;
            peer.say(&[1], b"x");
            assert_eq!(stream.read().await.unwrap(), b"x");
            assert_eq!(stream.read().await, Err(FailureKind::Stalled));
            assert!(begun.elapsed() >= Duration::from_millis(310), "{:?}", begun.elapsed());
            assert_eq!(stream.write(b"y").await, Err(FailureKind::Stalled));
            assert!(peer.comes.lock().unwrap().closed);
        });
    }

    #[test]
    fn whoever_lets_go_resets_and_whoever_waits_is_told() {
        block(async {
            let (peer, own) = wire(10_000);
            let Held { stream, events, view } = held(own, 30.0);
            let ticket = stream.read().unwrap();
            settle().await;
            drop(stream);
            settle().await;
            let told = events.drain(9);
            assert!(matches!(&told[..], [Event::Outcome { ticket: told, result: Err(failure) }]
                if *told == ticket && failure.kind == FailureKind::Reset));
            assert!(peer.comes.lock().unwrap().closed);
            assert_eq!(view.statistics.streams_open.load(Ordering::Relaxed), 0);
        });
    }
}
