//! Who has a stream: a bounded number of them, shared between peers, and never for good.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use casnode_dht::{PeerId, Profile};
use tokio_util::sync::CancellationToken;

use crate::swarm::Line;

/// Streams at a time, over all peers. One that is choked costs some kilobytes, and two bits for each chunk of its file: what
/// its peer has, and what it was told of. Only those that are served hold chunks in memory, and the choker bounds their number.
const fn max_streams(profile: Profile) -> usize {
    match profile {
        Profile::Home => 64,
        Profile::Server => 512,
        Profile::Lab => 1024,
    }
}

/// Streams of one peer: one for each of its downloads. Sixteen peers can still fill all places of a desktop machine.
pub(super) const MAX_STREAMS_PER_PEER: usize = 4;

/// A stream that sent a chunk, began, or was unchoked less than this ago does not have to make room: a flood of newcomers
/// would otherwise end the very streams that are busy.
const SAFE_SPAN: Duration = Duration::from_secs(30);

/// The streams there are.
#[derive(Debug)]
pub(super) struct Places {
    began: Instant,
    max_streams: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    id: u64,
    peer: PeerId,
    useful: Arc<AtomicU64>,
    line: Arc<Line>,
    end: CancellationToken,
}

/// A stream's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    /// When it last sent a chunk, began, or was unchoked: milliseconds since there are places.
    useful: Arc<AtomicU64>,
    line: Arc<Line>,
}

impl Places {
    /// As many as befit the machine.
    pub(super) fn new(profile: Profile, now: Instant) -> Self {
        Self {
            began: now,
            max_streams: max_streams(profile),
            table: Mutex::default(),
        }
    }

    /// Takes a place for a stream of `peer` that `end` ends. When all are taken, the stream that has sent no chunk for
    /// longest has to go, but none that waits for its turn. `None` when the peer has its share, or every stream is busy or
    /// waits.
    pub(super) fn take(
        self: &Arc<Self>,
        peer: PeerId,
        end: CancellationToken,
        now: Instant,
    ) -> Option<Place> {
        let mut table = self.lock();
        let own = table.taken.iter().filter(|t| t.peer == peer).count();
        if own >= MAX_STREAMS_PER_PEER {
            return None;
        }
        if table.taken.len() >= self.max_streams {
            table.make_room(self.since_began(now))?;
        }
        table.next_id += 1;
        let id = table.next_id;
        let useful = Arc::new(AtomicU64::new(self.since_began(now)));
        let line: Arc<Line> = Arc::default();
        table.taken.push(Taken {
            id,
            peer,
            useful: useful.clone(),
            line: line.clone(),
            end,
        });
        Some(Place {
            places: self.clone(),
            id,
            useful,
            line,
        })
    }

