//! Super-seeding: a node that alone has everything sends every chunk once, and leaves the rest to the swarm.
//!
//! Members are not told all that is here. Each chunk is offered to one of them, who passes it on; who takes quickly
//! is offered more. As the chunks that nobody was offered run out, everybody is offered fewer, so that little is left
//! in slow hands when they are gone; then everything is revealed to everybody.

mod pool;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use casnode_cas::HaveBitmap;

use self::pool::Pool;
use crate::sched::Mono;

/// Chunks that may be open, offered and neither sent nor got, at a member that nothing was sent to yet: it may be
/// choked for long.
const FIRST_WINDOW: usize = 4;
/// Chunks that may be open at any member that something was sent to.
const WINDOW: usize = 8;
/// At least so many are, however few are left.
const LAST_WINDOW: usize = 2;
/// Chunks that may be open at a member that is alone: more than it may ask for at a time, so that it never waits for an
/// offer. Others may join in a moment, so it is not told everything at once.
const LONE_WINDOW: usize = 96;
/// A member that is alone for so long is told everything; at once when there is little to be told.
const LONE_FOR: Duration = Duration::from_secs(1);

/// What a sole seed has offered to whom.
///
/// Invariants: a chunk is in the pool exactly when no member has it and none holds an offer of it. Unless all is
/// revealed, the pool is not empty.
///
/// Memory: a bit for each chunk and member, and 20 bytes a chunk.
#[derive(Debug)]
pub struct Offers {
    pool: Pool,
    /// By chunk: members that have it.
    holders: Vec<u32>,
    /// By chunk: members that were offered or sent it, and did not say that they have it.
    takers: Vec<u32>,
    members: BTreeMap<u64, Member>,
    revealed: bool,
}

/// One member. Invariant: nothing in `taking` is in `has`.
#[derive(Debug)]
struct Member {
    has: HaveBitmap,
    /// What it was told one by one.
    told: BTreeSet<u32>,
    /// Of these, what it is still to be told.
    news: VecDeque<u32>,
    /// Offered or sent, and not had: whether it was sent.
    taking: BTreeMap<u32, bool>,
    /// In `taking`, and not sent.
    open: usize,
    pace: Pace,
    /// It knows, or is being told, everything: from this chunk on.
    all_from: Option<u32>,
    /// What was offered to it last.
    last: Option<u32>,
    joined: Mono,
}

impl Offers {
    /// Nobody is there yet; `seed` decides the order of the chunks.
    #[must_use]
    pub fn new(chunks: u32, seed: u64) -> Self {
        Self {
            pool: Pool::full(chunks, seed),
            holders: vec![0; chunks as usize],
            takers: vec![0; chunks as usize],
            members: BTreeMap::new(),
            revealed: false,
        }
    }

    /// A member joins with what it has, and is to be told that this is here. What it has counts for nothing when it is
    /// of another number of chunks.
    pub fn joins(&mut self, now: Mono, member: u64, has: HaveBitmap) -> HaveBitmap {
        self.leaves(member);
        let fits = has.len() == self.holders.len();
        let has = if fits {
            has
        } else {
            HaveBitmap::new(self.holders.len())
        };
        for index in has.iter_ones() {
            self.held(index);
        }
        let complete = has.is_complete();
        self.members.insert(member, Member::new(has, now));
        if complete {
            self.reveal();
        }
        self.offer(now, member);
        self.first_news(member)
    }

    /// A member says that it has these chunks now, too. Indices beyond the end change nothing.
    pub fn got(&mut self, now: Mono, member: u64, indices: &[u32]) {
        let Some(of) = self.members.get_mut(&member) else {
            return;
        };
        let mut news = Vec::new();
        for &index in indices {
            if of.has.set(index as usize) {
                news.push((index as usize, of.taking.remove(&index)));
            }
        }
        of.open -= news.iter().filter(|(_, sent)| *sent == Some(false)).count();
        let complete = of.has.is_complete();
        for (index, taking) in news {
            self.held(index);
            if taking.is_some() {
                self.takers[index] -= 1;
            }
        }
        if complete {
            self.reveal();
        }
        self.offer(now, member);
    }

    /// A chunk was sent to a member.
    pub fn served(&mut self, now: Mono, member: u64, index: u32) {
        let Some(of) = self.members.get_mut(&member) else {
            return;
        };
        of.pace.add(now);
        let at = index as usize;
        if at < self.holders.len() && !of.has.get(at) {
            match of.taking.insert(index, true) {
                Some(false) => of.open -= 1,
                Some(true) => {}
                None => {
                    self.takers[at] += 1;
                    self.pool.remove(index);
                }
            }
        }
        self.offer(now, member);
    }

    /// A member is gone. What it alone had, or was offered, will be offered to another.
    pub fn leaves(&mut self, member: u64) {
        let Some(gone) = self.members.remove(&member) else {
            return;
        };
        for index in gone.has.iter_ones() {
            self.holders[index] -= 1;
            self.return_if_lost(index);
        }
        for index in gone.taking.into_keys() {
            self.takers[index as usize] -= 1;
            self.return_if_lost(index as usize);
        }
        match self.members.len() {
            0 => self.revealed = false,
            1 => {
                let last = self.members.keys().next().copied();
                last.into_iter().for_each(|last| self.tell_all(last));
            }
            _ => {}
        }
    }

