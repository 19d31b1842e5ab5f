//! Whether this node serves: wanted by its owner, or found out by whether others can reach it. Pure: the
//! time is an argument.
//!
//! Left alone, a node that listens is a server until it is shown otherwise: in a private network nobody
//! can test it from outside, and everybody inside can dial it.

mod protocol;
mod testing;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

pub(crate) use self::protocol::{Ports, Question, answer_all, ask_around};
use crate::config::{Mode, Reach};
use crate::origin::Origin;

/// Peers that must have failed to dial this node until it takes itself for unreachable, each of another
/// origin: one liar, or one with a bad line, decides nothing.
const MAX_FAILURES: usize = 3;
/// Parts of the internet remembered that were dialled. With more, what comes in shows nothing any more.
const MAX_DIALLED: usize = 4096;
/// Time between two rounds of a server, and of a client, whose router may have been told better.
const SERVER_ROUND: Duration = Duration::from_secs(6 * 3600);
const CLIENT_ROUND: Duration = Duration::from_secs(15 * 60);

/// What is known of this node's reachability.
pub(super) struct Reachability {
    wanted: Mode,
    listens_on: Vec<Multiaddr>,
    /// What the latest round, or an event since, has shown.
    reachable: bool,
    /// Whether that was shown by somebody, and is not what is taken for granted.
    was_shown: bool,
    /// Who has failed to dial this node in the present round, and where they are. At most three.
    failed: HashMap<PeerId, Origin>,
    next: Instant,
    /// Where this node has dialled: its router lets in what comes from there.
    dialled: HashSet<Origin>,
    /// Time between two tests of one round: not all peers are asked at once.
    between: Duration,
}

impl Reachability {
    pub(super) fn new(wanted: Mode, between: Duration, now: Instant) -> Self {
        Self {
            wanted,
            listens_on: Vec::new(),
            reachable: true,
            was_shown: false,
            failed: HashMap::new(),
            next: now,
            dialled: HashSet::new(),
            between,
        }
    }

    /// [`Mode::Server`] or [`Mode::Client`].
    pub(super) fn mode(&self) -> Mode {
        match self.wanted {
            Mode::Auto if self.listens_on.is_empty() || !self.reachable => Mode::Client,
            Mode::Auto => Mode::Server,
            wanted => wanted,
        }
    }

    /// What others have found.
    pub(super) fn reach(&self) -> Reach {
        match (self.was_shown, self.reachable) {
            (false, _) => Reach::Untested,
            (true, true) => Reach::Reached,
            (true, false) => Reach::Unreachable,
        }
    }

    /// The owner has made up their mind.
    pub(super) fn set(&mut self, wanted: Mode, now: Instant) {
        self.wanted = wanted;
        self.was_shown = false;
        self.begin(true, now);
    }

    /// Where the node listens. What was found out about other addresses says nothing about these.
    pub(super) fn listens(&mut self, on: &[Multiaddr], now: Instant) {
        if self.listens_on != on {
            self.listens_on = on.to_vec();
            self.was_shown = false;
            self.begin(true, now);
        }
    }

    /// Whether another peer may be asked to dial this node, and by whom: not one that was asked in this
    /// round, nor a neighbour of such a one.
    pub(super) fn may_ask(&self, peer: &PeerId, origin: Origin, now: Instant) -> bool {
        self.wanted == Mode::Auto
            && !self.listens_on.is_empty()
            && self.next <= now
            && !self.failed.contains_key(peer)
            && !self.failed.values().any(|failed| *failed == origin)
    }

    /// Somebody is being asked.
    pub(super) fn asked(&mut self, now: Instant) {
        self.next = now + self.between;
    }

    /// A peer was asked, and could dial this node or not.
    pub(super) fn tested(&mut self, by: PeerId, origin: Origin, reached: bool, now: Instant) {
        if reached {
            self.was_shown = true;
            self.begin(true, now + SERVER_ROUND);
            return;
        }
        if self.failed.values().any(|failed| *failed == origin) {
            return;
        }
        self.failed.insert(by, origin);
        if self.failed.len() >= MAX_FAILURES {
            self.was_shown = true;
            self.begin(false, now + CLIENT_ROUND);
        }
    }

