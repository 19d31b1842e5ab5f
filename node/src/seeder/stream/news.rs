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

use super::{Saying, Stream, untold::Untold};
use crate::{
    seeder::{Seeder, answers::Known},
    swarm::Membership,
};

/// Between two batches of chunks, but for large ones: a peer that takes quickly does not wait for offers.
const GOT_PACE: Duration = Duration::from_millis(100);

/// So many chunks are told of at once.
const PROMPT: usize = 32;

/// Between two lists of others.
const PEERS_PACE: Duration = Duration::from_secs(5);

/// How often it is looked what is here of a file of which the peer does not know all.
const LOOK_PACE: Duration = Duration::from_secs(10);

/// How a peer that has joined the swarm of a file that is here, or a part of it, hears of more.
#[derive(Debug)]
pub(super) enum Tells {
    /// By what it is offered, in the end everything.
    Offers,
    /// It hears of all that is here.
    All(ManifestId, Untold),
}

/// Tells the peer of what comes, from its join on. Ends with the stream alone.
pub(super) async fn tell(
    seeder: &Arc<Seeder>,
    stream: &Stream,
    joins: oneshot::Receiver<Tells>,
    say: mpsc::Sender<Saying>,
) {
    if let (Ok(tells), Some(member)) = (joins.await, stream.member.get()) {
        let count = match &tells {
            Tells::Offers => None,
            Tells::All(_, untold) => untold.watch_count(),
        };
        let chunks = Chunks {
            seeder,
            member,
            count,
            tells,
        };
        tokio::join!(chunks.tell(&say), tell_others(seeder, stream, member, &say));
    }
    std::future::pending().await
}

/// Tells of chunks: those that come, and those that are offered to the peer.
struct Chunks<'a> {
    seeder: &'a Arc<Seeder>,
    member: &'a Membership,
    tells: Tells,
    /// Wakes when the download that is followed has more, or ends.
    count: Option<watch::Receiver<usize>>,
}

impl Chunks<'_> {
    async fn tell(mut self, say: &mpsc::Sender<Saying>) {
        loop {
            let ended = matches!(&self.tells, Tells::All(_, untold) if untold.has_ended());
            let indices = self.take();
            if indices.is_empty() {
                match ended {
                    true => self.look().await,
                    false => self.more().await,
                }
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
        match &self.tells {
            Tells::Offers => self.member.news_waiting(),
            Tells::All(_, untold) => untold.waiting(),
        }
    }

    /// What the peer has not been told of, as much as one message holds.
    fn take(&mut self) -> Vec<u32> {
        match &mut self.tells {
            Tells::Offers => self.member.take_news(MAX_GOT),
            Tells::All(_, untold) => untold.take(MAX_GOT),
        }
    }

    /// Waits until there may be more.
    async fn more(&mut self) {
        match &self.tells {
            Tells::Offers => self.member.news().notified().await,
            Tells::All(_, untold) if untold.is_nothing() => std::future::pending().await,
            Tells::All(..) => tokio::select! {
                () = changed(self.count.as_mut()) => {}
                () = sleep(LOOK_PACE) => self.look().await,
            },
        }
    }

    /// A download may have begun or ended since the last look, or the file was stored.
    async fn look(&mut self) {
        let Tells::All(manifest, untold) = &mut self.tells else {
            return;
        };
        let known = self.seeder.answers.here(*manifest).await;
        match known {
            Known::Here(here) => {
                untold.look(&here);
                self.member.sees(here);
            }
            Known::Over | Known::Unknown => untold.look_elsewhere(),
        }
        self.count = untold.watch_count();
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