    /// What a member is to be told now, at most `most` chunks of it; to be asked for again until it is empty.
    pub fn take_news(&mut self, member: u64, most: usize) -> Vec<u32> {
        let Some(of) = self.members.get_mut(&member) else {
            return Vec::new();
        };
        let mut news: Vec<u32> = of.news.drain(..of.news.len().min(most)).collect();
        let end = u32::try_from(of.has.len()).unwrap_or(u32::MAX);
        while let Some(index) = of.all_from.filter(|index| *index < end) {
            if news.len() >= most {
                break;
            }
            of.all_from = Some(index + 1);
            if !of.told.contains(&index) {
                news.push(index);
            }
        }
        news
    }

    /// How many chunks a member is to be told of now.
    #[must_use]
    pub fn news_waiting(&self, member: u64) -> usize {
        self.members.get(&member).map_or(0, |of| {
            let from = of.all_from.map_or(of.has.len(), |from| from as usize);
            of.news.len() + of.has.len().saturating_sub(from)
        })
    }

    /// Whether there is a member that may not know everything, as far as can be told without looking at all of them.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        let lone = || self.members.values().any(|of| of.all_from.is_none());
        !self.revealed && (self.members.len() > 1 || lone())
    }

    /// Whether a member may know that this chunk is here. Not so of a stranger.
    #[must_use]
    pub fn is_offered(&self, member: u64, index: u32) -> bool {
        (index as usize) < self.holders.len()
            && self
                .members
                .get(&member)
                .is_some_and(|of| of.all_from.is_some() || of.told.contains(&index))
    }

    /// Everybody learns that everything is here. So it stays until all members have left.
    pub fn reveal(&mut self) {
        if !self.revealed {
            self.revealed = true;
            for member in self.members.values_mut() {
                member.all_from.get_or_insert(0);
            }
        }
    }

    /// Whether everybody may know everything.
    #[must_use]
    pub fn is_revealed(&self) -> bool {
        self.revealed
    }

    /// Offers a member as much as its window allows.
    fn offer(&mut self, now: Mono, member: u64) {
        let members = self.members.len();
        let Some(of) = self.members.get_mut(&member) else {
            return;
        };
        let lone = members == 1;
        let is_little = self.pool.len() <= 2 * LONE_WINDOW;
        if self.revealed || (lone && (is_little || now.since(of.joined) >= LONE_FOR)) {
            of.all_from.get_or_insert(0);
        }
        while of.all_from.is_none() {
            let share = self.pool.len() / (2 * members);
            let window = match lone {
                true => LONE_WINDOW.max(2 * of.pace.last_second(now)),
                false => of.window(now, share),
            };
            if of.open >= window {
                break;
            }
            let Some(index) = self.pool.take(of.last) else {
                break;
            };
            self.takers[index as usize] += 1;
            of.last = Some(index);
            of.taking.insert(index, false);
            of.open += 1;
            of.told.insert(index);
            of.news.push_back(index);
        }
        if self.pool.is_empty() {
            self.reveal();
        }
    }

    /// What a member is told first, in one piece.
    fn first_news(&mut self, member: u64) -> HaveBitmap {
        let mut first = HaveBitmap::new(self.holders.len());
        for index in self.take_news(member, self.holders.len()) {
            first.set(index as usize);
        }
        first
    }

    /// A member learns that everything is here.
    pub fn tell_all(&mut self, member: u64) {
        if let Some(of) = self.members.get_mut(&member) {
            of.all_from.get_or_insert(0);
        }
    }

    /// One member more has a chunk.
    fn held(&mut self, index: usize) {
        if let Some(holders) = self.holders.get_mut(index) {
            *holders += 1;
            self.pool.remove(u32::try_from(index).unwrap_or(u32::MAX));
        }
    }

    fn return_if_lost(&mut self, index: usize) {
        if self.holders[index] == 0 && self.takers[index] == 0 {
            self.pool.put(u32::try_from(index).unwrap_or(u32::MAX));
        }
    }
}

impl Member {
    fn new(has: HaveBitmap, joined: Mono) -> Self {
        Self {
            has,
            told: BTreeSet::new(),
            news: VecDeque::new(),
            taking: BTreeMap::new(),
            open: 0,
            pace: Pace::default(),
            all_from: None,
            last: None,
            joined,
        }
    }

    /// How many chunks may be open at it: two seconds of what it takes, and not more than its `share` of what is left.
    fn window(&self, now: Mono, share: usize) -> usize {
        let pace = self.pace.last_second(now);
        let most = if self.pace.began() {
            WINDOW.max(2 * pace)
        } else {
            FIRST_WINDOW
        };
        // A quarter of a second is what an offer and the request for it may be under way.
        most.min(share.max(LAST_WINDOW).max(pace / 4))
    }
}

/// Chunks sent to a member in this second and the one before.
#[derive(Debug, Default)]
struct Pace {
    second: Option<u64>,
    this: usize,
    before: usize,
}

impl Pace {
    fn began(&self) -> bool {
        self.second.is_some()
    }

    fn add(&mut self, now: Mono) {
        let now_s = now.0.as_secs();
        let second = *self.second.get_or_insert(now_s);
        if now_s > second {
            self.before = if now_s == second + 1 { self.this } else { 0 };
            self.this = 0;
            self.second = Some(now_s);
        }
        self.this += 1;
    }

    /// The larger of what was sent in this second and in the one before.
    fn last_second(&self, now: Mono) -> usize {
        match self
            .second
            .map(|second| now.0.as_secs().saturating_sub(second))
        {
            Some(0) => self.this.max(self.before),
            Some(1) => self.this,
            _ => 0,
        }
    }
}
