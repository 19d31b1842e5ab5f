//! Who is in a swarm, for telling others of it: a peer is told of once it is known where it is.

use std::collections::{HashMap, VecDeque};

use casnode_dht::{
    Multiaddr, PeerId,
    exchange::{MAX_SWARM_ADDR_BYTES, MAX_SWARM_ADDRS, MAX_SWARM_PEERS},
};
use tokio::sync::watch;

use crate::sched::Mono;

/// Peers of a swarm that are remembered for others: those that came last.
const MAX_KNOWN: usize = 256;

/// Of a peer that has just connected it is not known at once where others may reach it. Asked this often, and then not
/// told of.
const MAX_LOOKS: u32 = 5;

/// Between two looks.
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// Another peer of a swarm, and where it is.
pub(crate) type Other = (PeerId, Vec<Multiaddr>);

/// The peers of one swarm, those that came last at the back.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Streams of each peer, both ways; of all of them, known or not.
    streams: HashMap<PeerId, u32>,
    known: VecDeque<Known>,
    /// How many have been found so far: changes wake whoever tells of them.
    found: watch::Sender<u64>,
}

#[derive(Debug)]
struct Known {
    peer: PeerId,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Not known yet.
    Open { looks: u32, next: Mono },
    /// The `number`th that was found.
    Found { number: u64, addrs: Vec<Multiaddr> },
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            streams: HashMap::new(),
            known: VecDeque::new(),
            found: watch::Sender::new(0),
        }
    }
}

impl Crowd {
    /// A stream with a peer began; whether it has to be looked up where that is.
    pub(super) fn enters(&mut self, peer: PeerId, now: Mono) -> bool {
        let streams = self.streams.entry(peer).or_default();
        *streams += 1;
        if *streams > 1 {
            return false;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(Known {
            peer,
            place: Place::Open {
                looks: 0,
                next: now,
            },
        });
        true
    }

    /// A stream with a peer ended.
    pub(super) fn leaves(&mut self, peer: &PeerId) {
        let Some(streams) = self.streams.get_mut(peer) else {
            return;
        };
        *streams -= 1;
        if *streams == 0 {
            self.streams.remove(peer);
            self.known.retain(|known| known.peer != *peer);
        }
    }

    /// A peer that is to be looked for now. It is not named again before [`LOOK_PAUSE`] is over.
    pub(super) fn sought(&mut self, now: Mono) -> Option<PeerId> {
        self.known.iter_mut().find_map(|known| {
            let Place::Open { looks, next } = &mut known.place else {
                return None;
            };
            if *looks >= MAX_LOOKS || *next > now {
                return None;
            }
            *looks += 1;
            *next = now.plus(LOOK_PAUSE);
            Some(known.peer)
        })
    }

    /// Where a peer is; nothing when that is not known yet.
    pub(super) fn found(&mut self, peer: &PeerId, addrs: &[Multiaddr]) {
        let short = |addr: &&Multiaddr| addr.len() <= MAX_SWARM_ADDR_BYTES;
        let addrs = addrs.iter().filter(short).take(MAX_SWARM_ADDRS);
        let addrs: Vec<_> = addrs.cloned().collect();
        let number = *self.found.borrow() + 1;
        if let Some(known) = self.find(peer)
            && matches!(known.place, Place::Open { .. })
            && !addrs.is_empty()
        {
            known.place = Place::Found { number, addrs };
            self.found.send_replace(number);
        }
    }

    /// Wakes when one more was found.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.found.subscribe()
    }

    /// Those that were found after the first `from`, the latest first, but for `asker`; and how many have been found.
    pub(super) fn others(&self, asker: &PeerId, from: u64) -> (Vec<Other>, u64) {
        let mut news: Vec<_> = self.known.iter().filter(|k| k.peer != *asker).collect();
        news.retain(|k| k.place.number() > from);
        news.sort_unstable_by_key(|k| std::cmp::Reverse(k.place.number()));
        let told = news.into_iter().take(MAX_SWARM_PEERS).filter_map(|known| {
            let Place::Found { addrs, .. } = &known.place else {
                return None;
            };
            Some((known.peer, addrs.clone()))
        });
        (told.collect(), *self.found.borrow())
    }

