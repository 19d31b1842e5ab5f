//! The keys of one part of the keyspace.

use super::rhythm::Rhythm;
use super::{Kind, MAX_DOUBLINGS};
use crate::Key;

/// The longest a key can have to wait after a failure, times the first wait. A time further ahead was set before the
/// clock was set back.
const MAX_WAIT_SECS: u32 = 24 * 3600;

/// The order in which keys are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    File,
    /// Chunks never announced, or asked for by hand.
    New,
    Renewal,
}

impl Class {
    pub(super) const COUNT: usize = 3;
    pub(super) const ALL: [Self; Self::COUNT] = [Self::File, Self::New, Self::Renewal];

    pub(super) fn index(self) -> usize {
        match self {
            Self::File => 0,
            Self::New => 1,
            Self::Renewal => 2,
        }
    }
}

/// Length of a key and its state on the disk.
pub(crate) const STORED_BYTES: usize = 44;

const FLAG_FILE: u8 = 1;
const FLAG_FORCED: u8 = 2;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// When a peer last acknowledged it; 0 for never.
    pub(super) last_ok: u32,
    /// Not to be tried before then.
    pub(super) not_before: u32,
    pub(super) kind: Kind,
    /// Peers that acknowledged the key in its latest run.
    pub(super) copies: u8,
    pub(super) failures: u8,
    /// Runs in a row that left it with few copies.
    pub(super) thin_runs: u8,
    /// Due now because somebody said so.
    pub(super) forced: bool,
}

impl Entry {
    pub(super) fn new(key: Key, kind: Kind) -> Self {
        Self {
            key,
            last_ok: 0,
            not_before: 0,
            kind,
            copies: 0,
            failures: 0,
            thin_runs: 0,
            forced: false,
        }
    }

    /// As on the disk: key 32, flags u8 (1 file, 2 asked for by hand), copies u8, failures u8, thin runs u8, last success
    /// u32 LE, not before u32 LE.
    fn encode(&self, out: &mut Vec<u8>) {
        let file = if self.kind == Kind::File {
            FLAG_FILE
        } else {
            0
        };
        let forced = if self.forced { FLAG_FORCED } else { 0 };
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&[file | forced, self.copies, self.failures, self.thin_runs]);
        out.extend_from_slice(&self.last_ok.to_le_bytes());
        out.extend_from_slice(&self.not_before.to_le_bytes());
    }

    fn decode(stored: &[u8; STORED_BYTES]) -> Option<Self> {
        let (key, rest) = stored.split_first_chunk()?;
        let (&[flags, copies, failures, thin_runs], rest) = rest.split_first_chunk()?;
        let (last_ok, rest) = rest.split_first_chunk()?;
        let not_before = rest.first_chunk()?;
        (flags & !(FLAG_FILE | FLAG_FORCED) == 0).then(|| Self {
            key: *key,
            last_ok: u32::from_le_bytes(*last_ok),
            not_before: u32::from_le_bytes(*not_before),
            kind: if flags & FLAG_FILE != 0 {
                Kind::File
            } else {
                Kind::Chunk
            },
            copies,
            failures,
            thin_runs,
            forced: flags & FLAG_FORCED != 0,
        })
    }

    /// Whether a peer has acknowledged the key, by what the clock says now: a success that lies ahead counts as none.
    pub(super) fn was_announced(&self, now: u32) -> bool {
        self.last_ok > 0 && self.last_ok <= now
    }

    /// Whether those who acknowledged it still hold it.
    pub(super) fn is_held(&self, now: u32, expiry_secs: u32) -> bool {
        self.was_announced(now) && self.last_ok.saturating_add(expiry_secs) > now
    }

    /// Whether the key is to be announced, now or after the wait for another try.
    pub(super) fn wants(&self, now: u32, rhythm: &Rhythm, bucket: usize) -> bool {
        self.forced || !self.was_announced(now) || self.renewal(rhythm, bucket) <= now
    }

    /// When the key is due.
    pub(super) fn due_at(&self, now: u32, rhythm: &Rhythm, bucket: usize) -> u32 {
        let waits = self.not_before.saturating_sub(now) <= MAX_WAIT_SECS;
        let not_before = if waits { self.not_before } else { 0 };
        if self.forced || !self.was_announced(now) {
            return not_before;
        }
        self.renewal(rhythm, bucket).max(not_before)
    }

    fn renewal(&self, rhythm: &Rhythm, bucket: usize) -> u32 {
        rhythm.renewal(bucket, self.last_ok, self.copies, self.thin_runs)
    }

    fn class(&self, now: u32, rhythm: &Rhythm) -> Class {
        match self.kind {
            Kind::File => Class::File,
            // What has run out is found no more than what never was announced.
            Kind::Chunk if self.forced || !self.is_held(now, rhythm.expiry_secs()) => Class::New,
            Kind::Chunk => Class::Renewal,
        }
    }
}

