//! The exchange: manifests, have-bitmaps and chunks over one long-lived stream per pair of peers.
//!
//! The side that opened the stream asks, the other answers; requests are pipelined and replies come
//! in any order, matched by id. Who wants both directions opens two streams. This module knows frames
//! and messages; what is served, and to whom, is the node's business.

mod files;
mod frame;
mod message;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

pub use files::{FileReply, MAX_FILE_BYTES, MAX_FILES, MAX_FILES_REPLY_BYTES};
pub use frame::MAX_FRAME_BYTES;
pub(crate) use frame::{FrameReader, FrameWriter};
pub use message::{
    MAX_CHUNK_BYTES, MAX_EARLY_BYTES, MAX_GOT, MAX_HAVE_CHUNKS, MAX_MANIFEST_PART_BYTES,
    MAX_SWARM_ADDR_BYTES, MAX_SWARM_ADDRS, MAX_SWARM_PEERS, MAX_TOLD_BYTES, Reply, Request,
    SwarmPeer,
};

use crate::codec::{self, CodecError};
use crate::counters::Counters;
use crate::pool::Pool;

/// The largest frame that holds a request, a `Join` with the largest bitmap: hostile askers cannot make us keep more.
pub const MAX_REQUEST_FRAME_BYTES: usize = (MAX_HAVE_CHUNKS as usize) / 8 + 64;

/// How long the accepting side may take to greet.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// An exchange stream failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The stream broke.
    #[error("stream broken")]
    Io(#[from] io::Error),
    /// A frame or a part of it is larger than allowed.
    #[error("{len} bytes where at most {max} are allowed")]
    TooLarge {
        /// Bytes claimed.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A frame that has no room for its own header.
    #[error("frame of {0} bytes")]
    TooShort(usize),
    /// A body that is not what its kind promises.
    #[error("malformed body")]
    Malformed(#[from] CodecError),
    /// A body whose parts contradict each other.
    #[error("contradictory body in a frame of kind {kind:#04x}")]
    BadBody {
        /// Kind of the frame.
        kind: u8,
    },
    /// A kind of frame this side does not know.
    #[error("unknown kind of frame {0:#04x}")]
    UnknownKind(u8),
    /// The stream ended in the middle of a frame.
    #[error("stream ended within a frame")]
    Truncated,
    /// The other side stopped in the middle of a frame, or takes no bytes.
    #[error("stream stalled")]
    Stalled,
    /// The other side closed the stream before greeting.
    #[error("stream refused")]
    Refused,
}

impl ExchangeError {
    /// True when the peer broke the protocol; false when the connection may simply have failed.
    pub fn is_peer_fault(&self) -> bool {
        !matches!(
            self,
            Self::Io(_) | Self::Truncated | Self::Stalled | Self::Refused
        )
    }
}

type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Sends requests on a stream this node opened.
pub struct RequestSender(FrameWriter<BoxWrite>);

/// Receives the replies on a stream this node opened.
pub struct ReplyReceiver {
    frames: FrameReader<BoxRead>,
    counters: Option<Arc<Counters>>,
}

/// Receives requests on a stream another peer opened.
pub struct RequestReceiver {
    frames: FrameReader<BoxRead>,
    counters: Option<Arc<Counters>>,
    /// Gives back the peer's share of the streams when the stream is dropped.
    _slot: Option<Box<dyn Send + Sync>>,
}

/// Sends replies on a stream another peer opened.
pub struct ReplySender(FrameWriter<BoxWrite>);

impl RequestSender {
    /// Sends a request; the caller chooses ids and keeps those in flight distinct.
    ///
    /// Not cancel safe: drop the stream after a cancelled send. Fails when the peer takes no bytes
    /// for 30 seconds.
    pub async fn send(&mut self, id: u32, request: &Request) -> Result<(), ExchangeError> {
        let (kind, body) = message::encode_request(request)?;
        self.0.send(kind, id, &body).await
    }

    /// Says that no more requests will come.
    pub async fn close(&mut self) -> Result<(), ExchangeError> {
        self.0.close().await
    }
}

impl ReplyReceiver {
    /// The next reply and the id of its request; `None` when the peer closed the stream cleanly.
    /// Waits without limit between frames; within one 60 seconds, and a second for each 4 KiB of it. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<(u32, Reply)>, ExchangeError> {
        let result = match self.frames.next().await {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => message::decode_reply(&frame).map(|reply| Some((frame.id, reply))),
            Err(error) => Err(error),
        };
        count(&self.counters, &result);
        result
    }

    /// Waits until the next reply begins; the length of its body in bytes. Little memory is claimed for it before
    /// [`ReplyReceiver::next`], so whoever has none may wait until there is. `None` when the peer closed the stream
    /// cleanly. Waits without limit. Cancel safe.
    pub async fn begins(&mut self) -> Result<Option<usize>, ExchangeError> {
        let result = self.frames.begins().await;
        count(&self.counters, &result);
        let body_bytes = |frame_bytes: usize| frame_bytes.saturating_sub(frame::MIN_FRAME_BYTES);
        Ok(result?.map(body_bytes))
    }

    /// Bytes that are here of the reply that has begun.
    #[must_use]
    pub fn begun_bytes(&self) -> usize {
        self.frames.begun_bytes()
    }

    /// Waits for the greeting that shows that somebody serves the stream.
    async fn hello(&mut self) -> Result<(), ExchangeError> {
        let frame = tokio::time::timeout(HELLO_DEADLINE, self.frames.next())
            .await
            .map_err(|_| ExchangeError::Stalled)??
            .ok_or(ExchangeError::Refused)?;
        if frame.kind != message::KIND_HELLO {
            return Err(ExchangeError::UnknownKind(frame.kind));
        }
        codec::decode::<()>(&frame.body)?;
        Ok(())
    }
}

impl RequestReceiver {
    /// The next request and its id; `None` when the peer closed the stream cleanly.
    /// Waits without limit between frames; within one 60 seconds, and a second for each 4 KiB of it. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<(u32, Request)>, ExchangeError> {
        let result = match self.frames.next().await {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => message::decode_request(&frame).map(|asked| Some((frame.id, asked))),
            Err(error) => Err(error),
        };
        count(&self.counters, &result);
        result
    }
}

