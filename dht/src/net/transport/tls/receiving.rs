//! The receiving half: records as they come, opened into the reader's own memory where there is room for one.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::AsyncRead;

use super::record::{Key, Kind, MAX_RECORD_BYTES, RecordError, Sealed};
use crate::pool::{Buffer, Pool};

/// Bytes read at a time while many come.
const MANY_BYTES: usize = 128 << 10;
/// The same while few do: a record fits.
const FEW_BYTES: usize = 20 << 10;
/// A read that brings as much says that many come.
const IS_MANY_BYTES: usize = 8 << 10;
/// Where less room is left in a buffer, what it has is moved to its beginning.
const LEAST_ROOM_BYTES: usize = 16 << 10;
/// Changes of the key, and tickets, with no data in between. A peer that sends more keeps this side busy for nothing.
const MAX_MESSAGES: u32 = 32;
/// The largest message that is put together, a ticket.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

const ALERT_CLOSED: u8 = 0;
/// The other side gives up what it was doing, and says goodbye next.
const ALERT_CANCELED: u8 = 90;
const MESSAGE_TICKET: u8 = 4;
const MESSAGE_NEW_KEY: u8 = 24;

/// What the other side said beside data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// It seals with its next key from now on; perhaps this side is to do so, too.
    NewKey {
        is_asked: bool,
    },
}

/// See the module. A connection at rest has no buffer; one at work has one of [`MANY_BYTES`] at most.
pub(super) struct Receiving {
    key: Key,
    /// Records as they came, in `sealed` of it, and what is opened and not read yet in `opened`, which is before that.
    buffer: Option<Buffer>,
    sealed: Range<usize>,
    opened: Range<usize>,
    /// The beginning of a message of TLS' own.
    message: Vec<u8>,
    messages: u32,
    is_many: bool,
    is_over: bool,
    /// What was found after something that is already read.
    failed: Option<RecordError>,
}

impl Receiving {
    /// `ahead` are the records, or the beginning of one, that came along with the end of the handshake.
    pub(super) fn new(key: Key, ahead: &[u8]) -> Self {
        let mut receiving = Self {
            key,
            buffer: None,
            sealed: 0..0,
            opened: 0..0,
            message: Vec::new(),
            messages: 0,
            is_many: false,
            is_over: false,
            failed: None,
        };
        let held = ahead.len();
        if held > 0 {
            let mut buffer = Pool::shared().take(FEW_BYTES.max(held + MAX_RECORD_BYTES));
            buffer[..held].copy_from_slice(ahead);
            receiving.buffer = Some(buffer);
            receiving.sealed = 0..held;
        }
        receiving
    }

