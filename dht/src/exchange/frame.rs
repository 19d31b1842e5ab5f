//! Frames: `len u32 LE | kind u8 | id u32 LE | body`, where `len` counts everything after itself.
//!
//! Reading and writing are generic over the stream, and hostile lengths are refused before a byte of
//! the body is awaited. The records protocol uses the same frames.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::ExchangeError;
use crate::pool::{Buffer, MIN_BUFFER_BYTES, Pool};

/// The largest value of a frame's length field: a chunk of 4 MiB and its header.
pub const MAX_FRAME_BYTES: usize = (4 << 20) + 64;

/// Bytes of kind and id, the least a frame can have after its length.
pub(super) const MIN_FRAME_BYTES: usize = 5;
/// Bytes of length, kind and id.
const HEADER_BYTES: usize = 9;
/// How much travels in the first write, with the header: about the piece that the multiplexer cuts
/// larger writes into, so that nothing would be gained by copying more.
const FIRST_WRITE_BYTES: usize = 64 * 1024 + 64;
/// How much memory a frame may claim ahead of the bytes that have arrived: enough that a chunk of
/// the usual size is read into place, little enough that a bare header costs next to nothing. Where only small
/// frames are read, an eighth of the largest; where chunks are, as much as the stream has brought before.
const AHEAD_BYTES: usize = 320 * 1024;
/// Room for less than this is made larger before it is used up.
const MIN_READ_BYTES: usize = 4 << 10;
/// How long a frame may take from its first byte, or when that was read with the frame before, from when
/// the frame is asked for, to its last.
const FRAME_DEADLINE: Duration = Duration::from_secs(60);
/// Beyond that, a frame may take as long as at this rate: a limited line that many share is no slower.
const SLOWEST_BYTES_PER_S: usize = 4 << 10;
/// A larger frame's memory is not kept for the next.
const KEPT_BYTES: usize = 16 << 10;
/// How long the other side may refuse to take any bytes of a frame, and a second more for each
/// [`SLOWEST_TAKEN_BYTES_PER_S`] of it: it says only by halves of a window that it has taken something, and where many streams
/// share a slow line that is long in coming.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// See [`WRITE_STALL`].
const SLOWEST_TAKEN_BYTES_PER_S: usize = 1 << 10;

/// One frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) id: u32,
    pub(crate) body: Bytes,
}

