//! What is told to whom, the invariants under arbitrary events, and whole swarms.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use rand::{Rng as _, SeedableRng, rngs::SmallRng, seq::SliceRandom};

use super::{pool::RUN, *};

fn at_ms(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

fn none(chunks: u32) -> HaveBitmap {
    HaveBitmap::new(chunks as usize)
}

fn some(chunks: u32, has: impl IntoIterator<Item = u32>) -> HaveBitmap {
    let mut bits = none(chunks);
    for index in has {
        bits.set(index as usize);
    }
    bits
}

fn ones(bits: &HaveBitmap) -> Vec<u32> {
    bits.iter_ones()
        .map(|i| u32::try_from(i).unwrap())
        .collect()
}

/// Offers with a first member, 0, that has been alone for long: it knows everything, and has nothing.
fn with_one(chunks: u32) -> Offers {
    let mut offers = Offers::new(chunks, 5);
    offers.joins(at_ms(0), 0, none(chunks));
    offers.got(Mono(LONE_FOR), 0, &[]);
    while !offers.take_news(0, 1024).is_empty() {}
    assert!((0..chunks).all(|index| offers.is_offered(0, index)));
    offers
}

impl Offers {
    /// Counts everything again.
    fn check(&self) {
        for index in 0..u32::try_from(self.holders.len()).unwrap() {
            let at = index as usize;
            let count =
                |of: &dyn Fn(&Member) -> bool| self.members.values().filter(|m| of(m)).count();
            let holders = count(&|m| m.has.get(at));
            let takers = count(&|m| m.taking.contains_key(&index));
            assert_eq!(
                (self.holders[at] as usize, self.takers[at] as usize),
                (holders, takers)
            );
            let is_there = self.pool.order.contains(&index);
            assert_eq!(is_there, holders + takers == 0, "chunk {index}");
            assert_eq!(self.pool.has(index), is_there, "chunk {index}");
            let open_at = count(&|m| m.taking.get(&index) == Some(&false));
            assert!(
                open_at <= 1,
                "chunk {index} is offered to {open_at} members"
            );
        }
        for member in self.members.values() {
            assert_eq!(
                member.open,
                member.taking.values().filter(|sent| !**sent).count()
            );
            assert!(
                member
                    .taking
                    .keys()
                    .all(|index| !member.has.get(*index as usize))
            );
            assert!(!self.revealed || member.all_from.is_some());
        }
        assert!(self.revealed || self.members.is_empty() || !self.pool.is_empty());
    }
}

#[test]
fn the_only_member_is_told_everything_and_the_next_ones_a_little_each() {
    let mut offers = with_one(1000);
    let mut told = BTreeSet::new();
    for member in 1..9 {
        let first = ones(&offers.joins(at_ms(0), member, none(1000)));
        assert_eq!(first.len(), FIRST_WINDOW);
        assert!(
            first.iter().all(|index| told.insert(*index)),
            "each is offered to one"
        );
        assert!(first.iter().all(|index| offers.is_offered(member, *index)));
        let known = (0..1000).filter(|index| offers.is_offered(member, *index));
        assert_eq!(known.count(), FIRST_WINDOW);
    }
    assert!(!offers.is_offered(99, 0) && !offers.is_offered(0, 1000));
    offers.check();
}

#[test]
fn a_member_that_is_alone_always_has_enough_to_ask_for() {
    let mut offers = Offers::new(50_000, 3);
    let mut todo: VecDeque<u32> = ones(&offers.joins(at_ms(0), 0, none(50_000))).into();
    assert_eq!(todo.len(), LONE_WINDOW);
    for ms in 0..900 {
        for _ in 0..2 {
            let index = todo.pop_front().unwrap();
            offers.served(at_ms(ms), 0, index);
            assert!(offers.news_waiting(0) + todo.len() >= LONE_WINDOW);
            todo.extend(offers.take_news(0, 1024));
        }
    }
    assert!(offers.is_partial(), "others may still come");
    let index = todo.pop_front().unwrap();
    offers.served(Mono(LONE_FOR), 0, index);
    assert!(!offers.is_partial() && !offers.is_revealed());
    assert_eq!(
        ones(&offers.joins(Mono(LONE_FOR), 1, none(50_000))).len(),
        FIRST_WINDOW
    );
    offers.check();
}

#[test]
fn who_takes_quickly_is_offered_two_seconds_of_it() {
    let mut offers = with_one(10_000);
    let mut known = ones(&offers.joins(at_ms(0), 1, none(10_000)));
    let mut sent = 0;
    for tick in 0..40 {
        for _ in 0..5 {
            offers.served(at_ms(tick * 100), 1, known[sent]);
            offers.got(at_ms(tick * 100), 1, &known[sent..=sent]);
            sent += 1;
            known.extend(offers.take_news(1, 1024));
        }
        let open = known.len() - sent;
        assert!(open <= WINDOW.max(2 * 50), "{open} after {tick}");
        assert!(tick < 10 || open == 100, "{open} after {tick}");
    }
    // A pause: nothing more is offered for what it gets from others, until it is down to the least.
    let before = known.len();
    offers.got(at_ms(10_000), 1, &known[sent..sent + 50]);
    known.extend(offers.take_news(1, 1024));
    assert_eq!(known.len(), before);
    offers.check();
}

#[test]
fn what_members_bring_is_not_offered() {
    let mut offers = with_one(100);
    offers.joins(at_ms(0), 1, some(100, 0..50));
    let told = offers.joins(at_ms(0), 2, some(100, 40..60));
    let later = offers.take_news(2, 100);
    assert!(ones(&told).iter().chain(&later).all(|index| *index >= 60));
    offers.check();
}

#[test]
fn what_a_member_leaves_with_is_offered_again() {
    let mut offers = with_one(100);
    let first = offers.joins(at_ms(0), 1, none(100));
    offers.joins(at_ms(0), 2, none(100));
    offers.served(at_ms(0), 1, ones(&first)[0]);
    offers.got(at_ms(0), 1, &ones(&first)[..2]);
    assert!(
        first
            .iter_ones()
            .all(|index| !offers.pool.has(u32::try_from(index).unwrap()))
    );
    offers.leaves(1);
    assert!(
        first
            .iter_ones()
            .all(|index| offers.pool.has(u32::try_from(index).unwrap()))
    );
    offers.check();
}

#[test]
fn whoever_is_left_alone_or_meets_a_complete_member_is_told_everything() {
    let mut offers = with_one(300);
    let first = offers.joins(at_ms(0), 1, none(300));
    offers.leaves(0);
    let mut news = Vec::new();
    loop {
        let some = offers.take_news(1, 7);
        if some.is_empty() {
            break;
        }
        assert!(some.len() <= 7);
        news.extend(some);
    }
    news.extend(ones(&first));
    news.sort_unstable();
    assert_eq!(news, (0..300).collect::<Vec<_>>(), "everything once");
    assert!(!offers.is_revealed());
    assert_eq!(offers.joins(at_ms(0), 2, none(300)).count(), FIRST_WINDOW);
    offers.joins(at_ms(0), 3, some(300, 0..300));
    assert!(offers.is_revealed() && offers.is_offered(2, 7));
    offers.check();
}

#[test]
fn a_member_that_completes_reveals_and_when_all_have_left_it_begins_anew() {
    let mut offers = with_one(300);
    offers.joins(at_ms(0), 1, none(300));
    offers.got(at_ms(0), 0, &(0..300).collect::<Vec<_>>());
    assert!(offers.is_revealed());
    offers.leaves(0);
    assert!(
        offers.joins(at_ms(0), 2, none(300)).is_complete(),
        "it stays so for those who are there"
    );
    offers.leaves(1);
    offers.leaves(2);
    assert!(!offers.is_revealed());
    offers.joins(at_ms(0), 3, none(300));
    let told = ones(&offers.joins(at_ms(0), 4, none(300)));
    assert_eq!(told.len(), FIRST_WINDOW);
    let run: Vec<_> = (0..RUN).map(|i| told[0] + i).collect();
    assert_eq!(told, run, "neighbours");
    assert_eq!(told[0] % RUN, 0);
    offers.check();
}

#[test]
fn nonsense_changes_nothing() {
    let mut offers = with_one(10);
    offers.joins(at_ms(0), 1, some(99, 0..99));
    assert!(!offers.is_revealed(), "a bitmap of another manifest");
    offers.got(at_ms(0), 1, &[10, 11, u32::MAX]);
    offers.served(at_ms(0), 1, u32::MAX);
    offers.got(at_ms(0), 77, &[1]);
    offers.served(at_ms(0), 77, 1);
    offers.leaves(77);
    assert!(offers.take_news(77, 5).is_empty());
    offers.check();
    let mut empty = Offers::new(0, 1);
    assert_eq!(empty.joins(at_ms(0), 1, none(0)).len(), 0);
    empty.joins(at_ms(0), 2, none(0));
    empty.check();
}

#[test]
fn a_member_that_takes_nothing_holds_up_nothing() {
    let mut offers = with_one(500);
    offers.joins(at_ms(0), 1, none(500));
    let stuck = ones(&offers.joins(at_ms(0), 2, none(500)));
    let (mut sent, mut now) = (0, 0);
    let mut todo: Vec<u32> = (0..500)
        .filter(|index| offers.is_offered(1, *index))
        .collect();
    while let Some(index) = todo.pop() {
        now += 20;
        offers.served(at_ms(now), 1, index);
        offers.got(at_ms(now), 1, &[index]);
        sent += 1;
        if !offers.is_revealed() {
            todo.extend(offers.take_news(1, 1024));
        }
    }
    assert!(offers.is_revealed() && offers.is_offered(1, stuck[0]));
    let most = 500 - LONE_WINDOW - stuck.len();
    assert!(sent + 10 >= most, "{sent} of {most}");
    offers.check();
}

/// A seed and members that all send `PER_TICK` chunks in a tenth of a second; what a member gets it passes on from the
/// next tick on. Ticks until everybody is complete, and chunks that the seed sent.
fn spread(chunks: u32, members: u64, seed: u64, first_slow: bool) -> (u32, u32) {
    const PER_TICK: u32 = 10;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut offers = Offers::new(chunks, seed);
    let mut has: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); usize::try_from(members).unwrap()];
    let mut copies = vec![0u32; chunks as usize];
    let mut told: Vec<BTreeSet<u32>> = (0..members)
        .map(|m| {
            ones(&offers.joins(at_ms(0), m, none(chunks)))
                .into_iter()
                .collect()
        })
        .collect();
    let (mut ticks, mut sent) = (0, 0);
    while has.iter().any(|has| has.len() < chunks as usize) {
        ticks += 1;
        assert!(ticks < 10 * chunks, "it ends");
        let now = at_ms(u64::from(ticks) * 100);
        let before = has.clone();
        let mut arrived: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut order: Vec<usize> = (0..has.len()).collect();
        for _ in 0..PER_TICK {
            order.shuffle(&mut rng);
            // The seed: whoever is next and knows of something it lacks takes the rarest of it.
            let wish = order
                .iter()
                .filter(|to| !(first_slow && **to == 1))
                .find_map(|to| {
                    let lacks = told[*to].iter().filter(|index| !has[*to].contains(index));
                    let rarest =
                        lacks.min_by_key(|index| (copies[**index as usize], rng.random::<u32>()));
                    rarest.map(|index| (*to, *index))
                });
            if let Some((to, index)) = wish {
                sent += 1;
                offers.served(now, to as u64, index);
                has[to].insert(index);
                copies[index as usize] += 1;
                arrived.entry(to).or_default().push(index);
            }
            for had in &before {
                let wish = order.iter().find_map(|to| {
                    let lacks = had.iter().filter(|index| !has[*to].contains(index));
                    let rarest =
                        lacks.min_by_key(|index| (copies[**index as usize], rng.random::<u32>()));
                    rarest.map(|index| (*to, *index))
                });
                if let Some((to, index)) = wish {
                    has[to].insert(index);
                    copies[index as usize] += 1;
                    arrived.entry(to).or_default().push(index);
                }
                order.rotate_left(1);
            }
        }
        for (to, indices) in arrived {
            offers.got(now, to as u64, &indices);
        }
        for (to, told) in (0..).zip(&mut told) {
            told.extend(offers.take_news(to, 1024));
        }
    }
    offers.check();
    (ticks, sent)
}

