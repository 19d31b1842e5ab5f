//! Which keys are to be announced, and when. Pure: the time is an argument, in Unix seconds.
//!
//! Only the time of the last success is persisted: after a restart a key is due when it would have been.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::Key;
use crate::config::AnnounceTimes;
use crate::key::{Point, REPLICATION};
use crate::records::layout::{self, DiskOp};

/// How long a key that few peers hold waits before it is announced again to a network that has grown.
const THIN_SECS: u32 = 600;
/// Doublings of the wait after a failure: 5 s become 21 minutes.
const MAX_DOUBLINGS: u8 = 8;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file: its provider record goes out first, and a value record with it.
    File,
    /// A chunk.
    Chunk,
}

/// The most keys of one run, by what they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunLimits {
    pub(crate) files: usize,
    pub(crate) new: usize,
    pub(crate) renewals: usize,
}

#[cfg(test)]
impl RunLimits {
    pub(crate) const ALL: Self = Self {
        files: usize::MAX,
        new: usize::MAX,
        renewals: usize::MAX,
    };
}

/// One key of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) kind: Kind,
    /// Peers that acknowledged the key in its latest run.
    pub(crate) copies: u8,
    /// When a peer last acknowledged it; 0 for never.
    pub(crate) last_ok: u32,
    failures: u8,
    next_due: u32,
    run: u32,
}

impl Due {
    /// Whether a peer has acknowledged the key, by what the clock says now: a success that lies ahead
    /// counts as none, for nobody knows how long ago it was.
    fn was_announced(&self, now: u32) -> bool {
        self.last_ok > 0 && self.last_ok <= now
    }

    fn is_due(&self, now: u32, horizon_secs: u32) -> bool {
        let wait = self.next_due.saturating_sub(now);
        wait == 0 || wait > horizon_secs || self.last_ok > now
    }
}

/// The schedule.
pub(crate) struct DueTable {
    keys: HashMap<Key, Due>,
    expiry_secs: u32,
    renewal_secs: u32,
    retry_secs: u32,
    run: u32,
    dirty: VecDeque<Key>,
    dirty_set: HashSet<Key>,
}

impl DueTable {
    pub(crate) fn new(times: &AnnounceTimes) -> Self {
        let secs = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self {
            keys: HashMap::new(),
            expiry_secs: secs(times.expiry),
            renewal_secs: secs(times.renewal),
            retry_secs: secs(times.retry).max(1),
            run: 0,
            dirty: VecDeque::new(),
            dirty_set: HashSet::new(),
        }
    }

    /// Takes a key from the disk.
    pub(crate) fn load(&mut self, key: Key, kind: Kind, copies: u8, last_ok: u32) {
        let next_due = self.renewal_of(&key, last_ok);
        let due = Due {
            kind,
            copies,
            last_ok,
            failures: 0,
            next_due,
            run: 0,
        };
        self.keys.insert(key, due);
    }

    /// Adds a key, due at once. A known key stays as it is, but a chunk may become a file.
    pub(crate) fn insert(&mut self, key: Key, kind: Kind) {
        let new = Due {
            kind,
            copies: 0,
            last_ok: 0,
            failures: 0,
            next_due: 0,
            run: 0,
        };
        let due = self.keys.entry(key).or_insert(new);
        if kind == Kind::File {
            due.kind = kind;
        }
        self.touch(key);
    }

