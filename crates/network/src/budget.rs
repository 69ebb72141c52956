//! Token buckets, and a connection that is read no faster than one allows.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Budget;

/// Tokens that come back with time.
#[derive(Clone, Debug)]
pub struct Bucket {
    budget: Budget,
    tokens: f64,
    counted: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(budget: Budget) -> Self {
        Self { budget, tokens: budget.burst, counted: Instant::now() }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.tokens = (self.tokens + passed * self.budget.per_second).min(self.budget.burst);
        self.counted = now;
    }

    /// Take a token if one is there.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// How many whole tokens are there, or when the next ones will be.
    fn available(&mut self, now: Instant) -> Result<usize, Instant> {
        self.refill(now);
        if self.tokens >= 1.0 {
            return Ok(self.tokens as usize);
        }
        // Not for every single byte: a sleep costs more than a hundredth of a second's worth.
        let enough = (self.budget.per_second / 100.0).clamp(1.0, self.budget.burst);
        Err(now + Duration::from_secs_f64((enough - self.tokens) / self.budget.per_second))
    }
}

/// A connection that is read no faster than its budget. What is not read fills the sender's buffers, not ours.
pub struct Metered<S> {
    inner: S,
    bucket: Bucket,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Metered<S> {
    pub fn new(inner: S, budget: Budget) -> Self {
        Self { inner, bucket: Bucket::new(budget), pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if let Some(pause) = &mut this.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match this.bucket.available(Instant::now()) {
                Ok(tokens) => {
                    let most = buffer.len().min(tokens);
                    let read = std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer[..most]))?;
                    this.bucket.tokens -= read as f64;
                    return Poll::Ready(Ok(read));
                }
                Err(until) => this.pause = Some(Box::pin(sleep_until(until))),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt;

    use super::*;

    #[test]
    fn tokens_come_back_and_never_exceed_the_burst() {
        let mut bucket = Bucket::new(Budget { per_second: 10.0, burst: 3.0 });
        let start = bucket.counted;
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(201)));
        assert_eq!((0..9).filter(|_| bucket.take(start + Duration::from_secs(3600))).count(), 3);
    }

    #[test]
    fn a_connection_is_read_no_faster_than_its_budget() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let budget = Budget { per_second: 100_000.0, burst: 2_000.0 };
            let mut source = Metered::new(futures::io::Cursor::new(vec![7; 10_000]), budget);
            let (start, mut taken) = (Instant::now(), Vec::new());
            source.read_to_end(&mut taken).await.unwrap();
            assert_eq!(taken.len(), 10_000);
            assert!(start.elapsed() >= Duration::from_millis(79), "{:?}", start.elapsed());
        });
    }
}
