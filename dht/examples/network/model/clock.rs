//! Virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// When the model's time begins: Unix seconds of some day.
pub const BEGINNING: f64 = 1_800_000_000.0;

/// A clock that is set by hand.
#[derive(Clone, Debug)]
pub struct Clock {
    seconds: Arc<AtomicU32>,
    now: f64,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            seconds: Arc::new(AtomicU32::new(BEGINNING as u32)),
            now: BEGINNING,
        }
    }

    pub fn now(&self) -> f64 {
        self.now
    }

    pub fn set(&mut self, now: f64) {
        self.now = now;
        self.seconds.store(now as u32, Ordering::Relaxed);
    }

    /// The clock as the nodes read it.
    pub fn reading(&self) -> Arc<dyn Fn() -> u32 + Send + Sync> {
        let seconds = self.seconds.clone();
        Arc::new(move || seconds.load(Ordering::Relaxed))
    }
}
