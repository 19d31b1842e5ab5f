//! The tasks of the swarms: one decides who is served, one finds out where those who came can be reached.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use casnode_cas::Address;
use casnode_dht::{Dht, Multiaddr, PeerId};
use tokio::time::{Instant, sleep, timeout};

use super::Swarms;
use crate::{choke::ROUND_EVERY, clock, download::Downloads, seeding::Seeding};

/// How often it is counted what was sent.
const COUNT: Duration = Duration::from_secs(1);

/// A slot that became free is given again after this long: a peer that changes its mind all the time is worth no more.
const SETTLE: Duration = Duration::from_millis(100);

/// When peers that could not be found are looked for again. One that has just connected has not yet said where it is.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A look takes no longer.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) type Addresses<'a> = Pin<Box<dyn Future<Output = Vec<Multiaddr>> + Send + 'a>>;

/// Knows where others may reach a peer that is connected to this node.
pub(crate) trait AddressBook: Send + Sync {
    /// At most four addresses.
    fn addresses_of(&self, peer: PeerId) -> Addresses<'_>;

    /// Those of somebody else's addresses that a connected peer may be told.
    fn tellable_to(&self, to: &PeerId, addrs: Vec<Multiaddr>) -> Vec<Multiaddr>;
}

impl AddressBook for Dht {
    fn addresses_of(&self, peer: PeerId) -> Addresses<'_> {
        Box::pin(Dht::addresses_of(self, peer))
    }

    fn tellable_to(&self, to: &PeerId, addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
        Dht::tellable_to(self, to, addrs)
    }
}

/// Decides who is served, until the node ends. While nobody asks, it sleeps.
pub(crate) async fn choke(
    swarms: Arc<Swarms>,
    seeding: Arc<Seeding>,
    downloads: Arc<Downloads>,
) -> Result<(), Infallible> {
    let (mut next_count, mut next_round) = (Instant::now(), Instant::now());
    loop {
        if swarms.lock().is_quiet() {
            swarms.changed.notified().await;
            next_round = Instant::now() + ROUND_EVERY;
        }
        let wait = next_count.saturating_duration_since(Instant::now());
        if timeout(wait, swarms.changed.notified()).await.is_ok() {
            sleep(SETTLE).await;
            swarms.lock().fill(swarms.now());
        }
        if Instant::now() >= next_count {
            swarms.count_sent(&seeding);
            end_those_over(&swarms, &seeding, &downloads);
            next_count = Instant::now() + COUNT;
        }
        if Instant::now() >= next_round {
            swarms.lock().round(swarms.now());
            next_round = Instant::now() + ROUND_EVERY;
        }
    }
}

/// Ends what was served for a time only. A file that is being fetched is served whatever was said of it before.
fn end_those_over(swarms: &Swarms, seeding: &Seeding, downloads: &Downloads) {
    let now_s = clock::unix_s();
    let is_over =
        |address: &Address| !seeding.may_serve(address, now_s) && !downloads.is_wanted(address);
    swarms.lock().end_those_over(is_over);
}

/// Finds out where those are who came, until the node ends: others are told then.
pub(crate) async fn introduce(
    swarms: Arc<Swarms>,
    book: Arc<dyn AddressBook>,
) -> Result<(), Infallible> {
    loop {
        let sought = swarms.lock().sought(swarms.now());
        if let Some((manifest, peer)) = sought {
            let addrs = timeout(LOOK_DEADLINE, book.addresses_of(peer)).await;
            swarms.found(&manifest, &peer, &addrs.unwrap_or_default());
        } else if swarms.lock().is_empty() {
            swarms.came.notified().await;
        } else {
            let _ = timeout(LOOK_AGAIN, swarms.came.notified()).await;
        }
    }
}
