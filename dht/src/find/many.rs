//! The search for the providers of many keys: regions are looked up, and their peers are asked for all the
//! keys they may know of. Lookups grow with the network and not with the keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use rand::seq::SliceRandom;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::ask::{Answer, Asking};
use super::share::{choose, share};
use super::{MAX_PROVIDERS, end_of, wide};
use crate::Key;
use crate::announce::plan::Plan;
use crate::batch::{FIND_KEYS, Provider};
use crate::command::{FindManyEvent, FindOptions};
use crate::handle::Inner;
use crate::key::{Point, REPLICATION};

/// Events that wait for the caller.
pub(crate) const MANY_EVENTS: usize = 256;
/// Keys of one search for many: the chunks of a file of 1 GiB, and less than 1 MiB of plan. Whoever has more
/// searches several times.
pub const MAX_FIND_KEYS: usize = 4096;
/// Peers that one answer brings at most: keys of one file have the same few providers.
const MAX_PEERS_OF_ANSWER: usize = 64;
/// Lookups at a time.
const LOOKUPS_AT_ONCE: usize = 4;
/// Peers asked at a time.
const ASKED_AT_ONCE: usize = 16;
/// How long one lookup may take. What it has found by then is asked; a peer that is silent takes longer.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(4);
/// Regions that are searched widely at a time, and in all. Which, when there are more, chance decides.
const WIDE_AT_ONCE: usize = 8;
const MAX_WIDE_REGIONS: usize = 32;
/// Keys that are searched for widely.
const MAX_WIDE_KEYS: usize = 1024;
/// How many of a key's closest peers are asked together: those that everybody would ask first, and when none
/// of them knows a provider, more, up to all that should hold a record.
const ROUNDS: [std::ops::Range<usize>; 3] = [0..3, 3..8, 8..usize::MAX];
/// All of them together.
#[expect(clippy::single_range_in_vec_init, reason = "one round of all ranks")]
const ALL_AT_ONCE: [std::ops::Range<usize>; 1] = [0..usize::MAX];

/// Looks for providers of many keys until each has some or all have been asked, the time is up, or nobody
/// listens any more.
pub(crate) async fn find_many(
    inner: Arc<Inner>,
    mut keys: Vec<Key>,
    options: FindOptions,
    events: mpsc::Sender<FindManyEvent>,
) {
    let ends = end_of(&options);
    keys.sort_unstable();
    keys.dedup();
    keys.truncate(MAX_FIND_KEYS);
    let mut many = Many {
        inner,
        options,
        ends,
        events: events.clone(),
        seen: HashMap::new(),
        answered: HashSet::new(),
        lookups: 0,
        asked: 0,
        cut_off: false,
    };
    let timed_out = tokio::select! {
        () = events.closed() => return,
        result = timeout_at(ends, many.run(keys)) => result.is_err(),
    };
    let done = FindManyEvent::Done {
        lookups: many.lookups,
        asked_peers: many.asked,
        found_keys: many.seen.len(),
        timed_out: timed_out || many.cut_off,
    };
    // Not after the deadline by more than the caller takes; one that is gone ends this.
    let _ = events.send(done).await;
}

/// Who should hold records of the keys of a plan, the closest first.
#[derive(Default)]
struct Holders {
    peers: Vec<PeerId>,
    /// Positions in `peers`.
    of_keys: HashMap<Key, Vec<u32>>,
}

impl Holders {
    fn of(plan: &Plan) -> Self {
        let mut holders = Self::default();
        let mut points = Vec::new();
        for (peer, positions) in plan.batches() {
            let at = u32::try_from(holders.peers.len()).unwrap_or(u32::MAX);
            holders.peers.push(peer);
            points.push(Point::of_peer(&peer));
            for key in plan.keys_at(&positions) {
                holders.of_keys.entry(key).or_default().push(at);
            }
        }
        for (key, of_key) in &mut holders.of_keys {
            let target = Point::of_key(key);
            of_key.sort_by_cached_key(|at| points[*at as usize].distance(&target));
        }
        holders
    }

    /// Those of these ranks.
    fn of_ranks(&self, key: &Key, ranks: &std::ops::Range<usize>) -> impl Iterator<Item = PeerId> {
        let of_key = self.of_keys.get(key).map_or(&[][..], Vec::as_slice);
        let end = ranks.end.min(of_key.len());
        let of_ranks = &of_key[ranks.start.min(end)..end];
        of_ranks
            .iter()
            .filter_map(|at| self.peers.get(*at as usize).copied())
    }
}

struct Many {
    inner: Arc<Inner>,
    options: FindOptions,
    ends: Instant,
    events: mpsc::Sender<FindManyEvent>,
    /// The providers reported of each key.
    seen: HashMap<Key, HashSet<PeerId>>,
    /// Keys that somebody who was asked knows a provider of, which was not found dead.
    answered: HashSet<Key>,
    lookups: u32,
    asked: u32,
    /// Whether some key has nobody and a lookup was cut off.
    cut_off: bool,
}

