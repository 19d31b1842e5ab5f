//! Turns at fetching the manifest: one is enough, so few are fetched at a time.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Manifests fetched at a time.
const TURNS: usize = 2;

/// A peer that takes longer makes way for others: its manifest is fetched all the same.
const TURN_SPAN: Duration = Duration::from_secs(5);

/// Manifests of peers that took longer.
const SLOW: usize = 6;

/// The turns of one download.
#[derive(Debug, Clone)]
pub(in super::super) struct ManifestTurns {
    turns: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// Somebody's turn.
#[derive(Debug)]
pub(super) struct Turn {
    permit: OwnedSemaphorePermit,
    slow: Arc<Semaphore>,
}

impl ManifestTurns {
    pub(in super::super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(TURNS)),
            slow: Arc::new(Semaphore::new(SLOW)),
        }
    }

    /// A turn, where it is nobody else's.
    pub(super) fn try_take(&self) -> Option<Turn> {
        let permit = self.turns.clone().try_acquire_owned().ok()?;
        Some(self.turn(permit))
    }

    /// Waits for a turn. Cancel safe; `None` is never returned while the download runs.
    pub(super) async fn take(&self) -> Option<Turn> {
        let permit = self.turns.clone().acquire_owned().await.ok()?;
        Some(self.turn(permit))
    }

    fn turn(&self, permit: OwnedSemaphorePermit) -> Turn {
        let slow = self.slow.clone();
        Turn { permit, slow }
    }
}

impl Turn {
    /// Has the turn while this is done, and no longer than a few seconds where others may have it instead.
    pub(super) async fn during<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        if let Ok(done) = timeout(TURN_SPAN, &mut work).await {
            return done;
        }
        let slow = self.slow.try_acquire();
        if slow.is_ok() {
            drop(self.permit);
        }
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_long_makes_way_and_not_without_limit() {
        let turns = ManifestTurns::new();
        let mut slow = Vec::new();
        for _ in 0..TURNS + SLOW {
            let turn = timeout(TURN_SPAN * 2, turns.take()).await;
            let turn = turn.expect("nobody makes way").unwrap();
            slow.push(tokio::spawn(turn.during(pending::<()>())));
        }
        assert!(turns.try_take().is_none());
        assert!(timeout(TURN_SPAN * 9, turns.take()).await.is_err());
        slow.pop().unwrap().abort();
        assert!(timeout(TURN_SPAN, turns.take()).await.is_ok());
    }
}
