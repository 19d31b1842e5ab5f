//! The one place that spawns: every task has a name, an owner and an end.

use std::{fmt::Display, future::Future};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::Instrument;

/// The tasks of one owner. Cancelling the token asks them to end; [`Tasks::finish`] waits until they have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
    /// The owners above: they wait for these tasks too, even when the owner between was dropped in the middle.
    above: Vec<TaskTracker>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tasks that end with these but can also be ended alone.
    pub(crate) fn child(&self) -> Self {
        let above = self.above.iter().chain([&self.tracker]).cloned().collect();
        Self {
            tracker: TaskTracker::new(),
            token: self.token.child_token(),
            above,
        }
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// While these live, every owner above waits.
    fn held(&self) -> Vec<TaskTrackerToken> {
        self.above.iter().map(TaskTracker::token).collect()
    }

    /// Runs `task` until it ends or the owner does. An error is logged under the task's name: a failure is seen
    /// even where nobody waits for the result.
    pub(crate) fn spawn<E: Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (token, held) = (self.token.clone(), self.held());
        let body = async move {
            tokio::select! {
                () = token.cancelled() => {}
                outcome = task => if let Err(error) = outcome {
                    tracing::warn!(task = name, %error, "task failed");
                },
            }
            drop(held);
        };
        self.tracker
            .spawn(body.instrument(tracing::debug_span!("task", name)));
    }

    /// Runs a task whose end somebody waits for: who drops the handle ends it.
    pub(crate) fn awaited<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        let held = self.held();
        let body = async move {
            let _held = held;
            task.await
        };
        let span = tracing::debug_span!("task", name);
        AbortOnDropHandle::new(self.tracker.spawn(body.instrument(span)))
    }

    /// Runs blocking work to its end on the blocking pool. It cannot be cancelled from here: whatever feeds it must end.
    pub(crate) fn spawn_blocking(&self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        drop(self.blocking(name, work)); // it runs on without its handle
    }

    /// Runs blocking work like [`Tasks::spawn_blocking`] and hands back its result. The owners wait for the work even
    /// when nobody waits for the result any more.
    pub(crate) fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (span, held) = (tracing::debug_span!("blocking task", name), self.held());
        self.tracker.spawn_blocking(move || {
            let _held = held;
            span.in_scope(work)
        })
    }

    /// Asks all tasks to end and waits for it.
    pub(crate) async fn finish(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Starts `work` on the blocking pool at once; a panic there is the handle's error.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn an_owner_waits_for_the_tasks_of_a_child_that_was_dropped() {
        let owner = Tasks::new();
        let done = Arc::new(AtomicBool::new(false));
        let (feed, gate) = std::sync::mpsc::sync_channel::<()>(0);
        {
            let child = owner.child();
            let done = done.clone();
            child.spawn_blocking("slow", move || {
                let _ = gate.recv();
                std::thread::sleep(Duration::from_millis(20));
                done.store(true, Ordering::SeqCst);
            });
        }
        drop(feed);
        owner.finish().await;
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn cancelling_an_owner_ends_its_children() {
        let owner = Tasks::new();
        let child = owner.child();
        child.spawn("endless", std::future::pending::<Result<(), Infallible>>());
        owner.finish().await;
        child.finish().await;
    }

    #[tokio::test]
    async fn an_owner_waits_for_blocking_work_whose_result_nobody_wants() {
        let owner = Tasks::new();
        let done = Arc::new(AtomicBool::new(false));
        let (feed, gate) = std::sync::mpsc::sync_channel::<()>(0);
        let work = owner.blocking("slow", {
            let done = done.clone();
            move || {
                let _ = gate.recv();
                std::thread::sleep(Duration::from_millis(20));
                done.store(true, Ordering::SeqCst);
            }
        });
        drop(work);
        drop(feed);
        owner.finish().await;
        assert!(done.load(Ordering::SeqCst));
    }
}