/// A large body that is being read into its place.
struct Coming {
    kind: u8,
    id: u32,
    /// How long it will be.
    len: usize,
    /// Bytes of it that are here.
    filled: usize,
    /// Room for all of it, or for as much as may be claimed so far.
    room: Buffer,
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Where large bodies are read into; without one they are read as all others are.
    pool: Option<Pool>,
    coming: Option<Coming>,
    /// Bytes of large bodies that were read whole.
    brought_bytes: usize,
    max_frame_bytes: usize,
    /// When the frame that is being read began.
    begun: Option<Instant>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses frames whose length field is above `max_frame_bytes`.
    pub(crate) fn new(io: R, max_frame_bytes: usize) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            pool: None,
            coming: None,
            brought_bytes: 0,
            max_frame_bytes: max_frame_bytes.min(MAX_FRAME_BYTES),
            begun: None,
        }
    }

    /// A reader of frames of any size, chunks above all: their bodies are read into buffers of this pool.
    pub(crate) fn of_chunks(io: R, pool: Pool) -> Self {
        Self {
            pool: Some(pool),
            ..Self::new(io, MAX_FRAME_BYTES)
        }
    }

    /// The next frame; `None` when the stream ended between two frames.
    ///
    /// Cancel safe: what has been read stays in the reader.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ExchangeError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                self.begun = None;
                return Ok(Some(frame));
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    /// Waits until the next frame begins: its length after the length field, without memory for more of it than may be
    /// claimed ahead; `None` when the stream ended between two frames. Whoever has no room for it may wait before
    /// [`FrameReader::next`].
    ///
    /// Cancel safe.
    pub(crate) async fn begins(&mut self) -> Result<Option<usize>, ExchangeError> {
        loop {
            if let Some(len) = self.frame_len() {
                self.begun = None; // waiting for room is not the peer's delay
                return Ok(Some(len));
            }
            self.buffer.reserve(HEADER_BYTES);
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    /// Bytes of the frame that is being read which are here.
    pub(crate) fn begun_bytes(&self) -> usize {
        self.buffer.len() + self.coming.as_ref().map_or(0, |coming| coming.filled)
    }

    /// Reads what there is; false when the stream ended between two frames.
    async fn read_more(&mut self) -> Result<bool, ExchangeError> {
        // The read that ended one frame may have brought the beginning of the next.
        let is_between = self.buffer.is_empty() && self.coming.is_none();
        if self.begun.is_none() && !is_between {
            self.begun = Some(Instant::now());
        }
        let ends = self.begun.map(|begun| begun + self.may_take());
        let reading = read_some(&mut self.io, &mut self.buffer, &mut self.coming);
        let read = match ends {
            None => reading.await?,
            Some(ends) => timeout_at(ends, reading)
                .await
                .map_err(|_| ExchangeError::Stalled)??,
        };
        match read {
            0 if is_between => Ok(false),
            0 => Err(ExchangeError::Truncated),
            _ => Ok(true),
        }
    }

    /// The length field of the frame that is being read, once it is there.
    fn frame_len(&self) -> Option<usize> {
        if let Some(coming) = &self.coming {
            return Some(MIN_FRAME_BYTES + coming.len);
        }
        let length = self.buffer.first_chunk::<4>()?;
        Some(usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX))
    }

    /// How long that frame may take.
    fn may_take(&self) -> Duration {
        let len = self.frame_len().unwrap_or(0);
        FRAME_DEADLINE + Duration::from_secs((len / SLOWEST_BYTES_PER_S) as u64)
    }

    /// A complete frame from the buffer, or room for more bytes of it.
    fn take_frame(&mut self) -> Result<Option<Frame>, ExchangeError> {
        if self.coming.is_some() {
            return Ok(self.take_body());
        }
        let Some(len) = self.frame_len() else {
            self.buffer.reserve(HEADER_BYTES);
            return Ok(None);
        };
        if len > self.max_frame_bytes {
            let max = self.max_frame_bytes;
            return Err(ExchangeError::TooLarge { len, max });
        }
        if len < MIN_FRAME_BYTES {
            return Err(ExchangeError::TooShort(len));
        }
        if self.pool.is_some() && len >= MIN_FRAME_BYTES + MIN_BUFFER_BYTES {
            self.begin_body(len);
            return Ok(self.take_body());
        }
        let missing = (4 + len).saturating_sub(self.buffer.len());
        if missing > 0 {
            let spare = self.buffer.capacity() - self.buffer.len();
            if spare < missing.min(MIN_READ_BYTES) {
                // The buffer doubles: from an eighth on it ends at the largest frame, not beyond.
                let ahead = AHEAD_BYTES.min((4 + self.max_frame_bytes).div_ceil(8));
                let more = missing.min(ahead.max(self.buffer.len()));
                self.buffer.reserve(more);
            }
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(len);
        if self.buffer.is_empty() && len > KEPT_BYTES {
            // The rest of the buffer is of the same memory, and would keep all of it.
            self.buffer = BytesMut::new();
        }
        let kind = frame.get_u8();
        let id = frame.get_u32_le();
        Ok(Some(Frame {
            kind,
            id,
            body: frame.freeze(),
        }))
    }
}

impl<R> FrameReader<R> {
    /// The body of a large frame gets a place of its own, once the header is there.
    fn begin_body(&mut self, frame_len: usize) {
        let (Some(pool), Some(header)) = (&self.pool, self.buffer.first_chunk::<HEADER_BYTES>())
        else {
            self.buffer.reserve(HEADER_BYTES);
            return;
        };
        let [_, _, _, _, kind, id @ ..] = *header;
        self.buffer.advance(HEADER_BYTES);
        let len = frame_len - MIN_FRAME_BYTES;
        let here = self.buffer.len().min(len);
        let mut room = pool.take(len.min(here + AHEAD_BYTES.max(self.brought_bytes)));
        room[..here].copy_from_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        self.coming = Some(Coming {
            kind,
            id: u32::from_le_bytes(id),
            len,
            filled: here,
            room,
        });
    }

    /// The large frame when it is complete; else there is room for more of it.
    fn take_body(&mut self) -> Option<Frame> {
        let mut coming = self.coming.take()?;
        if coming.filled < coming.len {
            if coming.filled == coming.room.len()
                && let Some(pool) = &self.pool
            {
                let ahead = AHEAD_BYTES.max(self.brought_bytes + coming.filled);
                let mut room = pool.take(coming.len.min(coming.filled + ahead));
                room[..coming.filled].copy_from_slice(&coming.room);
                coming.room = room;
            }
            self.coming = Some(coming);
            return None;
        }
        self.brought_bytes = self.brought_bytes.saturating_add(coming.len);
        Some(Frame {
            kind: coming.kind,
            id: coming.id,
            body: coming.room.freeze(),
        })
    }
}

/// Reads what there is, to where it belongs.
async fn read_some<R: AsyncRead + Unpin>(
    io: &mut R,
    buffer: &mut BytesMut,
    coming: &mut Option<Coming>,
) -> std::io::Result<usize> {
    let Some(coming) = coming else {
        return io.read_buf(buffer).await;
    };
    let read = io.read(&mut coming.room[coming.filled..]).await?;
    coming.filled += read;
    Ok(read)
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
        let patience = WRITE_STALL + Duration::from_secs((len / SLOWEST_TAKEN_BYTES_PER_S) as u64);
        write_steadily(&mut self.io, &self.buffer, patience).await?;
        write_steadily(&mut self.io, rest, patience).await?;
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

/// Writes all of `bytes`; every single write has to make progress within `patience`.
async fn write_steadily<W: AsyncWrite + Unpin>(
    io: &mut W,
    mut bytes: &[u8],
    patience: Duration,
) -> Result<(), ExchangeError> {
    while !bytes.is_empty() {
        let written = timeout(patience, io.write(bytes))
            .await
            .map_err(|_| ExchangeError::Stalled)??;
        if written == 0 {
            return Err(ExchangeError::Truncated);
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const LARGEST: usize = 128 << 10;

    /// A frame of `len` after its length field.
    fn frame(len: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(len).unwrap().to_le_bytes().to_vec();
        bytes.resize(4 + len, 1);
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_claimed_as_bytes_arrive_and_given_back_with_the_frame() {
        let (mut far, near) = duplex(1 << 20);
        let mut frames = FrameReader::new(near, LARGEST);
        let mut sent = 0;
        let bytes = frame(LARGEST);
        for upto in [4, 100, 20_000, 60_000, 100_000, LARGEST + 3] {
            far.write_all(&bytes[sent..upto]).await.unwrap();
            sent = upto;
            let next = timeout(Duration::from_millis(1), frames.next()).await;
            assert!(next.is_err());
            assert_eq!(frames.buffer.len(), sent);
            let claimed = frames.buffer.capacity();
            let may = 2 * (sent + MIN_READ_BYTES) + LARGEST / 8;
            assert!(claimed <= may, "{claimed} for {sent}");
            assert!(claimed <= LARGEST + 256, "more than one frame: {claimed}");
        }
        far.write_all(&bytes[sent..]).await.unwrap();
        let whole = frames.next().await.unwrap().unwrap();
        assert_eq!(whole.body.len(), LARGEST - 5);
        assert_eq!(frames.buffer.capacity(), 0, "all of it went with the frame");
        // The next one does not keep more than it needs.
        far.write_all(&frame(30)).await.unwrap();
        assert_eq!(frames.next().await.unwrap().unwrap().body.len(), 25);
        assert!(frames.buffer.capacity() <= 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_claims_no_more_ahead_than_its_stream_has_brought() {
        const CHUNK_BYTES: usize = 1 << 20;
        let (mut far, near) = duplex(4 << 20);
        let mut frames = FrameReader::of_chunks(near, Pool::shared());
        let mut bytes = frame(5 + CHUNK_BYTES);
        bytes[4..9].copy_from_slice(&[7, 1, 2, 3, 4]);
        for (at, byte) in bytes[9..].iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        for round in 0..3 {
            let mut sent = 0;
            for upto in [
                4,
                9,
                100,
                60_000,
                300_000,
                400_000,
                700_000,
                bytes.len() - 1,
            ] {
                far.write_all(&bytes[sent..upto]).await.unwrap();
                sent = upto;
                let next = timeout(Duration::from_millis(1), frames.next()).await;
                assert!(next.is_err());
                let claimed = frames.coming.as_ref().map_or(0, |c| c.room.len());
                let may = 2 * sent + AHEAD_BYTES + round * CHUNK_BYTES;
                assert!(claimed <= may.min(CHUNK_BYTES), "{claimed} for {sent}");
                if round > 0 && sent > 9 {
                    assert_eq!(claimed, CHUNK_BYTES, "read into its place");
                }
            }
            // The rest comes together with the next frames, of which one is small.
            far.write_all(&bytes[sent..]).await.unwrap();
            far.write_all(&frame(30)).await.unwrap();
            let whole = frames.next().await.unwrap().unwrap();
            assert_eq!((whole.kind, whole.id), (7, 0x0403_0201));
            assert_eq!(whole.body, bytes[9..]);
            assert_eq!(frames.next().await.unwrap().unwrap().body.len(), 25);
        }
        far.write_all(&bytes[..500_000]).await.unwrap();
        drop(far);
        assert!(matches!(frames.next().await, Err(ExchangeError::Truncated)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_that_stops_coming_stalls() {
        let (mut far, near) = duplex(4 << 20);
        let mut frames = FrameReader::of_chunks(near, Pool::shared());
        let began = Instant::now();
        far.write_all(&frame(256 << 10)[..9]).await.unwrap();
        assert!(matches!(frames.next().await, Err(ExchangeError::Stalled)));
        assert!(began.elapsed() < Duration::from_secs(60 + 64 + 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_begins_waits_for_its_reader_and_takes_no_memory() {
        let (mut far, near) = duplex(1 << 20);
        let mut frames = FrameReader::new(near, LARGEST);
        let early = timeout(Duration::from_secs(3600), frames.begins()).await;
        assert!(early.is_err(), "between two frames it waits");
        far.write_all(&frame(LARGEST)).await.unwrap();
        far.write_all(&frame(30)).await.unwrap();
        assert_eq!(frames.begins().await.unwrap(), Some(LARGEST));
        assert!(frames.buffer.capacity() <= MIN_READ_BYTES);
        assert_eq!(frames.begins().await.unwrap(), Some(LARGEST), "still");
        let whole = frames.next().await.unwrap().unwrap();
        assert_eq!(whole.body.len(), LARGEST - 5);
        assert_eq!(frames.begins().await.unwrap(), Some(30));
        assert_eq!(frames.next().await.unwrap().unwrap().body.len(), 25);
        drop(far);
        assert_eq!(frames.begins().await.unwrap(), None);
        assert!(frames.next().await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_frame_may_come_slowly_but_has_to_come() {
        let (mut far, near) = duplex(1 << 20);
        let mut frames = FrameReader::new(near, MAX_FRAME_BYTES);
        let began = Instant::now();
        let sending = async {
            // 1 MiB at 8 KiB/s.
            for piece in frame(1 << 20).chunks(8 << 10) {
                far.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            far.write_all(&frame(1 << 20)[..100]).await.unwrap();
        };
        let reading = async {
            let whole = frames.next().await.unwrap().unwrap();
            assert_eq!(whole.body.len(), (1 << 20) - 5);
            assert!(began.elapsed() > Duration::from_secs(120));
            let began = Instant::now();
            assert!(matches!(frames.next().await, Err(ExchangeError::Stalled)));
            // A minute, and four more for its length.
            assert!(began.elapsed() < Duration::from_secs(60 + 256 + 2));
        };
        tokio::join!(sending, reading);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_opens_by_halves_on_a_slow_line_breaks_no_stream() {
        const WINDOW_BYTES: usize = 256 << 10;
        let (near, mut far) = duplex(WINDOW_BYTES);
        let mut frames = FrameWriter::new(near);
        let chunk = vec![0; WINDOW_BYTES];
        let taking = async {
            let mut half = vec![0; WINDOW_BYTES / 2];
            // 128 KiB at 1 KiB/s; and then no more.
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(128)).await;
                far.read_exact(&mut half).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let sending = async {
            for id in 0..4 {
                frames.send(1, id, &chunk).await.unwrap();
            }
            while frames.send(1, 9, &chunk).await.is_ok() {}
        };
        let began = Instant::now();
        tokio::select! {
            () = taking => {}
            () = sending => {}
        }
        // 1024 s of taking, and a minute and 256 s of patience.
        assert!(began.elapsed() < Duration::from_secs(1400));
    }
}
