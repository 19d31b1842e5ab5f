//! The asking side: one stream to one peer, one request at a time.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use super::message::{
    ANNOUNCE_KEYS, Announce, FIND_KEYS, Find, Found, KIND_FOUND, KIND_TAKEN, MAX_REPLY_FRAME_BYTES,
    Provider, Request, Taken, TakenBits,
};
use crate::Key;
use crate::error::DhtError;
use crate::exchange::{ExchangeError, FrameReader, FrameWriter};
use crate::handle::Inner;
use crate::net::Stream;

/// How long connecting to a peer and opening a stream may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long the peer may take to end a stream that this node has closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A stream of the records protocol that this node has opened.
pub(crate) struct BatchClient<S = Compat<Stream>> {
    frames: FrameReader<ReadHalf<S>>,
    out: FrameWriter<WriteHalf<S>>,
    next_id: u32,
    _place: Option<OwnedSemaphorePermit>,
}

impl BatchClient {
    /// Opens a stream to a peer, connecting by these and other known addresses if need be.
    pub(crate) async fn open(
        inner: &Inner,
        peer: PeerId,
        addrs: &[Multiaddr],
    ) -> Result<Self, DhtError> {
        let opened = timeout(OPEN_DEADLINE, async {
            // The peer refuses more streams than it has places for us.
            let place = inner.slots.take(peer).await;
            let name = &inner.protocols.records;
            let stream = inner.open_stream(peer, addrs, name).await?;
            Ok::<_, DhtError>((stream, place))
        });
        let opened = opened.await;
        let (stream, place) = opened.map_err(|_| DhtError::TimedOut(OPEN_DEADLINE))??;
        let mut client = Self::over(stream.compat());
        client._place = place;
        Ok(client)
    }
}

impl<S: AsyncRead + AsyncWrite> BatchClient<S> {
    /// Over a stream that is open.
    pub(crate) fn over(io: S) -> Self {
        let (read, write) = tokio::io::split(io);
        Self {
            frames: FrameReader::new(read, MAX_REPLY_FRAME_BYTES),
            out: FrameWriter::new(write),
            next_id: 0,
            _place: None,
        }
    }

    /// Announces up to [`ANNOUNCE_KEYS`] keys that this node provides for `ttl`; tells of each whether the
    /// peer took it. After an error the stream is of no use.
    pub(crate) async fn announce(
        &mut self,
        keys: &[Key],
        own_addrs: &[Multiaddr],
        ttl: Duration,
    ) -> Result<Taken, ExchangeError> {
        let ttl_secs = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let count = keys.len().min(ANNOUNCE_KEYS);
        let request = Request::Announce(Announce::new(keys, own_addrs, ttl_secs));
        let body = self.ask(&request, KIND_TAKEN).await?;
        TakenBits::decode(&body, count)
    }

    /// Asks who provides up to [`FIND_KEYS`] keys. One list for each key, at most 20 long. A peer that answers
    /// for some of them is asked again for the rest. After an error the stream is of no use.
    pub(crate) async fn find(&mut self, keys: &[Key]) -> Result<Vec<Vec<Provider>>, ExchangeError> {
        let keys = &keys[..keys.len().min(FIND_KEYS)];
        let mut found = Vec::with_capacity(keys.len());
        // Every answer is for a key at least, so this ends.
        while let Some(rest) = keys.get(found.len()..).filter(|rest| !rest.is_empty()) {
            let request = Request::Find(Find {
                keys: rest.to_vec(),
            });
            let body = self.ask(&request, KIND_FOUND).await?;
            found.extend(Found::decode(&body, rest.len())?);
        }
        Ok(found)
    }

    /// Says that no more requests will come, and waits until the peer has ended the stream: only then has it
    /// a place for the next one.
    pub(crate) async fn close(mut self) {
        let ended = async {
            self.out.close().await?;
            self.frames.next().await
        };
        if !matches!(timeout(CLOSE_DEADLINE, ended).await, Ok(Ok(None))) {
            tracing::debug!("a records stream did not end as it should");
        }
    }

    async fn ask(&mut self, request: &Request, answer: u8) -> Result<bytes::Bytes, ExchangeError> {
        let (kind, body) = request.encode()?;
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.out.send(kind, id, &body).await?;
        let frame = timeout(ANSWER_DEADLINE, self.frames.next()).await;
        let frame = frame.map_err(|_| ExchangeError::Stalled)??;
        let frame = frame.ok_or(ExchangeError::Refused)?;
        if frame.kind != answer {
            return Err(ExchangeError::UnknownKind(frame.kind));
        }
        if frame.id != id {
            return Err(ExchangeError::BadBody { kind: answer });
        }
        Ok(frame.body)
    }
}
