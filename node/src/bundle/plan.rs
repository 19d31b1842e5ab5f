//! Who is asked for which files of a list: pure, the time is an argument.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use casnode_cas::Address;
use casnode_dht::{PeerId, exchange::MAX_FILES};

/// Peers that are asked at a time.
pub(super) const MAX_PEERS: usize = 8;

/// Requests to one peer at a time: the line is never without one while replies are checked and written.
const WINDOW: usize = 4;

/// Files of the first request to a peer of which nothing is known. As long as it has given none, it is asked for no more at a time.
const PROBE: usize = 64;

/// A peer that had none of so many has nothing of the list.
const FRUITLESS: usize = 256;

/// Where several peers share the work, no request is for less than this while there is more.
const MIN_SHARE: usize = 16;

/// A peer that has given nothing for this long makes room for one that was not asked yet: it may be one that has no time.
const SEAT_PATIENCE: Duration = Duration::from_secs(30);

/// What a peer was asked for this long ago is asked of another, too, when there is nothing else to ask for.
const STEAL_AFTER: Duration = Duration::from_secs(2);

/// A request to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) id: u32,
    /// Places in the list.
    pub(super) files: Vec<usize>,
    pub(super) addresses: Vec<Address>,
}

/// A file that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought {
    pub(super) address: Address,
    /// It is known to be no more than one message holds.
    pub(super) is_small: bool,
}

/// What a peer said of a file, its bytes checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Whole,
    Larger,
    NotHere,
}

/// The state of a list.
#[derive(Debug)]
pub(super) struct Plan {
    files: Vec<File>,
    /// Files that nobody is being asked for, by their place.
    queue: VecDeque<usize>,
    /// Files that are neither here nor known to be larger.
    open: usize,
    peers: HashMap<PeerId, Peer>,
    banned: HashSet<PeerId>,
}

#[derive(Debug)]
struct File {
    address: Address,
    /// Whoever says that it is larger has not got it.
    is_small: bool,
    is_settled: bool,
    /// Peers that are being asked for it.
    asked: u32,
    asked_at: Duration,
}

#[derive(Debug, Default)]
struct Peer {
    next_id: u32,
    /// By their ids.
    out: HashMap<u32, Vec<usize>>,
    lacks: HashSet<usize>,
    has_given: bool,
    joined: Duration,
}

impl Plan {
    /// All of these are wanted.
    pub(super) fn new(files: impl IntoIterator<Item = Sought>) -> Self {
        let file = |Sought { address, is_small }| File {
            address,
            is_small,
            is_settled: false,
            asked: 0,
            asked_at: Duration::ZERO,
        };
        let files: Vec<File> = files.into_iter().map(file).collect();
        Self {
            queue: (0..files.len()).collect(),
            open: files.len(),
            files,
            peers: HashMap::new(),
            banned: HashSet::new(),
        }
    }

    /// A peer is to be asked; false when it is already, lied before, or there are enough.
    pub(super) fn join(&mut self, peer: PeerId, now: Duration) -> bool {
        let is_new = !self.peers.contains_key(&peer) && !self.banned.contains(&peer);
        let joins = is_new && self.peers.len() < MAX_PEERS;
        if joins {
            let joined = Peer {
                joined: now,
                ..Peer::default()
            };
            self.peers.insert(peer, joined);
        }
        joins
    }

    /// Where there is room for no other peer: who has been asked for [`SEAT_PATIENCE`] and has given nothing, for longest.
    pub(super) fn who_makes_room(&self, now: Duration) -> Option<PeerId> {
        if self.peers.len() < MAX_PEERS {
            return None;
        }
        let is_vain = |peer: &Peer| !peer.has_given && now >= peer.joined + SEAT_PATIENCE;
        let vain = self.peers.iter().filter(|(_, peer)| is_vain(peer));
        vain.min_by_key(|(_, peer)| peer.joined).map(|(id, _)| *id)
    }

    /// A peer is asked no more; what it was asked for is asked of others.
    pub(super) fn leave(&mut self, peer: &PeerId, lied: bool) {
        if lied {
            self.banned.insert(*peer);
        }
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        for files in gone.out.into_values() {
            self.give_back(&files);
        }
    }

