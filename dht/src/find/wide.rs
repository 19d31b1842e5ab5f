//! The wide search: the peers of the region around a key, asked directly.
//!
//! Whoever makes identities that lie next to a key fills the 20 closest places with them. The region that the
//! record belongs to is larger than that, and filling it takes as many identities as the network has peers
//! there. Its peers are found by looking up other points of the region, which are chosen at random each time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use libp2p::{Multiaddr, PeerId};
use rand::seq::IndexedRandom;
use tokio::time::Instant;

use super::ask::{Answer, Asking};
use crate::Key;
use crate::batch::Provider;
use crate::handle::Inner;
use crate::key::{Point, REPLICATION, keys_near};
use crate::neighbourhood::Neighbourhood;

/// Peers that one wide search asks at most.
pub(crate) const MAX_ASKED: usize = 64;
/// Of these, peers that the routing table knows: they are asked while the lookups are under way.
const MAX_KNOWN: usize = 24;
/// Peers asked at a time.
const ASKED_AT_ONCE: usize = 16;
/// Points of the region that are looked up, beside the key's own.
const POINTS: usize = 4;
/// How long the lookups may take. What they have found by then is asked.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(4);

/// Bits that the points of a region share in this network.
pub(super) fn region_bits(near: &Neighbourhood) -> u32 {
    // One bit less than the replication factor asks for: the estimate may be one bit off.
    near.depth().saturating_sub(1)
}

/// Asks the peers of the region of the first key for all these keys, which lie in it; an item for each peer that was
/// asked. Those known are asked at once, the others when lookups have found them. Peers that are among those closest to
/// the key are left out if there is only one: who looked it up has asked them.
pub(super) fn search(
    inner: &Arc<Inner>,
    keys: Vec<Key>,
    ends: Instant,
) -> BoxStream<'static, Answer> {
    let Some(key) = keys.first().copied() else {
        return stream::empty().boxed();
    };
    let near = inner.neighbourhood.borrow().clone();
    let bits = region_bits(&near);
    let point = Point::of_key(&key);
    let (mut closest, mut others) = around(near.peers(), &point, bits);
    if keys.len() > 1 {
        others.append(&mut closest);
    }
    let keys: Arc<[Key]> = keys.into();
    let known = others.choose_multiple(&mut rand::rng(), MAX_KNOWN);
    let known: Vec<PeerId> = known.copied().collect();

    let (first, second) = (inner.clone(), inner.clone());
    let mut already: HashSet<_> = known.iter().copied().chain([inner.peer]).collect();
    already.extend(closest);
    let asked_first = known.len();
    let known = stream::iter(known.into_iter().map(|peer| (peer, Vec::new())));
    let known = known.map({
        let keys = keys.clone();
        move |peer| asked(first.clone(), peer, keys.clone(), ends)
    });
    let found = async move {
        let lists = look_around(&second, key, bits, ends).await;
        let chosen = choose(&lists, already, MAX_ASKED - asked_first);
        stream::iter(chosen).map(move |peer| asked(second.clone(), peer, keys.clone(), ends))
    };
    let known = known.buffer_unordered(ASKED_AT_ONCE / 2);
    let found = found.flatten_stream().buffer_unordered(ASKED_AT_ONCE / 2);
    stream::select(known, found).boxed()
}

/// Of the peers known, the closest to a point, which a lookup asks, and the others of its region.
fn around(known: &[(Point, PeerId)], target: &Point, bits: u32) -> (Vec<PeerId>, Vec<PeerId>) {
    let mut sorted: Vec<_> = known
        .iter()
        .map(|(point, peer)| (point.distance(target), *peer))
        .collect();
    sorted.sort_unstable();
    let (closest, others) = sorted.split_at(sorted.len().min(REPLICATION));
    let in_region = |distance: &Point| distance.common_bits(&Point([0; 32])) >= bits;
    let others = others.iter().filter(|(distance, _)| in_region(distance));
    let peer = |(_, peer): &(Point, PeerId)| *peer;
    (
        closest.iter().map(peer).collect(),
        others.map(peer).collect(),
    )
}

/// All that one peer names, for fewer keys when it fails on the way.
async fn asked(inner: Arc<Inner>, peer: Provider, keys: Arc<[Key]>, ends: Instant) -> Answer {
    let (peer, addrs) = peer;
    let mut asking = Asking::new(inner, peer, addrs, keys, ends);
    let mut all = Answer::new();
    while let Some(answer) = asking.next().await {
        all.extend(answer);
    }
    all
}

/// The peers closest to the key and to other points of its region, a list for each.
async fn look_around(
    inner: &Inner,
    key: Key,
    bits: u32,
    ends: Instant,
) -> Vec<Vec<(PeerId, Vec<Multiaddr>)>> {
    let points = tokio::task::spawn_blocking(move || keys_near(&key, bits, POINTS, rand::random()));
    let mut points = points.await.unwrap_or_default();
    points.push(key);
    let left = ends.saturating_duration_since(Instant::now());
    let lookups = points
        .into_iter()
        .map(|point| inner.closest_peers(point, left.min(LOOKUP_DEADLINE)));
    let found = join_all(lookups).await.into_iter();
    found.map(|found| found.unwrap_or_default().peers).collect()
}

/// Takes from each list in turn, so that no list keeps the others' peers from being asked.
fn choose(
    lists: &[Vec<(PeerId, Vec<Multiaddr>)>],
    mut already: HashSet<PeerId>,
    max: usize,
) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
    let turns = (0..longest).flat_map(|at| lists.iter().filter_map(move |list| list.get(at)));
    let new = turns.filter(|(peer, _)| already.insert(*peer));
    new.take(max).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_are_told_from_the_others_of_the_region() {
        let target = Point::of_key(&[3; 32]);
        let known: Vec<_> = (0..500)
            .map(|_| PeerId::random())
            .map(|peer| (Point::of_peer(&peer), peer))
            .collect();
        let (closest, others) = around(&known, &target, 2);
        let bits = |peer: &PeerId| Point::of_peer(peer).common_bits(&target);
        assert_eq!(closest.len(), REPLICATION);
        assert!(others.iter().all(|peer| bits(peer) >= 2));
        let region = known.iter().filter(|(_, peer)| bits(peer) >= 2).count();
        assert_eq!(closest.len() + others.len(), region);
        let furthest = closest.iter().map(bits).min().unwrap();
        assert!(others.iter().all(|peer| bits(peer) <= furthest));
        assert_eq!(around(&known[..9], &target, 0).0.len(), 9);
    }

    #[test]
    fn every_list_has_its_share_of_those_asked() {
        let crowd = |count| -> Vec<(PeerId, Vec<Multiaddr>)> {
            (0..count).map(|_| (PeerId::random(), vec![])).collect()
        };
        let lists = [crowd(20), crowd(3), crowd(20), vec![]];
        let known: HashSet<_> = [lists[0][0].0].into();
        let chosen = choose(&lists, known, 10);
        assert_eq!(chosen.len(), 10);
        let of = |list: &Vec<(PeerId, Vec<Multiaddr>)>| {
            chosen.iter().filter(|peer| list.contains(peer)).count()
        };
        assert_eq!(of(&lists[1]), 3);
        assert!((3..=4).contains(&of(&lists[0])) && (3..=4).contains(&of(&lists[2])));
        assert!(!chosen.contains(&lists[0][0]), "known already");
        let twice = [lists[0].clone(), lists[0].clone()];
        assert_eq!(choose(&twice, HashSet::new(), 64).len(), 20);
    }
}
