//! The search for the providers of one key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use libp2p::PeerId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::ask::Answer;
use super::share::share;
use super::{MAX_PROVIDERS, end_of, wide};
use crate::Key;
use crate::batch::Provider;
use crate::command::{Command, FindEvent, FindOptions, Lookup, Search};
use crate::handle::Inner;
use crate::key::REPLICATION;

/// How long a lookup may go on without having found anybody before the wide search begins beside it.
const WIDE_AFTER: Duration = Duration::from_secs(3);
/// How long after the deadline the lookup may take to say how many it asked.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long one that has found enough may take to say so. It ends at once; one that another search has made
/// needless says nothing.
const ENOUGH_WORDS: Duration = Duration::from_millis(50);

/// Where the events of a search go.
pub(crate) fn channel(
    options: &FindOptions,
) -> (mpsc::Sender<FindEvent>, mpsc::Receiver<FindEvent>) {
    // Room for every event there can be: nothing here waits for a caller.
    mpsc::channel(limit_of(options) + 1)
}

fn limit_of(options: &FindOptions) -> usize {
    options.limit.clamp(1, MAX_PROVIDERS)
}

/// Looks for providers until enough are found, all have been asked, the time is up, or nobody listens any more.
pub(crate) async fn find_one(
    inner: Arc<Inner>,
    key: Key,
    options: FindOptions,
    events: mpsc::Sender<FindEvent>,
) {
    let ends = end_of(&options);
    let mut one = One {
        inner,
        key,
        options,
        ends,
        events: events.clone(),
        seen: HashSet::new(),
        held: HashSet::new(),
        alive: false,
        rest: Vec::new(),
        dead: Vec::new(),
        asked: 0,
        timed_out: false,
    };
    tokio::select! {
        () = events.closed() => return,
        result = timeout_at(ends + LAST_WORDS, one.run()) => one.timed_out |= result.is_err(),
    }
    let done = FindEvent::Done {
        asked_peers: one.asked,
        found: u32::try_from(one.seen.len()).unwrap_or(u32::MAX),
        timed_out: one.timed_out,
    };
    let _ = events.try_send(done);
}

struct One {
    inner: Arc<Inner>,
    key: Key,
    options: FindOptions,
    ends: Instant,
    events: mpsc::Sender<FindEvent>,
    seen: HashSet<PeerId>,
    /// Of those reported, the ones that only this node's records name.
    held: HashSet<PeerId>,
    /// Whether somebody else has named one that was not found dead a short while ago.
    alive: bool,
    /// Beyond the shares of their answers, and found dead: reported in the end if there is room. Each as many as
    /// may be reported.
    rest: Vec<Provider>,
    dead: Vec<Provider>,
    asked: u32,
    timed_out: bool,
}

impl One {
    async fn run(&mut self) {
        self.search().await;
        let mut rest = std::mem::take(&mut self.rest);
        rest.append(&mut self.dead);
        self.report_now(rest).await;
    }

    async fn search(&mut self) {
        let known = self.inner.known_providers(&self.key, &self.options);
        let limit = limit_of(&self.options);
        self.report(known.cached, limit).await;
        self.alive = !self.seen.is_empty();
        // Anybody may have told this node of the records it holds: they alone do not end a search.
        let room = limit.saturating_sub(self.seen.len() + 1);
        let alive = self.alive;
        let cached = self.seen.clone();
        self.report(known.held, share(limit).min(room)).await;
        self.held = self.seen.difference(&cached).copied().collect();
        self.alive = alive;
        if self.has_enough() || known.complete && self.alive {
            return;
        }
        let Some(lookup) = self.start_lookup().await else {
            return;
        };
        let mut lookup = Some(lookup);
        let mut wide: Option<BoxStream<'static, Answer>> = None;
        let mut wide_at = Instant::now() + WIDE_AFTER;
        let mut may_go_wide = true;
        while !self.has_enough() {
            let over = lookup.is_none() && wide.is_none();
            let wants_wide = may_go_wide && self.is_in_doubt();
            if over && !wants_wide {
                return;
            }
            tokio::select! {
                event = next_event(&mut lookup), if lookup.is_some() => match event {
                    Some(FindEvent::Provider { peer, addrs }) => {
                        self.learn(&[(peer, Vec::new())]);
                        match self.is_dead(&peer) {
                            true => keep(&mut self.dead, (peer, addrs), &self.options),
                            false => self.tell(peer, addrs),
                        }
                    }
                    Some(FindEvent::Done { asked_peers, timed_out, .. }) => {
                        self.asked = self.asked.saturating_add(asked_peers);
                        self.timed_out |= timed_out;
                        lookup = None;
                        if !timed_out {
                            self.inner.cache().completed(&self.key, Instant::now());
                            // Where there are fewer peers than hold a key, all have been asked.
                            may_go_wide &= self.asked_many() || self.knows_many();
                        }
                        wide_at = Instant::now();
                    }
                    // The node is shutting down.
                    None => return,
                },
                () = sleep_until(wide_at), if wants_wide => {
                    may_go_wide = false;
                    let now = Instant::now();
                    if now < self.ends && self.inner.cache().begin_wide(&self.key, now) {
                        wide = Some(wide::search(&self.inner, vec![self.key], self.ends));
                    }
                }
                found = next_answer(&mut wide), if wide.is_some() => match found {
                    Some(answer) => {
                        self.asked = self.asked.saturating_add(1);
                        let found: Vec<_> = answer.into_iter().flat_map(|(_, found)| found).collect();
                        self.learn(&found);
                        self.report(found, share(limit)).await;
                    }
                    None => wide = None,
                },
                () = sleep_until(self.ends), if lookup.is_none() => {
                    self.timed_out = true;
                    return;
                }
            }
        }
        if let Some(lookup) = lookup {
            self.hear_out(lookup).await;
        }
    }