    /// A connection has come in from the public internet. It shows something if this node has dialled nobody
    /// there.
    pub(super) fn came_in(&mut self, from: Origin, now: Instant) {
        let proves = self.dialled.len() < MAX_DIALLED && !self.dialled.contains(&from);
        self.was_shown |= proves;
        if proves && !self.reachable {
            self.begin(true, now + SERVER_ROUND);
        }
    }

    /// This node has dialled somebody there.
    pub(super) fn dialled(&mut self, there: Origin) {
        if self.dialled.len() < MAX_DIALLED {
            self.dialled.insert(there);
        }
    }

    fn begin(&mut self, reachable: bool, next: Instant) {
        self.reachable = reachable;
        self.failed.clear();
        self.next = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BETWEEN: Duration = Duration::from_secs(10);

    fn listening(now: Instant) -> Reachability {
        let mut node = Reachability::new(Mode::Auto, BETWEEN, now);
        assert_eq!(node.mode(), Mode::Client, "nobody can dial it");
        node.listens(&addrs(1), now);
        assert_eq!(node.mode(), Mode::Server, "until it is shown otherwise");
        node
    }

    fn addrs(last: u8) -> [Multiaddr; 1] {
        [format!("/ip4/192.168.1.{last}/tcp/4101").parse().unwrap()]
    }

    fn fail(node: &mut Reachability, origins: &[u64], now: Instant) {
        for origin in origins {
            node.tested(PeerId::random(), Origin(*origin), false, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_from_different_places_must_fail() {
        let now = Instant::now();
        let mut node = listening(now);
        fail(&mut node, &[1, 2, 1, 2, 2], now);
        assert_eq!((node.mode(), node.reach()), (Mode::Server, Reach::Untested));
        let (asked, peer) = (*node.failed.keys().next().unwrap(), PeerId::random());
        assert!(!node.may_ask(&asked, Origin(9), now));
        assert!(!node.may_ask(&peer, Origin(1), now), "a neighbour");
        assert!(node.may_ask(&peer, Origin(3), now));
        node.asked(now);
        assert!(!node.may_ask(&peer, Origin(3), now), "one at a time");
        fail(&mut node, &[3], now);
        assert_eq!(
            (node.mode(), node.reach()),
            (Mode::Client, Reach::Unreachable)
        );
        assert!(!node.may_ask(&peer, Origin(4), now));
        assert!(node.may_ask(&peer, Origin(4), now + CLIENT_ROUND));
    }

    #[tokio::test(start_paused = true)]
    async fn one_success_makes_a_server_again() {
        let now = Instant::now();
        let mut node = listening(now);
        fail(&mut node, &[1, 2], now);
        node.tested(PeerId::random(), Origin(3), true, now);
        fail(&mut node, &[4], now);
        assert_eq!(node.mode(), Mode::Server, "counted anew");
        assert_eq!(node.reach(), Reach::Reached);
        fail(&mut node, &[5, 6], now);
        assert_eq!(node.mode(), Mode::Client);
        node.tested(PeerId::random(), Origin(7), true, now);
        assert_eq!(node.mode(), Mode::Server);
        fail(&mut node, &[1, 2, 3], now);
        node.dialled(Origin(5));
        node.came_in(Origin(5), now);
        assert_eq!(node.mode(), Mode::Client, "its router knows the way");
        node.came_in(Origin(6), now);
        assert_eq!(node.mode(), Mode::Server);
        // Another network, another router.
        fail(&mut node, &[1, 2, 3], now);
        node.listens(&addrs(1), now);
        assert_eq!(node.mode(), Mode::Client, "nothing new");
        node.listens(&addrs(2), now);
        assert_eq!(node.mode(), Mode::Server);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_owner_wants_holds() {
        let now = Instant::now();
        let mut node = listening(now);
        node.set(Mode::Server, now);
        fail(&mut node, &[1, 2, 3], now);
        assert_eq!(node.mode(), Mode::Server);
        assert!(!node.may_ask(&PeerId::random(), Origin(9), now));
        node.set(Mode::Client, now);
        node.tested(PeerId::random(), Origin(9), true, now);
        assert_eq!(node.mode(), Mode::Client);
        node.set(Mode::Auto, now);
        assert_eq!(node.mode(), Mode::Server);
    }
}
