//! One node announces for days; every hour readers look for its keys.

use casnode_dht::lab::{Announcer, Step};
use casnode_dht::{AnnounceTimes, Key, Keypair, Multiaddr, PeerId, Profile};

use super::calibration::Calibration;
use super::clock::BEGINNING;
use super::network::Network;
use crate::real::keyspace::{self, Point};

/// Bytes of a batch beside its keys, and keys of a batch.
const BATCH_OVERHEAD_BYTES: usize = 300;
const BATCH_KEYS: usize = 1024;
/// As the engine does: lookups and peers at a time, and the longest it sleeps.
const LOOKUPS_AT_ONCE: f64 = 6.0;
const PEERS_AT_ONCE: f64 = 8.0;
const MAX_SLEEP_SECS: f64 = 30.0;
/// Pause after a run.
const PAUSE_SECS: f64 = 0.1;

/// What is announced, and how.
pub struct Plan {
    pub keys: Vec<Key>,
    /// How long the story goes; 0 for the first announcement alone.
    pub hours: u32,
    /// Whether the interval follows the churn that is measured, or is always the longest.
    pub follows_churn: bool,
    /// Whether the announcing node is restarted half way.
    pub restart: bool,
    pub profile: Profile,
    /// Keys that readers look for each hour.
    pub samples: usize,
}

/// What happened in an hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hour {
    pub lookups: u64,
    /// Streams to peers, each with all keys of a run that go there.
    pub messages: u64,
    /// Of these, to peers that are gone.
    pub failed: u64,
    pub keys_sent: u64,
    pub bytes: u64,
    pub looked_for: usize,
    pub found: usize,
    pub copies: usize,
    pub interval_secs: u32,
}

impl Hour {
    fn add(&mut self, other: &Self) {
        self.lookups += other.lookups;
        self.messages += other.messages;
        self.failed += other.failed;
        self.keys_sent += other.keys_sent;
        self.bytes += other.bytes;
    }
}

/// A whole story.
pub struct Days {
    pub hours: Vec<Hour>,
    /// Seconds until the first announcement of all keys was over, and what it cost.
    pub first_secs: f64,
    pub first: Hour,
    pub churn_measured: Option<f64>,
}

struct Teller<'a> {
    network: Network,
    calibration: Calibration,
    plan: &'a Plan,
    times: AnnounceTimes,
    me: PeerId,
    addr: Multiaddr,
    point: Point,
    announcer: Announcer,
    hours: Vec<Hour>,
    hour: Hour,
    first: Option<(f64, Hour)>,
}

/// Tells what happens in a network.
///
/// # Errors
/// The schedule cannot be kept in a folder for temporary files.
pub async fn tell(network: Network, calibration: Calibration, plan: &Plan) -> Result<Days, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let keypair = Keypair::generate_ed25519();
    let me = keypair.public().to_peer_id();
    let times = AnnounceTimes::of(plan.profile);
    let clock = network.clock.reading();
    let open = || {
        let opened = Announcer::open(dir.path(), &keypair, &times, clock.clone());
        let mut announcer = opened.map_err(|error| error.to_string())?;
        if !plan.follows_churn {
            announcer.ignore_churn();
        }
        Ok::<_, String>(announcer)
    };
    let announcer = open()?;
    let scheduled = announcer.schedule(&plan.keys).await;
    scheduled.map_err(|error| error.to_string())?;
    let mut teller = Teller {
        network,
        calibration,
        plan,
        times: times.clone(),
        me,
        addr: "/ip4/10.0.0.1/tcp/4101".parse().map_err(|_| "no address")?,
        point: keyspace::point_of_peer(&me),
        announcer,
        hours: Vec::new(),
        hour: Hour::default(),
        first: None,
    };
    let mut restarted = !plan.restart;
    let end = BEGINNING + f64::from(plan.hours) * 3600.0;
    while teller.first.is_none() || teller.now() < end {
        if !restarted && teller.now() >= BEGINNING + f64::from(plan.hours) * 1800.0 {
            restarted = true;
            let closed = teller.announcer.close().await;
            closed.map_err(|error| error.to_string())?;
            teller.announcer = open()?;
        }
        teller.turn()?;
    }
    if teller.hours.is_empty() {
        teller.end_hour();
    }
    let (first_secs, first) = teller.first.unwrap_or_default();
    Ok(Days {
        churn_measured: teller.announcer.churn_per_hour(),
        hours: teller.hours,
        first_secs,
        first,
    })
}

