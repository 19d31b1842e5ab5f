//! Which keys are to be announced, and when. Pure: the time is an argument, in Unix seconds.
//!
//! Keys lie in 4,096 buckets by where they are in the keyspace, so that neighbours are announced together and
//! whoever looks for due keys passes over the buckets that have none. Only the time of the last success is
//! persisted: when a key is due follows from it, so that a restart goes on where it was.

mod bucket;
mod rhythm;

use std::collections::VecDeque;

use crate::Key;
use crate::config::AnnounceTimes;
use crate::key::{Point, REPLICATION};
use crate::records::layout::{self, DiskOp};
use crate::report::KeysStatus;
use bucket::{Bucket, Class, Entry};
use rhythm::Rhythm;

pub(crate) use bucket::Stored;

/// Bits of a point that name its bucket.
pub(crate) const BUCKET_BITS: u32 = 12;
/// Buckets of the keyspace: of a million keys, each has some 250.
const BUCKETS: usize = 1 << BUCKET_BITS;
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

/// Keys to be announced together, in the order of the keyspace's buckets.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) keys: Vec<(Key, Kind)>,
    /// Whether all of them have been announced before, and may take their time.
    pub(crate) renewals: bool,
}

/// How all keys stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) keys: u64,
    pub(crate) files: u64,
    /// Acknowledged within the expiry.
    pub(crate) done: u64,
    /// To be announced: due, or waiting for another try.
    pub(crate) due: u64,
    /// Of the due, those whose latest try nobody acknowledged.
    pub(crate) failed: u64,
    pub(crate) last_success: u32,
    /// When the next is due; `u32::MAX` for never.
    pub(crate) next_due: u32,
}

/// The schedule.
pub(crate) struct Schedule {
    buckets: Vec<Bucket>,
    rhythm: Rhythm,
    expiry_secs: u32,
    retry_secs: u32,
    len: usize,
    last_success: u32,
    /// Where the next run of each class begins.
    cursors: [usize; Class::COUNT],
    removed: VecDeque<Key>,
    dirty: usize,
    dirty_from: usize,
}

impl Schedule {
    /// Of the node at `me`, empty.
    pub(crate) fn new(times: &AnnounceTimes, me: &Point) -> Self {
        let secs = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let mut buckets = Vec::new();
        buckets.resize_with(BUCKETS, Bucket::default);
        Self {
            buckets,
            rhythm: Rhythm::new(secs(times.renewal), secs(times.expiry), me),
            expiry_secs: secs(times.expiry),
            retry_secs: secs(times.retry).max(1),
            len: 0,
            last_success: 0,
            cursors: [0; Class::COUNT],
            removed: VecDeque::new(),
            dirty: 0,
            dirty_from: 0,
        }
    }

    /// Takes a key from the disk; the latest of several about one key stays.
    pub(crate) fn load(&mut self, key: Key, stored: Stored) {
        let entry = Entry::stored(key, stored);
        self.last_success = self.last_success.max(stored.last_ok);
        let bucket = &mut self.buckets[bucket_of(&key)];
        match bucket.get_mut(&key) {
            Some(known) => *known = entry,
            None => {
                bucket.insert(entry);
                self.len += 1;
            }
        }
    }

    /// Takes back what earlier entries of the disk said about a key.
    pub(crate) fn unload(&mut self, key: &Key) {
        if self.buckets[bucket_of(key)].remove(key).is_some() {
            self.len -= 1;
        }
    }

    /// The state of the keys of one of `parts` parts, for the disk.
    pub(crate) fn ops_of_part(&self, part: usize, parts: usize) -> Vec<DiskOp> {
        let buckets = self.buckets.iter().skip(part).step_by(parts);
        let entries = buckets.flat_map(Bucket::entries);
        let op = |entry: &Entry| layout::due_op(&entry.key, Some(entry.to_store()));
        entries.map(op).collect()
    }

    /// Adds a key, due at once. A known key stays as it is, but a chunk may become a file.
    pub(crate) fn insert(&mut self, key: Key, kind: Kind) {
        let bucket = &mut self.buckets[bucket_of(&key)];
        match bucket.get_mut(&key) {
            Some(entry) if kind == Kind::Chunk || entry.kind == Kind::File => return,
            Some(entry) => {
                // Its value has never gone out.
                (entry.kind, entry.forced) = (kind, true);
                let newly = usize::from(!std::mem::replace(&mut entry.dirty, true));
                bucket.dirty += newly;
                self.dirty += newly;
            }
            None => {
                bucket.insert(Entry::new(key, kind));
                self.len += 1;
                self.dirty += 1;
            }
        }
        bucket.changed();
    }

    /// Adds a file whose announcement is under way; the background leaves it alone until `until`.
    pub(crate) fn insert_held(&mut self, key: Key, until: u32) {
        self.insert(key, Kind::File);
        self.with(&key, |entry| {
            entry.not_before = entry.not_before.max(until);
        });
    }

