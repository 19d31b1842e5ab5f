//! What is here of a file and a peer has not been told of: by a download that runs, or found in the store.

use std::sync::Arc;

use casnode_cas::HaveBitmap;
use tokio::sync::watch;

use crate::{download::LiveHave, swarm::Here};

/// Chunks that are here, and which of them a peer knows: it is told of each once.
#[derive(Debug)]
pub(super) struct Untold {
    /// What the peer was told of.
    known: HaveBitmap,
    live: Option<Followed>,
    found: Option<Found>,
}

/// A download that brings chunks.
#[derive(Debug)]
struct Followed {
    live: Arc<LiveHave>,
    /// How many of its chunks have been looked at.
    seen: usize,
}

/// What was here at the last look.
#[derive(Debug)]
struct Found {
    have: HaveBitmap,
    /// The first chunk that has not been looked at.
    next: usize,
}

impl Untold {
    /// The peer was told of these chunks; more come of a download, if one runs.
    pub(super) fn new(told: HaveBitmap, live: Option<Arc<LiveHave>>) -> Self {
        Self {
            known: told,
            live: live.map(Followed::new),
            found: None,
        }
    }

    /// This is here now.
    pub(super) fn look(&mut self, here: &Here) {
        let is_same = |of: &Followed| here.live.as_ref().is_some_and(|l| Arc::ptr_eq(l, &of.live));
        if !self.live.as_ref().is_some_and(is_same) {
            self.live = here.live.clone().map(Followed::new);
        }
        let is_new = here.live.is_none() && here.have.len() == self.known.len();
        self.found = is_new.then(|| Found {
            have: here.have.clone(),
            next: 0,
        });
    }

    /// Nothing is here now.
    pub(super) fn look_elsewhere(&mut self) {
        self.live = None;
        self.found = None;
    }

    /// What the peer has not been told of, at most `most` chunks; to be asked for again until it is empty.
    pub(super) fn take(&mut self, most: usize) -> Vec<u32> {
        let mut news = Vec::new();
        if let Some(found) = &mut self.found {
            while news.len() < most && found.next < found.have.len() {
                if found.have.get(found.next) && self.known.set(found.next) {
                    news.push(u32::try_from(found.next).unwrap_or(u32::MAX));
                }
                found.next += 1;
            }
            if found.next >= found.have.len() {
                self.found = None;
            }
        }
        while let Some(of) = &mut self.live
            && news.len() < most
        {
            let came = of.live.news(of.seen, most - news.len());
            if came.is_empty() {
                break;
            }
            of.seen += came.len();
            let fresh = |index: &u32| self.known.set(*index as usize);
            news.extend(came.into_iter().filter(fresh));
        }
        news
    }

    /// How much is to be told of, about.
    pub(super) fn waiting(&self) -> usize {
        let came = |of: &Followed| of.live.got_count().saturating_sub(of.seen);
        let found = |found: &Found| found.have.len() - found.next;
        self.live.as_ref().map_or(0, came) + self.found.as_ref().map_or(0, found)
    }

    /// The peer knows everything.
    pub(super) fn is_nothing(&self) -> bool {
        self.known.is_complete()
    }

    /// The download that is followed is over: what it has brought by now is all that comes of it.
    pub(super) fn has_ended(&self) -> bool {
        self.live.as_ref().is_some_and(|of| of.live.is_over())
    }

    /// Wakes when the download that is followed brings more, or ends.
    pub(super) fn watch_count(&self) -> Option<watch::Receiver<usize>> {
        self.live.as_ref().map(|of| of.live.watch_count())
    }
}

impl Followed {
    fn new(live: Arc<LiveHave>) -> Self {
        Self { live, seen: 0 }
    }
}
