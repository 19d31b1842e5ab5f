//! Lookups that are under way, and who waits for them.

use std::collections::HashMap;

use libp2p::kad::QueryId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::command::{Candidate, ClosestPeers, FindEvent, Search};

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
    pub(super) fn end(self, timed_out: bool) {
        match self.purpose {
            Purpose::Providers(search) => {
                let found = u32::try_from(search.found.len()).unwrap_or(u32::MAX);
                let done = FindEvent::Done {
                    asked_peers: self.asked,
                    found,
                    timed_out,
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
                    let _ = answer.send(Vec::new());
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

    /// Queries whose time is up, or which nobody waits for.
    pub(super) fn over(&self, now: Instant) -> Vec<(QueryId, bool)> {
        let over = self.0.iter().filter_map(|(id, query)| {
            let late = query.deadline <= now;
            (late || query.is_abandoned()).then_some((*id, late))
        });
        over.collect()
    }
}
