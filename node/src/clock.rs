//! The one place that reads the clock, so that decision logic cannot do so by accident.

use std::time::Instant;

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}
