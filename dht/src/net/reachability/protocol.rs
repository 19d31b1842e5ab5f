//! Can others dial this node? It asks some of them to try.
//!
//! The one that is asked dials the very address the question came from, at the ports named in it, and
//! nothing else: nobody can be made to knock at somebody else's door.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::codec::{self, Decode, Encode};
use crate::command::Command;
use crate::config::Mode;
use crate::exchange::{ExchangeError, FrameReader, FrameWriter};
use crate::handle::Inner;
use crate::net::incoming::{PerPeer, Slot};
use crate::net::streams::{Incoming as IncomingStreams, Stream};
use crate::origin::Origin;
use crate::{DhtError, counters::Counters};

/// Ports of each transport in one question.
pub(super) const MAX_PORTS: usize = 4;
/// A question or an answer, and its frame.
const MAX_FRAME_BYTES: usize = 128;
/// Questions answered at once, each with one dial; and of one peer.
const MAX_AT_ONCE: usize = 8;
const MAX_PER_PEER: usize = 1;
/// How long a question, and its answer with a dial in between, may take.
const QUESTION: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

const KIND_ASK: u8 = 0x01;
const KIND_TOLD: u8 = 0x81;

/// The ports this node listens at.
#[derive(Encode, Decode, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) tcp: Vec<u16>,
    pub(crate) quic: Vec<u16>,
}

/// What came of the dial; `None` when none was made.
#[derive(Encode, Decode, Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    reached: Option<bool>,
}

/// Whom to ask, and what.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) peer: PeerId,
    pub(crate) origin: Origin,
    pub(crate) ports: Ports,
}

/// Asks as long as the node lives, whenever it is time.
pub(crate) async fn ask_around(inner: Arc<Inner>, every: Duration) {
    loop {
        sleep(every).await;
        let question = inner.ask(|answer| Command::WhomToAsk { answer }).await;
        let Ok(Some(Question {
            peer,
            origin,
            ports,
        })) = question
        else {
            continue;
        };
        let told = timeout(ANSWER, ask(&inner, peer, &ports)).await;
        let Ok(Ok(Some(reached))) = told else {
            tracing::debug!(%peer, ?told, "nothing learnt about being reachable");
            continue;
        };
        tracing::debug!(%peer, reached, "another peer has tried to dial this node");
        let news = Command::Tested {
            by: peer,
            origin,
            reached,
        };
        if inner.commands.send(news).await.is_err() {
            return;
        }
    }
}

async fn ask(inner: &Inner, peer: PeerId, ports: &Ports) -> Result<Option<bool>, DhtError> {
    let stream = inner
        .open_stream(peer, &[], &inner.protocols.reach)
        .await?
        .compat();
    let failed = |source| DhtError::Exchange { peer, source };
    let (read, write) = tokio::io::split(stream);
    let mut out = FrameWriter::new(write);
    let body = codec::encode(ports).map_err(|error| failed(error.into()))?;
    out.send(KIND_ASK, 0, &body).await.map_err(failed)?;
    let mut frames = FrameReader::new(read, MAX_FRAME_BYTES);
    let frame = frames.next().await.map_err(failed)?;
    let frame = frame.ok_or_else(|| failed(ExchangeError::Refused))?;
    if frame.kind != KIND_TOLD {
        return Err(failed(ExchangeError::UnknownKind(frame.kind)));
    }
    let told: Told = codec::decode(&frame.body).map_err(|error| failed(error.into()))?;
    Ok(told.reached)
}

/// Answers the questions of others, while this node serves.
pub(crate) async fn answer_all(mut streams: IncomingStreams, inner: Arc<Inner>) {
    let all = Arc::new(Semaphore::new(MAX_AT_ONCE));
    let counts = Arc::new(PerPeer::default());
    while let Some((peer, stream)) = streams.recv().await {
        if *inner.mode.borrow() == Mode::Client {
            continue;
        }
        let Some(slot) = Slot::take(&counts, &all, peer, MAX_PER_PEER) else {
            inner.counters.refused_streams.add(1);
            continue;
        };
        let asked = inner.clone();
        inner.spawn(async move {
            let _slot = slot;
            match timeout(ANSWER, answer(&asked, peer, stream)).await {
                Ok(Err(error)) if error.is_peer_fault() => count(&asked.counters, &error),
                _ => {}
            }
        });
    }
}

fn count(counters: &Counters, error: &ExchangeError) {
    match error {
        ExchangeError::TooLarge { .. } => counters.oversized_frames.add(1),
        ExchangeError::Stalled => counters.stalled_streams.add(1),
        _ => counters.bad_frames.add(1),
    }
}

async fn answer(inner: &Inner, peer: PeerId, stream: Stream) -> Result<(), ExchangeError> {
    let (read, write) = tokio::io::split(stream.compat());
    let mut frames = FrameReader::new(read, MAX_FRAME_BYTES);
    let next = timeout(QUESTION, frames.next()).await;
    let Some(frame) = next.map_err(|_| ExchangeError::Stalled)?? else {
        return Ok(());
    };
    if frame.kind != KIND_ASK {
        return Err(ExchangeError::UnknownKind(frame.kind));
    }
    let ports: Ports = codec::decode(&frame.body)?;
    if ports.tcp.len() > MAX_PORTS || ports.quic.len() > MAX_PORTS {
        return Err(ExchangeError::BadBody { kind: KIND_ASK });
    }
    let dialled = inner.ask(|answer| Command::DialBack {
        peer,
        ports,
        answer,
    });
    let reached = match dialled.await {
        Ok(Ok(_)) => Some(true),
        Ok(Err(DhtError::Dial { .. })) => Some(false),
        _ => None,
    };
    let told = codec::encode(&Told { reached })?;
    FrameWriter::new(write)
        .send(KIND_TOLD, frame.id, &told)
        .await
}