/// What holds of a bucket's keys from one moment to another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// When the first of each class is due.
    pub(super) next: [u32; Class::COUNT],
    pub(super) files: u32,
    /// Acknowledged within the expiry.
    pub(super) done: u32,
    /// To be announced, now or after the wait for another try.
    pub(super) due: u32,
    /// Of the due, those whose latest try nobody acknowledged.
    pub(super) failed: u32,
    /// Whether any has failed since it was announced last.
    failures: bool,
    /// How many copies keys have: bit n for n, or for 31 and more.
    copies: u32,
    /// The clock when this was found out: set back behind it, everything may be otherwise.
    seen: u32,
    /// Then the first key enters another class, or another count.
    until: u32,
}

impl Summary {
    fn new(entries: &[Entry], now: u32, rhythm: &Rhythm, at: usize) -> Self {
        let mut all = Self {
            next: [u32::MAX; Class::COUNT],
            files: 0,
            done: 0,
            due: 0,
            failed: 0,
            failures: false,
            copies: 0,
            seen: now,
            until: u32::MAX,
        };
        for entry in entries {
            let next = &mut all.next[entry.class(now, rhythm).index()];
            *next = (*next).min(entry.due_at(now, rhythm, at));
            let (due, held) = (
                entry.wants(now, rhythm, at),
                entry.is_held(now, rhythm.expiry_secs()),
            );
            all.files += u32::from(entry.kind == Kind::File);
            all.done += u32::from(held);
            all.due += u32::from(due);
            all.failed += u32::from(due && entry.failures > 0);
            all.failures |= entry.failures > 0;
            all.copies |= 1 << entry.copies.min(31);
            if entry.last_ok > now {
                // A success that lies ahead is one again when the clock has come that far.
                all.until = all.until.min(entry.last_ok);
            }
            if held {
                all.until = all
                    .until
                    .min(entry.last_ok.saturating_add(rhythm.expiry_secs()));
            }
            if !due {
                all.until = all.until.min(entry.renewal(rhythm, at));
            }
        }
        all
    }

    fn holds(&self, now: u32) -> bool {
        (self.seen..self.until).contains(&now)
    }
}

/// The keys of one part of the keyspace, sorted. Those of a bucket that is *away* are on the disk alone.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    entries: Vec<Entry>,
    /// How many keys it has while it is away.
    away: Option<u32>,
    /// Not known after a change; made when somebody asks.
    summary: Option<Summary>,
    /// To be done with each key when it comes back.
    force: bool,
    retry: bool,
    /// The disk does not have it as it is.
    pub(super) dirty: bool,
    /// What was taken for the disk is not known to be there.
    pub(super) unwritten: bool,
    /// Used since the last look for buckets that can go.
    pub(super) used: bool,
}

impl Bucket {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// How many keys it has, here or away.
    pub(super) fn len(&self) -> usize {
        self.away.map_or(self.entries.len(), |len| len as usize)
    }

