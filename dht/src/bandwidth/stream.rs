//! A stream that counts its bytes and keeps to the limits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite};

use super::Link;
use super::bucket::Ticket;
use super::limiter::{Limiter, Turn};

/// So many bytes of a stream go without waiting, and as many again after each wait: questions of the DHT, their answers, and
/// what the exchange says beside chunks stay quick. They are a debt that the others wait for.
const UNWAITED_BYTES: usize = 2 << 10;

/// A stream of a connection, of either transport. Writes wait for their turn before they are made, reads
/// afterwards: how much there is to read nobody knows. Flushing and closing never wait.
pub(crate) struct Substream<S> {
    inner: S,
    link: Arc<Link>,
    up: Flow,
    down: Flow,
}

impl<S> Substream<S> {
    pub(super) fn new(inner: S, link: Arc<Link>) -> Self {
        let (up, down) = (Flow::new(&link.line.up), Flow::new(&link.line.down));
        Self {
            inner,
            link,
            up,
            down,
        }
    }

    /// How many of these bytes may be written now.
    fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        match self.link.is_limited(&self.up.limiter) {
            true => self.up.poll_room(cx, len),
            false => Poll::Ready(len),
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.link.count_up(bytes);
        if self.link.is_limited(&self.up.limiter) {
            self.up.went(bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Substream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut room = bytes.len();
        if this.link.is_limited(&this.down.limiter) {
            ready!(this.down.poll_turn(cx));
            room = room.min(this.down.limiter.quantum_bytes());
        }
        let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut bytes[..room]))?;
        this.link.count_down(read);
        if this.link.is_limited(&this.down.limiter) {
            this.down.came(read);
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Substream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let room = ready!(this.poll_room(cx, bytes.len()));
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &bytes[..room]))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.link.is_limited(&this.up.limiter) {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[], |part| part));
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, parts))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// One direction of a stream, at its limiter.
struct Flow {
    limiter: Arc<Limiter>,
    /// Bytes that have waited and not gone, and what they were reserved by.
    credit: usize,
    ticket: Option<Ticket>,
    /// Bytes that have gone without waiting since the last wait.
    unwaited: usize,
    turn: Option<Waiting>,
}

/// A reservation whose turn has yet to come.
struct Waiting {
    ticket: Ticket,
    /// Bytes that may go then; 0 for those that have come already.
    bytes: usize,
    /// Made when there is something to wait for.
    wait: Option<BoxFuture<'static, ()>>,
}

impl Flow {
    fn new(limiter: &Arc<Limiter>) -> Self {
        Self {
            limiter: limiter.clone(),
            credit: 0,
            ticket: None,
            unwaited: 0,
            turn: None,
        }
    }

    /// How many of these bytes may go now: all of few, else what has been reserved and waited for.
    fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        ready!(self.poll_turn(cx));
        if self.credit == 0 {
            if self.unwaited + len <= UNWAITED_BYTES {
                return Poll::Ready(len);
            }
            let bytes = len.min(self.limiter.quantum_bytes());
            let ticket = self.limiter.reserve(bytes);
            self.turn = Some(Waiting::new(ticket, bytes));
            ready!(self.poll_turn(cx));
        }
        Poll::Ready(len.min(self.credit))
    }

    /// Bytes have gone: such as had waited, or a debt.
    fn went(&mut self, bytes: usize) {
        let paid = bytes.min(self.credit);
        self.credit -= paid;
        if bytes > paid {
            self.unwaited += bytes - paid;
            self.limiter.reserve(bytes - paid);
        }
    }

    /// Bytes have come: no more are taken before their time is over, unless they were few.
    fn came(&mut self, bytes: usize) {
        let ticket = self.limiter.reserve(bytes);
        self.unwaited = self.unwaited.saturating_add(bytes);
        if self.unwaited > UNWAITED_BYTES {
            self.turn = Some(Waiting::new(ticket, 0));
        }
    }

    /// Ready when nothing is waited for any more.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(waiting) = &mut self.turn {
            match self.limiter.turn(waiting.ticket) {
                Turn::Now => {
                    self.credit = waiting.bytes;
                    self.ticket = Some(waiting.ticket);
                    self.unwaited = 0;
                    self.turn = None;
                }
                Turn::Void => {
                    let bytes = waiting.bytes.min(self.limiter.quantum_bytes());
                    let ticket = self.limiter.reserve(bytes);
                    self.turn = Some(Waiting::new(ticket, bytes));
                }
                Turn::Later => {
                    let limiter = &self.limiter;
                    let wait = waiting
                        .wait
                        .get_or_insert_with(|| Box::pin(limiter.clone().wait(waiting.ticket)));
                    ready!(wait.as_mut().poll(cx));
                    waiting.wait = None;
                }
            }
        }
        Poll::Ready(())
    }
}

impl Waiting {
    fn new(ticket: Ticket, bytes: usize) -> Self {
        Self {
            ticket,
            bytes,
            wait: None,
        }
    }
}

impl Drop for Flow {
    /// What was reserved and has not gone is there for others.
    fn drop(&mut self) {
        if let Some(waiting) = &self.turn {
            self.limiter.give_back(waiting.ticket, waiting.bytes);
        }
        if let Some(ticket) = self.ticket.filter(|_| self.credit > 0) {
            self.limiter.give_back(ticket, self.credit);
        }
    }
}
