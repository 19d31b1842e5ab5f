//! Looking for peers that have files of a list: for the list as a whole, not for each of them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use casnode_cas::Address;
use casnode_dht::{Dht, FindManyEvent, FindOptions, Key, PeerId};
use tokio::{sync::mpsc, task::JoinSet};

use super::Seeking;
use crate::node::Node;

/// A dial to a peer named by hand.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// One search in the DHT.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(15);

/// Peers already connected that are asked although nobody named them.
const NEIGHBOURS: usize = 8;

/// Addresses that are looked up, search by search; as many as the last as long as that brings anything.
const SEARCHES: [usize; 3] = [8, 64, 256];

/// Providers taken of one address.
const PROVIDERS_WANTED: usize = 8;

/// Searches in all.
const MAX_SEARCHES: usize = 32;

/// Looks for peers on behalf of one list.
pub(super) struct Finder {
    node: Arc<Node>,
    dht: Dht,
    found: mpsc::Sender<PeerId>,
    tasks: JoinSet<()>,
    searches: usize,
    /// What was open when the last search began.
    open: usize,
    fruitless: usize,
    looked_up: HashSet<Address>,
    /// Whoever has this probably has all of it: looked up before anything else.
    whole: Option<Key>,
}

impl Finder {
    /// Asks those who are named or known, and where nobody is, the neighbours.
    pub(super) fn new(
        node: &Arc<Node>,
        dht: &Dht,
        seeking: &Seeking,
        found: mpsc::Sender<PeerId>,
    ) -> Self {
        let mut finder = Self {
            node: node.clone(),
            dht: dht.clone(),
            found,
            tasks: JoinSet::new(),
            searches: 0,
            open: usize::MAX,
            fruitless: 0,
            looked_up: HashSet::new(),
            whole: seeking.whole.map(|address| *address.as_bytes()),
        };
        if !seeking.known.is_empty() {
            let (known, found) = (seeking.known.clone(), finder.found.clone());
            finder.tasks.spawn(async move {
                for peer in known {
                    let _ = found.send(peer).await;
                }
            });
        }
        for addr in seeking.hints.clone() {
            let (dht, found) = (finder.dht.clone(), finder.found.clone());
            finder.tasks.spawn(async move {
                match dht.dial(addr.clone(), DIAL_DEADLINE).await {
                    Ok(peer) => drop(found.send(peer).await),
                    Err(error) => tracing::debug!(%addr, %error, "a named peer does not answer"),
                }
            });
        }
        finder
    }

    /// Whether nobody is being looked for.
    pub(super) fn is_idle(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }

    /// How many addresses the next search is for; `None` when there is none.
    pub(super) fn next_search(&self) -> Option<usize> {
        let at = self.searches.min(SEARCHES.len() - 1);
        let goes_on = self.fruitless < SEARCHES.len() && self.searches < MAX_SEARCHES;
        goes_on.then_some(SEARCHES[at])
    }

    /// Looks up who has these, a few of those that nobody has who is asked, of whom there are so many.
    pub(super) fn search(&mut self, addresses: Vec<Address>, open: usize) {
        let is_first = self.searches == 0;
        self.fruitless += usize::from(open >= self.open || is_first);
        self.searches += 1;
        self.open = open;
        let new = addresses.into_iter().filter(|a| self.looked_up.insert(*a));
        let new = new.map(|address| *address.as_bytes());
        let keys: Vec<Key> = self.whole.take().into_iter().chain(new).collect();
        let (node, dht, found) = (self.node.clone(), self.dht.clone(), self.found.clone());
        self.tasks.spawn(async move {
            if is_first {
                dht.connected_within(node.network_patience()).await;
                for neighbour in dht.peers().await.into_iter().take(NEIGHBOURS) {
                    let _ = found.send(neighbour.peer).await;
                }
            }
            if keys.is_empty() {
                return;
            }
            let options = FindOptions {
                limit: PROVIDERS_WANTED,
                deadline: LOOKUP_DEADLINE,
                connect: true,
                use_cache: true,
                ..FindOptions::default()
            };
            let mut answers = dht.find_many(keys, options);
            while let Some(answer) = answers.recv().await {
                if let FindManyEvent::Provider { peer, .. } = answer {
                    let _ = found.send(peer).await;
                }
            }
        });
    }
}
