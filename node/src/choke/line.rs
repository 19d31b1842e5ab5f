//! Who of a swarm is served next.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use super::{
    Candidate, SwarmMode,
    choker::{FAIR_TURN, IDLE_TURN, TRUSTED_TURN, TURN_BYTES},
};
use crate::sched::Mono;

/// Among strangers one of so many places is given by chance, and of two or more places at least one.
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
    /// What its peer had taken by then.
    pub(super) taken_before: u64,
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

/// What orders those that nothing but time or chance gives a place; the smallest is next.
type Place = (u8, Duration, u64, Reverse<u64>);

impl Entry {
    /// What its peer gives, if that can earn it a place. Who has one has a bonus.
    fn gift(&self) -> Option<u64> {
        let given = self.candidate.gives_per_s;
        if self.candidate.by_turns() || self.candidate.snubs_us || given == 0 {
            return None;
        }
        let incumbent = self.standing.turn.is_some_and(|turn| turn.earned);
        Some(given.saturating_add(if incumbent { given / INCUMBENT_PART } else { 0 }))
    }

    /// Those whose turn is not over, the youngest turn first; those that wait; those whose turn is over.
    fn place(&self, now: Mono) -> Place {
        let (candidate, lot) = (&self.candidate, Reverse(self.lot));
        match self.standing.turn {
            Some(turn) if self.has_time(&turn, now) => (0, turn.age(now), 0, lot),
            None if candidate.by_turns() => {
                (1, self.standing.waits_since.0, candidate.taken_bytes, lot)
            }
            None => (1, Duration::ZERO, 0, lot),
            Some(turn) => (2, turn.age(now), 0, lot),
        }
    }

    /// Whether a turn that was not earned goes on though others wait.
    fn has_time(&self, turn: &Turn, now: Mono) -> bool {
        let Candidate {
            mode,
            takes_per_s,
            taken_bytes,
            ..
        } = self.candidate;
        let (age, taken) = (turn.age(now), taken_bytes.saturating_sub(turn.taken_before));
        if age >= IDLE_TURN && takes_per_s == 0 {
            return false;
        }
        match mode {
            SwarmMode::Trusted => age < TRUSTED_TURN,
            SwarmMode::Fair if self.candidate.we_seed => age < FAIR_TURN && taken < TURN_BYTES,
            SwarmMode::Fair => age < FAIR_TURN && !turn.earned,
        }
    }
}

/// A swarm's claim to the next place; the smallest wins: who has the fewest, whose next in line holds a young turn, who
/// has had none for longest, who is luckier.
pub(super) type Claim = (usize, bool, Mono, Reverse<u64>);

/// The interested streams of a swarm: how many have a place, and who gets the next one.
#[derive(Debug)]
pub(super) struct Line {
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
    pub(super) fn new(served: Mono) -> Self {
        Self {
            served,
            earned: 0,
            granted: 0,
            earners: Vec::new(),
            others: Vec::new(),
            placed: BTreeSet::new(),
        }
    }

    /// When the swarm last had a place: now, if it has one.
    pub(super) fn served(&self, now: Mono) -> Mono {
        if self.places() > 0 { now } else { self.served }
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
        if entry.gift().is_some() {
            self.earners.push(entry);
        }
        self.others.push(entry);
    }

    /// To be called once all are added.
    pub(super) fn sort(&mut self, now: Mono) {
        self.earners
            .sort_by_cached_key(|entry| (entry.gift(), entry.lot));
        self.others
            .sort_by_cached_key(|entry| Reverse(entry.place(now)));
    }

    /// The claim of whoever is next; `None` when everybody has a place.
    pub(super) fn claim(&mut self, now: Mono) -> Option<Claim> {
        let (places, served) = (self.places(), self.served);
        let next = self.next().0.last()?;
        let turn = next.standing.turn;
        let young = turn.is_some_and(|turn| turn.age(now) < FAIR_TURN);
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
        let places = self.places() + 1;
        let least = usize::from(places > 1);
        let by_chance = self.granted < least.max(places / PLACES_PER_CHANCE);
        if by_chance || self.earners.is_empty() {
            (&mut self.others, false)
        } else {
            (&mut self.earners, true)
        }
    }
}
