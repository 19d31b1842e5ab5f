//! The peers of the routing table: who may have a seat, and who has lost it. Pure: the time is an argument.
//!
//! Kademlia keeps whom it has once entered until somebody else wants the very place: a peer that is gone
//! stays for ever in a bucket that is not full. And it takes any number of peers of one machine.

use std::collections::HashMap;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::config::MembershipTimes;
use crate::key::Point;
use crate::origin::Origin;

/// Peers of one origin of the public internet in one bucket, and in the whole table.
const MAX_PER_BUCKET: usize = 2;
const MAX_PER_ORIGIN: usize = 8;
/// Dials in a row that fail until a peer loses its seat. The waits between them are a restart's time.
const MAX_FAILURES: u32 = 3;
/// Peers dialled in one step because they have been silent for long.
const MAX_CHECKS: usize = 4;

/// A seat in the routing table.
struct Member {
    /// The origin, when it is one of the public internet.
    origin: Option<Origin>,
    bucket: u32,
    /// When it was last connected.
    seen: Instant,
    /// Dials that have failed since then.
    failures: u32,
    /// Until when what fails is still the latest failure.
    settled: Instant,
    /// When to dial it, unless it is connected.
    check: Instant,
}

/// The peers of the routing table. As many as are in there.
pub(in crate::net) struct Seats {
    me: Point,
    times: MembershipTimes,
    seats: HashMap<PeerId, Member>,
}

impl Seats {
    pub(in crate::net) fn new(me: &PeerId, times: MembershipTimes) -> Self {
        Self {
            me: Point::of_peer(me),
            times,
            seats: HashMap::new(),
        }
    }

    /// Whether a peer may have a seat. `origin` is that of a public address, if it has one.
    pub(super) fn has_room(&self, peer: &PeerId, origin: Option<Origin>) -> bool {
        let Some(origin) = origin else { return true };
        let bucket = self.bucket(peer);
        let others = self.seats.iter().filter(|(other, _)| *other != peer);
        let (mut here, mut all) = (0, 0);
        for (_, member) in others.filter(|(_, member)| member.origin == Some(origin)) {
            all += 1;
            here += usize::from(member.bucket == bucket);
        }
        here < MAX_PER_BUCKET && all < MAX_PER_ORIGIN
    }

    /// A peer has got a seat, or is still in it.
    pub(super) fn enter(&mut self, peer: PeerId, origin: Option<Origin>, now: Instant) {
        let (bucket, check) = (self.bucket(&peer), now + self.times.check);
        let member = self.seats.entry(peer).or_insert(Member {
            origin,
            bucket,
            seen: now,
            failures: 0,
            settled: now,
            check,
        });
        member.origin = origin;
    }

    /// A peer has no seat any more.
    pub(super) fn leave(&mut self, peer: &PeerId) {
        self.seats.remove(peer);
    }

    /// A peer is connected.
    pub(in crate::net) fn seen(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.seats.get_mut(peer) {
            member.seen = now;
            member.failures = 0;
            member.check = now + self.times.check;
        }
    }

    /// A peer is not connected any more.
    pub(in crate::net) fn parted(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.seats.get_mut(peer)
            && member.failures == 0
        {
            member.seen = now;
            member.check = now + self.times.check;
        }
    }

    /// A dial has failed, or a connection has died. Returns whether the peer is to lose its seat.
    pub(in crate::net) fn failed(&mut self, peer: &PeerId, now: Instant) -> bool {
        let Some(member) = self.seats.get_mut(peer) else {
            return false;
        };
        // Many lookups may fail at the same moment, for the same reason.
        if member.failures > 0 && now < member.settled {
            return false;
        }
        member.failures += 1;
        member.settled = now + self.times.retry * 3u32.pow(member.failures.min(MAX_FAILURES) - 1);
        member.check = member.settled;
        if member.failures < MAX_FAILURES {
            return false;
        }
        self.seats.remove(peer);
        true
    }

    /// The peers to dial now, to see whether they are still there: suspects first, then a few of those
    /// that have not been heard of for long.
    pub(in crate::net) fn due(
        &self,
        now: Instant,
        is_connected: impl Fn(&PeerId) -> bool,
    ) -> Vec<PeerId> {
        let waiting = self.seats.iter().filter(|(_, member)| member.check <= now);
        let mut due: Vec<_> = waiting.filter(|(peer, _)| !is_connected(peer)).collect();
        due.sort_by_key(|(_, member)| (member.failures == 0, member.check));
        let due = due.into_iter().take(MAX_CHECKS);
        due.map(|(peer, _)| *peer).collect()
    }

    /// A due peer is being dialled: not again before that has failed, or the wait is over. A few suspects whose
    /// dials take long would else leave no turn to the others.
    pub(super) fn checked(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.seats.get_mut(peer) {
            let suspect = member.failures > 0;
            let wait = if suspect {
                self.times.retry
            } else {
                self.times.check
            };
            member.check = now + wait;
        }
    }

    /// Whether a peer has a seat as one of the public internet.
    pub(in crate::net) fn is_public(&self, peer: &PeerId) -> bool {
        let member = self.seats.get(peer);
        member.is_some_and(|member| member.origin.is_some())
    }

