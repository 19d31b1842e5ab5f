//! One swarm: who takes part in it, and what flows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use casnode_cas::{Address, HaveBitmap};
use casnode_dht::PeerId;
use tokio::sync::mpsc;

use super::{
    crowd::Crowd,
    line::{Interest, Line, Tally},
    load::LoadOfAll,
    member::{Here, Joining, Told},
    source::{Source, SourceHas, SourceView},
};
use crate::{
    choke::{Candidate, Offers, Rate, SwarmMode},
    sched::Mono,
};

/// The number that all swarms have for the choker of whose file nothing is known here: whoever makes up manifests gets no
/// more for it.
pub(super) const UNKNOWN: u64 = 0;

/// Peers of a swarm that a download may tell of: many times those it fetches from at once.
const MAX_SOURCES: usize = 1024;

/// A peer that has not said that it wants anything is believed to for this long after it joined.
const PRESUMED_FOR: Duration = Duration::from_secs(30);

/// A member that may have chunks and asks for none, this many counts in a row, is told of all that is here: what it was
/// offered may lie beyond what it wants now, as for the reader of a stream.
const IDLE_COUNTS: u32 = 2;

/// One swarm.
#[derive(Debug)]
pub(super) struct Swarm {
    /// For the choker, while something is known of its file; more than [`UNKNOWN`].
    pub(super) number: u64,
    pub(super) mode: SwarmMode,
    /// Its file, as far as somebody here knows it.
    pub(super) address: Option<Address>,
    /// What is here, as far as anybody who joined asked for it.
    pub(super) here: Option<Here>,
    /// By the number of their stream.
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) sources: HashMap<PeerId, Source>,
    /// Downloads that want to hear who joins.
    subscribers: Vec<mpsc::Sender<PeerId>>,
    pub(super) crowd: Crowd,
    /// What members are told of all that is here, while nobody else has it.
    offers: Option<Offers>,
    was_super_seeded: bool,
    pub(super) up_bytes: u64,
    /// What was sent to members that have left since it was last counted.
    pub(super) uncounted_bytes: u64,
    pub(super) down_bytes: u64,
}

/// A stream that asks.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) peer: PeerId,
    pub(super) line: Arc<Line>,
    /// Shared with whoever counts copies at the moment.
    pub(super) has: Arc<HaveBitmap>,
    joined: Mono,
    pub(super) takes: Rate,
    pub(super) taken: Tally,
    /// Counts in a row during which it might have asked for chunks and did not.
    idle_counts: u32,
    /// What its peer gave to downloads that are over.
    gave_bytes: u64,
}

/// What comes of a join.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) id: u64,
    /// What the peer is told first of what is here; nothing when that is not known.
    pub(super) told: Option<Told>,
    /// Its peer was not in the swarm: it has to be looked for.
    pub(super) is_new: bool,
}

impl Swarm {
    pub(super) fn new(number: u64, mode: SwarmMode) -> Self {
        Self {
            number,
            mode,
            address: None,
            here: None,
            members: BTreeMap::new(),
            sources: HashMap::new(),
            subscribers: Vec::new(),
            crowd: Crowd::default(),
            offers: None,
            was_super_seeded: false,
            up_bytes: 0,
            uncounted_bytes: 0,
            down_bytes: 0,
        }
    }

    /// Nobody has anything to do with it.
    pub(super) fn is_deserted(&mut self) -> bool {
        self.subscribers.retain(|s| !s.is_closed());
        let is_counted = self.uncounted_bytes == 0;
        is_counted
            && self.members.is_empty()
            && self.sources.is_empty()
            && self.subscribers.is_empty()
    }

    /// A stream joins.
    pub(super) fn join(&mut self, id: u64, joining: Joining, now: Mono) -> Admission {
        let Joining {
            peer,
            line,
            has,
            here,
            ..
        } = joining;
        let wants = match &here {
            // It was found for a chunk of it that is here.
            None => true,
            Some(here) => here.have.iter_ones().any(|index| !has.get(index)),
        };
        if wants {
            line.set_interest(Interest::Presumed);
        }
        let is_first = self.members.is_empty() && self.sources.is_empty();
        let is_whole = here.as_ref().is_some_and(Here::is_whole);
        if is_first && is_whole {
            self.offers = Some(Offers::new(chunks_of(&has), rand::random()));
        }
        let told = here.as_ref().map(|here| here.have.clone());
        if let Some(here) = here {
            self.address = Some(here.address);
            self.here = Some(here);
        }
        for subscriber in &self.subscribers {
            let _ = subscriber.try_send(peer); // a download with 64 candidates needs no more
        }
        let member = Member {
            peer,
            line,
            has: Arc::new(has.clone()),
            joined: now,
            takes: Rate::default(),
            taken: Tally::default(),
            idle_counts: 0,
            gave_bytes: 0,
        };
        self.members.insert(id, member);
        let told = told.map(|have| {
            let offered = is_whole
                .then(|| self.offer(id, |offers| offers.joins(now, id, has)))
                .flatten();
            Told {
                by_offers: offered.is_some(),
                have: offered.unwrap_or(have),
            }
        });
        Admission {
            id,
            told,
            is_new: self.crowd.enters(peer, now),
        }
    }