    /// The other side said that it sends no more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn renew(&mut self, key: Key) {
        self.key = key;
    }

    /// Fills `bytes` with what is here; nothing more is here when that is less. After [`Heard::NewKey`] the next record needs
    /// another key.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<(usize, Heard), RecordError> {
        let mut read = 0;
        loop {
            read += self.take_opened(&mut bytes[read..]);
            if read == bytes.len() || self.is_over {
                return Ok((read, Heard::Nothing));
            }
            if let Some(error) = self.failed {
                return match read {
                    0 => Err(error),
                    _ => Ok((read, Heard::Nothing)),
                };
            }
            match self.open_next(&mut bytes[read..]) {
                Ok(Opened::Nothing) => return Ok((read, Heard::Nothing)),
                Ok(Opened::Read(more)) => read += more,
                Ok(Opened::Kept) => {}
                Ok(Opened::Heard(heard)) => return Ok((read, heard)),
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn take_opened(&mut self, bytes: &mut [u8]) -> usize {
        let read = bytes.len().min(self.opened.len());
        if let Some(buffer) = &self.buffer
            && read > 0
        {
            let from = self.opened.start;
            bytes[..read].copy_from_slice(&buffer[from..from + read]);
            self.opened.start += read;
        }
        read
    }

    /// Opens the next record, to `bytes` if it fits there.
    fn open_next(&mut self, bytes: &mut [u8]) -> Result<Opened, RecordError> {
        let Some(buffer) = &mut self.buffer else {
            return Ok(Opened::Nothing);
        };
        let Some(record) = Sealed::first_of(&buffer[self.sealed.clone()])? else {
            return Ok(Opened::Nothing);
        };
        let (len, room) = (record.len(), record.content_room());
        let is_direct = room <= bytes.len();
        let (kind, content) = if is_direct {
            self.key.open(&record, bytes)?
        } else {
            self.key
                .open_in_place(&mut buffer[self.sealed.start..self.sealed.start + len])?
        };
        let at = self.sealed.start + super::record::HEADER_BYTES;
        self.sealed.start += len;
        // Nothing comes between the parts of a message, and none of them is empty (RFC 8446, 5.1).
        let is_out_of_place = match kind {
            Kind::Handshake => content == 0,
            Kind::Alert | Kind::Data => !self.message.is_empty(),
        };
        if is_out_of_place {
            return Err(RecordError::Message);
        }
        if kind == Kind::Data {
            if content > 0 {
                self.messages = 0;
            }
            if is_direct {
                return Ok(Opened::Read(content));
            }
            self.opened = at..at + content;
            return Ok(Opened::Kept);
        }
        let said = match is_direct {
            true => &bytes[..content],
            false => &buffer[at..at + content],
        };
        match kind {
            Kind::Alert => match *said {
                [_, ALERT_CLOSED] => {
                    self.is_over = true;
                    Ok(Opened::Kept)
                }
                // The goodbye follows. Counted, so that it is not said for ever.
                [_, ALERT_CANCELED] => {
                    self.messages += 1;
                    match self.messages > MAX_MESSAGES {
                        true => Err(RecordError::Message),
                        false => Ok(Opened::Kept),
                    }
                }
                [_, alert] => Err(RecordError::Alert(alert)),
                _ => Err(RecordError::Message),
            },
            _ => {
                self.message.extend_from_slice(said);
                self.hear()
            }
        }
    }

    /// Messages of TLS' own, as far as they are here.
    fn hear(&mut self) -> Result<Opened, RecordError> {
        while let Some((head, rest)) = self.message.split_first_chunk::<4>() {
            let [kind, high, mid, low] = *head;
            let len = u32::from_be_bytes([0, high, mid, low]) as usize;
            if len > MAX_MESSAGE_BYTES {
                return Err(RecordError::Message);
            }
            let Some(body) = rest.get(..len) else {
                break;
            };
            self.messages += 1;
            if self.messages > MAX_MESSAGES {
                return Err(RecordError::Message);
            }
            match (kind, body) {
                // Nothing is ever resumed here.
                (MESSAGE_TICKET, _) => {}
                // It is the last one under its key.
                (MESSAGE_NEW_KEY, [asked @ (0 | 1)]) if rest.len() == 1 => {
                    let is_asked = *asked == 1;
                    self.message.clear();
                    return Ok(Opened::Heard(Heard::NewKey { is_asked }));
                }
                _ => return Err(RecordError::Message),
            }
            self.message.drain(..4 + len);
        }
        if self.message.len() > 4 + MAX_MESSAGE_BYTES {
            return Err(RecordError::Message);
        }
        Ok(Opened::Kept)
    }

    /// Reads what the socket has. Everything that is opened is read.
    pub(super) fn poll_more<C: AsyncRead + Unpin>(
        &mut self,
        socket: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let held = self.sealed.len();
        let wanted = match self.is_many {
            true => MANY_BYTES,
            false => FEW_BYTES,
        };
        let mut buffer = match self.buffer.take() {
            Some(buffer) if buffer.len() >= wanted => buffer,
            other => {
                let mut larger = Pool::shared().take(wanted);
                if let Some(smaller) = other {
                    larger[..held].copy_from_slice(&smaller[self.sealed.clone()]);
                }
                self.sealed = 0..held;
                larger
            }
        };
        if held == 0 {
            self.sealed = 0..0;
        } else if buffer.len() - self.sealed.end < LEAST_ROOM_BYTES {
            buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..held;
        }
        self.opened = 0..0;
        let read = Pin::new(socket).poll_read(cx, &mut buffer[self.sealed.end..]);
        if held > 0 || read.is_ready() {
            self.buffer = Some(buffer);
        }
        let Poll::Ready(read) = read? else {
            return Poll::Pending;
        };
        if read == 0 {
            // Without its goodbye it may have been cut off by anybody.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.is_many = read >= IS_MANY_BYTES;
        self.sealed.end += read;
        Poll::Ready(Ok(read))
    }
}

enum Opened {
    /// No whole record is here.
    Nothing,
    /// This many bytes are in the reader's memory.
    Read(usize),
    /// What it had is in the buffer, or it had nothing to read.
    Kept,
    Heard(Heard),
}

#[cfg(test)]
impl Receiving {
    pub(super) fn is_at_rest(&self) -> bool {
        self.buffer.is_none()
    }
}