    /// Whether a peer has a seat and nothing speaks against it.
    pub(in crate::net) fn stands(&self, peer: &PeerId) -> bool {
        let member = self.seats.get(peer);
        member.is_some_and(|member| member.failures == 0)
    }

    /// The peers seen lately or standing well, the latest first, each with when it was last connected.
    pub(in crate::net) fn good(&self, limit: usize) -> Vec<(PeerId, Instant)> {
        let standing = self.seats.iter().filter(|(_, member)| member.failures == 0);
        let mut good: Vec<_> = standing
            .map(|(peer, member)| (*peer, member.seen))
            .collect();
        good.sort_by_key(|(_, seen)| std::cmp::Reverse(*seen));
        good.truncate(limit);
        good
    }

    fn bucket(&self, peer: &PeerId) -> u32 {
        self.me.common_bits(&Point::of_peer(peer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn members() -> Seats {
        Seats::new(&PeerId::random(), MembershipTimes::default())
    }

    fn in_bucket(members: &Seats, bucket: u32) -> PeerId {
        let mut ids = std::iter::repeat_with(PeerId::random);
        ids.find(|id| members.bucket(id) == bucket).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_origin_gets_two_seats_in_a_bucket_and_eight_in_all() {
        let (mut members, now) = (members(), Instant::now());
        let origin = Some(Origin(7));
        let mut taken = Vec::new();
        for bucket in 0..6 {
            for _ in 0..4 {
                let peer = in_bucket(&members, bucket);
                if members.has_room(&peer, origin) {
                    members.enter(peer, origin, now);
                    taken.push(bucket);
                }
            }
        }
        assert_eq!(taken, [0, 0, 1, 1, 2, 2, 3, 3]);
        let peer = in_bucket(&members, 0);
        assert!(members.has_room(&peer, Some(Origin(8))), "another origin");
        assert!(members.has_room(&peer, None), "a private network");
        // Who has a seat keeps it, and one that is left can be taken.
        let first = *members.seats.keys().next().unwrap();
        assert!(members.has_room(&first, origin));
        let bucket = members.bucket(&first);
        members.leave(&first);
        assert!(members.has_room(&in_bucket(&members, bucket), origin));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_loses_its_seat() {
        let (mut members, peer, now) = (members(), PeerId::random(), Instant::now());
        let retry = MembershipTimes::default().retry;
        members.enter(peer, None, now);
        assert!(!members.failed(&peer, now));
        // What fails at the same moment is one failure.
        assert!((0..9).all(|_| !members.failed(&peer, now)));
        assert!(members.due(now, |_| false).is_empty());
        let second = now + retry;
        assert_eq!(members.due(second, |_| false), [peer]);
        assert!(members.due(second, |_| true).is_empty(), "it is connected");
        assert!(!members.failed(&peer, second));
        assert!(!members.failed(&peer, second + retry), "the wait grows");
        assert!(members.failed(&peer, second + retry * 3));
        assert!(members.good(9).is_empty());
        assert!(!members.failed(&peer, second + retry * 9), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn suspects_whose_dials_take_long_leave_a_turn_to_others() {
        let (mut members, now) = (members(), Instant::now());
        let retry = MembershipTimes::default().retry;
        for _ in 0..2 * MAX_CHECKS {
            let peer = PeerId::random();
            members.enter(peer, None, now);
            members.failed(&peer, now);
        }
        let later = now + retry;
        let first = members.due(later, |_| false);
        first.iter().for_each(|peer| members.checked(peer, later));
        let second = members.due(later + SECOND, |_| false);
        assert_eq!(second.len(), MAX_CHECKS);
        assert!(second.iter().all(|peer| !first.contains(peer)));
        // A dial that fails fast counts all the same.
        assert!(!members.failed(&first[0], later + SECOND));
        assert!(members.failed(&first[0], later + SECOND + retry * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_clears_a_peer_and_a_silent_one_is_checked() {
        let (mut members, peer, now) = (members(), PeerId::random(), Instant::now());
        let times = MembershipTimes::default();
        members.enter(peer, None, now);
        assert!(members.stands(&peer) && !members.stands(&PeerId::random()));
        members.failed(&peer, now);
        assert!(!members.stands(&peer));
        members.failed(&peer, now + times.retry);
        members.parted(&peer, now + times.retry);
        assert!(members.good(9).is_empty(), "still a suspect");
        members.seen(&peer, now + times.retry + SECOND);
        assert_eq!(members.good(9).len(), 1);
        let later = now + times.retry + SECOND + times.check;
        assert!(members.due(later - SECOND, |_| false).is_empty());
        assert_eq!(members.due(later, |_| false), [peer]);
        members.parted(&peer, later);
        assert!(members.due(later, |_| false).is_empty(), "seen until now");
        let later = later + times.check;
        members.checked(&peer, later);
        assert!(members.due(later, |_| false).is_empty());
        assert!(!members.failed(&peer, later), "counted from the start");
        for _ in 0..50 {
            members.enter(PeerId::random(), None, now);
        }
        assert_eq!(members.due(later, |_| false).len(), MAX_CHECKS, "no storm");
    }
}