    /// What a peer is to be asked for now.
    pub(super) fn take(&mut self, peer: &PeerId, now: Duration) -> Option<Batch> {
        let at_most = self.share();
        let of = self.peers.get_mut(peer)?;
        let (window, at_most) = match of.has_given {
            true => (WINDOW, at_most),
            false => (1, at_most.min(PROBE)),
        };
        if of.out.len() >= window || of.is_fruitless() {
            return None;
        }
        let mut files = Vec::new();
        let mut lacked = Vec::new();
        while files.len() < at_most
            && let Some(place) = self.queue.pop_front()
        {
            match of.lacks.contains(&place) {
                true => lacked.push(place),
                false => files.push(place),
            }
        }
        lacked
            .into_iter()
            .rev()
            .for_each(|p| self.queue.push_front(p));
        if files.is_empty() {
            let is_slow = |file: &File| {
                !file.is_settled && file.asked > 0 && now >= file.asked_at + STEAL_AFTER
            };
            let own: HashSet<usize> = of.out.values().flatten().copied().collect();
            let others = (0..self.files.len())
                .filter(|place| is_slow(&self.files[*place]))
                .filter(|place| !own.contains(place) && !of.lacks.contains(place));
            files = others.take(at_most).collect();
        }
        if files.is_empty() {
            return None;
        }
        of.next_id += 1;
        let id = of.next_id;
        of.out.insert(id, files.clone());
        for place in &files {
            let file = &mut self.files[*place];
            file.asked += 1;
            file.asked_at = now;
        }
        let addresses = files.iter().map(|p| self.files[*p].address).collect();
        Some(Batch {
            id,
            files,
            addresses,
        })
    }

    /// How many files one request is for, at most.
    fn share(&self) -> usize {
        match self.peers.len() {
            0 | 1 => MAX_FILES,
            peers => (self.open / (2 * peers)).clamp(MIN_SHARE, MAX_FILES),
        }
    }

    /// What was asked for by this request; `None` when there is none.
    pub(super) fn asked(&self, peer: &PeerId, id: u32) -> Option<Vec<Address>> {
        let files = self.peers.get(peer)?.out.get(&id)?;
        Some(files.iter().map(|p| self.files[*p].address).collect())
    }

    /// A peer answered for the first files of a request; the places of those that are here now and were not, and which of
    /// what was said they are. The others are asked for again.
    pub(super) fn answered(
        &mut self,
        peer: &PeerId,
        id: u32,
        said: &[Said],
    ) -> Vec<(usize, usize)> {
        let Some(of) = self.peers.get_mut(peer) else {
            return Vec::new();
        };
        let Some(files) = of.out.remove(&id) else {
            return Vec::new();
        };
        let mut came = Vec::new();
        for (at, (place, said)) in files.iter().zip(said).enumerate() {
            let file = &mut self.files[*place];
            match said {
                Said::Whole => of.has_given = true,
                Said::Larger if !file.is_small => {}
                Said::Larger | Said::NotHere => {
                    of.lacks.insert(*place);
                    continue;
                }
            }
            if !file.is_settled {
                file.is_settled = true;
                self.open -= 1;
                if *said == Said::Whole {
                    came.push((*place, at));
                }
            }
        }
        self.give_back(&files);
        came
    }

    /// A request was not answered; false when there was none.
    pub(super) fn refused(&mut self, peer: &PeerId, id: u32) -> bool {
        let of = self.peers.get_mut(peer);
        let files = of.and_then(|of| of.out.remove(&id));
        files.inspect(|files| self.give_back(files)).is_some()
    }

    /// Nobody is waited for any more on behalf of one request; what is still wanted is first in line.
    fn give_back(&mut self, files: &[usize]) {
        for place in files.iter().rev() {
            let file = &mut self.files[*place];
            file.asked -= 1;
            if file.asked == 0 && !file.is_settled {
                self.queue.push_front(*place);
            }
        }
    }

    /// All files are here, or known to be larger.
    pub(super) fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Whether nothing of the list is to be had of a peer.
    pub(super) fn is_useless(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_none_or(Peer::is_fruitless)
    }

    /// Whether nobody is waited for, and none of those who are asked has what is wanted.
    pub(super) fn is_stuck(&self) -> bool {
        self.peers.values().all(|peer| {
            peer.out.is_empty()
                && (peer.is_fruitless() || self.queue.iter().all(|p| peer.lacks.contains(p)))
        })
    }

    /// Some of the files that nobody is being asked for, from all over the list.
    pub(super) fn sample(&self, count: usize) -> Vec<Address> {
        let step = (self.queue.len() / count.max(1)).max(1);
        let places = self.queue.iter().step_by(step).take(count);
        places.map(|place| self.files[*place].address).collect()
    }

    /// Files that are neither here nor known to be larger.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }
}

impl Peer {
    fn is_fruitless(&self) -> bool {
        !self.has_given && self.lacks.len() >= FRUITLESS
    }
}
