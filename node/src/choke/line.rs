//! Who of a swarm is served next.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use super::{Candidate, SwarmMode, choker::TURN};
use crate::sched::Mono;

/// Among strangers one of so many places is given by chance, and at least one.
const PLACES_PER_CHANCE: usize = 5;
/// Who has earned its place keeps it unless another gives more by one part in so many: rates waver.
const INCUMBENT_PART: u64 = 4;

/// What is remembered of a stream. Invariant: it is unchoked exactly when it has a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) turn: Option<Turn>,
    /// Since when it wants to be served and is not.
    pub(super) waits_since: Mono,
}

/// The time during which a stream is unchoked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) since: Mono,
    /// Its peer gives more than others.
    pub(super) earned: bool,
}

impl Turn {
    pub(super) fn age(&self, now: Mono) -> Duration {
        now.since(self.since)
    }
}

/// A candidate, what is remembered of it, and its lot in this decision: the larger, the sooner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) candidate: Candidate,
    pub(super) standing: Standing,
    pub(super) lot: u64,
}

/// What orders those that nothing but need, time or chance gives a place; the smallest is next.
type Place = (u8, u64, Duration, Reverse<u64>);

impl Entry {
    /// What earns it a place among strangers: what its peer gives; where this node seeds, what it gave before. Who has
    /// a place has a bonus. A newcomer to a download has credit: it may have had nothing to give yet.
    fn gift(&self, now: Mono) -> Option<u64> {
        let of = &self.candidate;
        let given = match of.we_seed {
            true => of.gave_bytes,
            false => of.gives_per_s,
        };
        let has_credit = !of.we_seed && of.is_new(now);
        if of.mode == SwarmMode::Trusted || of.snubs_us || (given == 0 && !has_credit) {
            return None;
        }
        let incumbent = self.standing.turn.is_some_and(|turn| turn.earned);
        Some(given.saturating_add(if incumbent { given / INCUMBENT_PART } else { 0 }))
    }

    /// Those whose turn is not over, the youngest turn first; those that wait; those whose turn is over.
    fn place(&self, now: Mono) -> Place {
        let (of, lot) = (&self.candidate, Reverse(self.lot));
        let Some(turn) = self.standing.turn else {
            let waits_since = self.standing.waits_since.0;
            return match of.mode {
                SwarmMode::Trusted => (1, of.has_chunks.into(), waits_since, lot),
                SwarmMode::Fair if of.we_seed => (1, 0, waits_since, lot),
                SwarmMode::Fair if of.gave_bytes == 0 => (1, of.taken_bytes, Duration::ZERO, lot),
                SwarmMode::Fair => (1, 0, Duration::ZERO, lot),
            };
        };
        // What was earned is earned anew.
        let goes_on = !turn.earned && turn.age(now) < TURN;
        (if goes_on { 0 } else { 2 }, 0, turn.age(now), lot)
    }
}

/// A swarm's claim to the next place; the smallest wins: who has the fewest, whose next in line holds a young turn, who
/// has had none for longest, who is luckier.
pub(super) type Claim = (usize, bool, Mono, Reverse<u64>);

/// The interested streams of a swarm: how many have a place, and who gets the next one.
#[derive(Debug)]
pub(super) struct Line {
    now: Mono,
    /// So many places are left to chance.
    chances: usize,
    /// When the swarm last had a place.
    served: Mono,
    /// Places that were earned.
    earned: usize,
    /// Places that were not.
    granted: usize,
    /// Those whose peers give; the best is last.
    earners: Vec<Entry>,
    /// All; the next one is last.
    others: Vec<Entry>,
    /// Those in the two lists that have a place by now.
    placed: BTreeSet<u64>,
}

impl Line {
    pub(super) fn new(now: Mono, served: Mono, slots: usize) -> Self {
        Self {
            now,
            chances: (slots / PLACES_PER_CHANCE).max(1),
            served,
            earned: 0,
            granted: 0,
            earners: Vec::new(),
            others: Vec::new(),
            placed: BTreeSet::new(),
        }
    }

    /// When the swarm last had a place: now, if it has one.
    pub(super) fn served(&self) -> Mono {
        if self.places() > 0 {
            self.now
        } else {
            self.served
        }
    }

    fn places(&self) -> usize {
        self.earned + self.granted
    }

    /// One more has a place and keeps it.
    pub(super) fn keep(&mut self, earned: bool) {
        *(if earned {
            &mut self.earned
        } else {
            &mut self.granted
        }) += 1;
    }

    /// One more wants a place.
    pub(super) fn add(&mut self, entry: Entry) {
        if entry.gift(self.now).is_some() {
            self.earners.push(entry);
        }
        self.others.push(entry);
    }

    /// To be called once all are added.
    pub(super) fn sort(&mut self) {
        let now = self.now;
        self.earners
            .sort_by_cached_key(|entry| (entry.gift(now), entry.lot));
        self.others
            .sort_by_cached_key(|entry| Reverse(entry.place(now)));
    }

    /// The claim of whoever is next; `None` when nobody may have one more place.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        let (places, served, now) = (self.places(), self.served, self.now);
        let next = self.next().0.last()?;
        let turn = next.standing.turn;
        let young = turn.is_some_and(|turn| turn.age(now) < TURN);
        Some((places, !young, served, Reverse(next.lot)))
    }

    /// Gives whoever is next a place: the stream, and whether it earned it.
    pub(super) fn take(&mut self) -> Option<(u64, bool)> {
        let (list, earned) = self.next();
        let id = list.pop()?.candidate.id;
        self.placed.insert(id);
        self.keep(earned);
        Some((id, earned))
    }

    /// The list that the next place is given from, if from any, and whether it is for those that earn it.
    fn next(&mut self) -> (&mut Vec<Entry>, bool) {
        for list in [&mut self.earners, &mut self.others] {
            while list
                .pop_if(|last| self.placed.contains(&last.candidate.id))
                .is_some()
            {}
        }
        // Those that are owed something come before chance, but for the places that are left to it; where nobody owes
        // this node anything, nobody has to have earned what would lie idle.
        let owes = |entry: &Entry| !entry.candidate.by_turns();
        let is_open = self.granted < self.chances || !self.others.last().is_some_and(owes);
        let by_chance = match self.earners.is_empty() {
            true => is_open,
            false => self.places() > 0 && self.granted < self.chances,
        };
        if by_chance {
            (&mut self.others, false)
        } else {
            (&mut self.earners, true)
        }
    }
}
