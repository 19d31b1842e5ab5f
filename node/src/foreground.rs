//! Work that somebody waits for: what goes on in the background gives way to it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// Nobody is held up for longer, however much is waited for.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Counts the pieces of work under way that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Foreground {
    running: watch::Sender<usize>,
}

/// A piece of work; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Working(Arc<Foreground>);

impl Foreground {
    /// Begins a piece of work.
    pub(crate) fn begin(self: &Arc<Self>) -> Working {
        self.running.send_modify(|running| *running += 1);
        Working(self.clone())
    }

    /// Returns when there has been no such work for `rest`, or after ten seconds.
    pub(crate) async fn give_way(&self, rest: Duration) {
        let mut running = self.running.subscribe();
        let quiet = async {
            while running.wait_for(|running| *running == 0).await.is_ok() {
                if timeout(rest, running.changed()).await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(MAX_WAIT, quiet).await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let end = |running: &mut usize| *running = running.saturating_sub(1);
        self.0.running.send_modify(end);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const REST: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_waits_until_nobody_has_waited_for_a_while() {
        let foreground = Arc::new(Foreground::default());
        let began = Instant::now();
        foreground.give_way(REST).await;
        assert_eq!(began.elapsed(), REST);
        let (one, two) = (foreground.begin(), foreground.begin());
        let of_others = foreground.clone();
        let others = tokio::spawn(async move {
            sleep(REST).await;
            drop(one);
            sleep(REST).await;
            drop(two);
            sleep(REST / 2).await;
            let three = of_others.begin();
            sleep(REST).await;
            drop(three);
        });
        let began = Instant::now();
        foreground.give_way(REST).await;
        assert_eq!(began.elapsed(), REST * 9 / 2);
        others.await.unwrap();
        let began = Instant::now();
        foreground.give_way(Duration::ZERO).await;
        assert!(began.elapsed() < Duration::from_millis(2));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_wait_for_ever() {
        let foreground = Arc::new(Foreground::default());
        let _working = foreground.begin();
        let began = Instant::now();
        foreground.give_way(REST).await;
        assert_eq!(began.elapsed(), MAX_WAIT);
    }
}
