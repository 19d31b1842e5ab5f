//! The keys of one part of the keyspace.

use super::rhythm::Rhythm;
use super::{Kind, MAX_DOUBLINGS};
use crate::Key;
use crate::records::layout::{self, DiskOp};

/// The longest a key can have to wait after a failure, times the first wait. A time further ahead was set before the
/// clock was set back.
const MAX_WAIT_SECS: u32 = 24 * 3600;

/// How long what was found out about a bucket is believed.
const NEXT_SECS: u32 = 300;

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

/// What of a key is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) kind: Kind,
    /// Peers that acknowledged the key in its latest run.
    pub(crate) copies: u8,
    /// When a peer last acknowledged it; 0 for never.
    pub(crate) last_ok: u32,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) last_ok: u32,
    /// Not to be tried before then.
    pub(super) not_before: u32,
    pub(super) kind: Kind,
    pub(super) copies: u8,
    pub(super) failures: u8,
    /// Runs in a row that left it with few copies.
    pub(super) thin_runs: u8,
    /// Due now because somebody said so.
    pub(super) forced: bool,
    /// The disk does not have it as it is.
    pub(super) dirty: bool,
}

impl Entry {
    pub(super) fn new(key: Key, kind: Kind) -> Self {
        let fresh = Stored {
            kind,
            copies: 0,
            last_ok: 0,
        };
        Self {
            dirty: true,
            ..Self::stored(key, fresh)
        }
    }

    pub(super) fn stored(key: Key, stored: Stored) -> Self {
        Self {
            key,
            last_ok: stored.last_ok,
            not_before: 0,
            kind: stored.kind,
            copies: stored.copies,
            failures: 0,
            thin_runs: 0,
            forced: false,
            dirty: false,
        }
    }

    pub(super) fn to_store(&self) -> Stored {
        Stored {
            kind: self.kind,
            copies: self.copies,
            last_ok: self.last_ok,
        }
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

/// The keys of one part of the keyspace, sorted, and when the first of each class is due.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    entries: Vec<Entry>,
    /// Not known after a change; looked up when somebody asks.
    next: Option<Next>,
    /// Entries that the disk does not have as they are. Whoever marks one counts it.
    pub(super) dirty: usize,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    at: [u32; Class::COUNT],
    /// The clock when this was found out: set back behind it, everything may be otherwise.
    seen: u32,
}

impl Bucket {
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Something of the entries, or the rhythm, has changed.
    pub(super) fn changed(&mut self) {
        self.next = None;
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
            // Doubling would leave a third of the memory of a million keys unused.
            self.entries.reserve_exact(self.entries.len() / 8 + 2);
        }
        self.dirty += usize::from(entry.dirty);
        self.entries.insert(at, entry);
        self.changed();
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let at = self.find(key).ok()?;
        self.changed();
        let entry = self.entries.remove(at);
        self.dirty -= usize::from(entry.dirty);
        Some(entry)
    }

    pub(super) fn may_be_due(
        &mut self,
        class: Class,
        now: u32,
        rhythm: &Rhythm,
        at: usize,
    ) -> bool {
        self.next(now, rhythm, at)[class.index()] <= now
    }

    /// When the first key of any class is due.
    pub(super) fn next_due(&mut self, now: u32, rhythm: &Rhythm, at: usize) -> u32 {
        let next = self.next(now, rhythm, at);
        next.into_iter().min().unwrap_or(u32::MAX)
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
        for entry in &mut self.entries {
            if entry.failures > 0 {
                entry.not_before = 0;
                self.next = None;
            }
        }
    }

    pub(super) fn force_all(&mut self) {
        for entry in &mut self.entries {
            (entry.forced, entry.not_before) = (true, 0);
        }
        self.changed();
    }

    /// Adds the changes of this bucket to `ops`, until there are `max`.
    pub(super) fn take_dirty(&mut self, max: usize, ops: &mut Vec<DiskOp>) {
        if self.dirty == 0 {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.dirty) {
            if ops.len() >= max {
                return;
            }
            entry.dirty = false;
            self.dirty -= 1;
            ops.push(layout::due_op(&entry.key, Some(entry.to_store())));
        }
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key))
    }

    fn next(&mut self, now: u32, rhythm: &Rhythm, at: usize) -> [u32; Class::COUNT] {
        // Expiry moves keys from one class to another.
        let fresh = |next: &Next| next.seen <= now && now - next.seen < NEXT_SECS;
        if let Some(next) = self.next.filter(fresh) {
            return next.at;
        }
        let mut next = [u32::MAX; Class::COUNT];
        // A success that lies ahead is one again when the clock has come that far.
        let mut lasts = true;
        for entry in &self.entries {
            lasts &= entry.last_ok <= now;
            let class = &mut next[entry.class(now, rhythm).index()];
            *class = (*class).min(entry.due_at(now, rhythm, at));
        }
        self.next = lasts.then_some(Next {
            at: next,
            seen: now,
        });
        next
    }
}

const _: () = assert!(MAX_WAIT_SECS > 5 << MAX_DOUBLINGS);
