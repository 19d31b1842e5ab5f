//! Lookups that are under way, and who waits for them.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::kad::QueryId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::command::{Candidate, ClosestPeers, FindEvent, Search};

/// How long a query that was told to finish may take to report what it has: it asks nobody any more, so
/// the next turn of the swarm brings it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a query is for.
pub(super) enum Purpose {
    Providers(Search),
    Record {
        values: mpsc::Sender<Candidate>,
        /// Taken when the query ends.
        asked: Option<oneshot::Sender<u32>>,
    },
    Closest(Option<oneshot::Sender<ClosestPeers>>),
    Put {
        answer: Option<oneshot::Sender<u32>>,
        peers: u32,
    },
}

/// A query under way. Its permit is given back when it is dropped.
pub(super) struct Query {
    pub(super) purpose: Purpose,
    pub(super) deadline: Instant,
    /// Whether the deadline has passed and Kademlia was told to finish.
    pub(super) timed_out: bool,
    /// Requests sent so far.
    pub(super) asked: u32,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Query {
    /// Whether nobody waits for the result any more.
    fn is_abandoned(&self) -> bool {
        match &self.purpose {
            Purpose::Providers(search) => search.events.is_closed(),
            Purpose::Record { values, .. } => values.is_closed(),
            Purpose::Closest(answer) => answer.as_ref().is_none_or(oneshot::Sender::is_closed),
            Purpose::Put { answer, .. } => answer.as_ref().is_none_or(oneshot::Sender::is_closed),
        }
    }

    /// Tells who waits that the query is over. Dropping does nothing more.
    pub(super) fn end(self) {
        match self.purpose {
            Purpose::Providers(search) => {
                let found = u32::try_from(search.found.len()).unwrap_or(u32::MAX);
                let done = FindEvent::Done {
                    asked_peers: self.asked,
                    found,
                    timed_out: self.timed_out,
                };
                // The channel has room for all providers and this.
                let _ = search.events.try_send(done);
            }
            Purpose::Record { asked, .. } => {
                if let Some(asked) = asked {
                    let _ = asked.send(self.asked);
                }
            }
            Purpose::Closest(answer) => {
                if let Some(answer) = answer {
                    let _ = answer.send(ClosestPeers::default());
                }
            }
            Purpose::Put { answer, .. } => {
                if let Some(answer) = answer {
                    let _ = answer.send(0);
                }
            }
        }
    }
}

/// The queries under way. Bounded by the permits they carry.
#[derive(Default)]
pub(super) struct Queries(HashMap<QueryId, Query>);

impl Queries {
    pub(super) fn insert(&mut self, id: QueryId, query: Query) {
        self.0.insert(id, query);
    }

    pub(super) fn get_mut(&mut self, id: &QueryId) -> Option<&mut Query> {
        self.0.get_mut(id)
    }

    pub(super) fn remove(&mut self, id: &QueryId) -> Option<Query> {
        self.0.remove(id)
    }

    /// Queries that are to be forgotten: nobody waits for them, or their last words do not come.
    pub(super) fn over(&self, now: Instant) -> Vec<QueryId> {
        let over = self.0.iter().filter(|(_, query)| {
            query.is_abandoned() || (query.timed_out && query.deadline + LAST_WORDS <= now)
        });
        over.map(|(id, _)| *id).collect()
    }

    /// Queries whose time has just run out; each is returned once.
    pub(super) fn late(&mut self, now: Instant) -> Vec<QueryId> {
        let running = self.0.iter_mut().filter(|(_, query)| !query.timed_out);
        let late = running.filter(|(_, query)| query.deadline <= now);
        late.map(|(id, query)| {
            query.timed_out = true;
            *id
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    fn kad_id() -> QueryId {
        let me = libp2p::PeerId::random();
        let store = libp2p::kad::store::MemoryStore::new(me);
        libp2p::kad::Behaviour::new(me, store).get_closest_peers(me)
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_query_is_kept_for_its_last_words_and_not_for_ever() {
        let (id, mut queries, start) = (kad_id(), Queries::default(), Instant::now());
        let (answer, mut answered) = oneshot::channel();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let query = Query {
            purpose: Purpose::Closest(Some(answer)),
            deadline: start + LAST_WORDS,
            timed_out: false,
            asked: 0,
            _permit: permit,
        };
        queries.insert(id, query);
        assert!(queries.late(start).is_empty() && queries.over(start).is_empty());
        let late = start + LAST_WORDS;
        assert_eq!(queries.late(late), [id]);
        assert!(queries.late(late).is_empty(), "told once");
        assert!(queries.over(late).is_empty(), "its answer may come");
        assert_eq!(queries.over(late + LAST_WORDS), [id]);
        queries.remove(&id).unwrap().end();
        let answered = answered.try_recv().unwrap();
        assert!(answered.peers.is_empty() && !answered.complete);
    }
}