    fn find(&mut self, peer: &PeerId) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.peer == *peer)
    }
}

impl Place {
    /// 0 while it is open.
    fn number(&self) -> u64 {
        match self {
            Self::Open { .. } => 0,
            Self::Found { number, .. } => *number,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    /// A crowd of so many peers that have been found, in this order.
    fn crowd(count: u16) -> (Crowd, Vec<PeerId>) {
        let mut crowd = Crowd::default();
        let peers: Vec<_> = (0..count).map(|_| PeerId::random()).collect();
        for (peer, port) in peers.iter().zip(1..) {
            assert!(crowd.enters(*peer, at(0)));
            crowd.found(peer, &[addr(port)]);
        }
        (crowd, peers)
    }

    fn ids(told: &[Other]) -> Vec<PeerId> {
        told.iter().map(|(peer, _)| *peer).collect()
    }

    #[test]
    fn the_latest_are_told_first_and_nobody_of_itself() {
        let (crowd, peers) = crowd(40);
        let (told, found) = crowd.others(&peers[39], 0);
        let expected: Vec<_> = peers[7..39].iter().rev().copied().collect();
        assert_eq!((ids(&told), found), (expected, 40));
        assert_eq!(told[0].1, [addr(39)]);
        let (told, _) = crowd.others(&peers[0], 38);
        assert_eq!(ids(&told), [peers[39], peers[38]]);
        assert_eq!(crowd.others(&peers[0], 40).0, []);
    }

    #[test]
    fn a_peer_is_told_of_when_it_is_known_where_it_is() {
        let (mut crowd, peers) = crowd(1);
        let newcomer = PeerId::random();
        let watch = crowd.watch();
        assert!(crowd.enters(newcomer, at(9)));
        assert_eq!(crowd.sought(at(9)), Some(newcomer));
        assert_eq!(crowd.sought(at(9)), None);
        crowd.found(&newcomer, &[]);
        assert_eq!(crowd.others(&peers[0], 0).0, []);
        assert!(!watch.has_changed().unwrap());
        assert_eq!(crowd.sought(at(11)), Some(newcomer));
        crowd.found(&newcomer, &[addr(7)]);
        assert!(watch.has_changed().unwrap());
        assert_eq!(crowd.others(&peers[0], 1).0.len(), 1);
        assert_eq!(crowd.sought(at(99)), None);
    }

    #[test]
    fn a_peer_that_nobody_can_reach_is_looked_for_a_few_times() {
        let mut crowd = Crowd::default();
        crowd.enters(PeerId::random(), at(0));
        let looks = (0..100).filter(|s| crowd.sought(at(*s)).is_some()).count();
        assert_eq!(looks, MAX_LOOKS as usize);
    }

    #[test]
    fn a_peer_with_two_streams_is_there_until_both_have_ended() {
        let (mut crowd, peers) = crowd(2);
        assert!(!crowd.enters(peers[0], at(1)));
        crowd.leaves(&peers[0]);
        assert_eq!(crowd.others(&peers[1], 0).0.len(), 1);
        crowd.leaves(&peers[0]);
        assert_eq!(crowd.others(&peers[1], 0).0.len(), 0);
    }

    #[test]
    fn a_peer_that_was_crowded_out_and_comes_again_is_there_until_all_its_streams_have_ended() {
        let (mut crowd, peers) = crowd(300);
        assert!(!crowd.enters(peers[0], at(1)));
        assert!(!crowd.enters(peers[299], at(1)));
        for peer in [&peers[0], &peers[299], &peers[0]] {
            crowd.leaves(peer);
        }
        let is_known = |crowd: &Crowd, peer| crowd.known.iter().any(|known| known.peer == peer);
        assert!(is_known(&crowd, peers[299]) && !is_known(&crowd, peers[0]));
        assert!(crowd.enters(peers[0], at(2)), "it is new again");
        assert!(is_known(&crowd, peers[0]));
    }

    #[test]
    fn a_crowd_is_bounded_and_those_that_came_last_stay() {
        let (mut crowd, peers) = crowd(300);
        assert_eq!(crowd.known.len(), MAX_KNOWN);
        crowd.leaves(&peers[0]);
        assert_eq!(crowd.known.back().unwrap().peer, peers[299]);
    }
}