    /// Learns from a lookup that has ended with enough how many it has asked.
    async fn hear_out(&mut self, mut lookup: mpsc::Receiver<FindEvent>) {
        let ended = async {
            while let Some(event) = lookup.recv().await {
                if let FindEvent::Done { asked_peers, .. } = event {
                    return asked_peers;
                }
            }
            0
        };
        let asked = timeout(ENOUGH_WORDS, ended).await.unwrap_or_default();
        self.asked = self.asked.saturating_add(asked);
    }

    /// Whether a lookup does not suffice: it finds nobody, or who searches again was not content with those it
    /// has found before.
    fn is_in_doubt(&self) -> bool {
        !self.alive || !self.options.use_cache
    }

    fn is_dead(&self, peer: &PeerId) -> bool {
        let now = Instant::now();
        self.inner.cache().is_dead(&self.key, peer, now)
    }

    fn has_enough(&self) -> bool {
        self.seen.len() >= limit_of(&self.options)
    }

    fn asked_many(&self) -> bool {
        usize::try_from(self.asked).is_ok_and(|asked| asked >= REPLICATION)
    }

    fn knows_many(&self) -> bool {
        self.inner.neighbourhood.borrow().peers().len() >= REPLICATION
    }

    /// Starts the Kademlia lookup; `None` when the time is up before it could begin.
    async fn start_lookup(&mut self) -> Option<mpsc::Receiver<FindEvent>> {
        let Ok(permit) = self.inner.permit(self.ends).await else {
            self.timed_out = true;
            return None;
        };
        let dead = self.inner.cache().dead(&self.key, Instant::now());
        let limit = limit_of(&self.options);
        let mut beside = dead.clone();
        beside.extend(&self.held);
        let (events, lookup) = mpsc::channel(limit + beside.len() + 1);
        let search = Search {
            key: self.key,
            limit: limit + dead.difference(&self.seen).count(),
            connect: self.options.connect,
            include_self: self.options.include_self,
            events,
            found: self.seen.union(&dead).copied().collect(),
            beside,
            share: share(limit),
            rest: Vec::new(),
        };
        let command = Command::LookUp {
            lookup: Lookup::Providers(search),
            deadline: self.ends,
            permit,
        };
        self.inner.send(command).await.ok()?;
        Some(lookup)
    }

    fn learn(&self, found: &[Provider]) {
        let (mut cache, now) = (self.inner.cache(), Instant::now());
        let others = found.iter().filter(|(peer, _)| *peer != self.inner.peer);
        others.for_each(|(peer, _)| cache.learn(&self.key, *peer, now));
    }

    /// Reports of the providers that one answer names as many as this, and keeps the others.
    async fn report(&mut self, found: Vec<Provider>, most: usize) {
        let mut new = Vec::new();
        for (peer, addrs) in found {
            if self.seen.contains(&peer) {
                self.alive = true;
            } else if self.is_dead(&peer) {
                keep(&mut self.dead, (peer, addrs), &self.options);
            } else if new.len() < most {
                new.push((peer, addrs));
            } else {
                keep(&mut self.rest, (peer, addrs), &self.options);
            }
        }
        self.report_now(new).await;
    }

    /// Reports those that may be and that can be reached, the first as long as there is room.
    async fn report_now(&mut self, mut new: Vec<Provider>) {
        let me = self.inner.peer;
        new.retain(|(peer, _)| {
            (self.options.include_self || *peer != me) && !self.seen.contains(peer)
        });
        new.truncate(limit_of(&self.options).saturating_sub(self.seen.len()));
        for (peer, addrs) in self.inner.reportable(new, self.options.connect).await {
            self.tell(peer, addrs);
        }
    }

    fn tell(&mut self, peer: PeerId, addrs: Vec<libp2p::Multiaddr>) {
        self.alive = true;
        if self.has_enough() || !self.seen.insert(peer) {
            return;
        }
        let _ = self.events.try_send(FindEvent::Provider { peer, addrs });
    }
}

/// Keeps a provider for the end of the search.
fn keep(kept: &mut Vec<Provider>, provider: Provider, options: &FindOptions) {
    let is_new = kept.iter().all(|(peer, _)| *peer != provider.0);
    if is_new && kept.len() < limit_of(options) {
        kept.push(provider);
    }
}

async fn next_event(lookup: &mut Option<mpsc::Receiver<FindEvent>>) -> Option<FindEvent> {
    match lookup {
        Some(lookup) => lookup.recv().await,
        None => None,
    }
}

async fn next_answer<T>(wide: &mut Option<BoxStream<'static, T>>) -> Option<T> {
    match wide {
        Some(wide) => wide.next().await,
        None => None,
    }
}
