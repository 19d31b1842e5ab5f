//! Frames: `len u32 LE | kind u8 | id u32 LE | body`, where `len` counts everything after itself.
//!
//! Reading and writing are generic over the stream, and hostile lengths are refused before a byte of
//! the body is awaited. The provide protocol uses the same frames.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::ExchangeError;

/// The largest value of a frame's length field: a chunk of 4 MiB and its header.
pub const MAX_FRAME_BYTES: usize = (4 << 20) + 64;

/// Bytes of kind and id, the least a frame can have after its length.
const MIN_FRAME_BYTES: usize = 5;
/// Bytes of length, kind and id.
const HEADER_BYTES: usize = 9;
/// How much travels in the first write, with the header: about the piece that the multiplexer cuts
/// larger writes into, so that nothing would be gained by copying more.
const FIRST_WRITE_BYTES: usize = 64 * 1024 + 64;
/// How much memory a frame may claim ahead of the bytes that have arrived: enough that a chunk of
/// the usual size is read into place, little enough that a bare header costs next to nothing.
const AHEAD_BYTES: usize = 320 * 1024;
/// How long a frame may take from its first byte, or when that was read with the frame before, from when
/// the frame is asked for, to its last.
const FRAME_DEADLINE: Duration = Duration::from_secs(60);
/// How long the other side may refuse to take any bytes.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// One frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) id: u32,
    pub(crate) body: Bytes,
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    max_frame_bytes: usize,
    /// When the frame that has begun must be complete.
    deadline: Option<Instant>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses frames whose length field is above `max_frame_bytes`.
    pub(crate) fn new(io: R, max_frame_bytes: usize) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            max_frame_bytes: max_frame_bytes.min(MAX_FRAME_BYTES),
            deadline: None,
        }
    }

    /// The next frame; `None` when the stream ended between two frames.
    ///
    /// Cancel safe: what has been read stays in the reader.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ExchangeError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                self.deadline = None;
                return Ok(Some(frame));
            }
            // The read that ended one frame may have brought the beginning of the next.
            if self.deadline.is_none() && !self.buffer.is_empty() {
                self.deadline = Some(Instant::now() + FRAME_DEADLINE);
            }
            let read = match self.deadline {
                None => self.io.read_buf(&mut self.buffer).await?,
                Some(deadline) => timeout_at(deadline, self.io.read_buf(&mut self.buffer))
                    .await
                    .map_err(|_| ExchangeError::Stalled)??,
            };
            if read == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(ExchangeError::Truncated),
                };
            }
        }
    }

    /// A complete frame from the buffer, or room for more bytes of it.
    fn take_frame(&mut self) -> Result<Option<Frame>, ExchangeError> {
        let Some(&length) = self.buffer.first_chunk::<4>() else {
            self.buffer.reserve(HEADER_BYTES);
            return Ok(None);
        };
        let len = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if len > self.max_frame_bytes {
            let max = self.max_frame_bytes;
            return Err(ExchangeError::TooLarge { len, max });
        }
        if len < MIN_FRAME_BYTES {
            return Err(ExchangeError::TooShort(len));
        }
        let missing = (4 + len).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer
                .reserve(missing.min(AHEAD_BYTES.max(self.buffer.len())));
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(len);
        let kind = frame.get_u8();
        let id = frame.get_u32_le();
        Ok(Some(Frame {
            kind,
            id,
            body: frame.freeze(),
        }))
    }
}

/// Writes frames.
pub(crate) struct FrameWriter<W> {
    io: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(io: W) -> Self {
        Self {
            io,
            buffer: Vec::new(),
        }
    }

    /// Sends one frame and flushes. Header and (the beginning of) the body leave in one write.
    ///
    /// Not cancel safe: a frame that was cut off makes the stream useless, so drop it then.
    pub(crate) async fn send(
        &mut self,
        kind: u8,
        id: u32,
        body: &[u8],
    ) -> Result<(), ExchangeError> {
        let max = MAX_FRAME_BYTES;
        let len = MIN_FRAME_BYTES + body.len();
        let length = match u32::try_from(len) {
            Ok(length) if len <= max => length,
            _ => return Err(ExchangeError::TooLarge { len, max }),
        };
        let (first, rest) = body.split_at(body.len().min(FIRST_WRITE_BYTES - HEADER_BYTES));
        self.buffer.clear();
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.push(kind);
        self.buffer.extend_from_slice(&id.to_le_bytes());
        self.buffer.extend_from_slice(first);
        write_steadily(&mut self.io, &self.buffer).await?;
        write_steadily(&mut self.io, rest).await?;
        timeout(WRITE_STALL, self.io.flush())
            .await
            .map_err(|_| ExchangeError::Stalled)??;
        Ok(())
    }

    /// Ends this direction of the stream.
    pub(crate) async fn close(&mut self) -> Result<(), ExchangeError> {
        timeout(WRITE_STALL, self.io.shutdown())
            .await
            .map_err(|_| ExchangeError::Stalled)??;
        Ok(())
    }
}

/// Writes all of `bytes`; every single write has to make progress within [`WRITE_STALL`].
async fn write_steadily<W: AsyncWrite + Unpin>(
    io: &mut W,
    mut bytes: &[u8],
) -> Result<(), ExchangeError> {
    while !bytes.is_empty() {
        let written = timeout(WRITE_STALL, io.write(bytes))
            .await
            .map_err(|_| ExchangeError::Stalled)??;
        if written == 0 {
            return Err(ExchangeError::Truncated);
        }
        bytes = &bytes[written..];
    }
    Ok(())
}