#[test]
fn eight_members_have_all_of_it_soon_after_the_seed_has_sent_it_once() {
    let (ticks, sent) = spread(640, 8, 1, false);
    assert!(
        ticks * 100 <= 64 * 115,
        "{ticks} ticks, where 64 are the bound"
    );
    assert!(sent * 100 <= 640 * 104, "{sent} of 640 chunks");
}

#[test]
fn a_member_that_takes_nothing_from_the_seed_costs_the_others_little() {
    let (ticks, sent) = spread(640, 8, 2, true);
    assert!(
        ticks * 100 <= 64 * 120,
        "{ticks} ticks, where 64 are the bound"
    );
    assert!(sent * 100 <= 640 * 105, "{sent} of 640 chunks");
}

#[test]
fn a_thousand_members_and_twenty_thousand_chunks_are_no_trouble() {
    let mut offers = Offers::new(20_000, 1);
    let mut todo: VecDeque<(u64, u32)> = VecDeque::new();
    for member in 0..1000 {
        let told = offers.joins(at_ms(0), member, none(20_000));
        if member > 0 {
            todo.extend(
                told.iter_ones()
                    .map(|index| (member, u32::try_from(index).unwrap())),
            );
        }
    }
    let (mut sent, mut held) = (0u64, BTreeSet::new());
    while let Some((member, index)) = todo.pop_front() {
        let now = at_ms(sent * 5);
        sent += 1;
        assert!(held.insert(index), "chunk {index} was sent twice");
        offers.served(now, member, index);
        offers.got(now, member, &[index]);
        if offers.is_revealed() {
            break;
        }
        todo.extend(
            offers
                .take_news(member, 1024)
                .into_iter()
                .map(|index| (member, index)),
        );
    }
    assert!(offers.is_revealed());
    assert!(held.len() >= 15_000, "{}", held.len());
}

