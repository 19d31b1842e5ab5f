//! Where a call's events go.

use tokio::sync::mpsc;

use super::{Event, Progress};

/// Events that may wait for a slow caller; progress beyond that is dropped, the next one replaces it.
pub(crate) const EVENT_QUEUE: usize = 64;

/// Where a call's events go.
#[derive(Debug, Clone)]
pub(crate) struct EventSink(mpsc::Sender<Event>);

impl EventSink {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (tx, rx) = mpsc::channel(EVENT_QUEUE);
        (Self(tx), rx)
    }

    /// Progress is lossy: a caller that does not read must not slow the work down.
    pub(crate) fn progress(&self, progress: Progress) {
        let _ = self.0.try_send(Event::Progress(progress));
    }

    /// A warning waits for room; a caller that is gone no longer wants it.
    pub(crate) async fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::debug!("{message}");
        let _ = self.0.send(Event::Warning { message }).await;
    }
}
