//! Who reads a file, and where: what its readers and its downloads tell each other.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use casnode_dht::Multiaddr;
use tokio::sync::watch;

use crate::{
    api::{ApiError, ErrorKind, Progress},
    download::LiveHave,
};

/// Readers of one file at a time.
const MAX_READERS: usize = 256;

/// Peers that readers name of one file.
const MAX_HINTS: usize = 64;

/// The readers of one file. A download of it fetches what they need before anything else; while none runs, one is begun
/// for them alone.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    table: watch::Sender<Table>,
    live: watch::Sender<Option<Arc<LiveHave>>>,
    /// The published name: `None` while it is not known whether there is one.
    name: watch::Sender<Option<Option<String>>>,
    progress: watch::Sender<Option<Progress>>,
}

/// Who is there, and how the download for them stands.
#[derive(Debug, Default)]
pub(crate) struct Table {
    next_id: u64,
    /// The bytes that each needs soon, from where it is on; none for one that only has the file open.
    windows: BTreeMap<u64, Range<u64>>,
    /// Peers that they named.
    hints: Vec<Multiaddr>,
    /// A download for them alone was begun and has not ended.
    is_fetched: bool,
    /// How many have ended, and how the last one failed.
    ended: u64,
    failure: Option<ApiError>,
    /// Calls of `get` that wait for their turn.
    waiting: usize,
}

impl Table {
    /// What readers need soon. Those who need the same are one.
    pub(crate) fn windows(&self) -> Vec<Range<u64>> {
        let mut windows: Vec<_> = self.windows.values().cloned().collect();
        windows.retain(|w| !w.is_empty());
        windows.sort_unstable_by_key(|w| (w.start, w.end));
        windows.dedup();
        windows
    }

    /// Peers that readers named.
    pub(crate) fn hints(&self) -> &[Multiaddr] {
        &self.hints
    }
}

impl Readers {
    /// One more reader, which names these peers.
    ///
    /// # Errors
    /// `Busy` when there are too many.
    pub(crate) fn enter(self: &Arc<Self>, hints: &[Multiaddr]) -> Result<Reader, ApiError> {
        let mut entered = None;
        self.table.send_modify(|table| {
            if table.windows.len() < MAX_READERS {
                let id = table.next_id;
                table.next_id += 1;
                table.windows.insert(id, 0..0);
                entered = Some(id);
            }
            for hint in hints {
                if table.hints.len() < MAX_HINTS && !table.hints.contains(hint) {
                    table.hints.push(hint.clone());
                }
            }
        });
        let all = self.clone();
        entered.map(|id| Reader { all, id }).ok_or_else(|| {
            ApiError::new(
                ErrorKind::Busy,
                "the file was not opened",
                format!("{MAX_READERS} readers have it open already"),
                "try again when some of them are done",
            )
        })
    }

    /// Follows who is there.
    pub(crate) fn watch(&self) -> watch::Receiver<Table> {
        self.table.subscribe()
    }

    /// Follows the download of the file, whoever began it.
    pub(crate) fn watch_live(&self) -> watch::Receiver<Option<Arc<LiveHave>>> {
        self.live.subscribe()
    }

    pub(crate) fn watch_name(&self) -> watch::Receiver<Option<Option<String>>> {
        self.name.subscribe()
    }

    pub(crate) fn watch_progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    /// A download of the file has begun, or ended.
    pub(crate) fn live(&self, live: Option<Arc<LiveHave>>) {
        self.live.send_replace(live);
    }

    /// The metadata record was found, or is not to be had.
    pub(crate) fn named(&self, name: Option<String>) {
        self.name.send_replace(Some(name));
    }

    pub(super) fn told(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }

    /// Whether a download for readers is to be begun now: there is none. Whoever is told so begins it.
    pub(super) fn begin(&self) -> bool {
        self.table
            .send_if_modified(|table| !std::mem::replace(&mut table.is_fetched, true))
    }

    /// Ends the download for readers. False when there are readers that came meanwhile, and it has to go on.
    pub(super) fn end_if_left(&self) -> bool {
        self.table.send_if_modified(|table| {
            let is_left = table.windows.is_empty();
            if is_left {
                table.is_fetched = false;
                table.hints.clear();
            }
            is_left
        })
    }

    /// The download for readers has ended: everything is here, or nothing more can be had.
    pub(super) fn end(&self, failure: Option<ApiError>) {
        self.table.send_modify(|table| {
            table.is_fetched = false;
            table.ended += 1;
            table.failure = failure;
        });
    }