impl Many {
    async fn run(&mut self, keys: Vec<Key>) {
        let mut wanted = Vec::new();
        let limit = self.options.limit.clamp(1, MAX_PROVIDERS);
        for keys in keys.chunks(FIND_KEYS) {
            let mut known_here = Vec::with_capacity(keys.len());
            for key in keys {
                let mut known = self.inner.known_providers(key, &self.options);
                // Anybody may have told this node of them: they leave room for others.
                known.held.truncate(share(limit).min(limit - 1).max(1));
                if known.cached.is_empty() {
                    wanted.push(*key);
                }
                known_here.push((*key, known.all()));
            }
            self.report(known_here).await;
        }
        if wanted.is_empty() {
            return;
        }
        let (planned, depth) = (wanted.clone(), self.inner.neighbourhood.borrow().depth());
        let plan = tokio::task::spawn_blocking(move || {
            Plan::new(planned, REPLICATION, depth, rand::random())
        });
        let Ok(mut plan) = plan.await else { return };
        if self.options.use_cache {
            let now = self.inner.records.now();
            self.inner.announcer.state().regions.tell(&mut plan, now);
        }
        let addrs = self.look_up(&mut plan).await;
        let holders = tokio::task::spawn_blocking(move || Holders::of(&plan));
        let Ok(holders) = holders.await else { return };
        // Who does not trust what was found before does not trust the first that answer either.
        let rounds = match self.options.use_cache {
            true => &ROUNDS[..],
            false => &ALL_AT_ONCE[..],
        };
        for ranks in rounds {
            self.ask_round(&wanted, &holders, &addrs, ranks.clone())
                .await;
            wanted.retain(|key| !self.answered.contains(key));
            if wanted.is_empty() {
                self.cut_off = false;
                return;
            }
        }
        self.search_widely(wanted).await;
    }

    /// Searches the whole regions of keys that nobody who was asked provides.
    async fn search_widely(&mut self, mut keys: Vec<Key>) {
        let near = self.inner.neighbourhood.borrow().clone();
        // Where there are fewer peers than hold a key, all have been asked.
        if near.peers().len() < REPLICATION && (self.asked as usize) < REPLICATION {
            return;
        }
        keys.shuffle(&mut rand::rng());
        keys.truncate(MAX_WIDE_KEYS);
        {
            let (mut cache, now) = (self.inner.cache(), Instant::now());
            keys.retain(|key| cache.begin_wide(key, now));
        }
        let regions = regions(keys, wide::region_bits(&near));
        let (inner, ends) = (self.inner.clone(), self.ends);
        let searches = stream::iter(regions.into_iter().take(MAX_WIDE_REGIONS))
            .map(move |keys| wide::search(&inner, keys, ends));
        let mut answers = searches.flatten_unordered(WIDE_AT_ONCE);
        while let Some(answer) = answers.next().await {
            self.asked = self.asked.saturating_add(1);
            self.learn(&answer);
            self.report(answer).await;
        }
    }

    /// Finds the peers of all regions that the keys lie in; returns where they listen.
    async fn look_up(&mut self, plan: &mut Plan) -> HashMap<PeerId, Vec<Multiaddr>> {
        let mut addrs = HashMap::new();
        let mut running = FuturesUnordered::new();
        // Half of the time is for asking those that are found.
        let lookups_end = Instant::now() + self.ends.saturating_duration_since(Instant::now()) / 2;
        loop {
            while running.len() < LOOKUPS_AT_ONCE
                && Instant::now() < lookups_end
                && let Some(lookup) = plan.next_lookup()
            {
                self.lookups += 1;
                let left = lookups_end.saturating_duration_since(Instant::now());
                let patience = left.min(LOOKUP_DEADLINE);
                let inner = &self.inner;
                running.push(async move {
                    (lookup.id, inner.closest_peers(lookup.key, patience).await)
                });
            }
            match running.next().await {
                None => break,
                Some((id, Ok(found))) if !found.peers.is_empty() => {
                    self.cut_off |= !found.complete;
                    let peers = found.peers.iter().map(|(peer, _)| *peer);
                    // One that was cut off has found whom to ask, and is not made again: whatever kept it waiting
                    // would do so again.
                    let region = plan.lookup_done(id, peers);
                    if let Some(region) = region.filter(|_| found.complete) {
                        let now = self.inner.records.now();
                        self.inner.announcer.state().regions.learn(region, now);
                    }
                    addrs.extend(found.peers);
                }
                Some((id, _)) => {
                    self.cut_off = true;
                    plan.lookup_failed(id);
                }
            }
        }
        plan.give_up();
        addrs
    }

