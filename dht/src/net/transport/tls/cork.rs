//! Flushes held back: what is written piece by piece leaves together.

use std::sync::atomic::{AtomicBool, Ordering};

/// Holds flushes back while more is on its way: the multiplexer flushes after each piece, and eight pieces in three calls of
/// the system wake the other side three times.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    is_on: AtomicBool,
    is_owed: AtomicBool,
}

impl Cork {
    /// Runs `work` with flushes held back; whether one is owed then.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> (T, bool) {
        // One task does all this: there is nothing to be ordered.
        self.is_on.store(true, Ordering::Relaxed);
        let done = work();
        self.is_on.store(false, Ordering::Relaxed);
        (done, self.is_owed.swap(false, Ordering::Relaxed))
    }

    /// Whether a flush is to be held back.
    pub(super) fn holds(&self) -> bool {
        let is_on = self.is_on.load(Ordering::Relaxed);
        if is_on {
            self.is_owed.store(true, Ordering::Relaxed);
        }
        is_on
    }
}
