//! The provide protocol: one peer tells another which keys it provides, many at a time, and is told
//! how many were taken. The provider is always the peer at the other end of the connection, so nobody
//! can announce for somebody else.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::{Decode, Encode};
use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Stream};
use libp2p_stream::IncomingStreams;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::task::TaskTracker;

use crate::Key;
use crate::codec;
use crate::config::Mode;
use crate::counters::Counters;
use crate::exchange::{ExchangeError, FrameReader, FrameWriter};
use crate::net::addrs;
use crate::records::Records;

/// Name of the protocol.
pub(crate) const PROVIDE_PROTOCOL: &str = "/casnode/provide/1";
/// Keys in one batch: a frame of 32 KiB, some milliseconds of a slow line.
pub(crate) const BATCH_KEYS: usize = 1024;
/// The longest time a record is kept, whatever the announcer says.
const MAX_TTL: Duration = Duration::from_secs(48 * 3600);
/// Addresses in one batch.
const MAX_ADDRS: usize = 16;
/// The longest address, in bytes.
const MAX_ADDR_BYTES: usize = 256;
/// A batch with all keys and addresses it may have.
const MAX_BATCH_FRAME_BYTES: usize = BATCH_KEYS * 32 + MAX_ADDRS * (MAX_ADDR_BYTES + 8) + 64;
/// An acknowledgement and its frame.
const MAX_ACK_FRAME_BYTES: usize = 64;
/// How long an announcer may be silent before its stream is closed.
const IDLE: Duration = Duration::from_secs(30);
/// How long an acknowledgement may take.
const ACK_DEADLINE: Duration = Duration::from_secs(20);

const KIND_BATCH: u8 = 0x01;
const KIND_ACK: u8 = 0x81;

#[derive(Encode, Decode, Debug, PartialEq, Eq)]
struct Batch {
    ttl_secs: u32,
    addrs: Vec<Vec<u8>>,
    keys: Vec<Key>,
}

#[derive(Encode, Decode, Debug, PartialEq, Eq)]
struct Ack {
    /// How many keys were taken, counted from the first.
    accepted: u32,
}

/// An announcing stream.
pub(crate) struct Announcer<S> {
    frames: FrameReader<tokio::io::ReadHalf<S>>,
    out: FrameWriter<tokio::io::WriteHalf<S>>,
    next_id: u32,
}

impl<S: AsyncRead + AsyncWrite> Announcer<S> {
    pub(crate) fn new(io: S) -> Self {
        let (read, write) = tokio::io::split(io);
        let frames = FrameReader::new(read, MAX_ACK_FRAME_BYTES);
        Self {
            frames,
            out: FrameWriter::new(write),
            next_id: 0,
        }
    }

    /// Announces up to [`BATCH_KEYS`] keys; returns how many were taken, counted from the first.
    pub(crate) async fn announce(
        &mut self,
        keys: &[Key],
        own_addrs: &[Multiaddr],
        ttl: Duration,
    ) -> Result<usize, ExchangeError> {
        let batch = Batch {
            ttl_secs: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
            addrs: own_addrs
                .iter()
                .take(MAX_ADDRS)
                .map(Multiaddr::to_vec)
                .collect(),
            keys: keys.iter().take(BATCH_KEYS).copied().collect(),
        };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.out
            .send(KIND_BATCH, id, &codec::encode(&batch)?)
            .await?;
        let answer = timeout(ACK_DEADLINE, self.frames.next()).await;
        let frame = answer.map_err(|_| ExchangeError::Stalled)??;
        let frame = frame.ok_or(ExchangeError::Refused)?;
        if frame.kind != KIND_ACK {
            return Err(ExchangeError::UnknownKind(frame.kind));
        }
        let Ack { accepted } = codec::decode(&frame.body)?;
        let accepted = usize::try_from(accepted).unwrap_or(usize::MAX);
        if frame.id != id || accepted > batch.keys.len() {
            return Err(ExchangeError::BadBody { kind: KIND_ACK });
        }
        Ok(accepted)
    }

    pub(crate) async fn close(&mut self) -> Result<(), ExchangeError> {
        self.out.close().await
    }
}

/// Takes announcing streams. Only takes them: libp2p-stream drops a stream when nobody is waiting for
/// it, so the work is done in tasks, of which there is a bounded number.
pub(crate) async fn accept_provided(
    mut streams: IncomingStreams,
    records: Arc<Records>,
    max_streams: usize,
    mode: Mode,
    counters: Arc<Counters>,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(max_streams));
    while let Some((peer, stream)) = streams.next().await {
        // A client is in nobody's routing table; who announces to it anyway is told nothing.
        if mode == Mode::Client {
            continue;
        }
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            counters.refused_streams.add(1);
            continue;
        };
        let (records, counters) = (records.clone(), counters.clone());
        tasks.spawn(async move {
            let _slot = slot;
            take_announcements(peer, stream, &records, &counters).await;
        });
    }
}

async fn take_announcements(peer: PeerId, stream: Stream, records: &Records, counters: &Counters) {
    let served = serve(peer, stream.compat(), records, counters).await;
    let Err(error) = served else { return };
    tracing::debug!(%peer, %error, "announcing stream dropped");
    match error {
        ExchangeError::TooLarge { .. } => counters.oversized_frames.add(1),
        ExchangeError::Stalled => counters.stalled_streams.add(1),
        error if error.is_peer_fault() => counters.bad_frames.add(1),
        _ => {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite>(
    peer: PeerId,
    io: S,
    records: &Records,
    counters: &Counters,
) -> Result<(), ExchangeError> {
    let (read, write) = tokio::io::split(io);
    let mut frames = FrameReader::new(read, MAX_BATCH_FRAME_BYTES);
    let mut out = FrameWriter::new(write);
    loop {
        let next = timeout(IDLE, frames.next()).await;
        let Some(frame) = next.map_err(|_| ExchangeError::Stalled)?? else {
            return Ok(());
        };
        if frame.kind != KIND_BATCH {
            return Err(ExchangeError::UnknownKind(frame.kind));
        }
        let batch: Batch = codec::decode(&frame.body)?;
        if batch.keys.len() > BATCH_KEYS || batch.addrs.len() > MAX_ADDRS {
            return Err(ExchangeError::BadBody { kind: KIND_BATCH });
        }
        let ttl = Duration::from_secs(batch.ttl_secs.into()).min(MAX_TTL);
        let raw = batch
            .addrs
            .into_iter()
            .filter(|addr| addr.len() <= MAX_ADDR_BYTES);
        let listed = raw.filter_map(|addr| Multiaddr::try_from(addr).ok());
        let listed = addrs::usable(&peer, listed);
        let taken = records.add_provided(&peer, &listed, &batch.keys, ttl);
        counters
            .over_quota_records
            .add((batch.keys.len() - taken) as u64);
        let accepted = u32::try_from(taken).unwrap_or(u32::MAX);
        out.send(KIND_ACK, frame.id, &codec::encode(&Ack { accepted })?)
            .await?;
    }
}
