//! What has been asked of a peer and what is to be made of its answers.

use std::collections::{HashMap, VecDeque};

use super::MANIFEST_IDS;

/// Late replies to cancelled requests that are remembered, to tell a duplicate from a lie.
const CANCELLED_KEPT: usize = 512;

/// What has been asked and not been answered.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next_id: u32,
    /// How often the peer has choked this node.
    chokes: u32,
    /// It sends chunks at present.
    unchoked: bool,
    asked: HashMap<u32, u32>,
    by_index: HashMap<u32, u32>,
    /// Requests that were taken back, with their chunks, oldest first. What comes of them all the same is used: on a
    /// slow link a cancel crosses the chunk.
    cancelled: VecDeque<(u32, u32)>,
    /// Of these, the ones that were void when the peer choked, by chunk: what it has not answered when it sends again was
    /// on its way, and is served.
    void: HashMap<u32, u32>,
}

impl Pending {
    /// The id of a new request, made by somebody who knows of so many `chokes`. None when there were more: what is asked
    /// of a peer is void when it chokes, whether it was sent by then or not, and whoever asks hears of that. None, too,
    /// when one that was void by then is served all the same.
    pub(super) fn ask(&mut self, index: u32, chokes: u32) -> Option<u32> {
        if chokes != self.chokes {
            return None;
        }
        if let Some(id) = self.void.remove(&index) {
            self.cancelled.retain(|(cancelled, _)| *cancelled != id);
            self.asked.insert(id, index);
            self.by_index.insert(index, id);
            return None;
        }
        self.next_id = self.next_id % (MANIFEST_IDS - 1) + 1;
        self.asked.insert(self.next_id, index);
        self.by_index.insert(index, self.next_id);
        Some(self.next_id)
    }

    /// The id of a request that is made before the engine wants the chunk, once on a stream: as of one that was taken back, its
    /// answer is used if it is the chunk, and whoever asks meanwhile is served by it.
    pub(super) fn early(&mut self, index: u32) -> u32 {
        self.next_id += 1;
        self.early_as(index, self.next_id);
        self.next_id
    }

    /// The same, with an id that is not of this node's counting.
    pub(super) fn early_as(&mut self, index: u32, id: u32) {
        self.cancelled.push_back((id, index));
        self.void.insert(index, id);
    }

    /// The peer sends no chunks from now on; false when it did not before.
    pub(super) fn choke(&mut self) -> bool {
        if !std::mem::take(&mut self.unchoked) {
            return false;
        }
        self.chokes = self.chokes.wrapping_add(1);
        let asked: Vec<u32> = self.by_index.keys().copied().collect();
        for index in asked {
            let id = self.cancel(index);
            self.void.extend(id.map(|id| (index, id)));
        }
        true
    }

    /// The peer sends chunks from now on; false when it did before.
    pub(super) fn unchoke(&mut self) -> bool {
        !std::mem::replace(&mut self.unchoked, true)
    }

    pub(super) fn cancel(&mut self, index: u32) -> Option<u32> {
        let id = self.by_index.remove(&index)?;
        self.asked.remove(&id);
        self.cancelled.push_back((id, index));
        if self.cancelled.len() > CANCELLED_KEPT
            && let Some((forgotten, _)) = self.cancelled.pop_front()
        {
            self.void.retain(|_, id| *id != forgotten);
        }
        Some(id)
    }

    /// The length of the longest chunk that may still come of what was asked, 0 when nothing was; `len_bytes` is that of each.
    pub(super) fn longest(&self, len_bytes: impl Fn(u32) -> usize) -> usize {
        let cancelled = self.cancelled.iter().map(|(_, index)| index);
        let indices = self.asked.values().chain(cancelled);
        indices.map(|index| len_bytes(*index)).max().unwrap_or(0)
    }

