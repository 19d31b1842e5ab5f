//! What files that are fetched one by one tell of themselves: added up, it is a part of the progress of the call.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::api::{Event, Progress, events::EventSink};

/// Files under way, by their place in the list: no more than are fetched at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<BTreeMap<usize, Told>>>);

/// The newest of what a file told.
#[derive(Debug)]
struct Told {
    path: String,
    progress: Progress,
}

/// How far all of them are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) done_bytes: u64,
    /// Most sources that one of them has: they may be the same for all.
    pub(super) sources: usize,
    /// What the first of them waits for, where all of them wait; else empty.
    pub(super) detail: String,
}

impl UnderWay {
    /// Does the work for a file and keeps what it tells, until [`UnderWay::forget`]. Its warnings are handed on with its path.
    pub(super) async fn follow<F: Future>(
        &self,
        at: usize,
        path: &str,
        events: &EventSink,
        work: impl FnOnce(EventSink) -> F,
    ) -> F::Output {
        let (sink, mut told) = EventSink::new();
        let mut work = pin!(work(sink));
        loop {
            tokio::select! {
                biased;
                Some(event) = told.recv() => self.hear(at, path, events, event).await,
                done = &mut work => {
                    while let Ok(event) = told.try_recv() {
                        self.hear(at, path, events, event).await;
                    }
                    return done;
                }
            }
        }
    }

    async fn hear(&self, at: usize, path: &str, events: &EventSink, event: Event) {
        match event {
            Event::Progress(progress) => {
                let path = path.to_owned();
                self.lock().insert(at, Told { path, progress });
            }
            Event::Warning { message } => events.warn(format!("{path}: {message}")).await,
        }
    }

    /// A file is no longer under way.
    pub(super) fn forget(&self, at: usize) {
        self.lock().remove(&at);
    }

    pub(super) fn sum(&self) -> Sum {
        let all = self.lock();
        let progress = || all.values().map(|told| &told.progress);
        let waits = progress().all(|told| !told.detail.is_empty());
        let first = all.values().next().filter(|_| waits);
        Sum {
            done_bytes: progress().map(|told| told.done_bytes).sum(),
            sources: progress()
                .map(|told| told.sources as usize)
                .max()
                .unwrap_or(0),
            detail: first.map_or_else(String::new, |told| {
                format!("{}: {}", told.path, told.progress.detail)
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Phase;

    fn progress(done_bytes: u64, sources: u32, detail: &str) -> Progress {
        Progress {
            phase: Phase::Fetching,
            done_bytes,
            total_bytes: None,
            sources,
            detail: detail.to_owned(),
        }
    }

    #[tokio::test]
    async fn what_files_tell_is_added_up_and_their_warnings_are_handed_on() {
        let under_way = UnderWay::default();
        let (events, mut heard) = EventSink::new();
        let done = under_way.follow(3, "a/big", &events, |sink| async move {
            sink.progress(progress(10, 0, "nobody is connected"));
            sink.warn("another get runs").await;
            tokio::task::yield_now().await;
            sink.progress(progress(20, 2, "nobody sends"));
            7
        });
        assert_eq!(done.await, 7);
        let Some(Event::Warning { message }) = heard.recv().await else {
            panic!("no warning");
        };
        assert_eq!(message, "a/big: another get runs");
        assert_eq!(under_way.sum().detail, "a/big: nobody sends");

        let other = under_way.follow(4, "b", &events, |sink| async move {
            sink.progress(progress(5, 3, ""));
        });
        other.await;
        let sum = under_way.sum();
        assert_eq!((sum.done_bytes, sum.sources), (25, 3));
        assert_eq!(sum.detail, "", "one of them moves");

        under_way.forget(3);
        under_way.forget(4);
        assert_eq!(under_way.sum(), Sum::default());
    }
}
