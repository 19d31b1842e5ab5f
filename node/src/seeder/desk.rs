//! The requests of one stream that have not been answered: they wait, and a few are being read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use casnode_cas::ChunkHash;
use tokio::sync::Notify;

/// Requests of one stream that wait; a peer that asks for more is not read until there is room.
pub(super) const MAX_WAITING: usize = 128;

/// A chunk that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: u32,
    pub(super) index: u32,
    pub(super) hash: ChunkHash,
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

    /// The next request, to be read.
    pub(super) fn take(&self) -> Option<Asked> {
        let mut requests = self.lock();
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
            index: id,
            hash: ChunkHash::from_bytes([0; 32]),
        }
    }

    #[tokio::test]
    async fn what_is_taken_back_is_not_answered_wherever_it_is() {
        let desk = Desk::default();
        for id in 1..=4 {
            desk.put(asked(id)).await;
        }
        assert_eq!(desk.take(), Some(asked(1)));
        assert_eq!(desk.take(), Some(asked(2)));
        desk.cancel(2);
        desk.cancel(3);
        desk.cancel(77);
        assert!(desk.begin(1));
        assert!(!desk.begin(1), "an answer begins once");
        assert!(!desk.begin(2));
        assert_eq!(desk.take(), Some(asked(4)));
        assert_eq!(desk.take(), None);
    }

    #[tokio::test]
    async fn clearing_takes_what_waits_and_what_is_being_read() {
        let desk = Desk::default();
        for id in 1..=4 {
            desk.put(asked(id)).await;
        }
        desk.take();
        desk.take();
        assert!(desk.begin(1));
        assert_eq!(desk.clear(), [2, 3, 4]);
        assert!(!desk.begin(2));
        assert_eq!(desk.take(), None);
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
        desk.take();
        tokio::time::timeout(wait, &mut more).await.unwrap();
        assert!(desk.clear().contains(&999));
    }
}
