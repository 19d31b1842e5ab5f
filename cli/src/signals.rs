//! Ctrl-C and SIGTERM: the first asks everything to end, a second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit;

/// What signals do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Ctrl-C and SIGTERM: the first asks for an end, the second is one. A closed terminal is left to the
    /// system, so that `nohup` works.
    Usual,
    /// For what must not leave anything behind: a closed terminal asks for an end too, and impatience changes
    /// nothing, because the end is on its way and takes a bounded time.
    TidyUp,
}

/// A token that the first signal cancels. Needs a tokio runtime, and lives as long as it.
pub(crate) fn watch(manner: Manner) -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if manner == Manner::TidyUp {
        kinds.push(SignalKind::hangup());
    }
    let signals = kinds
        .into_iter()
        .map(signal)
        .collect::<io::Result<Vec<_>>>()?;
    for one in signals {
        tokio::spawn(on_signal(one, stop.clone(), manner));
    }
    Ok(stop)
}

async fn on_signal(mut signal: Signal, stop: CancellationToken, manner: Manner) {
    while signal.recv().await.is_some() {
        if stop.is_cancelled() && manner == Manner::Usual {
            std::process::exit(exit::INTERRUPTED.into());
        }
        stop.cancel();
    }
}
