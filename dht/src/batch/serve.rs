//! The answering side. Streams are bounded in all and per peer, and so is everything in a request; every
//! fault is counted.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::kad::RecordKey;
use libp2p::kad::store::RecordStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::task::TaskTracker;

use super::message::{
    self, Announce, Find, FoundBuilder, KIND_FOUND, KIND_TAKEN, MAX_REQUEST_FRAME_BYTES, Provider,
    Request, TakenBits,
};
use crate::Key;
use crate::config::Mode;
use crate::counters::Counters;
use crate::exchange::{ExchangeError, FrameReader, FrameWriter};
use crate::neighbourhood::Neighbourhood;
use crate::net::{IncomingStreams, Origins, PerPeer, Slot, addrs};
use crate::origin::Origin;
use crate::places::{Place, Places};
use crate::records::{Announcer, KEYS_AT_ONCE, KadStore, Records, Refused, Taken};

/// The longest time a record is kept, whatever the announcer says.
const MAX_TTL: Duration = Duration::from_secs(48 * 3600);
/// Streams of one peer: one to announce by, one to find by.
pub(super) const STREAMS_PER_PEER: usize = 2;
/// The part of all streams that those of one origin may have: one in this many. Peers on this machine, and those
/// of whom nobody knows where they come from, count each by itself.
const ORIGIN_SHARE: usize = 4;
/// How long an asker may be silent before its stream is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What answering needs.
pub(crate) struct Server {
    pub(crate) records: Arc<Records>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) neighbourhood: watch::Receiver<Arc<Neighbourhood>>,
    pub(crate) counters: Arc<Counters>,
}

/// Takes the streams that others open. Only takes them, for few may wait: the work is done in tasks, of which there is
/// a bounded number.
pub(crate) async fn accept(
    mut streams: IncomingStreams,
    server: Arc<Server>,
    max_streams: usize,
    mode: watch::Receiver<Mode>,
    tasks: TaskTracker,
) {
    let all = Arc::new(Semaphore::new(max_streams));
    let counts = Arc::new(PerPeer::default());
    let of_origins = Arc::new(Places::default());
    let max_of_origin = max_streams.div_ceil(ORIGIN_SHARE).max(STREAMS_PER_PEER);
    while let Some((peer, stream)) = streams.recv().await {
        // A client is in nobody's routing table; who asks it anyway is told nothing.
        if *mode.borrow() == Mode::Client {
            continue;
        }
        let of_origin = origin_place(&of_origins, server.origins.of(&peer), max_of_origin);
        let slot = Slot::take(&counts, &all, peer, STREAMS_PER_PEER);
        let (Ok(of_origin), Some(slot)) = (of_origin, slot) else {
            server.counters.refused_streams.add(1);
            continue;
        };
        let server = server.clone();
        tasks.spawn(async move {
            let mut io = stream.compat();
            let served = server.serve(peer, &mut io).await;
            // An asker that sees its stream end may open the next: there is a place for it by then.
            drop((slot, of_origin));
            drop(io);
            let Err(error) = served else { return };
            tracing::debug!(%peer, %error, "records stream dropped");
            match error {
                ExchangeError::TooLarge { .. } => server.counters.oversized_frames.add(1),
                ExchangeError::Stalled => server.counters.stalled_streams.add(1),
                error if error.is_peer_fault() => server.counters.bad_frames.add(1),
                _ => {}
            }
        });
    }
}

/// A place among those of an origin, where origins are counted; an error when it has none left.
fn origin_place(
    places: &Arc<Places<Origin>>,
    origin: Origin,
    max: usize,
) -> Result<Option<Place<Origin>>, Refused> {
    if origin == Origin::default() || origin.is_loopback() {
        return Ok(None);
    }
    places.take(origin, max).map(Some).ok_or(Refused::Quota)
}

impl Server {
    /// Answers one stream until its end.
    pub(super) async fn serve<S: AsyncRead + AsyncWrite>(
        &self,
        peer: PeerId,
        io: S,
    ) -> Result<(), ExchangeError> {
        let (read, write) = tokio::io::split(io);
        let mut frames = FrameReader::new(read, MAX_REQUEST_FRAME_BYTES);
        let mut out = FrameWriter::new(write);
        loop {
            let next = timeout(IDLE, frames.next()).await;
            let Some(frame) = next.map_err(|_| ExchangeError::Stalled)?? else {
                return Ok(());
            };
            let (kind, body) = match Request::decode(frame.kind, &frame.body)? {
                Request::Announce(announce) => (KIND_TAKEN, self.take(peer, &announce).await?),
                Request::Find(find) => (KIND_FOUND, self.find(&find)?),
            };
            out.send(kind, frame.id, &body).await?;
        }
    }

    pub(super) async fn take(
        &self,
        peer: PeerId,
        announce: &Announce,
    ) -> Result<Vec<u8>, ExchangeError> {
        // A disk that is behind slows announcers down; after a while they are taken all the same.
        let _ = self.records.room().await;
        let ttl = Duration::from_secs(announce.ttl_secs.into()).min(MAX_TTL);
        let from = Announcer {
            peer,
            origin: self.origins.of(&peer),
            addrs: &announce.usable_addrs(&peer),
        };
        let near = self.neighbourhood.borrow().clone();
        let mut outcome = Taken::default();
        for (at, keys) in announce.keys.chunks(KEYS_AT_ONCE).enumerate() {
            if at > 0 {
                // Lookups are answered in between.
                yield_now().await;
            }
            outcome.join(self.records.add_provided(&from, keys, ttl, &near));
        }
        self.counters.count_refused(&outcome);
        TakenBits::encode(&message::Taken {
            taken: outcome.taken,
            full: outcome.full,
        })
    }

    fn find(&self, find: &Find) -> Result<Vec<u8>, ExchangeError> {
        let mut answer = FoundBuilder::default();
        for key in &find.keys {
            if !answer.add(&held(&self.records, key)) {
                break;
            }
        }
        answer.encode()
    }
}

/// The providers of a key that this node knows of: itself first, if it is one, then what it holds.
pub(crate) fn held(records: &Arc<Records>, key: &Key) -> Vec<Provider> {
    let known = KadStore(records.clone()).providers(&RecordKey::new(key));
    let known = known.into_iter();
    known
        .map(|record| {
            (
                record.provider,
                addrs::usable(&record.provider, record.addresses),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_its_share_of_the_streams_and_no_more() {
        let places = Arc::new(Places::default());
        let take = |addr: &str, max| {
            let origin = Origin::of(&addr.parse().unwrap());
            origin_place(&places, origin, max)
        };
        let one = take("/ip4/9.9.9.1/tcp/1", 2).unwrap();
        let two = take("/ip4/9.9.9.2/tcp/1", 2).unwrap();
        assert!(one.is_some() && two.is_some());
        assert!(take("/ip4/9.9.9.3/tcp/1", 2).is_err(), "the same /24");
        assert!(take("/ip4/9.9.8.3/tcp/1", 2).is_ok());
        drop(one);
        assert!(take("/ip4/9.9.9.3/tcp/1", 2).is_ok());
        let private = take("/ip4/10.0.0.1/tcp/1", 1);
        assert!(private.is_ok() && take("/ip4/10.0.0.1/tcp/1", 1).is_err());
        assert!(take("/ip4/10.0.0.2/tcp/1", 1).is_ok(), "another machine");
        for _ in 0..3 {
            assert!(take("/ip4/127.0.0.1/tcp/1", 0).is_ok());
            assert!(take("/memory/1", 0).is_ok());
        }
    }
}
