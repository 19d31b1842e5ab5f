//! What the peer of a stream is told unasked: chunks that are here now, and others of the swarm.

use std::{sync::Arc, time::Duration};

use casnode_cas::ManifestId;
use casnode_dht::{
    Multiaddr, PeerId,
    exchange::{MAX_GOT, Reply, SwarmPeer},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use super::{Saying, Stream};
use crate::{download::LiveHave, seeder::Seeder, swarm::Membership};

/// Between two batches of chunks, but for large ones: a peer that takes quickly does not wait for offers.
const GOT_PACE: Duration = Duration::from_millis(100);

/// So many chunks are told of at once.
const PROMPT: usize = 32;

/// Between two lists of others.
const PEERS_PACE: Duration = Duration::from_secs(5);

/// How often it is looked whether a file of which a part is here is being fetched again.
const LOOK_PACE: Duration = Duration::from_secs(10);

/// What there is to be told to a peer that has joined the swarm of a file that is here, or a part of it.
#[derive(Debug)]
pub(super) struct Tells {
    pub(super) manifest: ManifestId,
    /// Where chunks come from.
    pub(super) live: Option<Arc<LiveHave>>,
    /// How many of them the peer has been told of.
    pub(super) told: usize,
}

/// Tells the peer of what comes, from its join on. Ends with the stream alone.
pub(super) async fn tell(
    seeder: &Arc<Seeder>,
    stream: &Stream,
    joins: oneshot::Receiver<Tells>,
    say: mpsc::Sender<Saying>,
) {
    if let (Ok(tells), Some(member)) = (joins.await, stream.member.get()) {
        let chunks = Chunks {
            seeder,
            member,
            count: tells.live.as_ref().map(|live| live.watch_count()),
            tells,
        };
        tokio::join!(chunks.tell(&say), tell_others(seeder, stream, member, &say));
    }
    std::future::pending().await
}

/// Tells of chunks: those that a download brings, and those that are offered to the peer.
struct Chunks<'a> {
    seeder: &'a Arc<Seeder>,
    member: &'a Membership,
    tells: Tells,
    count: Option<watch::Receiver<usize>>,
}

impl Chunks<'_> {
    async fn tell(mut self, say: &mpsc::Sender<Saying>) {
        loop {
            let indices = self.take();
            if indices.is_empty() {
                self.more().await;
                continue;
            }
            let got = Saying::unasked(Reply::Got { indices });
            if say.send(got).await.is_err() {
                return;
            }
            let _ = timeout(GOT_PACE, self.many()).await;
        }
    }

    /// Waits until there is much to be told.
    async fn many(&mut self) {
        while self.waiting() < PROMPT {
            tokio::select! {
                () = self.member.news().notified() => {}
                () = changed(self.count.as_mut()) => {}
            }
        }
    }

    fn waiting(&self) -> usize {
        match &self.tells.live {
            Some(live) => live.got_count().saturating_sub(self.tells.told),
            None => self.member.news_waiting(),
        }
    }

    /// What the peer has not been told of, as much as one message holds.
    fn take(&mut self) -> Vec<u32> {
        let Some(live) = &self.tells.live else {
            return self.member.take_news(MAX_GOT);
        };
        let indices = live.got_since(self.tells.told, MAX_GOT);
        self.tells.told += indices.len();
        indices
    }

    /// Waits until there may be more.
    async fn more(&mut self) {
        tokio::select! {
            () = self.member.news().notified() => {}
            () = changed(self.count.as_mut()) => {}
            () = sleep(LOOK_PACE) => self.look(),
        }
    }

    /// A download that began later brings chunks, too. What the peer knows of them is told twice.
    fn look(&mut self) {
        let Some(live) = self.seeder.answers.live(&self.tells.manifest) else {
            return;
        };
        let known = self.tells.live.as_ref();
        if known.is_none_or(|known| !Arc::ptr_eq(known, &live)) {
            self.count = Some(live.watch_count());
            self.tells.live = Some(live);
            self.tells.told = 0;
        }
    }
}

async fn changed(count: Option<&mut watch::Receiver<usize>>) {
    let Some(count) = count else {
        return std::future::pending().await;
    };
    if count.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn tell_others(
    seeder: &Arc<Seeder>,
    stream: &Stream,
    member: &Membership,
    say: &mpsc::Sender<Saying>,
) {
    let Some(mut found) = member.watch_others() else {
        return;
    };
    let mut told = 0;
    loop {
        found.borrow_and_update();
        let (others, from) = member.others(told);
        told = from;
        let others = others.into_iter();
        let peers: Vec<_> = others
            .filter_map(|other| tellable(seeder, stream, other))
            .collect();
        if !peers.is_empty() {
            if say
                .send(Saying::unasked(Reply::Peers(peers)))
                .await
                .is_err()
            {
                return;
            }
            sleep(PEERS_PACE).await;
        }
        if found.changed().await.is_err() {
            return;
        }
    }
}

/// Another peer of the swarm, if this one can be told where it is.
fn tellable(
    seeder: &Arc<Seeder>,
    stream: &Stream,
    (peer, addrs): (PeerId, Vec<Multiaddr>),
) -> Option<SwarmPeer> {
    let addrs = seeder.book.tellable_to(&stream.peer, addrs);
    let addrs: Vec<_> = addrs.iter().map(Multiaddr::to_vec).collect();
    let peer = peer.to_bytes();
    (!addrs.is_empty()).then_some(SwarmPeer { peer, addrs })
}
