//! Requests and answers over streams of their own.
//!
//! A request is its length in four bytes, big-endian, and its bytes. An answer is one byte, 0, its length and its
//! bytes; a refusal is 1, or 2 where asking again later helps, the length of a sentence and the sentence. Nothing may
//! follow, and nobody reads on.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_identity::PeerId;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::Protocol;
use crate::events::{Event, EventQueue, Failure, FailureKind};
use crate::slots::{Share, Slot};
use crate::streams::Substream;
use crate::view::{View, count};

const ANSWER: u8 = 0;
const REFUSAL: u8 = 1;
const LATER: u8 = 2;
/// The longest sentence of a refusal.
const REFUSAL_BYTES_MAX: usize = 256;
const NO_ROOM: &str = "more bytes than your budget allows: wait until answers have come";
pub const TOO_MANY: &str = "more requests than your budget allows";
/// How long telling a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// Memory is taken as bytes arrive, this much at a time, not as a length promises.
const STEP_BYTES: usize = 64 << 10;

/// An answer, or the sentence with which a request was refused.
pub type Answer = Result<Vec<u8>, String>;

/// The requests of peers that await their answer.
#[derive(Default)]
pub struct OpenRequests {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl OpenRequests {
    fn add(&self) -> (u64, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(handle, sender);
        (handle, receiver)
    }

    /// Answer a request; false where nobody waits any more.
    pub fn answer(&self, handle: u64, answer: Answer) -> bool {
        self.lock().remove(&handle).is_some_and(|sender| sender.send(answer).is_ok())
    }

    fn forget(&self, handle: u64) {
        self.lock().remove(&handle);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks, and what it may take.
pub struct Asker {
    pub peer: PeerId,
    /// In bytes.
    pub room: Share,
    pub slot: Slot,
}

/// Read a peer's request, have it answered, and send the answer, all within the protocol's time.
pub async fn serve(
    asker: Asker,
    protocol: Protocol,
    mut stream: Substream,
    open: Arc<OpenRequests>,
    events: Arc<EventQueue>,
    view: Arc<View>,
) {
    let Asker { peer, room, slot: _slot } = asker;
    let work = async {
        let length = read_length(&mut stream, protocol.request_bytes_max).await?;
        // Nothing is done for an answer that might find no room.
        let asked = if room.has(protocol.response_bytes_max) { room.take(length) } else { None };
        let Some(asked) = asked else {
            count(&view.statistics.requests_refused);
            return say(&mut stream, LATER, NO_ROOM).await;
        };
        let data = read_body(&mut stream, length).await?;
        let (handle, answered) = open.add();
        let _forget = Forget { open: &open, handle };
        let told = events.push(Event::Request { handle, protocol: protocol.name.clone(), peer, data });
        let answer = match (told, answered) {
            (true, answered) => answered.await.unwrap_or_else(|_| Err("not answered".to_owned())),
            (false, _) => return say(&mut stream, LATER, "busy").await,
        };
        drop(asked);
        match answer {
            Ok(data) if data.len() <= protocol.response_bytes_max => match room.take(data.len()) {
                Some(_sent) => write_frame(&mut stream, Some(ANSWER), &data).await,
                None => {
                    count(&view.statistics.requests_refused);
                    say(&mut stream, LATER, NO_ROOM).await
                }
            },
            Ok(_) => say(&mut stream, REFUSAL, "the answer is too long").await,
            Err(sentence) => say(&mut stream, REFUSAL, &sentence).await,
        }
    };
    // A peer that sends nonsense, or is too slow, has its stream reset: it is dropped here.
    let _ = timeout(Duration::from_secs_f64(protocol.timeout_seconds), work).await;
}

struct Forget<'a> {
    open: &'a OpenRequests,
    handle: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.open.forget(self.handle);
    }
}

/// Tell a peer that its request is not even read, for now.
pub async fn postpone(mut stream: Substream, sentence: &'static str, _slot: Slot) {
    let _ = say(&mut stream, LATER, sentence).await;
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, kind: u8, sentence: &str) -> io::Result<()> {
    timeout(REFUSAL_TIME, write_frame(stream, Some(kind), cut(sentence).as_bytes())).await?
}

/// Ask over a stream and wait for the answer; the caller limits the time.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    data: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, Failure> {
    let (mut answers, mut asks) = stream.split();
    let mut kind = [0];
    let read = answers.read_exact(&mut kind);
    let write = write_frame(&mut asks, None, data);
    // A peer that refuses unread takes no more of a long request, and may reset the stream: what it said is read.
    let (written, read) = match select(pin!(write), pin!(read)).await {
        Either::Left((written, read)) => (written, read.await),
        Either::Right((read, _)) => (Err(io::Error::from(io::ErrorKind::ConnectionReset)), read),
    };
    if let Err(error) = read {
        return Err(broken(written.err().unwrap_or(error)));
    }
    match kind[0] {
        ANSWER => read_frame(&mut answers, bytes_max).await.map_err(broken),
        REFUSAL | LATER => {
            let sentence = read_frame(&mut answers, REFUSAL_BYTES_MAX).await.map_err(broken)?;
            let sentence: String =
                String::from_utf8_lossy(&sentence).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let kind = if kind[0] == LATER { FailureKind::OverBudget } else { FailureKind::Refused };
            Err(Failure::new(kind, sentence))
        }
        other => Err(Failure::new(FailureKind::Malformed, format!("an answer begins with 0, 1 or 2, not {other}"))),
    }
}