    /// Asks for every key the peers of these ranks, counted from the closest.
    async fn ask_round(
        &mut self,
        keys: &[Key],
        holders: &Holders,
        addrs: &HashMap<PeerId, Vec<Multiaddr>>,
        ranks: std::ops::Range<usize>,
    ) {
        let mut questions: HashMap<PeerId, Vec<Key>> = HashMap::new();
        for key in keys {
            for peer in holders.of_ranks(key, &ranks) {
                questions.entry(peer).or_default().push(*key);
            }
        }
        self.asked = self
            .asked
            .saturating_add(u32::try_from(questions.len()).unwrap_or(u32::MAX));
        let (inner, ends) = (self.inner.clone(), self.ends);
        let (tell, mut told) = mpsc::channel(1);
        let asking = stream::iter(questions).for_each_concurrent(ASKED_AT_ONCE, move |question| {
            let (inner, tell) = (inner.clone(), tell.clone());
            let (peer, keys): (PeerId, Vec<Key>) = question;
            let known = addrs.get(&peer).cloned().unwrap_or_default();
            let mut asking = Asking::new(inner, peer, known, keys.into(), ends);
            async move {
                while let Some(answer) = asking.next().await {
                    if tell.send(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
        let reporting = async {
            while let Some(answer) = told.recv().await {
                self.learn(&answer);
                self.report(answer).await;
            }
        };
        tokio::join!(asking, reporting);
    }

    fn learn(&mut self, answer: &[(Key, Vec<Provider>)]) {
        let (mut cache, now) = (self.inner.cache(), Instant::now());
        for (key, found) in answer {
            for (peer, _) in found.iter().filter(|(peer, _)| *peer != self.inner.peer) {
                if !cache.is_dead(key, peer, now) {
                    cache.learn(key, *peer, now);
                    self.answered.insert(*key);
                }
            }
        }
    }

    /// Of those found dead a short while ago, one is better than nobody; others would take places.
    fn leave_out_dead(&self, answer: &mut Answer) {
        let (cache, now) = (self.inner.cache(), Instant::now());
        for (key, found) in answer {
            let mut is_one_wanted = !self.seen.contains_key(key) && !self.answered.contains(key);
            found.retain(|(peer, _)| {
                !cache.is_dead(key, peer, now) || std::mem::take(&mut is_one_wanted)
            });
        }
    }

    /// Reports what one answer has brought, with one question to the network task. What a hostile one names
    /// beyond what may be reported is neither kept nor dialled.
    async fn report(&mut self, mut answer: Answer) {
        self.leave_out_dead(&mut answer);
        let (me, include_self) = (self.inner.peer, self.options.include_self);
        let limit = self.options.limit.clamp(1, MAX_PROVIDERS);
        let is_new = |key: &Key, peer: &PeerId| {
            let seen = self.seen.get(key);
            (include_self || *peer != me) && !seen.is_some_and(|seen| seen.contains(peer))
        };
        let room = |key: &Key| limit.saturating_sub(self.seen.get(key).map_or(0, HashSet::len));
        let wanted = choose(answer, is_new, room, MAX_PEERS_OF_ANSWER);
        let reportable = self
            .inner
            .reportable(wanted.peers, self.options.connect)
            .await;
        for (peer, addrs) in reportable {
            for key in wanted.keys.get(&peer).into_iter().flatten() {
                if self.seen.entry(*key).or_default().insert(peer) {
                    let (key, addrs) = (*key, addrs.clone());
                    let event = FindManyEvent::Provider { key, peer, addrs };
                    let _ = self.events.send(event).await;
                }
            }
        }
    }
}

/// Keys by the region they lie in, whose points share `bits` bits; in no order.
fn regions(keys: Vec<Key>, bits: u32) -> Vec<Vec<Key>> {
    let mut regions: HashMap<Point, Vec<Key>> = HashMap::new();
    for key in keys {
        let region = Point::of_key(&key).first_of(bits);
        regions.entry(region).or_default().push(key);
    }
    regions.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_searched_for_by_region() {
        let keys: Vec<Key> = (0..200).map(|n| [n; 32]).collect();
        assert_eq!(regions(keys.clone(), 0).len(), 1);
        let regions = regions(keys, 3);
        assert_eq!(regions.len(), 8);
        assert_eq!(regions.iter().map(Vec::len).sum::<usize>(), 200);
        for region in regions {
            let first = Point::of_key(&region[0]);
            let mut points = region.iter().map(Point::of_key);
            assert!(points.all(|point| point.common_bits(&first) >= 3));
        }
    }

    #[test]
    fn the_closest_are_asked_first_and_all_that_should_hold_a_key_in_the_end() {
        let keys: Vec<Key> = (0..50).map(|n| [n; 32]).collect();
        let mut network: Vec<_> = (0..60).map(|_| PeerId::random()).collect();
        let mut plan = Plan::new(keys.clone(), REPLICATION, 0, 1);
        while let Some(lookup) = plan.next_lookup() {
            let target = Point::of_key(&lookup.key);
            network.sort_by_key(|peer| Point::of_peer(peer).distance(&target));
            plan.lookup_done(lookup.id, network[..REPLICATION].iter().copied());
        }
        let holders = Holders::of(&plan);
        for key in keys {
            let target = Point::of_key(&key);
            let ranked: Vec<PeerId> = ROUNDS
                .iter()
                .flat_map(|ranks| holders.of_ranks(&key, ranks))
                .collect();
            assert!(ranked.len() >= REPLICATION);
            let distances = ranked
                .iter()
                .map(|peer| Point::of_peer(peer).distance(&target));
            assert!(distances.is_sorted());
        }
        assert_eq!(holders.of_ranks(&[99; 32], &(0..3)).count(), 0);
    }
}
