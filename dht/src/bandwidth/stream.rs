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
use super::places::Place;

/// This many bytes of a stream go without waiting, and as many again after each wait: questions of the DHT, their answers, and
/// what the exchange says beside chunks stay quick. They are a debt that the others wait for, as long as that is small
/// (see [`Bucket::loan_bytes`](super::bucket::Bucket::loan_bytes)).
const UNWAITED_BYTES: usize = 2 << 10;

/// A stream of a connection, of either transport. Reads and writes wait for their turn before they are made: how much there is
/// to read nobody knows, and a turn for which nothing is there is given back. Flushing and closing never wait.
pub(crate) struct Substream<S> {
    inner: S,
    link: Arc<Link>,
    up: Flow,
    down: Flow,
    _place: Option<Place>,
}

impl<S> Substream<S> {
    /// A stream, with its place if the other side opened it.
    pub(super) fn new(inner: S, link: Arc<Link>, place: Option<Place>) -> Self {
        let (up, down) = (Flow::new(&link.line.up), Flow::new(&link.line.down));
        Self {
            inner,
            link,
            up,
            down,
            _place: place,
        }
    }

    /// How many of these bytes may be written now.
    fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        match self.link.is_limited(&self.up.limiter) {
            true => self.up.poll_write_room(cx, len),
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
        let is_limited = this.link.is_limited(&this.down.limiter);
        let mut room = bytes.len();
        if is_limited {
            room = ready!(this.down.poll_read_room(cx, room));
        }
        let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, &mut bytes[..room]) else {
            this.down.leave_turn();
            return Poll::Pending;
        };
        let read = read?;
        this.link.count_down(read);
        if is_limited {
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

    /// How many of these bytes may be written now: all of few, else what has been reserved and waited for.
    fn poll_write_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        ready!(self.poll_turn(cx));
        if self.credit == 0 {
            if len <= self.unwaited_room() {
                return Poll::Ready(len);
            }
            self.queue(len);
            ready!(self.poll_turn(cx));
        }
        Poll::Ready(len.min(self.credit))
    }

    /// How many bytes may be read now into a buffer of this length.
    fn poll_read_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<usize> {
        ready!(self.poll_turn(cx));
        if self.credit == 0 && len > 0 {
            let unwaited = self.unwaited_room();
            if unwaited > 0 {
                return Poll::Ready(len.min(unwaited));
            }
            // Readers of small buffers come back at once.
            self.queue(len.max(UNWAITED_BYTES));
            ready!(self.poll_turn(cx));
        }
        Poll::Ready(len.min(self.credit))
    }

    /// How many bytes may go without waiting.
    fn unwaited_room(&self) -> usize {
        let room = UNWAITED_BYTES.saturating_sub(self.unwaited);
        if room == 0 {
            return 0;
        }
        room.min(self.limiter.loan_bytes())
    }

    /// Reserves this many bytes, or the most that is reserved at a time.
    fn queue(&mut self, bytes: usize) {
        let bytes = bytes.min(self.limiter.quantum_bytes());
        self.turn = Some(Waiting {
            ticket: self.limiter.queue(bytes),
            bytes,
            wait: None,
        });
    }

    /// Bytes have gone: such as had waited, or a debt.
    fn went(&mut self, bytes: usize) {
        let paid = bytes.min(self.credit);
        self.credit -= paid;
        if bytes > paid {
            self.unwaited += bytes - paid;
            self.limiter.owe(bytes - paid);
        }
    }

    /// Bytes have come. Where more come than had waited, that is no question of a few bytes: the next wait, too.
    fn came(&mut self, bytes: usize) {
        let had_waited = self.credit > 0;
        self.went(bytes);
        if had_waited && self.credit == 0 {
            self.unwaited = UNWAITED_BYTES;
        }
    }

    /// Nothing is there to be read: others may have the turn.
    fn leave_turn(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && self.credit > 0
        {
            self.limiter.give_back(ticket, self.credit);
            self.credit = 0;
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
                    let bytes = waiting.bytes;
                    self.queue(bytes);
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

impl Drop for Flow {
    /// What was reserved and has not gone is there for others.
    fn drop(&mut self) {
        if let Some(waiting) = &self.turn {
            self.limiter.cancel(waiting.ticket);
        }
        self.leave_turn();
    }
}
