//! Which streams are served: at a time only so many, so that whole chunks are through soon and can be passed on.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    Candidate, Decision, SwarmMode,
    line::{Entry, Line, Standing, Turn},
};
use crate::sched::Mono;

/// How often [`Choker::round`] is to be called.
pub const ROUND_EVERY: Duration = Duration::from_secs(10);
/// Nobody is choked that was unchoked for less than this.
pub(super) const MIN_TURN: Duration = Duration::from_secs(5);
/// A turn that was not earned by what the peer gives.
pub(super) const TURN: Duration = Duration::from_secs(10);
/// How long a stream counts as new.
const NEW_FOR: Duration = Duration::from_secs(20);
/// So many lots are drawn for a new stream, and the best one counts: it is that much likelier to be the first.
const NEW_LOTS: usize = 3;

/// Decides who is served. It remembers turns; whoever is not among the candidates any more is forgotten.
///
/// Invariants: [`fill`](Self::fill) chokes nobody; [`round`](Self::round) nobody in the first seconds of its turn.
/// After either no slot is free while somebody waits that may have it: all but those that owe this node something and
/// give nothing; of them it serves as many as chance has places. A stream that wants nothing for the moment keeps its turn until
/// the next round but takes no slot; so at most twice as many as there are slots are unchoked.
#[derive(Debug)]
pub struct Choker {
    seed: u64,
    /// Decisions so far: each draws its own lots.
    draws: u64,
    streams: BTreeMap<u64, Standing>,
    /// By swarm: when it last had a place.
    swarms: BTreeMap<u64, Mono>,
}

impl Choker {
    /// Nobody is unchoked; `seed` decides what is left to chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            draws: 0,
            streams: BTreeMap::new(),
            swarms: BTreeMap::new(),
        }
    }

    /// Who is served from now on; to be called every [`ROUND_EVERY`]. `candidates` are all streams of all swarms.
    pub fn round(&mut self, now: Mono, candidates: &[Candidate], slots: usize) -> Decision {
        self.decide(now, candidates, slots, |turn| turn.age(now) < MIN_TURN)
    }

    /// Gives away the slots that are free; to be called when a stream joins, leaves, or becomes interested or not.
    pub fn fill(&mut self, now: Mono, candidates: &[Candidate], slots: usize) -> Decision {
        self.decide(now, candidates, slots, |_| true)
    }

    /// Whether a stream is unchoked.
    #[must_use]
    pub fn is_unchoked(&self, id: u64) -> bool {
        self.streams.get(&id).is_some_and(|of| of.turn.is_some())
    }

    /// Gives each place to the swarm that has the fewest, and there to the next in line. Turns that are kept have one.
    fn decide(
        &mut self,
        now: Mono,
        candidates: &[Candidate],
        slots: usize,
        keeps: impl Fn(&Turn) -> bool,
    ) -> Decision {
        self.remember(now, candidates);
        let mut lines = self.lines(now, candidates, slots);
        let mut chosen: BTreeMap<u64, bool> = BTreeMap::new();
        let mut places = slots;
        for candidate in candidates {
            let entry = self.entry(now, candidate);
            let line = lines
                .get_mut(&candidate.swarm)
                .filter(|_| candidate.interested);
            let kept = entry.standing.turn.filter(&keeps);
            chosen.extend(kept.map(|turn| (candidate.id, turn.earned)));
            match (line, kept) {
                (Some(line), Some(turn)) => {
                    line.keep(turn.earned);
                    places = places.saturating_sub(1);
                }
                (Some(line), None) => line.add(entry),
                (None, _) => {}
            }
        }
        places = places.min((2 * slots).saturating_sub(chosen.len()));
        if places > 0 {
            lines.values_mut().for_each(Line::sort);
        }
        for _ in 0..places {
            let next = lines
                .values_mut()
                .filter_map(|line| Some((line.claim()?, line)))
                .min_by_key(|(claim, _)| *claim);
            let Some((id, earned)) = next.and_then(|(_, line)| line.take()) else {
                break;
            };
            chosen.insert(id, earned);
        }
        let served = lines.iter().map(|(swarm, line)| (*swarm, line.served()));
        self.swarms = served.collect();
        self.apply(now, candidates, &chosen)
    }

    /// Brings the standings up to date: nobody waits that is served or wants nothing.
    fn remember(&mut self, now: Mono, candidates: &[Candidate]) {
        self.draws += 1;
        let mut before = std::mem::take(&mut self.streams);
        for candidate in candidates {
            let mut standing = before.remove(&candidate.id).unwrap_or(Standing {
                turn: None,
                waits_since: now,
            });
            if standing.turn.is_some() || !candidate.interested {
                standing.waits_since = now;
            }
            self.streams.insert(candidate.id, standing);
        }
    }

    /// A line for each swarm, empty yet.
    fn lines(&self, now: Mono, candidates: &[Candidate], slots: usize) -> BTreeMap<u64, Line> {
        let swarms = candidates.iter().map(|candidate| candidate.swarm);
        let served = |swarm| self.swarms.get(&swarm).copied().unwrap_or(now);
        swarms
            .map(|swarm| (swarm, Line::new(now, served(swarm), slots)))
            .collect()
    }

    fn entry(&self, now: Mono, candidate: &Candidate) -> Entry {
        let standing = self.streams.get(&candidate.id).copied();
        Entry {
            candidate: *candidate,
            standing: standing.unwrap_or(Standing {
                turn: None,
                waits_since: now,
            }),
            lot: self.lot(now, candidate),
        }
    }

    /// The same for the same seed, decision and stream, in whichever order the candidates come.
    fn lot(&self, now: Mono, candidate: &Candidate) -> u64 {
        let of_stream = candidate.id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let of_draw = self.draws.rotate_left(32);
        let mut rng = SmallRng::seed_from_u64(self.seed ^ of_stream ^ of_draw);
        let lots = if candidate.is_new(now) { NEW_LOTS } else { 1 };
        (0..lots).map(|_| rng.random()).max().unwrap_or(0)
    }

    /// `chosen` are those that are unchoked from now on, and whether they earned it.
    fn apply(
        &mut self,
        now: Mono,
        candidates: &[Candidate],
        chosen: &BTreeMap<u64, bool>,
    ) -> Decision {
        let mut decision = Decision::default();
        for candidate in candidates {
            let Some(standing) = self.streams.get_mut(&candidate.id) else {
                continue;
            };
            match (chosen.get(&candidate.id), &mut standing.turn) {
                (Some(earned), Some(turn)) => turn.earned = *earned,
                (Some(earned), none) => {
                    *none = Some(Turn {
                        since: now,
                        earned: *earned,
                    });
                    decision.unchoke.push(candidate.id);
                }
                (None, turn @ Some(_)) => {
                    *turn = None;
                    decision.choke.push(candidate.id);
                }
                (None, None) => {}
            }
        }
        decision
    }
}

impl Candidate {
    /// Whether it cannot have given much yet.
    pub(super) fn is_new(&self, now: Mono) -> bool {
        now.since(self.joined) < NEW_FOR
    }

    /// Whether nothing its peer gives can count: this node needs nothing, or nobody owes anybody.
    pub(super) fn by_turns(&self) -> bool {
        self.we_seed || self.mode == SwarmMode::Trusted
    }
}
