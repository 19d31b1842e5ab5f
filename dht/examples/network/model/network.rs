//! Who is there: peers with a place in the keyspace that come and go.
//!
//! Lifetimes are exponential, so that the same share of all peers leaves every hour however old they are.
//! Who leaves does not come back, and a new peer takes its stead elsewhere in the keyspace. A peer that
//! left takes what it held with it.

use std::collections::HashMap;
use std::time::Duration;

use casnode_dht::lab::Holder;
use casnode_dht::{Key, Keypair, Limits, Multiaddr, PeerId};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::clock::{BEGINNING, Clock};
use crate::real::keyspace::{self, Point, REPLICATION};

/// How often peers look at their routing tables anew.
const LOOK_AROUND_SECS: f64 = 3600.0;
/// Routing tables are cleared of the dead within about this time, so this much churn stands in them.
const STALE_SECS: f64 = 900.0;
/// How long peers keep a record.
const TTL: Duration = Duration::from_secs(48 * 3600);

struct Peer {
    id: PeerId,
    holder: Holder,
}

/// The model of the network.
pub struct Network {
    pub clock: Clock,
    rng: StdRng,
    /// Departures per peer and second.
    rate: f64,
    miss: f64,
    peers: Vec<Peer>,
    points: Vec<Point>,
    places: HashMap<PeerId, usize>,
    next_departure: f64,
    next_look: f64,
}

impl Network {
    /// A network of so many peers of which this share leaves within an hour.
    ///
    /// # Errors
    /// Record tables cannot be made.
    pub fn new(count: usize, churn_per_hour: f64, miss: f64, rng: StdRng) -> Result<Self, String> {
        let mut network = Self {
            clock: Clock::new(),
            rng,
            rate: -(1.0 - churn_per_hour).ln() / 3600.0,
            miss,
            peers: Vec::new(),
            points: Vec::new(),
            places: HashMap::new(),
            next_departure: f64::INFINITY,
            next_look: BEGINNING,
        };
        for _ in 0..count {
            network.arrive()?;
        }
        network.look_around();
        network.draw_departure();
        Ok(network)
    }

    /// The share of routing table entries that are dead.
    pub fn dead_share(&self) -> f64 {
        1.0 - (-self.rate * STALE_SECS).exp()
    }

    fn arrive(&mut self) -> Result<usize, String> {
        let keypair = Keypair::generate_ed25519();
        let id = keypair.public().to_peer_id();
        let holder = Holder::new(&keypair, Limits::default(), self.clock.reading());
        let holder = holder.map_err(|error| error.to_string())?;
        let place = self.peers.len();
        self.places.insert(id, place);
        self.points.push(keyspace::point_of_peer(&id));
        self.peers.push(Peer { id, holder });
        Ok(place)
    }

    fn depart(&mut self) {
        let at = self.rng.random_range(0..self.peers.len());
        let gone = self.peers.swap_remove(at);
        self.points.swap_remove(at);
        self.places.remove(&gone.id);
        if let Some(moved) = self.peers.get(at) {
            self.places.insert(moved.id, at);
        }
    }

    fn draw_departure(&mut self) {
        let rate = self.rate * self.peers.len() as f64;
        let wait = -(1.0 - self.rng.random::<f64>()).ln() / rate;
        self.next_departure = match rate > 0.0 {
            true => self.clock.now() + wait,
            false => f64::INFINITY,
        };
    }

    /// What a routing table around a point holds: of every bucket up to 20 of the living.
    pub fn table_of(&mut self, me: &Point) -> Vec<PeerId> {
        let mut buckets: Vec<Vec<PeerId>> = vec![Vec::new(); 257];
        for (peer, point) in self.peers.iter().zip(&self.points) {
            if point != me {
                buckets[keyspace::common_bits(me, point) as usize].push(peer.id);
            }
        }
        let mut table = Vec::new();
        for bucket in &mut buckets {
            let (some, _) = bucket.partial_shuffle(&mut self.rng, REPLICATION);
            table.extend_from_slice(some);
        }
        table
    }

    fn look_around(&mut self) {
        self.next_look = self.clock.now() + LOOK_AROUND_SECS;
        for at in 0..self.peers.len() {
            self.look_around_at(at);
        }
    }

    fn look_around_at(&mut self, at: usize) {
        let me = self.points[at];
        let table = self.table_of(&me);
        self.peers[at].holder.look_around(&table);
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn advance(&mut self, to: f64) -> Result<(), String> {
        while self.next_departure <= to {
            self.clock.set(self.next_departure);
            self.depart();
            let newest = self.arrive()?;
            self.look_around_at(newest);
            self.draw_departure();
        }
        self.clock.set(to.max(self.clock.now()));
        if self.clock.now() >= self.next_look {
            self.look_around();
        }
        Ok(())
    }

    /// What a lookup finds: the 20 closest of the living, but for a miss now and then.
    pub fn look_up(&mut self, key: &Key) -> Vec<PeerId> {
        let target = keyspace::point_of_key(key);
        let found = keyspace::closest(&self.points, &target, REPLICATION + 4);
        let mut peers = Vec::with_capacity(REPLICATION);
        for at in found {
            if peers.len() < REPLICATION && !self.rng.random_bool(self.miss) {
                peers.push(self.peers[at].id);
            }
        }
        peers
    }

    /// Sends keys to a peer, which says what it took; `None` when it is gone.
    pub fn send(
        &self,
        to: &PeerId,
        from: PeerId,
        addr: &Multiaddr,
        keys: &[Key],
    ) -> Option<Vec<bool>> {
        let at = *self.places.get(to)?;
        Some(self.peers[at].holder.take(from, addr, keys, TTL))
    }

    /// How many of the peers that a reader's lookup ends at hold a record of this provider.
    pub fn readable(&mut self, key: &Key, provider: &PeerId) -> usize {
        let found = self.look_up(key);
        let holds = |peer: &&PeerId| {
            let at = self.places.get(*peer);
            at.is_some_and(|at| self.peers[*at].holder.holds(key, provider))
        };
        found.iter().filter(holds).count()
    }
}
