//! The one place that spawns: every task has a name, an owner and an end.

use std::{fmt::Display, future::Future};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// The tasks of one owner. Cancelling the token asks them to end; [`Tasks::finish`] waits until they have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tasks that end with these but can also be ended alone.
    pub(crate) fn child(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            token: self.token.child_token(),
        }
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Runs `task` until it ends or the owner does. An error is logged under the task's name: a failure is seen
    /// even where nobody waits for the result.
    pub(crate) fn spawn<E: Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let token = self.token.clone();
        let body = async move {
            tokio::select! {
                () = token.cancelled() => {}
                outcome = task => if let Err(error) = outcome {
                    tracing::warn!(task = name, %error, "task failed");
                },
            }
        };
        self.tracker
            .spawn(body.instrument(tracing::debug_span!("task", name)));
    }

    /// Runs blocking work to its end on the blocking pool. It cannot be cancelled from here: whatever feeds it must end.
    pub(crate) fn spawn_blocking(&self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        let span = tracing::debug_span!("blocking task", name);
        self.tracker.spawn_blocking(move || span.in_scope(work));
    }

    /// Asks all tasks to end and waits for it.
    pub(crate) async fn finish(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Runs blocking work on the blocking pool; a panic there becomes an error here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}