    /// How many downloads for readers have ended by themselves.
    pub(super) fn ended(&self) -> u64 {
        self.table.borrow().ended
    }

    /// How a download failed, if one has ended since there were so many.
    pub(super) fn failure_since(&self, ended: u64) -> Option<ApiError> {
        let table = self.table.borrow();
        let failure = table.failure.as_ref();
        failure.filter(|_| table.ended > ended).cloned()
    }

    /// A call of `get` waits for its turn, until what is returned is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.table.send_modify(|table| table.waiting += 1);
        Waiting(self.clone())
    }

    pub(super) async fn until_get_waits(&self, waits: bool) {
        let mut table = self.watch();
        // It ends with its sender alone, which is here.
        let _ = table.wait_for(|table| (table.waiting > 0) == waits).await;
    }

    /// Waits until nobody has been there for this long.
    pub(super) async fn until_left(&self, grace: Duration) {
        let mut table = self.watch();
        loop {
            let left = table.wait_for(|table| table.windows.is_empty()).await;
            let Ok(came) = left.map(|table| table.next_id) else {
                return;
            };
            let somebody = table.wait_for(|table| table.next_id != came);
            if tokio::time::timeout(grace, somebody).await.is_err() {
                return;
            }
        }
    }
}

/// A call of `get` that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Readers>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.table.send_modify(|table| table.waiting -= 1);
    }
}

/// One reader; gone when dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    all: Arc<Readers>,
    id: u64,
}

impl Reader {
    /// All readers of the file.
    pub(super) fn all(&self) -> &Arc<Readers> {
        &self.all
    }

    /// It needs these bytes soon, the first of them first, and no others.
    pub(super) fn needs(&self, bytes: Range<u64>) {
        self.all.table.send_if_modified(|table| {
            let was = table.windows.insert(self.id, bytes.clone());
            was != Some(bytes)
        });
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.all.table.send_modify(|table| {
            table.windows.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(readers: &Readers) -> Vec<Range<u64>> {
        readers.table.borrow().windows()
    }

    #[test]
    fn what_readers_need_goes_with_them() {
        let readers = Arc::new(Readers::default());
        let [a, b, c] = [(); 3].map(|()| readers.enter(&[]).unwrap());
        a.needs(50..60);
        b.needs(10..20);
        c.needs(50..60);
        assert_eq!(windows(&readers), [10..20, 50..60]);
        drop(b);
        a.needs(55..60);
        assert_eq!(windows(&readers), [50..60, 55..60]);
        drop((a, c));
        assert!(windows(&readers).is_empty());
    }

    #[test]
    fn readers_and_the_peers_they_name_are_bounded() {
        let readers = Arc::new(Readers::default());
        let hint = |port: usize| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let mut there = Vec::new();
        for port in 1..=MAX_READERS {
            there.push(readers.enter(&[hint(port), hint(1)]).unwrap());
        }
        assert_eq!(readers.enter(&[]).unwrap_err().kind, ErrorKind::Busy);
        assert_eq!(readers.table.borrow().hints().len(), MAX_HINTS);
        there.pop();
        readers.enter(&[]).unwrap();
    }

    #[test]
    fn a_download_is_begun_once_and_ends_when_nobody_is_left() {
        let readers = Arc::new(Readers::default());
        let reader = readers.enter(&[]).unwrap();
        assert!(readers.begin() && !readers.begin());
        assert!(!readers.end_if_left(), "somebody is there");
        drop(reader);
        assert!(readers.end_if_left());
        assert!(readers.begin());
    }

    #[test]
    fn a_failure_is_told_to_those_who_were_there() {
        let readers = Arc::new(Readers::default());
        let ended = readers.ended();
        assert!(readers.begin() && readers.failure_since(ended).is_none());
        let failure = ApiError::new(ErrorKind::NotFound, "a", "b", "c");
        readers.end(Some(failure.clone()));
        assert_eq!(readers.failure_since(ended), Some(failure));
        assert_eq!(readers.failure_since(readers.ended()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_back_within_the_grace_finds_the_download_running() {
        let readers = Arc::new(Readers::default());
        let grace = Duration::from_secs(5);
        let left = readers.until_left(grace);
        tokio::pin!(left);
        for _ in 0..3 {
            let is_left = tokio::time::timeout(grace / 2, &mut left).await.is_ok();
            assert!(!is_left);
            drop(readers.enter(&[]).unwrap());
        }
        assert!(tokio::time::timeout(2 * grace, &mut left).await.is_ok());
    }
}
