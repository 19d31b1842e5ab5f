//! What the disk does not have as it is: a bounded queue. The writer takes the present state of an entry, so
//! one that is queued twice is only written twice. A peer is queued once: what it does to its own entry
//! (addresses, origin) is not held back when the queue is full, and could be done without end.

use std::collections::{HashSet, VecDeque};

use crate::Key;

/// Changes that may wait before announcers are made to wait, too.
pub(crate) const MAX_WAITING: usize = 1 << 15;
/// Changes that may wait in any case: 10 MiB. What comes over Kademlia's own protocol cannot be made to
/// wait, and batches that were let in together may go beyond [`MAX_WAITING`].
pub(super) const MAX_CHANGES: usize = 1 << 18;
/// A queue that has been longer gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 4096;

/// An entry that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Peer(u32),
    Provider(Key, u32),
    Value(Key),
    Known,
}

/// The queue.
pub(super) struct Changes {
    queue: VecDeque<Change>,
    /// The peers in the queue.
    peers: HashSet<u32>,
    kept: bool,
}

impl Changes {
    /// A queue; one that keeps nothing when nobody writes.
    pub(super) fn new(kept: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            peers: HashSet::new(),
            kept,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MAX_CHANGES
    }

    pub(super) fn push(&mut self, change: Change) {
        if !self.kept || self.queue.back() == Some(&change) {
            return;
        }
        if let Change::Peer(index) = change
            && !self.peers.insert(index)
        {
            return;
        }
        self.queue.push_back(change);
    }

    pub(super) fn pop(&mut self) -> Option<Change> {
        let change = self.queue.pop_front();
        if let Some(Change::Peer(index)) = change {
            self.peers.remove(&index);
        }
        if change.is_none() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue.shrink_to(KEPT_CAPACITY);
            self.peers.shrink_to(KEPT_CAPACITY);
        }
        change
    }
}
