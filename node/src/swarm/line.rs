//! What a stream and the registry know of each other without a lock: a chunk costs a few atomics here.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use super::stopwatch::Stopwatch;
use crate::sched::Mono;

/// Whether a peer wants anything that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    No,
    /// It has not said so, but what it had when it joined leaves no doubt. It is believed for a while.
    Presumed,
    /// It said so, or asked for a chunk.
    Yes,
}

/// One inbound stream. Choked at first.
#[derive(Debug, Default)]
pub(crate) struct Line {
    unchoked: AtomicBool,
    /// Nothing of its file is served any more.
    over: AtomicBool,
    interest: AtomicU8,
    /// Its peer may know less than is here: the registry hears of every chunk that it takes.
    offered: AtomicBool,
    /// What had been sent when its turn began.
    before_turn_bytes: AtomicU64,
    /// It made no use of its last turn.
    wasted: AtomicBool,
    sent_bytes: AtomicU64,
    /// Time during which there was something to send.
    ready: Stopwatch,
    /// Of that, time during which the other side and the line were waited for.
    writing: Stopwatch,
    /// Whether it is choked changed.
    pub(crate) turned: Notify,
    /// It may be told of more chunks.
    pub(super) news: Notify,
}

impl Line {
    /// Whether its peer is sent chunks.
    pub(crate) fn is_unchoked(&self) -> bool {
        self.unchoked.load(Ordering::Acquire)
    }

    pub(super) fn set_unchoked(&self, unchoked: bool) {
        if self.unchoked.swap(unchoked, Ordering::AcqRel) == unchoked {
            return;
        }
        let before = self.before_turn_bytes.swap(self.bytes(), Ordering::Relaxed);
        let wasted = !unchoked && before == self.bytes();
        self.wasted.store(wasted, Ordering::Relaxed);
        self.turned.notify_one();
    }

    /// Whether its peer wants something and waits for its turn. Not so of one that took nothing in its last.
    pub(crate) fn is_waiting(&self) -> bool {
        let wants = self.interest() != Interest::No && !self.is_over();
        wants && !self.is_unchoked() && !self.wasted.load(Ordering::Relaxed)
    }

    /// Whether the file is served no more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::Relaxed);
    }

    pub(super) fn interest(&self) -> Interest {
        match self.interest.load(Ordering::Relaxed) {
            0 => Interest::No,
            1 => Interest::Presumed,
            _ => Interest::Yes,
        }
    }

    /// Whether that changed.
    pub(super) fn set_interest(&self, interest: Interest) -> bool {
        self.interest.swap(interest as u8, Ordering::Relaxed) != interest as u8
    }

    pub(super) fn set_offered(&self, offered: bool) {
        self.offered.store(offered, Ordering::Relaxed);
    }

    pub(super) fn is_offered(&self) -> bool {
        self.offered.load(Ordering::Relaxed)
    }

    /// A chunk was asked for: the peer is interested, whatever it said.
    pub(crate) fn asked(&self) {
        if self.interest() != Interest::Yes {
            self.set_interest(Interest::Yes);
        }
    }

    /// There is something to send, or there is not.
    pub(crate) fn is_ready(&self, ready: bool, now: Mono) {
        match ready {
            true => self.ready.start(now),
            false => self.ready.stop(now),
        }
    }

    /// A chunk begins to go out.
    pub(crate) fn begins(&self, now: Mono) {
        self.writing.start(now);
    }

    /// It has gone out.
    pub(crate) fn sent(&self, bytes: u64, now: Mono) {
        self.writing.stop(now);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn tally(&self, now: Mono) -> Tally {
        Tally {
            bytes: self.bytes(),
            ready: self.ready.total(now),
            writing: self.writing.total(now),
        }
    }

    /// What was sent since it began.
    pub(super) fn bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Line {
    /// Its peer wants something.
    pub(crate) fn wants(&self) {
        self.set_interest(Interest::Yes);
    }

    /// Its peer wants nothing any more.
    pub(crate) fn wants_nothing(&self) {
        self.set_interest(Interest::No);
    }

    /// A turn in which so much was sent.
    pub(crate) fn turn(&self, bytes: u64) {
        self.set_unchoked(true);
        self.sent(bytes, Mono::default());
        self.set_unchoked(false);
    }
}

/// What a stream has done since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) bytes: u64,
    pub(super) ready: Duration,
    pub(super) writing: Duration,
}

impl Tally {
    /// What was done after `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            ready: self.ready.saturating_sub(earlier.ready),
            writing: self.writing.saturating_sub(earlier.writing),
        }
    }
}
