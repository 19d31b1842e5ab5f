//! How blocking work tells how far it is, and hears that it is to end.

use std::{ops::ControlFlow, time::Duration, time::Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    api::{Phase, Progress, events::EventSink},
    clock,
};

/// Progress is told at most this often.
const PROGRESS_SPAN: Duration = Duration::from_millis(100);

/// The progress of one piece of blocking work.
pub(crate) struct Steps {
    phase: Phase,
    events: EventSink,
    cancel: CancellationToken,
    told: Instant,
}

impl Steps {
    pub(crate) fn new(phase: Phase, events: EventSink, cancel: CancellationToken) -> Self {
        Self {
            phase,
            events,
            cancel,
            told: clock::now(),
        }
    }

    /// Notes how far it is; breaks when nobody wants it any more.
    pub(crate) fn step(&mut self, done_bytes: u64, total_bytes: Option<u64>) -> ControlFlow<()> {
        if self.told.elapsed() >= PROGRESS_SPAN {
            self.told = clock::now();
            self.events.progress(Progress {
                phase: self.phase,
                done_bytes,
                total_bytes,
                sources: 0,
                detail: String::new(),
            });
        }
        if self.cancel.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
