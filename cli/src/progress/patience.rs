//! How long nothing may be said of what goes on.

use std::pin::pin;
use std::time::Duration;

/// Whoever has seen nothing for so long wonders whether anything goes on.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Does `work`, and calls `say` once when it takes longer than [`PATIENCE`].
pub(crate) async fn with_word<W: Future>(work: W, say: impl FnOnce()) -> W::Output {
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    say();
    work.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_word_is_said_of_what_takes_long_alone() {
        for (seconds, expected) in [(1, 0), (3, 1), (30, 1)] {
            let mut said = 0;
            let work = tokio::time::sleep(Duration::from_secs(seconds));
            with_word(work, || said += 1).await;
            assert_eq!(said, expected, "{seconds} s");
        }
    }
}
