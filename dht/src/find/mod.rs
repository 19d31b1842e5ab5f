//! Finding: who provides a key ([`one`]), or many keys at once ([`many`]).
//!
//! First comes what is known here ([`cache`], and the records this node holds), then a Kademlia lookup. When
//! that brings nobody, the peers of the whole region around the key are asked directly ([`wide`]): a few
//! identities chosen to lie next to a key, or liars on the way, cannot hide what honest peers hold.

mod ask;
mod cache;
mod hops;
mod many;
mod one;
mod share;
mod wide;

pub(crate) use cache::Cache;
pub use hops::TraceEvent;
pub(crate) use hops::{TRACE_EVENTS, trace};
pub use many::MAX_FIND_KEYS;
pub(crate) use many::{MANY_EVENTS, find_many};
pub(crate) use one::{channel, find_one};
pub(crate) use share::Named;

use std::collections::HashSet;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::Key;
use crate::batch::{self, Provider};
use crate::command::{Command, FindOptions};
use crate::handle::Inner;

/// Providers that one search reports at most, of one key.
pub(crate) const MAX_PROVIDERS: usize = 255;
/// The longest a search may take, whatever its caller says.
const MAX_DEADLINE: Duration = Duration::from_secs(3600);

/// What is known here of a key, before anybody is asked.
struct KnownHere {
    /// From earlier searches, the latest heard of first.
    cached: Vec<Provider>,
    /// Whether a lookup would bring no more than that.
    complete: bool,
    /// From the records this node holds for others; they may be old.
    held: Vec<Provider>,
}

impl KnownHere {
    fn all(self) -> Vec<Provider> {
        let mut all = self.cached;
        all.extend(self.held);
        all
    }
}

/// When a search that begins now must be over.
fn end_of(options: &FindOptions) -> Instant {
    Instant::now() + options.deadline.min(MAX_DEADLINE)
}

impl Inner {
    /// The providers of a key that are known here.
    fn known_providers(&self, key: &Key, options: &FindOptions) -> KnownHere {
        let (cached, complete) = match options.use_cache {
            true => self.cache().get(key, Instant::now()),
            false => (Vec::new(), false),
        };
        let mut seen: HashSet<PeerId> = cached.iter().copied().collect();
        let held = batch::held(&self.records, key);
        let held = held
            .into_iter()
            .filter(|(peer, _)| options.include_self || *peer != self.peer);
        KnownHere {
            complete,
            held: held.filter(|(peer, _)| seen.insert(*peer)).collect(),
            cached: cached.into_iter().map(|peer| (peer, Vec::new())).collect(),
        }
    }

    /// Of providers found elsewhere than in a lookup, those that may be reported, connected ones first, with
    /// all addresses known; they can be dialled afterwards, or are dialled at once.
    async fn reportable(&self, found: Vec<Provider>, connect: bool) -> Vec<Provider> {
        if found.is_empty() {
            return found;
        }
        let reportable = self.ask(|answer| Command::Providers {
            found,
            connect,
            answer,
        });
        reportable.await.unwrap_or_default()
    }
}