    /// Reads the keys that the disk has; what cannot be is left out.
    pub(super) fn decode(stored: &[u8]) -> Self {
        let (stored, _) = stored.as_chunks::<STORED_BYTES>();
        let mut entries: Vec<Entry> = stored.iter().filter_map(Entry::decode).collect();
        if !entries.is_sorted_by(|one, other| one.key < other.key) {
            entries.sort_by_key(|entry| entry.key);
            entries.dedup_by_key(|entry| entry.key);
        }
        Self {
            entries,
            ..Self::default()
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut stored = Vec::with_capacity(self.entries.len() * STORED_BYTES);
        self.entries
            .iter()
            .for_each(|entry| entry.encode(&mut stored));
        stored
    }

    /// Goes away, with a word on how it stands.
    pub(super) fn leave(&mut self, now: u32, rhythm: &Rhythm, at: usize) {
        self.summary(now, rhythm, at);
        self.away = Some(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.entries = Vec::new();
    }

    /// Comes back; what was to be done with all of its keys is done now.
    pub(super) fn come_back(&mut self, stored: &[u8]) {
        self.entries = Self::decode(stored).entries;
        self.away = None;
        if std::mem::take(&mut self.retry) {
            self.retry_failed();
        }
        if std::mem::take(&mut self.force) {
            self.force_all();
        }
    }

    /// Something of the entries has changed.
    pub(super) fn changed(&mut self) {
        self.summary = None;
        self.dirty = true;
    }

    /// The rhythm has changed.
    pub(super) fn forget_summary(&mut self) {
        self.summary = None;
    }

    /// How many peers could hold a key has changed.
    pub(super) fn holders_changed(&mut self, before: &Rhythm, now: &Rhythm) {
        let becomes = |copies: u8| before.is_thin(copies) != now.is_thin(copies);
        let any =
            |all: &Summary| (0..32).any(|copies| all.copies >> copies & 1 == 1 && becomes(copies));
        if self.summary.as_ref().is_some_and(any) {
            self.summary = None;
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.find(key).ok().map(|at| &self.entries[at])
    }

    /// The caller says [`Self::changed`] afterwards.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.find(key).ok().map(|at| &mut self.entries[at])
    }

    /// Takes an entry in, unless its key is there.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let Err(at) = self.find(&entry.key) else {
            return false;
        };
        if self.entries.len() == self.entries.capacity() {
            // Doubling would leave a third of the memory unused.
            self.entries.reserve_exact(self.entries.len() / 8 + 2);
        }
        self.entries.insert(at, entry);
        self.changed();
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let at = self.find(key).ok()?;
        self.changed();
        Some(self.entries.remove(at))
    }

    /// How its keys stand; `None` when it is away and nobody knows.
    pub(super) fn summary(&mut self, now: u32, rhythm: &Rhythm, at: usize) -> Option<Summary> {
        if !self.summary.is_some_and(|summary| summary.holds(now)) {
            let here = !self.is_away();
            self.summary = here.then(|| Summary::new(&self.entries, now, rhythm, at));
        }
        let mut summary = self.summary?;
        if self.force || self.retry {
            // Who looks closer fetches it.
            summary.next = [0; Class::COUNT];
        }
        if self.force {
            summary.due = u32::try_from(self.len()).unwrap_or(u32::MAX);
        }
        Some(summary)
    }

    /// The due keys of a class.
    pub(super) fn due(
        &self,
        class: Class,
        now: u32,
        rhythm: &Rhythm,
        at: usize,
    ) -> impl Iterator<Item = (Key, Kind)> {
        let due = self.entries.iter().filter(move |entry| {
            entry.class(now, rhythm) == class && entry.due_at(now, rhythm, at) <= now
        });
        due.map(|entry| (entry.key, entry.kind))
    }

    pub(super) fn retry_failed(&mut self) {
        if self.is_away() {
            self.retry |= self.summary.is_none_or(|summary| summary.failures);
            return;
        }
        for entry in &mut self.entries {
            if entry.failures > 0 {
                entry.not_before = 0;
                (self.summary, self.dirty) = (None, true);
            }
        }
    }

    pub(super) fn force_all(&mut self) {
        if self.is_away() {
            self.force = true;
            return;
        }
        for entry in &mut self.entries {
            (entry.forced, entry.not_before) = (true, 0);
        }
        if !self.entries.is_empty() {
            self.changed();
        }
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key))
    }
}

const _: () = assert!(MAX_WAIT_SECS > 5 << MAX_DOUBLINGS);