    /// Forgets a key; returns what it stood for.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Kind> {
        let due = self.keys.remove(key)?;
        self.touch(*key);
        Some(due.kind)
    }

    /// Every key, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys()
    }

    /// Whether the key is that of a file.
    pub(crate) fn is_file(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|due| due.kind == Kind::File)
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.keys.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys of the next run: files alone if any is due, else chunks never announced, else renewals.
    /// Empty when nothing is due.
    pub(crate) fn take_run(&mut self, now: u32, limits: &RunLimits) -> Vec<(Key, Kind)> {
        let (mut files, mut new, mut renewals) = (Vec::new(), Vec::new(), Vec::new());
        for (key, due) in &self.keys {
            if !self.is_due(due, now) {
                continue;
            }
            let (class, limit) = match (due.kind, due.was_announced(now)) {
                (Kind::File, _) => (&mut files, limits.files),
                (Kind::Chunk, false) => (&mut new, limits.new),
                (Kind::Chunk, true) => (&mut renewals, limits.renewals),
            };
            if class.len() < limit {
                class.push((*key, due.kind));
            }
        }
        let run = [files, new, renewals]
            .into_iter()
            .find(|class| !class.is_empty());
        let run = run.unwrap_or_default();
        if !run.is_empty() {
            self.run += 1;
        }
        run
    }

    /// A peer has acknowledged these keys.
    pub(crate) fn acknowledged(&mut self, keys: impl IntoIterator<Item = Key>, now: u32) {
        for key in keys {
            let next_due = self.renewal_of(&key, now);
            let Some(due) = self.keys.get_mut(&key) else {
                continue;
            };
            if due.run != self.run {
                due.copies = 0;
                due.run = self.run;
            }
            due.copies = due.copies.saturating_add(1);
            due.failures = 0;
            due.last_ok = now;
            due.next_due = next_due;
            self.touch(key);
        }
    }

    /// The run is over: what nobody acknowledged is tried again later.
    pub(crate) fn run_over(&mut self, keys: impl IntoIterator<Item = Key>, now: u32) {
        for key in keys {
            let horizon = self.horizon_secs();
            if let Some(due) = self.keys.get_mut(&key)
                && due.is_due(now, horizon)
            {
                if !due.was_announced(now) {
                    // The wait below would be overruled by a time that has not come.
                    due.last_ok = 0;
                }
                due.next_due =
                    now.saturating_add(self.retry_secs << due.failures.min(MAX_DOUBLINGS));
                due.failures = due.failures.saturating_add(1);
            }
        }
    }

    /// Adds a file whose announcement is under way; the background leaves it alone until `until`.
    pub(crate) fn insert_held(&mut self, key: Key, until: u32) {
        self.insert(key, Kind::File);
        if let Some(due) = self.keys.get_mut(&key) {
            due.next_due = due.next_due.max(until);
        }
    }

    /// An announcement that was under way has failed: the background takes over soon.
    pub(crate) fn run_over_now(&mut self, key: &Key, now: u32) {
        if let Some(due) = self.keys.get_mut(key) {
            due.next_due = now;
        }
        self.run_over([*key], now);
    }

    /// Whether all these keys have been announced before.
    pub(crate) fn all_renewals(&self, keys: &[(Key, Kind)], now: u32) -> bool {
        let announced = |key| self.keys.get(key).is_some_and(|due| due.was_announced(now));
        keys.iter().all(|(key, _)| announced(key))
    }

    /// Peers have appeared after a time without any: what failed is due now.
    pub(crate) fn retry_failed(&mut self, now: u32) {
        for due in self.keys.values_mut() {
            if due.failures > 0 {
                due.next_due = due.next_due.min(now);
            }
        }
    }

    /// Keys that few peers hold are due again when the network has become larger: `peers` are known.
    pub(crate) fn refresh_thin(&mut self, now: u32, peers: usize) {
        let wanted = peers.min(REPLICATION);
        for due in self.keys.values_mut() {
            let thin = usize::from(due.copies) * 2 <= wanted;
            if due.last_ok > 0 && thin && due.last_ok.saturating_add(THIN_SECS) <= now {
                due.next_due = due.next_due.min(now);
            }
        }
    }

    /// When the next key is due; at once if the time has passed.
    pub(crate) fn next_due(&self) -> Option<u32> {
        self.keys.values().map(|due| due.next_due).min()
    }

    /// Keys announced and keys still to be announced.
    pub(crate) fn status(&self, now: u32) -> (u64, u64) {
        let fresh = |due: &&Due| {
            due.was_announced(now) && due.last_ok.saturating_add(self.expiry_secs) > now
        };
        let announced = self.keys.values().filter(fresh).count();
        (announced as u64, (self.keys.len() - announced) as u64)
    }

    /// Up to `max` changes for the disk, oldest first.
    pub(crate) fn take_dirty(&mut self, max: usize) -> Vec<DiskOp> {
        let count = max.min(self.dirty.len());
        let changed: Vec<_> = self.dirty.drain(..count).collect();
        changed
            .into_iter()
            .map(|key| {
                self.dirty_set.remove(&key);
                layout::due_op(&key, self.keys.get(&key))
            })
            .collect()
    }

    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    fn is_due(&self, due: &Due, now: u32) -> bool {
        due.is_due(now, self.horizon_secs())
    }

    /// The longest a key can have to wait. A time further ahead was set before the clock was set back.
    fn horizon_secs(&self) -> u32 {
        self.renewal_secs.max(self.retry_secs << MAX_DOUBLINGS)
    }

    fn touch(&mut self, key: Key) {
        if self.dirty_set.insert(key) {
            self.dirty.push_back(key);
        }
    }

    /// Renewals are spread over the last tenth of the interval by region, so that neighbours stay
    /// together and the whole does not come at once.
    fn renewal_of(&self, key: &Key, last_ok: u32) -> u32 {
        if last_ok == 0 {
            return 0;
        }
        let spread = u64::from(self.renewal_secs / 10);
        let early = spread * u64::from(Point::of_key(key).fraction()) / 65_536;
        let early = u32::try_from(early).unwrap_or(0);
        last_ok.saturating_add(self.renewal_secs - early)
    }
}

#[cfg(test)]
mod tests;