impl ReplySender {
    /// Sends the reply to the request with this id. A chunk leaves without being copied.
    ///
    /// Not cancel safe: drop the stream after a cancelled send. Fails when the peer takes no bytes
    /// for 30 seconds.
    pub async fn send(&mut self, id: u32, reply: &Reply) -> Result<(), ExchangeError> {
        let (kind, body) = message::encode_reply(reply)?;
        message::check_id(kind, id)?;
        self.0.send(kind, id, &body).await
    }

    /// Says that no more replies will come.
    pub async fn close(&mut self) -> Result<(), ExchangeError> {
        self.0.close().await
    }

    async fn hello(&mut self) -> Result<(), ExchangeError> {
        let body = codec::encode(&())?;
        self.0.send(message::KIND_HELLO, 0, &body).await
    }
}

/// The asking side of a stream: waits for the other side's greeting, at most 10 seconds.
pub async fn ask_over<S>(io: S) -> Result<(RequestSender, ReplyReceiver), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    ask_counted(io, &[], None).await
}

/// The serving side of a stream: sends the greeting.
pub async fn serve_over<S>(io: S) -> Result<(RequestReceiver, ReplySender), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    serve_counted(io, None, None).await
}

/// Sends these requests, with their ids, without waiting for the greeting first: that saves a round trip.
pub(crate) async fn ask_counted<S>(
    io: S,
    first: &[(u32, Request)],
    counters: Option<Arc<Counters>>,
) -> Result<(RequestSender, ReplyReceiver), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = split(io);
    let frames = FrameReader::of_chunks(read, Pool::shared());
    let mut replies = ReplyReceiver { frames, counters };
    let mut requests = RequestSender(FrameWriter::new(write));
    let send = async {
        for (id, request) in first {
            requests.send(*id, request).await?;
        }
        Ok(())
    };
    // Why a stream was refused is known better by who reads.
    tokio::try_join!(replies.hello(), send)?;
    Ok((requests, replies))
}

pub(crate) async fn serve_counted<S>(
    io: S,
    counters: Option<Arc<Counters>>,
    slot: Option<Box<dyn Send + Sync>>,
) -> Result<(RequestReceiver, ReplySender), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = split(io);
    let mut replies = ReplySender(FrameWriter::new(write));
    replies.hello().await?;
    let requests = RequestReceiver {
        frames: FrameReader::new(read, MAX_REQUEST_FRAME_BYTES),
        counters,
        _slot: slot,
    };
    Ok((requests, replies))
}

fn split<S>(io: S) -> (BoxRead, BoxWrite)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write): (ReadHalf<S>, WriteHalf<S>) = tokio::io::split(io);
    (Box::new(read), Box::new(write))
}

fn count<T>(counters: &Option<Arc<Counters>>, result: &Result<T, ExchangeError>) {
    let (Some(counters), Err(error)) = (counters, result) else {
        return;
    };
    match error {
        ExchangeError::TooLarge { .. } => counters.oversized_frames.add(1),
        ExchangeError::Stalled => counters.stalled_streams.add(1),
        error if error.is_peer_fault() => counters.bad_frames.add(1),
        _ => {}
    }
}
