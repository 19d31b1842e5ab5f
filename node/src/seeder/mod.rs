//! Serves what is here to peers that ask.
//!
//! [`places`] says who may have a stream, [`crate::swarm`] who of them is sent chunks, [`stream`] serves one peer's stream
//! with a [`desk`] where its requests wait, [`answers`] knows what to say, and [`recent`] keeps what took work to make.

mod answers;
mod desk;
mod places;
mod recent;
mod stream;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use casnode_dht::{Incoming, IncomingStreams, Profile};

use self::{answers::Answers, places::Places, stream::End};
use crate::{
    budget::Share,
    clock,
    node::Node,
    swarm::{self, AddressBook, Counters, Swarms},
};

/// Chunks of a stream that are read ahead of the wire when few are served: one of them may be fast.
const READ_AHEAD: usize = 8;

/// The same when many are served: each is slow, and what was read may have to be thrown away.
const READ_AHEAD_OF_MANY: usize = 2;

/// See [`READ_AHEAD`].
const FEW_SERVED: usize = 4;

/// How often memory is given back that serving had no use for.
const TRIM_PAUSE: Duration = Duration::from_secs(10);

/// What all streams are served from.
struct Seeder {
    answers: Arc<Answers>,
    /// Memory for chunks that are read ahead, of all streams.
    ahead: Share,
    swarms: Arc<Swarms>,
    book: Arc<dyn AddressBook>,
}

impl Seeder {
    /// Chunks of one stream that are to be read ahead of the wire.
    fn read_ahead(&self) -> usize {
        match self.swarms.served() {
            0..=FEW_SERVED => READ_AHEAD,
            _ => READ_AHEAD_OF_MANY,
        }
    }
}

/// Serves inbound streams until the node ends.
pub(crate) async fn run(
    node: Arc<Node>,
    profile: Profile,
    mut incoming: IncomingStreams,
) -> Result<(), Infallible> {
    let places = Arc::new(Places::new(profile, clock::now()));
    let Some(dht) = &node.dht else { return Ok(()) };
    let shares = node.memory.shares();
    let answers = Answers::new(
        node.store.clone(),
        node.downloads.clone(),
        node.seeding.clone(),
        shares.manifests_bytes,
    );
    let seeder = Arc::new(Seeder {
        answers: Arc::new(answers),
        ahead: Share::of(shares.read_ahead_bytes),
        swarms: node.swarms.clone(),
        book: Arc::new(dht.clone()),
    });
    let (swarms, book) = (&seeder.swarms, &seeder.book);
    let choking = swarm::choke(swarms.clone(), node.seeding.clone(), node.downloads.clone());
    node.tasks.spawn("choker", choking);
    let introducing = swarm::introduce(swarms.clone(), book.clone());
    node.tasks.spawn("introduce", introducing);
    let trimming = trim_now_and_then(seeder.answers.clone());
    node.tasks.spawn("give memory back", trimming);
    while let Some(stream) = incoming.recv().await {
        let Incoming {
            peer,
            requests,
            replies,
            ..
        } = stream;
        let end = node.tasks.token().child_token();
        let Some(place) = places.take(peer, end.clone(), clock::now()) else {
            tracing::debug!(%peer, "all places are taken; a stream was refused");
            continue;
        };
        let seeder = seeder.clone();
        node.tasks.spawn("serve", async move {
            let outcome = tokio::select! {
                outcome = stream::serve(&seeder, peer, requests, replies, &place) => outcome,
                () = end.cancelled() => {
                    tracing::debug!(%peer, "a stream had to make room");
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                if let End::Breach(_) = error {
                    Counters::add(&seeder.swarms.counters().breaches, 1);
                }
                tracing::debug!(%peer, %error, "a stream ended");
            }
            Ok::<(), Infallible>(())
        });
    }
    Ok(())
}

async fn trim_now_and_then(answers: Arc<Answers>) -> Result<(), Infallible> {
    loop {
        tokio::time::sleep(TRIM_PAUSE).await;
        answers.trim();
    }
}