    /// Forgets a key; returns what it stood for.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Kind> {
        let entry = self.buckets[bucket_of(key)].remove(key)?;
        self.len -= 1;
        self.dirty -= usize::from(entry.dirty);
        self.removed.push_back(*key);
        Some(entry.kind)
    }

    /// Every key, in the order of the buckets.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries().map(|entry| &entry.key)
    }

    /// The keys of one of `parts` parts.
    pub(crate) fn keys_of_part(&self, part: usize, parts: usize) -> impl Iterator<Item = &Key> {
        let buckets = self.buckets.iter().skip(part).step_by(parts);
        buckets.flat_map(Bucket::entries).map(|entry| &entry.key)
    }

    /// Whether the key is that of a file.
    pub(crate) fn is_file(&self, key: &Key) -> bool {
        self.get(key).is_some_and(|entry| entry.kind == Kind::File)
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Up to `count` keys from all over the keyspace, the same every time.
    pub(crate) fn sample(&self, count: usize) -> Vec<Key> {
        let step = (self.len / count.max(1)).max(1);
        self.keys().step_by(step).take(count).copied().collect()
    }

    /// The time between two announcements of a key, in seconds.
    pub(crate) fn interval_secs(&self) -> u32 {
        self.rhythm.interval_secs()
    }

    /// Renewals come in this interval from now on.
    pub(crate) fn set_interval(&mut self, secs: u32) {
        if self.rhythm.set_interval(secs) {
            self.buckets.iter_mut().for_each(Bucket::changed);
        }
    }

    /// The network has become another: so many peers hold a key at best, and so many bits share those who do.
    pub(crate) fn set_network(&mut self, peers: usize, depth: u32) {
        if self.rhythm.set_network(peers.min(REPLICATION), depth) {
            self.buckets.iter_mut().for_each(Bucket::changed);
        }
    }

    /// The keys of the next run: files alone if any is due, else chunks never announced, else renewals.
    /// Empty when nothing is due.
    pub(crate) fn take_run(&mut self, now: u32, limits: &RunLimits) -> Run {
        for class in Class::ALL {
            let limit = match class {
                Class::File => limits.files,
                Class::New => limits.new,
                Class::Renewal => limits.renewals,
            };
            let keys = self.take_class(class, now, limit);
            if !keys.is_empty() {
                let renewals = class == Class::Renewal;
                return Run { keys, renewals };
            }
        }
        Run::default()
    }

    fn take_class(&mut self, class: Class, now: u32, limit: usize) -> Vec<(Key, Kind)> {
        let mut keys = Vec::new();
        let start = self.cursors[class.index()];
        for at in (start..BUCKETS).chain(0..start) {
            let bucket = &mut self.buckets[at];
            if !bucket.may_be_due(class, now, &self.rhythm, at) {
                continue;
            }
            let due = bucket.due(class, now, &self.rhythm, at);
            keys.extend(due.take(limit - keys.len()));
            self.cursors[class.index()] = at;
            if keys.len() >= limit {
                break;
            }
        }
        keys
    }

    /// Peers have acknowledged these keys: so many in this run, the first time with 1.
    pub(crate) fn acknowledged(&mut self, keys: impl IntoIterator<Item = (Key, u8)>, now: u32) {
        self.last_success = now;
        let rhythm = self.rhythm.clone();
        for (key, copies) in keys {
            let changed = |entry: &mut Entry| {
                entry.thin_runs = match rhythm.is_thin(copies) {
                    true => entry.thin_runs.saturating_add(u8::from(copies == 1)),
                    false => 0,
                };
                let news = entry.last_ok != now || entry.copies != copies;
                entry.copies = copies;
                entry.last_ok = now;
                (entry.failures, entry.not_before, entry.forced) = (0, 0, false);
                news
            };
            self.with_dirty(&key, changed);
        }
    }

    /// The run is over: what nobody acknowledged in it is tried again later.
    pub(crate) fn failed(&mut self, keys: impl IntoIterator<Item = Key>, now: u32) {
        let retry_secs = self.retry_secs;
        for key in keys {
            self.with_dirty(&key, |entry| {
                let wait = retry_secs << entry.failures.min(MAX_DOUBLINGS);
                entry.not_before = now.saturating_add(wait);
                entry.failures = entry.failures.saturating_add(1);
                // A success that lies ahead is none: nobody knows how long ago it was.
                let ahead = entry.last_ok > now;
                if ahead {
                    entry.last_ok = 0;
                }
                ahead
            });
        }
    }

    /// Peers have appeared after a time without any: what failed is due now.
    pub(crate) fn retry_failed(&mut self) {
        for bucket in &mut self.buckets {
            bucket.retry_failed();
        }
    }

    /// Makes a key due now, whatever the interval says; false when it is not in the schedule.
    pub(crate) fn force(&mut self, key: &Key) -> bool {
        self.with(key, |entry| (entry.forced, entry.not_before) = (true, 0))
            .is_some()
    }

    /// Makes every key due now; returns how many there are.
    pub(crate) fn force_all(&mut self) -> u64 {
        self.buckets.iter_mut().for_each(Bucket::force_all);
        self.len as u64
    }

    /// When the next key is due; at once if the time has passed, `u32::MAX` for never.
    pub(crate) fn next_due(&mut self, now: u32) -> u32 {
        let rhythm = &self.rhythm;
        let buckets = self.buckets.iter_mut().enumerate();
        let next = buckets.map(|(at, bucket)| bucket.next_due(now, rhythm, at));
        next.min().unwrap_or(u32::MAX)
    }

    /// How all keys stand. Looks at each: some ten milliseconds for a million.
    pub(crate) fn totals(&mut self, now: u32) -> Totals {
        let mut totals = Totals {
            keys: self.len as u64,
            last_success: self.last_success,
            next_due: self.next_due(now),
            ..Totals::default()
        };
        for (at, bucket) in self.buckets.iter().enumerate() {
            for entry in bucket.entries() {
                totals.files += u64::from(entry.kind == Kind::File);
                totals.done += u64::from(entry.is_held(now, self.expiry_secs));
                let due = entry.wants(now, &self.rhythm, at);
                totals.due += u64::from(due);
                totals.failed += u64::from(due && entry.failures > 0);
            }
        }
        totals
    }

    /// How some keys stand.
    pub(crate) fn status_of(&self, keys: &[Key], now: u32) -> KeysStatus {
        let mut status = KeysStatus {
            keys: keys.len() as u64,
            ..KeysStatus::default()
        };
        let mut copies = Vec::with_capacity(keys.len());
        for key in keys {
            let at = bucket_of(key);
            let Some(entry) = self.buckets[at].get(key) else {
                status.unscheduled += 1;
                continue;
            };
            let due = entry.wants(now, &self.rhythm, at);
            status.done += u64::from(entry.is_held(now, self.expiry_secs));
            status.due += u64::from(due);
            status.failed += u64::from(due && entry.failures > 0);
            copies.push(u32::from(entry.copies));
            if entry.was_announced(now) {
                let ok = entry.last_ok;
                status.oldest_success = Some(status.oldest_success.map_or(ok, |old| old.min(ok)));
                status.last_success = status.last_success.max(Some(ok));
            }
            let next = entry.due_at(now, &self.rhythm, at);
            status.next_due = Some(status.next_due.map_or(next, |first| first.min(next)));
        }
        copies.sort_unstable();
        status.copies_min = copies.first().copied().unwrap_or(0);
        status.copies_median = copies.get(copies.len() / 2).copied().unwrap_or(0);
        status
    }

    /// Up to `max` changes for the disk.
    pub(crate) fn take_dirty(&mut self, max: usize) -> Vec<DiskOp> {
        let gone = self.removed.drain(..max.min(self.removed.len()));
        // What has come back meanwhile is written below, or stands there already.
        let gone: Vec<Key> = gone.collect();
        let mut ops: Vec<_> = gone
            .into_iter()
            .map(|key| layout::due_op(&key, self.get(&key).map(Entry::to_store)))
            .collect();
        let mut passed = 0;
        while self.dirty > 0 && ops.len() < max && passed <= BUCKETS {
            let bucket = &mut self.buckets[self.dirty_from];
            let before = ops.len();
            bucket.take_dirty(max, &mut ops);
            self.dirty -= ops.len() - before;
            if ops.len() < max {
                self.dirty_from = (self.dirty_from + 1) % BUCKETS;
                passed += 1;
            }
        }
        ops
    }

    /// Changes that wait for the disk.
    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty + self.removed.len()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(Bucket::entries)
    }

    fn get(&self, key: &Key) -> Option<&Entry> {
        self.buckets[bucket_of(key)].get(key)
    }

    fn with<T>(&mut self, key: &Key, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let bucket = &mut self.buckets[bucket_of(key)];
        let done = change(bucket.get_mut(key)?);
        bucket.changed();
        Some(done)
    }

    /// As [`Self::with`]; `change` says whether the disk has to know.
    fn with_dirty(&mut self, key: &Key, change: impl FnOnce(&mut Entry) -> bool) -> Option<()> {
        let bucket = &mut self.buckets[bucket_of(key)];
        let entry = bucket.get_mut(key)?;
        let newly = change(entry) && !entry.dirty;
        entry.dirty |= newly;
        bucket.dirty += usize::from(newly);
        bucket.changed();
        self.dirty += usize::from(newly);
        Some(())
    }
}

/// The bucket a key lies in.
fn bucket_of(key: &Key) -> usize {
    usize::from(Point::of_key(key).fraction() >> (16 - BUCKET_BITS))
}

#[cfg(test)]
mod tests;
