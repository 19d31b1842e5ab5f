//! Which chunks peers were found for. What turns out untrue is told to the DHT, which is not to name them again for a while.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use casnode_cas::HaveBitmap;
use casnode_dht::PeerId;

use crate::sched::PeerSlot;

/// Claims noted; as many as the DHT could be told to forget.
const MAX_CLAIMS: usize = 4096;

/// For so long nobody is believed who says again that a peer has what it has just said it does not have. The DHT names such a
/// peer when it knows no other, and each time a turn at it would be waited for.
const REFUTED_FOR: Duration = Duration::from_secs(120);

/// The chunks that somebody said a peer has, by its slot.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of_slots: HashMap<PeerSlot, BTreeSet<u32>>,
    count: usize,
    /// What turned out untrue, and when; as many as there may be claims.
    refuted: HashMap<(PeerId, u32), Instant>,
}

impl Claims {
    pub(super) fn note(&mut self, slot: PeerSlot, index: u32) {
        if self.count < MAX_CLAIMS && self.of_slots.entry(slot).or_default().insert(index) {
            self.count += 1;
        }
    }

    /// What the peer has by the word of others, too: it does not know the file, and tells nothing of it itself. Some of
    /// it was said before its session was ready.
    pub(super) fn add_to(&self, slot: PeerSlot, have: &mut HaveBitmap) {
        let claims = self.of_slots.get(&slot).into_iter().flatten();
        claims.for_each(|index| {
            have.set(*index as usize);
        });
    }

    /// Takes one back; whether it was noted.
    pub(super) fn take_one(&mut self, slot: PeerSlot, index: u32) -> bool {
        let claims = self.of_slots.get_mut(&slot);
        let was_noted = claims.is_some_and(|claims| claims.remove(&index));
        self.count -= usize::from(was_noted);
        was_noted
    }

    /// The peer does not have it after all.
    pub(super) fn refute(&mut self, peer: PeerId, index: u32, now: Instant) {
        if self.refuted.len() >= MAX_CLAIMS {
            self.refuted.retain(|_, at| is_recent(*at, now));
        }
        if self.refuted.len() < MAX_CLAIMS {
            self.refuted.insert((peer, index), now);
        }
    }

    /// Whether that turned out untrue just now.
    pub(super) fn is_refuted(&self, peer: PeerId, index: u32, now: Instant) -> bool {
        let at = self.refuted.get(&(peer, index));
        at.is_some_and(|at| is_recent(*at, now))
    }

    /// Takes all of a slot back: its session has ended.
    pub(super) fn take(&mut self, slot: PeerSlot) -> BTreeSet<u32> {
        let claims = self.of_slots.remove(&slot).unwrap_or_default();
        self.count -= claims.len();
        claims
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < REFUTED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_denied_is_not_believed_for_a_while() {
        let (mut claims, peer, other) = (Claims::default(), PeerId::random(), PeerId::random());
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        claims.refute(peer, 3, now);
        assert!(claims.is_refuted(peer, 3, now + REFUTED_FOR - second));
        assert!(!claims.is_refuted(peer, 3, now + REFUTED_FOR));
        assert!(!claims.is_refuted(peer, 4, now) && !claims.is_refuted(other, 3, now));
        let many = u32::try_from(2 * MAX_CLAIMS).unwrap();
        (0..many).for_each(|index| claims.refute(peer, index, now));
        assert_eq!(claims.refuted.len(), MAX_CLAIMS);
        // When they are old, there is room for others.
        claims.refute(other, 7, now + REFUTED_FOR);
        assert_eq!(claims.refuted.len(), 1);
    }

    #[test]
    fn what_was_claimed_of_a_peer_is_added_to_what_it_has() {
        let (mut claims, slot) = (Claims::default(), PeerSlot(1));
        [3, 5].into_iter().for_each(|i| claims.note(slot, i));
        claims.note(PeerSlot(2), 7);
        let mut have = HaveBitmap::new(9);
        have.set(3);
        claims.add_to(slot, &mut have);
        assert_eq!(have.iter_ones().collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn claims_are_taken_back_once_and_are_bounded() {
        let (mut claims, a, b) = (Claims::default(), PeerSlot(1), PeerSlot(2));
        for index in [3, 4, 4] {
            claims.note(a, index);
        }
        claims.note(b, 3);
        assert!(claims.take_one(a, 3) && !claims.take_one(a, 3) && !claims.take_one(b, 4));
        assert_eq!(claims.take(a), [4].into());
        assert!(claims.take(a).is_empty());
        assert_eq!(claims.count, 1);
        let many = u32::try_from(2 * MAX_CLAIMS).unwrap();
        (0..many).for_each(|index| claims.note(a, index));
        assert_eq!(claims.count, MAX_CLAIMS);
        assert_eq!(claims.take(a).len() + claims.take(b).len(), MAX_CLAIMS);
        assert_eq!(claims.count, 0);
    }
}
