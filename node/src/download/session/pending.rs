//! What has been asked of a peer and what is to be made of its answers.

use std::collections::{HashMap, VecDeque};

use super::MANIFEST_IDS;

/// Late replies to cancelled requests that are remembered, to tell a duplicate from a lie.
const CANCELLED_KEPT: usize = 512;

/// What has been asked and not been answered.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next_id: u32,
    asked: HashMap<u32, u32>,
    by_index: HashMap<u32, u32>,
    /// Requests that were taken back, with their chunks, oldest first. What comes of them all the same is used: on a
    /// slow link a cancel crosses the chunk.
    cancelled: VecDeque<(u32, u32)>,
}

impl Pending {
    pub(super) fn ask(&mut self, index: u32) -> u32 {
        self.next_id = self.next_id % (MANIFEST_IDS - 1) + 1;
        self.asked.insert(self.next_id, index);
        self.by_index.insert(index, self.next_id);
        self.next_id
    }

    pub(super) fn cancel(&mut self, index: u32) -> Option<u32> {
        let id = self.by_index.remove(&index)?;
        self.asked.remove(&id);
        self.cancelled.push_back((id, index));
        if self.cancelled.len() > CANCELLED_KEPT {
            self.cancelled.pop_front();
        }
        Some(id)
    }

    pub(super) fn answer(&mut self, id: u32) -> Answered {
        if let Some(index) = self.asked.remove(&id) {
            self.by_index.remove(&index);
            return Answered::Wanted(index);
        }
        let at = self.cancelled.iter().position(|(c, _)| *c == id);
        match at.and_then(|at| self.cancelled.remove(at)) {
            Some((_, index)) => Answered::Cancelled(index),
            None => Answered::Unknown,
        }
    }
}

/// What a reply answers.
pub(super) enum Answered {
    Wanted(u32),
    Cancelled(u32),
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_a_cancelled_request_is_known_once() {
        let mut pending = Pending::default();
        let (first, second) = (pending.ask(7), pending.ask(8));
        assert_eq!(pending.cancel(7), Some(first));
        assert_eq!(pending.cancel(7), None);
        assert!(matches!(pending.answer(first), Answered::Cancelled(7)));
        assert!(matches!(pending.answer(first), Answered::Unknown));
        assert!(matches!(pending.answer(second), Answered::Wanted(8)));
    }

    #[test]
    fn cancelled_requests_do_not_pile_up() {
        let mut pending = Pending::default();
        let first = pending.ask(0);
        pending.cancel(0);
        for index in 1..=u32::try_from(CANCELLED_KEPT).unwrap() {
            pending.ask(index);
            pending.cancel(index);
        }
        assert!(matches!(pending.answer(first), Answered::Unknown));
        assert_eq!(pending.cancelled.len(), CANCELLED_KEPT);
    }
}
