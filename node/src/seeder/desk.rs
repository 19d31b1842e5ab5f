//! The requests of one stream that have not been answered: they wait, and a few are being read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use casnode_cas::{Address, ChunkHash};
use tokio::sync::Notify;

/// Requests of one stream that wait; a peer that asks for more is not read until there is room.
pub(super) const MAX_WAITING: usize = 128;

/// Requests for small files of one stream that wait: each holds a list of addresses.
pub(super) const MAX_FILES_WAITING: usize = 8;

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: u32,
    pub(super) what: What,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Chunk { index: u32, hash: ChunkHash },
    Files(Vec<Address>),
}

impl Asked {
    fn is_files(&self) -> bool {
        matches!(self.what, What::Files(_))
    }
}

/// Where the reader of a stream puts requests and its writer takes them. A request is here until its answer begins.
#[derive(Debug, Default)]
pub(super) struct Desk {
    requests: Mutex<Requests>,
    /// Something came in, or was taken back.
    pub(super) changed: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    waiting: VecDeque<Asked>,
    /// Ids of those being read, few.
    reading: Vec<u32>,
}

impl Desk {
    /// Puts a request at the end, as soon as there is room.
    pub(super) async fn put(&self, asked: Asked) {
        loop {
            {
                let mut requests = self.lock();
                if requests.waiting.len() < MAX_WAITING {
                    requests.waiting.push_back(asked);
                    break;
                }
            }
            self.room.notified().await;
        }
        self.changed.notify_one();
    }

    /// Whether no request waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether one more request for small files may wait.
    pub(super) fn has_room_for_files(&self) -> bool {
        let requests = self.lock();
        let waiting = requests.waiting.iter().filter(|asked| asked.is_files());
        waiting.count() < MAX_FILES_WAITING
    }

    /// The next request, to be read; one for small files only when these may be.
    pub(super) fn take(&self, files: bool) -> Option<Asked> {
        let mut requests = self.lock();
        if !files && requests.waiting.front().is_some_and(Asked::is_files) {
            return None;
        }
        let asked = requests.waiting.pop_front()?;
        requests.reading.push(asked.id);
        drop(requests);
        self.room.notify_one();
        Some(asked)
    }

    /// The answer to a request that was read begins; false when it was taken back.
    pub(super) fn begin(&self, id: u32) -> bool {
        self.lock().end_reading(id)
    }

    /// A request was taken back. Of one that is not here nothing is noted.
    pub(super) fn cancel(&self, id: u32) {
        let mut requests = self.lock();
        if !requests.end_reading(id) {
            requests.waiting.retain(|asked| asked.id != id);
        }
        drop(requests);
        self.room.notify_one();
    }

    /// Takes everything off; the ids, in the order of the requests.
    pub(super) fn clear(&self) -> Vec<u32> {
        let mut requests = self.lock();
        let mut ids = std::mem::take(&mut requests.reading);
        ids.extend(requests.waiting.drain(..).map(|asked| asked.id));
        drop(requests);
        self.room.notify_one();
        ids
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn end_reading(&mut self, id: u32) -> bool {
        let at = self.reading.iter().position(|reading| *reading == id);
        at.map(|at| self.reading.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(id: u32) -> Asked {
        Asked {
            id,
            what: What::Chunk {
                index: id,
                hash: ChunkHash::from_bytes([0; 32]),
            },
        }
    }

    #[tokio::test]
    async fn what_is_taken_back_is_not_answered_wherever_it_is() {
        let desk = Desk::default();
        for id in 1..=4 {
            desk.put(asked(id)).await;
        }
        assert_eq!(desk.take(true), Some(asked(1)));
        assert_eq!(desk.take(true), Some(asked(2)));
        desk.cancel(2);
        desk.cancel(3);
        desk.cancel(77);
        assert!(desk.begin(1));
        assert!(!desk.begin(1), "an answer begins once");
        assert!(!desk.begin(2));
        assert_eq!(desk.take(true), Some(asked(4)));
        assert_eq!(desk.take(true), None);
    }

    #[tokio::test]
    async fn lists_of_files_wait_until_they_may_be_read_and_are_few() {
        let desk = Desk::default();
        let files = |id| Asked {
            id,
            what: What::Files(vec![Address::from_bytes([1; 32])]),
        };
        for id in 1..=u32::try_from(MAX_FILES_WAITING).unwrap() {
            assert!(desk.has_room_for_files());
            desk.put(files(id)).await;
        }
        assert!(!desk.has_room_for_files());
        assert_eq!(desk.take(false), None);
        assert_eq!(desk.take(true), Some(files(1)));
        assert!(desk.has_room_for_files());
    }

    #[tokio::test]
    async fn clearing_takes_what_waits_and_what_is_being_read() {
        let desk = Desk::default();
        for id in 1..=4 {
            desk.put(asked(id)).await;
        }
        desk.take(true);
        desk.take(true);
        assert!(desk.begin(1));
        assert_eq!(desk.clear(), [2, 3, 4]);
        assert!(!desk.begin(2));
        assert_eq!(desk.take(true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_desk_takes_more_when_there_is_room() {
        let desk = Desk::default();
        for id in 1..=u32::try_from(MAX_WAITING).unwrap() {
            desk.put(asked(id)).await;
        }
        let more = desk.put(asked(999));
        tokio::pin!(more);
        let wait = Duration::from_secs(3600);
        assert!(tokio::time::timeout(wait, &mut more).await.is_err());
        desk.take(true);
        tokio::time::timeout(wait, &mut more).await.unwrap();
        assert!(desk.clear().contains(&999));
    }
}
