//! One inbound stream's part in a swarm.

use std::sync::Arc;

use casnode_cas::{Address, HaveBitmap, ManifestId};
use casnode_dht::PeerId;
use tokio::sync::{Notify, watch};

use super::{
    Swarms,
    crowd::Other,
    line::{Interest, Line},
};
use crate::download::LiveHave;

/// What is here of a manifest that is joined.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    pub(crate) address: Address,
    /// What was here a moment ago.
    pub(crate) have: HaveBitmap,
    /// Where more of it comes from.
    pub(crate) live: Option<Arc<LiveHave>>,
}

impl Here {
    /// What is here at this moment.
    pub(super) fn now(&self) -> HaveBitmap {
        let live = self.live.as_ref().map(|live| live.claim().0);
        live.unwrap_or_else(|| self.have.clone())
    }

    /// All of it is here.
    pub(super) fn is_whole(&self) -> bool {
        let live = self.live.as_ref().map(|live| live.is_whole());
        live.unwrap_or_else(|| self.have.is_complete())
    }
}

/// What the peer of a stream is told, in answer to its join, of what is here.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) have: HaveBitmap,
    /// It may be less than is here: the rest comes by [`Membership::take_news`], all of it in the end.
    pub(crate) by_offers: bool,
}

/// A stream that wants to join.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) peer: PeerId,
    pub(crate) manifest: ManifestId,
    pub(crate) line: Arc<Line>,
    /// What its peer has; of the length that it says.
    pub(crate) has: HaveBitmap,
    /// What is here; nothing when the manifest is not known.
    pub(crate) here: Option<Here>,
}

/// A stream that has joined; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(super) swarms: Arc<Swarms>,
    pub(super) manifest: ManifestId,
    pub(super) peer: PeerId,
    pub(super) id: u64,
    pub(super) line: Arc<Line>,
}

impl Membership {
    /// Its peer has these chunks, too; false when there is one among them that there is not.
    pub(crate) fn got(&self, indices: &[u32]) -> bool {
        self.swarms
            .with_member(self, |swarm, id, now| swarm.got(id, indices, now))
            .unwrap_or(true)
    }

    /// What is here is known better than when it joined.
    pub(crate) fn sees(&self, here: Here) {
        self.swarms
            .with_member(self, |swarm, _, _| swarm.here = Some(here));
    }

    /// Its peer wants something, or does not any more. It is heard at the next occasion, so that a flood costs nothing.
    pub(crate) fn interest(&self, wants: bool) {
        let interest = if wants { Interest::Yes } else { Interest::No };
        if self.line.set_interest(interest) {
            self.swarms.changed.notify_one();
        }
    }

    /// A chunk went out.
    pub(crate) fn sent(&self, index: u32) {
        if self.line.is_offered() {
            self.swarms
                .with_member(self, |swarm, id, now| swarm.served(id, index, now));
        }
    }

    /// Chunks that its peer is to be told of, so many at most; to be asked for again until there are none.
    pub(crate) fn take_news(&self, most: usize) -> Vec<u32> {
        self.swarms
            .with_member(self, |swarm, id, _| swarm.take_news(id, most))
            .unwrap_or_default()
    }

    /// How many chunks its peer is to be told of now.
    pub(crate) fn news_waiting(&self) -> usize {
        self.swarms
            .with_member(self, |swarm, id, _| swarm.news_waiting(id))
            .unwrap_or_default()
    }

    /// Wakes when there may be more for [`Membership::take_news`].
    pub(crate) fn news(&self) -> &Notify {
        &self.line.news
    }

    /// Wakes when there may be others to tell of.
    pub(crate) fn watch_others(&self) -> Option<watch::Receiver<u64>> {
        self.swarms
            .with_member(self, |swarm, _, _| swarm.crowd.watch())
    }

    /// Others of the swarm, those left out that were among the first `from`; and where to go on from.
    pub(crate) fn others(&self, from: u64) -> (Vec<Other>, u64) {
        self.swarms
            .with_member(self, |swarm, _, _| swarm.crowd.others(&self.peer, from))
            .unwrap_or((Vec::new(), from))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.swarms.leave(self);
    }
}