fn broken(error: io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => FailureKind::Malformed,
        _ => FailureKind::NotConnected,
    };
    Failure::new(kind, error.to_string())
}

async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S, bytes_max: usize) -> io::Result<Vec<u8>> {
    let length = read_length(stream, bytes_max).await?;
    read_body(stream, length).await
}

async fn read_length<S: AsyncRead + Unpin>(stream: &mut S, bytes_max: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        let message = format!("{length} bytes are announced, and at most {bytes_max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(length)
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, length: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    while data.len() < length {
        let (filled, step) = (data.len(), STEP_BYTES.max(data.len()).min(length - data.len()));
        data.resize(filled + step, 0);
        stream.read_exact(&mut data[filled..]).await?;
    }
    Ok(data)
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, kind: Option<u8>, data: &[u8]) -> io::Result<()> {
    let mut head = Vec::with_capacity(5);
    head.extend(kind);
    head.extend((data.len() as u32).to_be_bytes());
    stream.write_all(&head).await?;
    stream.write_all(data).await?;
    stream.close().await
}

fn cut(sentence: &str) -> &str {
    &sentence[..sentence.floor_char_boundary(REFUSAL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    /// What asking makes of these bytes, sent by a peer.
    fn answered(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        struct Peer(Cursor<Vec<u8>>, Vec<u8>);
        impl AsyncRead for Peer {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<io::Result<usize>> {
                std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
            }
        }
        impl AsyncWrite for Peer {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &[u8],
            ) -> std::task::Poll<io::Result<usize>> {
                std::pin::Pin::new(&mut self.1).poll_write(cx, buffer)
            }
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }
            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }
        }
        block(ask(&mut Peer(Cursor::new(bytes.to_vec()), Vec::new()), b"question", 8))
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        for size in [0, 1, STEP_BYTES, 3 * STEP_BYTES + 1] {
            let data = vec![9; size];
            let mut written = Vec::new();
            block(write_frame(&mut written, None, &data)).unwrap();
            assert_eq!(block(read_frame(&mut Cursor::new(written), size)).unwrap(), data);
        }
    }

    #[test]
    fn a_promised_length_takes_no_memory() {
        let promised = u32::MAX.to_be_bytes();
        let error = block(read_frame(&mut Cursor::new(promised), 100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = block(read_frame(&mut Cursor::new(promised), usize::MAX)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn whatever_a_peer_answers_has_its_name() {
        assert_eq!(answered(b"\0\0\0\0\x03yes").unwrap(), b"yes");
        for (bytes, kind, said) in [
            (&b"\x01\0\0\0\x06bu\nsy!"[..], FailureKind::Refused, "bu sy!"),
            (b"", FailureKind::Malformed, ""),
            (b"\x02\0\0\0\x05later", FailureKind::OverBudget, "later"),
            (b"\x03", FailureKind::Malformed, "not 3"),
            (b"\0\0\0", FailureKind::Malformed, ""),
            (b"\0\0\0\0\x09123456789", FailureKind::Malformed, "at most 8"),
            (b"\0\0\0\0\x08123", FailureKind::Malformed, ""),
            (b"\x01\0\0\xff\xff", FailureKind::Malformed, "at most 256"),
        ] {
            let failure = answered(bytes).unwrap_err();
            assert_eq!(failure.kind, kind, "{bytes:?}");
            assert!(failure.message.contains(said), "{failure:?}");
        }
    }

    #[test]
    fn a_long_sentence_is_cut_between_letters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(200)).len(), REFUSAL_BYTES_MAX);
        assert_eq!(cut(&format!("a{}", "ä".repeat(200))).len(), REFUSAL_BYTES_MAX - 1);
    }
}
