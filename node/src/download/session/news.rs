//! What this node gets, told to a peer bit by bit.

use std::{future::pending, sync::Arc, time::Duration};

use casnode_dht::exchange::MAX_GOT;
use tokio::{sync::watch, time::Instant};

use super::super::LiveHave;

/// How often news is told at most: chunks that come meanwhile are told together.
const PACE: Duration = Duration::from_millis(100);

/// The chunks of a download that one peer was not told of yet.
#[derive(Debug)]
pub(super) struct News {
    live: Arc<LiveHave>,
    count: watch::Receiver<usize>,
    /// How many of them, in the order in which they came, it knows.
    told: usize,
    next: Instant,
}

impl News {
    /// News to a peer that knows the first `told` chunks.
    pub(super) fn new(live: Arc<LiveHave>, told: usize) -> Self {
        Self {
            count: live.watch_count(),
            live,
            told,
            next: Instant::now() + PACE,
        }
    }

    /// The next batch, 1 to [`MAX_GOT`] chunks, when there are any and the time for it has come. Cancel safe.
    pub(super) async fn next(&mut self) -> Vec<u32> {
        while self.live.news(self.told, 1).is_empty() {
            if self.count.changed().await.is_err() {
                return pending().await; // nothing comes any more
            }
        }
        tokio::time::sleep_until(self.next).await;
        let batch = self.live.news(self.told, MAX_GOT);
        self.told += batch.len();
        self.next = Instant::now() + PACE;
        batch
    }
}

#[cfg(test)]
mod tests {
    use casnode_cas::{ImportOptions, Store, import_reader};
    use std::ops::ControlFlow;

    use super::*;

    fn live(chunks: usize) -> Arc<LiveHave> {
        let store = Store::in_memory().unwrap();
        let bytes = vec![7; chunks * (256 << 10)];
        let (options, size) = (ImportOptions::default(), Some(bytes.len() as u64));
        let mut go_on = |_, _| ControlFlow::Continue(());
        let imported = import_reader(&store, &mut &bytes[..], size, &options, &mut go_on);
        Arc::new(LiveHave::new(Arc::new(imported.unwrap().manifest)))
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_told_together_once_something_is_proven_and_each_once() {
        let live = live(12);
        let count = live.manifest.chunks().len();
        assert!(count > 5, "{count}");
        let mut news = News::new(live.clone(), 0);
        (0..3).for_each(|i| live.set(i));
        let an_hour = Duration::from_secs(3600);
        let early = tokio::time::timeout(an_hour, news.next()).await;
        assert!(early.is_err(), "an unproven claim was told: {early:?}");
        live.believe();
        let begun = Instant::now();
        assert_eq!(news.next().await, [0, 1, 2]);
        live.set(4);
        live.set(3);
        live.set(4);
        assert_eq!(news.next().await, [4, 3]);
        assert!(begun.elapsed() >= PACE, "{:?}", begun.elapsed());
        assert!(tokio::time::timeout(an_hour, news.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_at_the_join_is_not_told_again() {
        let live = live(12);
        live.believe();
        (0..3).for_each(|i| live.set(i));
        let (bits, told) = live.claim();
        assert_eq!((bits.count(), told), (3, 3));
        let mut news = News::new(live.clone(), told);
        live.set(5);
        assert_eq!(news.next().await, [5]);
    }
}
