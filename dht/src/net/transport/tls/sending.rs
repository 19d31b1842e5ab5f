//! The sending half: what is written is sealed into one buffer, which leaves in few calls of the system.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use super::handshake::Renew;
use super::invalid;
use super::record::{Key, Kind, MAX_CONTENT_BYTES, OVERHEAD_BYTES, RecordError};
use crate::pool::{Buffer, Pool};

/// What is sealed and has not left: three pieces of the multiplexer's almost.
const SEALED_BYTES: usize = 192 << 10;
/// Writes up to this size wait for the next one, or for the flush: each would be a record of its own.
const SMALL_BYTES: usize = 1 << 10;
/// With at least this many bytes at once, more follows.
const MUCH_BYTES: usize = 32 << 10;
/// After more sendings than these in a row of less than that, none does.
const MAX_LITTLES: u8 = 3;
/// A change of the key, and an alert.
const OWN_BYTES: usize = 64;

const NEW_KEY: [u8; 5] = [24, 0, 0, 1, 0];
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const ALERT_CLOSED: u8 = 0;

/// See the module. A connection at rest has no buffer: one that sent much gives it back when it has sent little a few times,
/// and be it pings.
pub(super) struct Sending {
    key: Key,
    /// Small writes, at most a record.
    waiting: Vec<u8>,
    buffer: Option<Buffer>,
    /// What has not left: from here to there in the buffer.
    from: usize,
    to: usize,
    /// How often in a row little was sent.
    littles: u8,
    /// The other side asked for a new key.
    pub(super) owes_new_key: bool,
    /// The last record is sealed.
    is_over: bool,
}

impl Sending {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            waiting: Vec::new(),
            buffer: None,
            from: 0,
            to: 0,
            littles: MAX_LITTLES,
            owes_new_key: false,
            is_over: false,
        }
    }

    /// Takes bytes, of a large write as many as there is room for.
    pub(super) fn poll_write<C: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut C,
        renew: &mut dyn Renew,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.len() <= SMALL_BYTES {
            if self.waiting.len() + bytes.len() > MAX_CONTENT_BYTES {
                ready!(self.poll_waiting(socket, renew, cx))?;
            }
            self.waiting.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_waiting(socket, renew, cx))?;
        ready!(self.poll_room(socket, cx, MAX_CONTENT_BYTES.min(bytes.len())))?;
        let mut taken = 0;
        for content in bytes.chunks(MAX_CONTENT_BYTES) {
            if !self.has_room(content.len()) {
                break;
            }
            self.seal(renew, Kind::Data, content).map_err(invalid)?;
            taken += content.len();
        }
        Poll::Ready(Ok(taken))
    }

    /// Everything leaves.
    pub(super) fn poll_flush<C: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut C,
        renew: &mut dyn Renew,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(socket, renew, cx))?;
        self.poll_all(socket, cx)
    }

    /// Everything leaves, and a goodbye.
    pub(super) fn poll_close<C: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut C,
        renew: &mut dyn Renew,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(socket, renew, cx))?;
        if !self.is_over {
            ready!(self.poll_room(socket, cx, 2))?;
            self.seal(renew, Kind::Alert, &[WARNING, ALERT_CLOSED])
                .map_err(invalid)?;
            self.is_over = true;
        }
        ready!(self.poll_all(socket, cx))?;
        self.buffer = None;
        Poll::Ready(Ok(()))
    }

    /// Says why nothing more is sent, if there is anything to say and room for it.
    pub(super) fn end(&mut self, alert: Option<u8>, renew: &mut dyn Renew) {
        if let Some(alert) = alert
            && !self.is_over
            && self.has_room(2)
        {
            let _ = self.seal(renew, Kind::Alert, &[FATAL, alert]);
        }
        self.is_over = true;
        self.waiting.clear();
    }

    /// Seals what waits.
    fn poll_waiting<C: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut C,
        renew: &mut dyn Renew,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() || self.is_over {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_room(socket, cx, self.waiting.len()))?;
        let mut waiting = std::mem::take(&mut self.waiting);
        self.seal(renew, Kind::Data, &waiting).map_err(invalid)?;
        waiting.clear();
        self.waiting = waiting;
        Poll::Ready(Ok(()))
    }

    fn seal(
        &mut self,
        renew: &mut dyn Renew,
        kind: Kind,
        content: &[u8],
    ) -> Result<(), RecordError> {
        if !self.is_over && (self.owes_new_key || self.key.is_used_up()) {
            self.put(Kind::Handshake, &NEW_KEY)?;
            let next = renew.sending().map_err(|_| RecordError::Keys)?;
            self.key = Key::new(next)?;
            self.owes_new_key = false;
        }
        self.put(kind, content)
    }

    fn put(&mut self, kind: Kind, content: &[u8]) -> Result<(), RecordError> {
        let buffer = self
            .buffer
            .get_or_insert_with(|| Pool::shared().take(SEALED_BYTES));
        self.to += self.key.seal(kind, content, &mut buffer[self.to..])?;
        Ok(())
    }

    /// Whether a record with `content_bytes` fits, and what may have to go before it.
    fn has_room(&self, content_bytes: usize) -> bool {
        self.to + content_bytes + OVERHEAD_BYTES + OWN_BYTES <= SEALED_BYTES
    }

    fn poll_room<C: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut C,
        cx: &mut Context<'_>,
        content_bytes: usize,
    ) -> Poll<io::Result<()>> {
        match self.has_room(content_bytes) {
            true => Poll::Ready(Ok(())),
            false => self.poll_all(socket, cx),
        }
    }

    /// Writes everything that is sealed.
    pub(super) fn poll_all<C: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.from < self.to
            && let Some(buffer) = &self.buffer
        {
            let rest = &buffer[self.from..self.to];
            let written = ready!(Pin::new(&mut *socket).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.from += written;
        }
        // One that is full again soon is kept: what is left of much is often little.
        self.littles = match self.to {
            MUCH_BYTES.. => 0,
            _ => self.littles.saturating_add(1),
        };
        if self.littles > MAX_LITTLES {
            self.buffer = None;
        }
        (self.from, self.to) = (0, 0);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
impl Sending {
    pub(super) fn is_at_rest(&self) -> bool {
        self.buffer.is_none() && self.waiting.is_empty()
    }

    pub(super) fn use_up_after(&mut self, records: u64) {
        self.key.use_up_after(records);
    }
}