    pub(super) fn leave(&mut self, id: u64) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        self.uncounted_bytes += member.uncounted_bytes();
        member.line.set_unchoked(false);
        self.crowd.leaves(&member.peer);
        self.offer(id, |offers| offers.leaves(id));
        if self.members.is_empty() {
            self.offers = None;
        }
    }

    /// A member has these chunks, too; false when there is one among them that there is not.
    pub(super) fn got(&mut self, id: u64, indices: &[u32], now: Mono) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return true;
        };
        let count = member.has.len();
        if indices.iter().any(|index| *index as usize >= count) {
            return false;
        }
        let has = Arc::make_mut(&mut member.has);
        for index in indices {
            has.set(*index as usize);
        }
        self.offer(id, |offers| offers.got(now, id, indices));
        true
    }

    /// A chunk was sent to a member.
    pub(super) fn served(&mut self, id: u64, index: u32, now: Mono) {
        self.offer(id, |offers| offers.served(now, id, index));
    }

    /// What a member is to be told now, so much at most; to be asked for again until it is empty.
    pub(super) fn take_news(&mut self, id: u64, most: usize) -> Vec<u32> {
        let offers = self.offers.as_mut();
        offers.map_or_else(Vec::new, |offers| offers.take_news(id, most))
    }

    /// How many chunks a member is to be told of now.
    pub(super) fn news_waiting(&self, id: u64) -> usize {
        let offers = self.offers.as_ref();
        offers.map_or(0, |offers| offers.news_waiting(id))
    }

    /// Members are told of chunks one by one.
    pub(super) fn is_super_seeded(&self) -> bool {
        let offers = self.offers.as_ref();
        offers.is_some_and(Offers::is_partial)
    }

    /// Something happens to the offers: that member may be told more, and everybody, when the offers begin or end.
    fn offer<T>(&mut self, id: u64, act: impl FnOnce(&mut Offers) -> T) -> Option<T> {
        let outcome = act(self.offers.as_mut()?);
        let offered = self.is_super_seeded();
        let changed = offered != std::mem::replace(&mut self.was_super_seeded, offered);
        // While one is alone, and when all is known, a chunk that is sent changes nothing.
        let tell = |member: &Member| {
            member.line.set_offered(offered);
            member.line.news.notify_one();
        };
        match changed {
            true => self.members.values().for_each(tell),
            false => self.members.get(&id).into_iter().for_each(tell),
        }
        Some(outcome)
    }

    pub(super) fn subscribe(&mut self, candidates: mpsc::Sender<PeerId>) {
        self.subscribers.push(candidates);
    }

    /// What is known of a source; whether it is a new peer that has to be looked for.
    pub(super) fn source(
        &mut self,
        peer: PeerId,
        view: SourceView,
        has: &SourceHas,
        now: Mono,
    ) -> bool {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.view = view;
            source.has = has.clone();
            return false;
        }
        if self.sources.len() >= MAX_SOURCES {
            return false;
        }
        self.sources.insert(peer, Source::new(view, has.clone()));
        self.crowd.enters(peer, now)
    }

    pub(super) fn source_gone(&mut self, peer: &PeerId) {
        if let Some(source) = self.sources.remove(peer) {
            self.crowd.leaves(peer);
            let members = self.members.values_mut();
            for member in members.filter(|member| member.peer == *peer) {
                member.gave_bytes += source.bytes;
            }
        }
    }

    pub(super) fn fetched(&mut self, peer: &PeerId, bytes: u64, now: Mono) {
        self.down_bytes += bytes;
        if let Some(source) = self.sources.get_mut(peer) {
            source.gave(bytes, now);
        }
    }

    /// Counts what has been sent since the last call, and returns it.
    pub(super) fn count(&mut self, now: Mono, load: &mut LoadOfAll) -> u64 {
        let mut bytes = std::mem::take(&mut self.uncounted_bytes);
        let mut idle = Vec::new();
        for (id, member) in &mut self.members {
            let tally = member.line.tally(now);
            let more = tally.since(member.taken);
            member.taken = tally;
            let asks = !member.line.is_unchoked() || more.bytes > 0 || !more.ready.is_zero();
            member.idle_counts = if asks { 0 } else { member.idle_counts + 1 };
            if member.idle_counts == IDLE_COUNTS {
                idle.push(*id);
            }
            member.takes.add(now, more.bytes);
            bytes += more.bytes;
            load.add(more, member.takes.per_s(now));
            if now.since(member.joined) >= PRESUMED_FOR
                && member.line.interest() == Interest::Presumed
            {
                member.line.set_interest(Interest::No);
            }
            if member.is_interested() && !member.line.is_unchoked() {
                load.waits();
            }
        }
        for id in idle {
            self.offer(id, |offers| offers.tell_all(id));
        }
        self.up_bytes += bytes;
        bytes
    }

    pub(super) fn unchoked_count(&self) -> usize {
        let members = self.members.values();
        members.filter(|member| member.line.is_unchoked()).count()
    }

    /// The members, as the choker sees them, and who they are.
    pub(super) fn candidates(&self, now: Mono) -> impl Iterator<Item = (PeerId, Candidate)> + '_ {
        let number = self.here.as_ref().map_or(UNKNOWN, |_| self.number);
        // Of a file that is not known nobody has anything to give here, either.
        let we_seed = self.here.as_ref().is_none_or(Here::is_whole);
        self.members.iter().map(move |(id, member)| {
            let source = self.sources.get(&member.peer);
            let candidate = Candidate {
                id: *id,
                swarm: number,
                mode: self.mode,
                interested: member.is_interested(),
                gives_per_s: source.map_or(0, |s| s.gives.per_s(now)),
                taken_bytes: member.line.bytes(),
                has_chunks: u32::try_from(member.has.count()).unwrap_or(u32::MAX),
                gave_bytes: member.gave_bytes + source.map_or(0, |s| s.bytes),
                we_seed,
                snubs_us: source.is_some_and(|s| s.view.snubs_us),
                joined: member.joined,
            };
            (member.peer, candidate)
        })
    }
}

