//! How far the storing of a folder is.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{Found, Options, What};
use crate::{
    api::{Phase, Progress, events::EventSink},
    clock,
};

/// Progress is told at most this often.
const PROGRESS_SPAN: Duration = Duration::from_millis(100);

/// Tells how many entries of the folder were looked at: how many there are is not known before.
pub(super) fn looking(events: &EventSink) -> impl FnMut(u64) {
    let mut told = clock::now();
    move |entries| {
        if told.elapsed() >= PROGRESS_SPAN {
            told = clock::now();
            events.progress(Progress {
                phase: Phase::Planning,
                done_bytes: 0,
                total_bytes: None,
                sources: 0,
                detail: format!("{entries} entries of the folder looked at"),
            });
        }
    }
}

/// Tells how far it is.
pub(super) struct Tell<'a> {
    options: &'a Options,
    total_files: usize,
    total_bytes: u64,
    done_files: usize,
    pub(super) done_bytes: u64,
    told: Instant,
}

impl<'a> Tell<'a> {
    pub(super) fn new(options: &'a Options, entries: &[Found]) -> Self {
        let is_file = |found: &&Found| matches!(found.what, What::File { .. });
        Self {
            options,
            total_files: entries.iter().filter(is_file).count(),
            total_bytes: entries.iter().map(Found::size_bytes).sum(),
            done_files: 0,
            done_bytes: 0,
            told: clock::now(),
        }
    }

    pub(super) fn done(&mut self, bytes: u64) {
        self.done_files += 1;
        let _ = self.at(self.done_bytes + bytes);
    }

    /// So many bytes are done; breaks when nobody wants it any more.
    pub(super) fn at(&mut self, done_bytes: u64) -> ControlFlow<()> {
        self.done_bytes = done_bytes;
        if self.told.elapsed() >= PROGRESS_SPAN {
            self.told = clock::now();
            self.options.events.progress(Progress {
                phase: Phase::Importing,
                done_bytes,
                total_bytes: Some(self.total_bytes),
                sources: 0,
                detail: format!("{} of {} files", self.done_files, self.total_files),
            });
        }
        match self.options.cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Event;

    #[tokio::test]
    async fn whoever_waits_hears_now_and_again_how_much_was_looked_at() {
        let (events, mut told) = EventSink::new();
        let mut looked = looking(&events);
        looked(1);
        tokio::time::sleep(PROGRESS_SPAN).await;
        looked(2);
        looked(3);
        let Some(Event::Progress(progress)) = told.recv().await else {
            panic!("nothing was told");
        };
        assert_eq!(progress.phase, Phase::Planning);
        assert!(progress.detail.starts_with("2 entries"), "{progress:?}");
        assert!(told.try_recv().is_err(), "each entry is told");
    }
}