impl Teller<'_> {
    fn now(&self) -> f64 {
        self.network.clock.now()
    }

    /// One turn of the engine's loop.
    fn turn(&mut self) -> Result<(), String> {
        self.look()?;
        let table = self.network.table_of(&self.point);
        self.announcer.look_around(&table);
        if self.announcer.begin_run().is_some() {
            self.carry_out()?;
            return self.wait(PAUSE_SECS);
        }
        if self.first.is_none() {
            self.first = Some((self.now() - BEGINNING, self.sum()));
        }
        let next = self.announcer.next_due().min(self.announcer.next_look());
        let wait = f64::from(next) - self.now();
        self.wait(wait.clamp(0.25, MAX_SLEEP_SECS))
    }

    /// All that was done so far.
    fn sum(&self) -> Hour {
        let mut sum = self.hour;
        self.hours.iter().for_each(|hour| sum.add(hour));
        sum
    }

    /// Lets time pass, hour by hour.
    fn wait(&mut self, secs: f64) -> Result<(), String> {
        let to = self.now() + secs;
        loop {
            let hour_ends = BEGINNING + (self.hours.len() + 1) as f64 * 3600.0;
            self.network.advance(to.min(hour_ends))?;
            if to < hour_ends {
                return Ok(());
            }
            self.end_hour();
        }
    }

    fn end_hour(&mut self) {
        let count = self.plan.samples.min(self.plan.keys.len());
        let step = self.plan.keys.len() / count.max(1);
        let offset = self.hours.len() % step.max(1);
        for n in 0..count {
            let key = self.plan.keys[n * step + offset];
            let copies = self.network.readable(&key, &self.me);
            self.hour.found += usize::from(copies > 0);
            self.hour.copies += copies;
        }
        self.hour.looked_for = count;
        self.hour.interval_secs = self.announcer.interval_secs();
        self.hours.push(std::mem::take(&mut self.hour));
    }

    /// The announcer looks who of the holders has gone, if it is time.
    fn look(&mut self) -> Result<(), String> {
        if f64::from(self.announcer.next_look()) > self.now() {
            return Ok(());
        }
        for key in self.announcer.look() {
            self.lookup_passes(1.0)?;
            let found = self.network.look_up(&key);
            self.announcer.seen(key, found);
        }
        Ok(())
    }

    fn lookup_passes(&mut self, at_once: f64) -> Result<(), String> {
        self.hour.lookups += 1;
        let took = self.calibration.lookup_took(self.network.dead_share());
        self.wait(took / at_once)
    }

    fn carry_out(&mut self) -> Result<(), String> {
        while let Some(step) = self.announcer.next_step() {
            match step {
                Step::LookUp { id, key } => {
                    self.lookup_passes(LOOKUPS_AT_ONCE)?;
                    let found = self.network.look_up(&key);
                    self.announcer.looked_up(id, found);
                }
                Step::Send { peer, positions } => self.send(peer, &positions)?,
            }
        }
        self.announcer.end_run();
        Ok(())
    }

    fn send(&mut self, peer: PeerId, positions: &[usize]) -> Result<(), String> {
        let mut taken = Some(0);
        self.hour.messages += 1;
        for batch in positions.chunks(BATCH_KEYS) {
            let keys = self.announcer.keys_at(batch);
            let Some(answer) = self.network.send(&peer, self.me, &self.addr, &keys) else {
                self.hour.failed += 1;
                taken = None;
                self.wait(self.calibration.dead_peer_secs / PEERS_AT_ONCE)?;
                break;
            };
            let good = batch.iter().zip(answer).filter(|(_, taken)| *taken);
            let good: Vec<usize> = good.map(|(at, _)| *at).collect();
            self.announcer.taken(&good);
            taken = taken.map(|taken| taken + good.len());
            let bytes = batch.len() * 32 + BATCH_OVERHEAD_BYTES;
            self.hour.keys_sent += batch.len() as u64;
            self.hour.bytes += bytes as u64;
            let rate = match self.first {
                None => self.times.new_bytes_per_s,
                Some(_) => self.times.renewal_bytes_per_s,
            };
            let paced = bytes as f64 / rate as f64;
            self.wait(paced.max(self.calibration.send_secs / PEERS_AT_ONCE))?;
        }
        self.announcer.sent(peer, taken);
        Ok(())
    }
}
