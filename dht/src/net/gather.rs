//! Fewer and larger reads and writes around TLS.
//!
//! rustls reads 4 KiB at a time, which is five calls of the system for each record, and yamux writes its twelve bytes of
//! header by themselves, which makes a record and a call of the system of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite};

use crate::pool::{Buffer, Pool};

/// Bytes read at a time while many come.
const READ_BYTES: usize = 64 << 10;
/// A read that brings as much as this says that many come.
const MANY_BYTES: usize = 4 << 10;
/// Writes up to this size wait for the next one, or for the flush.
const SMALL_BYTES: usize = 1 << 10;
/// Small writes that wait are at most this much.
const MAX_WAITING_BYTES: usize = 16 << 10;

/// Below TLS: reads more than is asked for, while much comes. An idle connection has no buffer.
pub(super) struct ReadAhead<C> {
    inner: C,
    /// What was read and not asked for yet: from here to there in the buffer.
    ahead: Option<Buffer>,
    from: usize,
    to: usize,
    many: bool,
}

impl<C> ReadAhead<C> {
    pub(super) fn new(inner: C) -> Self {
        Self {
            inner,
            ahead: None,
            from: 0,
            to: 0,
            many: false,
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ReadAhead<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.from == this.to {
            if !this.many || bytes.len() >= READ_BYTES {
                let read = ready!(Pin::new(&mut this.inner).poll_read(cx, bytes))?;
                this.many = read >= MANY_BYTES;
                return Poll::Ready(Ok(read));
            }
            // Connections that rest do not keep the pool alive.
            let ahead = this
                .ahead
                .get_or_insert_with(|| Pool::shared().take(READ_BYTES));
            let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, ahead) else {
                this.ahead = None;
                return Poll::Pending;
            };
            (this.from, this.to) = (0, read?);
            this.many = this.to >= MANY_BYTES;
        }
        let Some(ahead) = &this.ahead else {
            return Poll::Ready(Ok(0));
        };
        let read = bytes.len().min(this.to - this.from);
        bytes[..read].copy_from_slice(&ahead[this.from..this.from + read]);
        this.from += read;
        if this.from == this.to && !this.many {
            this.ahead = None;
        }
        Poll::Ready(Ok(read))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ReadAhead<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Above TLS: small writes leave together with the next large one, or when they are flushed.
pub(super) struct Gather<S> {
    inner: S,
    waiting: Vec<u8>,
}

impl<S> Gather<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            waiting: Vec::new(),
        }
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Writes what waits.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, bytes)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if bytes.len() <= SMALL_BYTES {
            if this.waiting.len() + bytes.len() > MAX_WAITING_BYTES {
                ready!(this.poll_waiting(cx))?;
            }
            this.waiting.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let parts = [IoSlice::new(&this.waiting), IoSlice::new(bytes)];
            let inner = Pin::new(&mut this.inner);
            let written = match this.waiting.is_empty() {
                true => ready!(inner.poll_write(cx, bytes))?,
                false => ready!(inner.poll_write_vectored(cx, &parts))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let waited = written.min(this.waiting.len());
            this.waiting.drain(..waited);
            if written > waited {
                return Poll::Ready(Ok(written - waited));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A stream that notes how it is used.
    #[derive(Default)]
    struct Noted {
        there: Vec<u8>,
        reads: Vec<usize>,
        writes: Vec<Vec<u8>>,
        /// The most it takes in one write; 0: all.
        takes: usize,
    }

    impl AsyncRead for Noted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.reads.push(bytes.len());
            let read = bytes.len().min(self.there.len());
            bytes[..read].copy_from_slice(&self.there[..read]);
            self.there.drain(..read);
            Poll::Ready(Ok(read))
        }
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            if self.takes > 0 {
                all.truncate(self.takes);
            }
            let written = all.len();
            self.writes.push(all);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn much_is_read_in_few_calls_and_an_idle_connection_keeps_nothing() {
        let there: Vec<u8> = (0..300_000).map(|n| (n % 251) as u8).collect();
        let mut stream = ReadAhead::new(Noted {
            there: there.clone(),
            ..Noted::default()
        });
        let mut got = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let read = stream.read(&mut bytes).await.unwrap();
            if read == 0 {
                break;
            }
            got.extend_from_slice(&bytes[..read]);
        }
        assert_eq!(got, there);
        assert!(stream.inner.reads.len() < 10, "{:?}", stream.inner.reads);
        assert!(stream.ahead.is_none());
        // A few bytes need no buffer.
        stream.inner.there = vec![1; 100];
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 100);
        assert!(stream.ahead.is_none());
    }

    #[tokio::test]
    async fn a_header_leaves_with_its_body_and_small_writes_with_the_flush() {
        let mut stream = Gather::new(Noted::default());
        let body = vec![7; 60_000];
        stream.write_all(&[1; 12]).await.unwrap();
        stream.write_all(&body).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.inner.writes.len(), 1);
        assert_eq!(stream.inner.writes[0], [&[1; 12][..], &body].concat());
        stream.write_all(&[2; 12]).await.unwrap();
        stream.write_all(&[3; 12]).await.unwrap();
        assert_eq!(stream.inner.writes.len(), 1);
        stream.flush().await.unwrap();
        assert_eq!(stream.inner.writes[1], [[2; 12], [3; 12]].concat());
        stream.write_all(&[4; 12]).await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(stream.inner.writes[2], [4; 12]);
    }

    #[tokio::test]
    async fn every_byte_leaves_once_and_in_order_however_few_are_taken() {
        for takes in [1, 5, 12, 13, 1000, 5000] {
            let mut stream = Gather::new(Noted {
                takes,
                ..Noted::default()
            });
            let mut sent = Vec::new();
            for len in [12, 3000, 12, 12, 1024, 1025, 7, 2000, 1] {
                let bytes: Vec<u8> = (sent.len()..sent.len() + len)
                    .map(|n| (n % 251) as u8)
                    .collect();
                stream.write_all(&bytes).await.unwrap();
                sent.extend(bytes);
            }
            stream.flush().await.unwrap();
            assert_eq!(stream.inner.writes.concat(), sent);
        }
        // Nor do small writes wait without bound.
        let mut stream = Gather::new(Noted::default());
        for _ in 0..100 {
            stream.write_all(&[5; 1000]).await.unwrap();
            assert!(stream.waiting.len() <= MAX_WAITING_BYTES);
        }
    }
}