    pub(super) fn answer(&mut self, id: u32) -> Answered {
        if let Some(index) = self.asked.remove(&id) {
            self.by_index.remove(&index);
            return Answered::Wanted(index);
        }
        let at = self.cancelled.iter().position(|(c, _)| *c == id);
        match at.and_then(|at| self.cancelled.remove(at)) {
            Some((id, index)) => {
                self.void.retain(|_, void| *void != id);
                Answered::Cancelled(index)
            }
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

    impl Pending {
        fn must_ask(&mut self, index: u32) -> u32 {
            self.ask(index, self.chokes).unwrap()
        }
    }

    #[test]
    fn what_comes_of_a_cancelled_request_is_known_once() {
        let mut pending = Pending::default();
        let (first, second) = (pending.must_ask(7), pending.must_ask(8));
        assert_eq!(pending.cancel(7), Some(first));
        assert_eq!(pending.cancel(7), None);
        assert!(matches!(pending.answer(first), Answered::Cancelled(7)));
        assert!(matches!(pending.answer(first), Answered::Unknown));
        assert!(matches!(pending.answer(second), Answered::Wanted(8)));
    }

    #[test]
    fn nothing_longer_may_come_than_what_was_asked() {
        let mut pending = Pending::default();
        let len_bytes = |index| 1000 * index as usize;
        assert_eq!(pending.longest(len_bytes), 0);
        let ids = [3, 7, 5].map(|index| pending.must_ask(index));
        assert_eq!(pending.longest(len_bytes), 7000);
        pending.cancel(7);
        assert_eq!(pending.longest(len_bytes), 7000, "it may be on its way");
        pending.answer(ids[1]);
        assert_eq!(pending.longest(len_bytes), 5000);
    }

    #[test]
    fn what_was_asked_early_serves_whoever_asks_later() {
        let mut pending = Pending::default();
        let early = pending.early(0);
        assert!(matches!(pending.answer(early), Answered::Cancelled(0)));
        assert!(
            pending.ask(0, 0).is_some_and(|id| id != early),
            "it was answered"
        );
        let mut pending = Pending::default();
        let early = pending.early(0);
        assert_eq!(pending.ask(0, 0), None, "it is on its way");
        assert!(matches!(pending.answer(early), Answered::Wanted(0)));
        assert!(matches!(pending.answer(early), Answered::Unknown));
    }

    #[test]
    fn cancelled_requests_do_not_pile_up() {
        let mut pending = Pending::default();
        let first = pending.must_ask(0);
        pending.cancel(0);
        for index in 1..=u32::try_from(CANCELLED_KEPT).unwrap() {
            pending.must_ask(index);
            pending.cancel(index);
        }
        assert!(matches!(pending.answer(first), Answered::Unknown));
        assert_eq!(pending.cancelled.len(), CANCELLED_KEPT);
    }

    #[test]
    fn what_was_asked_before_a_choke_is_void_and_asked_anew_once_it_is_refused() {
        let mut pending = Pending::default();
        assert!(!pending.choke(), "so it begins");
        assert!(pending.unchoke() && !pending.unchoke());
        let before = pending.ask(7, 0).unwrap();
        assert!(pending.choke() && !pending.choke());
        assert!(matches!(pending.answer(before), Answered::Cancelled(7)));
        assert!(pending.unchoke());
        assert_eq!(pending.ask(8, 0), None, "by one who has not heard of it");
        let after = pending.ask(7, 1).unwrap();
        assert!(after != before);
        assert_eq!(pending.cancel(7), Some(after));
    }

    #[test]
    fn what_was_on_its_way_over_a_choke_is_not_asked_twice() {
        let mut pending = Pending::default();
        pending.unchoke();
        let [first, second] = [7, 8].map(|index| pending.ask(index, 0).unwrap());
        pending.choke();
        pending.unchoke();
        assert_eq!(pending.ask(7, 1), None, "it was sent, and is served");
        assert!(matches!(pending.answer(first), Answered::Wanted(7)));
        assert!(matches!(pending.answer(second), Answered::Cancelled(8)));
        let [third, fourth] = [7, 8].map(|index| pending.ask(index, 1).unwrap());
        assert!(third != first && fourth != second);
        // One that is taken back is not waited for.
        pending.choke();
        pending.unchoke();
        assert_eq!(pending.ask(7, 2), None);
        assert_eq!(pending.cancel(7), Some(third));
        assert!(pending.ask(7, 2).is_some_and(|id| id != third));
        assert!(matches!(pending.answer(third), Answered::Cancelled(7)));
    }
}