    /// In milliseconds.
    fn since_began(&self, now: Instant) -> u64 {
        let span = now.saturating_duration_since(self.began);
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn make_room(&mut self, now_ms: u64) -> Option<()> {
        let useful_ms = |at: &usize| self.taken[*at].useful.load(Ordering::Relaxed);
        let idle = (0..self.taken.len()).filter(|at| !self.taken[*at].line.is_waiting());
        let longest = idle.min_by_key(useful_ms)?;
        let idle = Duration::from_millis(now_ms.saturating_sub(useful_ms(&longest)));
        if idle < SAFE_SPAN {
            return None;
        }
        self.taken.swap_remove(longest).end.cancel();
        Some(())
    }
}

impl Place {
    /// What the stream and the registry of swarms share.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The stream has sent a chunk, or may do so from now on.
    pub(super) fn is_useful(&self, now: Instant) {
        let now_ms = self.places.since_began(now);
        self.useful.store(now_ms, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.retain(|t| t.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STREAMS: usize = max_streams(Profile::Home);

    /// The places of a desktop machine.
    fn places(start: Instant) -> Arc<Places> {
        Arc::new(Places::new(Profile::Home, start))
    }

    struct Stream {
        place: Place,
        end: CancellationToken,
    }

    fn open(places: &Arc<Places>, peer: PeerId, now: Instant) -> Option<Stream> {
        let end = CancellationToken::new();
        let place = places.take(peer, end.clone(), now)?;
        Some(Stream { place, end })
    }

    /// All places, taken one second after the other from `start` on, by as few peers as possible.
    fn fill(places: &Arc<Places>, start: Instant) -> Vec<Stream> {
        let mut peer = PeerId::random();
        let mut open_one = |i: usize| {
            if i.is_multiple_of(MAX_STREAMS_PER_PEER) {
                peer = PeerId::random();
            }
            let after = Duration::from_secs(u64::try_from(i).unwrap());
            open(places, peer, start + after).unwrap()
        };
        (0..MAX_STREAMS).map(&mut open_one).collect()
    }

    #[test]
    fn one_peer_has_its_share_and_no_more() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let places = places(now);
        let mut own: Vec<_> = (0..MAX_STREAMS_PER_PEER)
            .map(|_| open(&places, peer, now).unwrap())
            .collect();
        assert!(open(&places, peer, now).is_none());
        assert!(open(&places, PeerId::random(), now).is_some());
        own.pop();
        assert!(open(&places, peer, now).is_some());
    }

    #[test]
    fn the_stream_that_has_sent_nothing_for_longest_makes_room() {
        let start = Instant::now();
        let places = places(start);
        let streams = fill(&places, start);
        let later = start + Duration::from_secs(200);
        // All but the third have sent a chunk since; the first one long ago.
        for (i, stream) in streams.iter().enumerate().filter(|(i, _)| *i != 2) {
            let after = Duration::from_secs(100 + u64::try_from(i).unwrap());
            stream.place.is_useful(start + after);
        }
        let mut newcomers = Vec::new();
        for gone in [2, 0, 1, 3] {
            assert!(!streams[gone].end.is_cancelled());
            newcomers.push(open(&places, PeerId::random(), later).unwrap());
            assert!(streams[gone].end.is_cancelled(), "{gone}");
        }
        let ended = streams.iter().filter(|s| s.end.is_cancelled()).count();
        assert_eq!(ended, 4);
        assert!(newcomers.iter().all(|s| !s.end.is_cancelled()));
        assert_eq!(places.lock().taken.len(), MAX_STREAMS);
    }

    #[test]
    fn whoever_waits_for_its_turn_keeps_its_place() {
        let start = Instant::now();
        let places = places(start);
        let streams = fill(&places, start);
        streams.iter().for_each(|stream| stream.place.line.wants());
        let later = start + Duration::from_secs(3600);
        assert!(open(&places, PeerId::random(), later).is_none());
        // One makes nothing of its turn, one has said that it wants nothing.
        streams[40].place.line.turn(0);
        streams[41].place.line.turn(1000);
        let newcomer = open(&places, PeerId::random(), later).unwrap();
        assert!(streams[40].end.is_cancelled());
        streams[50].place.line.wants_nothing();
        let other = open(&places, PeerId::random(), later).unwrap();
        assert!(streams[50].end.is_cancelled());
        assert!(open(&places, PeerId::random(), later).is_none());
        let ended = streams.iter().filter(|s| s.end.is_cancelled()).count();
        assert_eq!(ended, 2);
        drop((newcomer, other));
    }

    #[test]
    fn a_flood_of_newcomers_ends_no_busy_stream() {
        let start = Instant::now();
        let places = places(start);
        let streams = fill(&places, start);
        let now = start + Duration::from_secs(1000);
        for stream in &streams {
            stream.place.is_useful(now);
        }
        for _ in 0..2 * MAX_STREAMS {
            assert!(open(&places, PeerId::random(), now + Duration::from_secs(1)).is_none());
        }
        assert!(streams.iter().all(|s| !s.end.is_cancelled()));
    }
}