impl Member {
    /// Bytes that were sent to it and are not yet counted.
    pub(super) fn uncounted_bytes(&self) -> u64 {
        self.line.bytes().saturating_sub(self.taken.bytes)
    }

    /// Whether it wants something, and may have it.
    pub(super) fn is_interested(&self) -> bool {
        self.line.interest() != Interest::No && !self.line.is_over()
    }
}

fn chunks_of(has: &HaveBitmap) -> u32 {
    u32::try_from(has.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use casnode_cas::ManifestId;

    use super::*;

    const CHUNKS: usize = 400;

    /// A seed's swarm with two members that may have chunks, and their lines.
    fn seeded() -> (Swarm, [Arc<Line>; 2]) {
        let mut swarm = Swarm::new(0, SwarmMode::Fair);
        let mut all = HaveBitmap::new(CHUNKS);
        (0..CHUNKS).for_each(|index| {
            all.set(index);
        });
        let lines = [1, 2].map(|id| {
            let line: Arc<Line> = Arc::default();
            let joining = Joining {
                peer: PeerId::random(),
                manifest: ManifestId::from_bytes([7; 32]),
                line: line.clone(),
                has: HaveBitmap::new(CHUNKS),
                here: Some(Here {
                    address: Address::from_bytes([7; 32]),
                    have: all.clone(),
                    live: None,
                }),
            };
            swarm.join(id, joining, Mono::default());
            line.set_unchoked(true);
            line
        });
        (swarm, lines)
    }

    #[test]
    fn a_member_that_has_no_use_for_its_offers_is_told_of_everything_soon() {
        let (mut swarm, [taker, reader]) = seeded();
        let mut load = LoadOfAll::default();
        assert!(swarm.news_waiting(2) < CHUNKS / 2);
        for s in 1..=u64::from(IDLE_COUNTS) {
            let now = Mono(Duration::from_secs(s));
            assert!(swarm.news_waiting(2) < CHUNKS / 2);
            taker.sent(1000, now);
            swarm.count(now, &mut load);
        }
        assert!(swarm.news_waiting(2) > CHUNKS / 2, "of the rest, too");
        assert!(swarm.news_waiting(1) < CHUNKS / 2, "it has use for them");
        drop(reader);
    }

    #[test]
    fn a_member_that_is_choked_is_not_idle() {
        let (mut swarm, [_, waiting]) = seeded();
        waiting.set_unchoked(false);
        for s in 1..60 {
            let now = Mono(Duration::from_secs(s));
            swarm.count(now, &mut LoadOfAll::default());
        }
        assert!(swarm.news_waiting(2) < CHUNKS / 2);
    }
}
