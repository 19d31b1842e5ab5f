//! Which keys are to be announced, and when. The time is an argument, in Unix seconds.
//!
//! Keys lie in 16,384 buckets by where they are in the keyspace, so that neighbours are announced together and
//! whoever looks for due keys passes over the buckets that have none. When a key is due follows from its last success, so
//! that a restart goes on where it was. Of a large schedule most buckets are away: their keys are on the disk
//! alone, and in memory is how many there are, how they stand, when the first is due, and six bytes of each key that tell whether
//! a key may be among them. What is done with a key fetches its bucket. So a million keys take 10 MiB, and whoever asks for
//! many asks in the order of the buckets.

mod bucket;
mod rhythm;
mod tags;

use std::sync::Arc;

use crate::Key;
use crate::config::AnnounceTimes;
use crate::key::{Point, REPLICATION};
use crate::records::shelf::{Shelf, Written};
use crate::report::KeysStatus;
use bucket::{Bucket, Class, Entry, Summary};
use rhythm::Rhythm;

pub(crate) use bucket::STORED_BYTES;
pub(crate) use tags::Tags;

/// Bits of a point that name its bucket.
pub(crate) const BUCKET_BITS: u32 = 14;
/// Buckets of the keyspace: of a million keys, each has some 60.
pub(crate) const BUCKETS: usize = 1 << BUCKET_BITS;
/// Keys that stay in memory, 3 MiB: more than those of one run. Some more may while they wait for the disk.
pub(crate) const MAX_KEYS_HERE: usize = 1 << 16;
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
    retry_secs: u32,
    len: usize,
    last_success: u32,
    /// Where the next run of each class begins.
    cursors: [usize; Class::COUNT],
    /// Where buckets are that are away; without one none goes.
    shelf: Option<Arc<Shelf>>,
    tags: Arc<Tags>,
    keys_here: usize,
    max_keys_here: usize,
    /// Where the last look for buckets that can go ended.
    hand: usize,
    /// That look found too few: what is here waits for the disk.
    is_full: bool,
    /// The latest time that was told.
    now: u32,
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
            retry_secs: secs(times.retry).max(1),
            len: 0,
            last_success: 0,
            cursors: [0; Class::COUNT],
            shelf: None,
            tags: Arc::default(),
            keys_here: 0,
            max_keys_here: MAX_KEYS_HERE,
            hand: 0,
            is_full: false,
            now: 0,
        }
    }

    /// Takes a bucket as the disk has it; it is away from now on. `file` gets the keys of files.
    pub(crate) fn load(&mut self, at: u16, stored: &[u8], now: u32, mut file: impl FnMut(Key)) {
        let mut bucket = Bucket::decode(stored);
        self.len += bucket.len();
        for entry in bucket.entries() {
            self.last_success = self.last_success.max(entry.last_ok);
            if entry.kind == Kind::File {
                file(entry.key);
            }
        }
        let keys = bucket.entries().iter().map(|entry| &entry.key);
        self.tags.set(usize::from(at), keys);
        bucket.leave(now, &self.rhythm, usize::from(at));
        if let Some(place) = self.buckets.get_mut(usize::from(at)) {
            *place = bucket;
        }
    }

    /// Buckets come from there, and those that nobody uses go away when there are more than `max_keys_here` keys in
    /// memory.
    pub(crate) fn keep_on(&mut self, shelf: Arc<Shelf>, max_keys_here: usize) {
        (self.shelf, self.max_keys_here) = (Some(shelf), max_keys_here);
    }

    /// Where buckets are kept.
    pub(crate) fn shelf(&self) -> Option<Arc<Shelf>> {
        self.shelf.clone()
    }

    /// What tells whether a key is in the schedule without it.
    pub(crate) fn tags(&self) -> Arc<Tags> {
        self.tags.clone()
    }

    /// Adds a key, due at once. A known key stays as it is, but a chunk may become a file.
    pub(crate) fn insert(&mut self, key: Key, kind: Kind) {
        let at = bucket_of(&key);
        let bucket = self.fetch(at);
        match bucket.get_mut(&key) {
            Some(entry) if kind == Kind::Chunk || entry.kind == Kind::File => {}
            Some(entry) => {
                // Its value has never gone out.
                (entry.kind, entry.forced) = (kind, true);
                bucket.changed();
            }
            None => {
                bucket.insert(Entry::new(key, kind));
                self.tags.insert(at, &key);
                self.len += 1;
                self.keys_here += 1;
            }
        }
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
        let at = bucket_of(key);
        if !self.tags.may_have(key) {
            return None;
        }
        let entry = self.fetch(at).remove(key)?;
        self.tags.remove(at, key);
        self.len -= 1;
        self.keys_here -= 1;
        Some(entry.kind)
    }

    /// The keys of some buckets.
    pub(crate) fn keys_of(&mut self, buckets: std::ops::Range<usize>) -> Vec<Key> {
        let mut keys = Vec::new();
        for at in buckets {
            let entries = self.fetch(at).entries().iter();
            keys.extend(entries.map(|entry| entry.key));
        }
        keys
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Up to `count` keys from all over the keyspace, the same every time.
    pub(crate) fn sample(&mut self, count: usize) -> Vec<Key> {
        let step = (self.len / count.max(1)).max(1);
        let (mut sample, mut next, mut passed) = (Vec::new(), 0, 0);
        for at in 0..BUCKETS {
            let len = self.buckets[at].len();
            while next < passed + len && sample.len() < count {
                let entry = self.fetch(at).entries().get(next - passed);
                sample.extend(entry.map(|entry| entry.key));
                next += step;
            }
            passed += len;
        }
        sample
    }

    /// The time between two announcements of a key, in seconds.
    pub(crate) fn interval_secs(&self) -> u32 {
        self.rhythm.interval_secs()
    }

    /// Renewals come in this interval from now on.
    pub(crate) fn set_interval(&mut self, secs: u32) {
        if self.rhythm.set_interval(secs) {
            self.buckets.iter_mut().for_each(Bucket::forget_summary);
        }
    }

    /// The network has become another: `peers` hold a key at best, and those who do share `depth` bits with it.
    pub(crate) fn set_network(&mut self, peers: usize, depth: u32) {
        let before = self.rhythm.clone();
        if self.rhythm.set_network(peers.min(REPLICATION), depth) {
            let same_slices = self.rhythm.has_slices_of(&before);
            for bucket in &mut self.buckets {
                match same_slices {
                    true => bucket.holders_changed(&before, &self.rhythm),
                    false => bucket.forget_summary(),
                }
            }
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
            if self.summary(at, now).next[class.index()] > now {
                continue;
            }
            let rhythm = self.rhythm.clone();
            let due = self.fetch(at).due(class, now, &rhythm, at);
            keys.extend(due.take(limit - keys.len()));
            self.cursors[class.index()] = at;
            if keys.len() >= limit {
                break;
            }
        }
        keys
    }

    /// Peers have acknowledged these keys: beside each, how many in this run, the first time with 1.
    pub(crate) fn acknowledged(&mut self, keys: impl IntoIterator<Item = (Key, u8)>, now: u32) {
        self.last_success = now;
        let rhythm = self.rhythm.clone();
        for (key, copies) in keys {
            self.with(&key, |entry| {
                entry.thin_runs = match rhythm.is_thin(copies) {
                    true => entry.thin_runs.saturating_add(u8::from(copies == 1)),
                    false => 0,
                };
                entry.copies = copies;
                entry.last_ok = now;
                (entry.failures, entry.not_before, entry.forced) = (0, 0, false);
            });
        }
    }

    /// The run is over: what nobody acknowledged in it is tried again later.
    pub(crate) fn failed(&mut self, keys: impl IntoIterator<Item = Key>, now: u32) {
        let retry_secs = self.retry_secs;
        for key in keys {
            self.with(&key, |entry| {
                let wait = retry_secs << entry.failures.min(MAX_DOUBLINGS);
                entry.not_before = now.saturating_add(wait);
                entry.failures = entry.failures.saturating_add(1);
                // A success that lies ahead is none: nobody knows how long ago it was.
                if entry.last_ok > now {
                    entry.last_ok = 0;
                }
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
        let next = (0..BUCKETS).flat_map(|at| self.summary(at, now).next);
        next.min().unwrap_or(u32::MAX)
    }

    /// How all keys stand. Fetches buckets of which that is not known: a tenth of a second, if it is of none of a million
    /// keys.
    pub(crate) fn totals(&mut self, now: u32) -> Totals {
        let mut totals = Totals {
            keys: self.len as u64,
            last_success: self.last_success,
            next_due: u32::MAX,
            ..Totals::default()
        };
        for at in 0..BUCKETS {
            let of_bucket = self.summary(at, now);
            totals.files += u64::from(of_bucket.files);
            totals.done += u64::from(of_bucket.done);
            totals.due += u64::from(of_bucket.due);
            totals.failed += u64::from(of_bucket.failed);
            let next = of_bucket.next.into_iter().min().unwrap_or(u32::MAX);
            totals.next_due = totals.next_due.min(next);
        }
        totals
    }

    /// How some keys stand.
    pub(crate) fn status_of(&mut self, keys: &[Key], now: u32) -> KeysStatus {
        let mut status = KeysStatus {
            keys: keys.len() as u64,
            ..KeysStatus::default()
        };
        let mut copies = Vec::with_capacity(keys.len());
        let rhythm = self.rhythm.clone();
        for (at, key) in by_bucket(keys) {
            let Some(entry) = self.fetch(at).get(key) else {
                status.unscheduled += 1;
                continue;
            };
            let due = entry.wants(now, &rhythm, at);
            status.done += u64::from(entry.is_held(now, rhythm.expiry_secs()));
            status.due += u64::from(due);
            status.failed += u64::from(due && entry.failures > 0);
            copies.push(u32::from(entry.copies));
            if entry.was_announced(now) {
                let ok = entry.last_ok;
                status.oldest_success = Some(status.oldest_success.map_or(ok, |old| old.min(ok)));
                status.last_success = status.last_success.max(Some(ok));
            }
            let next = entry.due_at(now, &rhythm, at);
            status.next_due = Some(status.next_due.map_or(next, |first| first.min(next)));
        }
        copies.sort_unstable();
        status.copies_min = copies.first().copied().unwrap_or(0);
        status.copies_median = copies.get(copies.len() / 2).copied().unwrap_or(0);
        status
    }

    /// Up to `max` changed buckets, for the disk. They do not go away before [`Self::written`] has been told of them.
    pub(crate) fn take_dirty(&mut self, max: usize) -> Vec<Written> {
        let dirty = self.buckets.iter_mut().zip(0..);
        let dirty = dirty.filter(|(bucket, _)| bucket.dirty).take(max);
        let take = |(bucket, at): (&mut Bucket, u16)| {
            (bucket.dirty, bucket.unwritten) = (false, true);
            (at, bucket.encode())
        };
        dirty.map(take).collect()
    }

    /// These buckets are on the disk.
    pub(crate) fn written(&mut self, buckets: &[Written]) {
        for (at, _) in buckets {
            self.buckets[usize::from(*at)].unwritten = false;
        }
        self.is_full = false;
        self.make_room();
    }

    /// Nobody writes the changes.
    pub(crate) fn forget_changes(&mut self) {
        self.buckets
            .iter_mut()
            .for_each(|bucket| bucket.dirty = false);
    }

    /// Buckets that wait for the disk.
    pub(crate) fn dirty_len(&self) -> usize {
        self.buckets.iter().filter(|bucket| bucket.dirty).count()
    }

    /// Whether more is in memory than should be, because it waits for the disk.
    pub(crate) fn is_crowded(&self) -> bool {
        self.shelf.is_some() && self.keys_here > 2 * self.max_keys_here
    }

    fn with<T>(&mut self, key: &Key, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let bucket = self.fetch(bucket_of(key));
        let done = change(bucket.get_mut(key)?);
        bucket.changed();
        Some(done)
    }

    /// How the keys of a bucket stand.
    fn summary(&mut self, at: usize, now: u32) -> Summary {
        self.now = now;
        if let Some(known) = self.buckets[at].summary(now, &self.rhythm, at) {
            return known;
        }
        self.fetch(at);
        let found = self.buckets[at].summary(now, &self.rhythm, at);
        found.unwrap_or_default()
    }

    /// A bucket with its keys. One that cannot be read is empty: its keys are made again from the content store.
    fn fetch(&mut self, at: usize) -> &mut Bucket {
        if self.buckets[at].is_away() {
            self.make_room();
            let number = u16::try_from(at).unwrap_or(u16::MAX);
            let stored = self.shelf.as_ref().map(|shelf| shelf.read(number));
            let stored = stored
                .unwrap_or_else(|| Ok(Vec::new()))
                .unwrap_or_else(|error| {
                    tracing::error!(%error, bucket = at, "a part of the announce schedule is lost");
                    Vec::new()
                });
            let bucket = &mut self.buckets[at];
            self.len -= bucket.len();
            bucket.come_back(&stored);
            self.len += bucket.len();
            self.keys_here += bucket.len();
        }
        let bucket = &mut self.buckets[at];
        bucket.used = true;
        bucket
    }

    /// Sends buckets away that were not used of late, until there is room.
    fn make_room(&mut self) {
        if self.shelf.is_none() || self.is_full {
            return;
        }
        for _ in 0..2 * BUCKETS {
            if self.keys_here < self.max_keys_here {
                return;
            }
            let at = self.hand;
            self.hand = (at + 1) % BUCKETS;
            let bucket = &mut self.buckets[at];
            let stays = bucket.dirty || bucket.unwritten || bucket.is_away() || bucket.len() == 0;
            if !stays && !std::mem::take(&mut bucket.used) {
                self.keys_here -= bucket.len();
                bucket.leave(self.now, &self.rhythm, at);
            }
        }
        self.is_full = true;
    }
}

/// Keys in the order of their buckets, which are fetched one after the other.
pub(crate) fn by_bucket(keys: &[Key]) -> Vec<(usize, &Key)> {
    let mut sorted: Vec<_> = keys.iter().map(|key| (bucket_of(key), key)).collect();
    sorted.sort_unstable();
    sorted
}

/// The bucket a key lies in.
fn bucket_of(key: &Key) -> usize {
    usize::from(Point::of_key(key).fraction() >> (16 - BUCKET_BITS))
}

#[cfg(test)]
mod tests;