#[derive(Debug, Clone)]
enum Step {
    Join(u64, Vec<u32>),
    Leave(u64),
    Got(u64, Vec<u32>),
    /// One of what it was offered, or of all.
    Serve(u64, u32),
    News(u64, usize),
    Wait(u64),
}

const CHUNKS: u32 = 60;

fn step() -> impl Strategy<Value = Step> {
    let member = 0u64..6;
    let chunks = || proptest::collection::vec(0..CHUNKS + 2, 0..6);
    prop_oneof![
        3 => (member.clone(), chunks()).prop_map(|(m, has)| Step::Join(m, has)),
        1 => member.clone().prop_map(Step::Leave),
        4 => (member.clone(), chunks()).prop_map(|(m, got)| Step::Got(m, got)),
        12 => (member.clone(), 0..CHUNKS).prop_map(|(m, at)| Step::Serve(m, at)),
        3 => (member, 0usize..20).prop_map(|(m, most)| Step::News(m, most)),
        2 => (1u64..1500).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn every_chunk_is_in_one_place_and_windows_hold(
        steps in proptest::collection::vec(step(), 1..150),
        seed: u64,
    ) {
        let mut offers = Offers::new(CHUNKS, seed);
        let mut told: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        let mut paces: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut now_ms = 0;
        for step in steps {
            let now = at_ms(now_ms);
            match step {
                Step::Wait(ms) => now_ms += ms,
                Step::Join(m, has) => {
                    let first = offers.joins(at_ms(0), m, some(CHUNKS, has));
                    told.insert(m, ones(&first).into_iter().collect());
                    paces.insert(m, Vec::new());
                }
                Step::Leave(m) => {
                    offers.leaves(m);
                    told.remove(&m);
                }
                Step::Got(m, got) => offers.got(now, m, &got),
                Step::Serve(m, at) => {
                    let known: Vec<_> = told.get(&m).into_iter().flatten().copied().collect();
                    if let Some(index) = known.get(at as usize % known.len().max(1)) {
                        paces.get_mut(&m).unwrap().push(now_ms / 1000);
                        offers.served(now, m, *index);
                    }
                }
                Step::News(m, most) => {
                    let news = offers.take_news(m, most);
                    prop_assert!(news.len() <= most);
                    for index in news {
                        prop_assert!(offers.is_offered(m, index));
                        prop_assert!(told.get_mut(&m).unwrap().insert(index), "told twice");
                    }
                }
            }
            offers.check();
            for (m, member) in &offers.members {
                let in_second = |s: u64| paces[m].iter().filter(|at| **at == s).count();
                // A window may have been filled at any time since; it was never larger than its busiest second's.
                let busiest = paces[m].iter().map(|s| in_second(*s)).max().unwrap_or(0);
                prop_assert!(member.open <= WINDOW.max(2 * busiest));
            }
        }
        // Whoever is there gets everything by taking what it is told, in whatever hands the rest is.
        let Some(m) = offers.members.keys().next().copied() else { return Ok(()) };
        for round in 0..2 * u64::from(CHUNKS) {
            let known = told.get_mut(&m).unwrap();
            known.extend(offers.take_news(m, 1024));
            for index in known.clone() {
                offers.served(at_ms(now_ms + round), m, index);
                offers.got(at_ms(now_ms + round), m, &[index]);
            }
        }
        prop_assert!(offers.is_revealed());
        prop_assert!(offers.members[&m].has.is_complete());
    }
}
