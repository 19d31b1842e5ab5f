//! The announcer without its tasks: what it decides, for whoever plays the network and the clock.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use libp2p::PeerId;

use crate::announce::churn::Churn;
use crate::announce::regions::Regions;
use crate::announce::run::{self, Announcement};
use crate::announce::run_limits;
use crate::announce::schedule::{Kind, RunLimits};
use crate::neighbourhood::Neighbourhood;
use crate::records::Records;
use crate::{AnnounceTimes, Key, Keypair, Limits, RunReport, StoreError};

/// What a run wants done next.
#[derive(Debug)]
pub enum Step {
    /// The peers closest to this key are to be found.
    LookUp {
        /// What the answer has to name.
        id: u32,
        /// The key.
        key: Key,
    },
    /// Keys are to be sent to a peer.
    Send {
        /// To whom.
        peer: PeerId,
        /// Which keys, by their positions in the run.
        positions: Vec<usize>,
    },
}

/// The decisions of one node's announcer, and its schedule on the disk.
pub struct Announcer {
    me: PeerId,
    records: Arc<Records>,
    times: AnnounceTimes,
    limits: RunLimits,
    depth: u32,
    regions: Regions,
    churn: Churn,
    follows_churn: bool,
    run: Option<Announcement>,
    /// Peers of this run that were not there.
    dead: HashSet<PeerId>,
}

impl Announcer {
    /// Opens the schedule in a folder. Blocking.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(
        dir: &Path,
        keypair: &Keypair,
        times: &AnnounceTimes,
        clock: Arc<dyn Fn() -> u32 + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let records = Records::open(Some(dir), keypair, Limits::default(), times, clock)?;
        Ok(Self {
            me: keypair.public().to_peer_id(),
            records,
            times: times.clone(),
            limits: run_limits(times),
            depth: 0,
            regions: Regions::default(),
            churn: Churn::default(),
            follows_churn: true,
            run: None,
            dead: HashSet::new(),
        })
    }

    /// From now on the interval is the longest, whatever was measured.
    pub fn ignore_churn(&mut self) {
        self.follows_churn = false;
    }

    /// Writes the schedule out and forgets everything else, as a node that ends.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn close(self) -> Result<(), StoreError> {
        self.records.close().await
    }

    /// Adds keys, durably.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn schedule(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.records.schedule(keys, Kind::Chunk).await
    }

    /// Tells who is in the routing table.
    pub fn look_around(&mut self, table: &[PeerId]) {
        self.depth = Neighbourhood::new(&self.me, table.iter().copied()).depth();
        let longest = u32::try_from(self.times.renewal.as_secs()).unwrap_or(u32::MAX);
        let interval = match self.follows_churn {
            true => self.churn.interval_secs(longest),
            false => longest,
        };
        let mut due = self.records.due();
        due.set_network(table.len(), self.depth);
        // As the engine does it: small changes are noise.
        if interval.abs_diff(due.interval_secs()) * 10 > due.interval_secs() {
            due.set_interval(interval);
        }
    }

    /// Begins a run of what is due; returns how many keys it has, and whether all are renewals.
    pub fn begin_run(&mut self) -> Option<(usize, bool)> {
        let now = self.records.now();
        let run = self.records.due().take_run(now, &self.limits);
        if run.keys.is_empty() {
            return None;
        }
        let (count, renewals) = (run.keys.len(), run.renewals);
        let keys = run.keys.into_iter().map(|(key, _)| key);
        // Models come out the same every time.
        let mut run = Announcement::new(keys, self.depth, 0);
        self.regions.tell(run.plan_mut(), now);
        self.run = Some(run);
        Some((count, renewals))
    }

    /// What is to be done next; `None` when something has to come back first, or all is done.
    pub fn next_step(&mut self) -> Option<Step> {
        Some(match self.run.as_mut()?.next()? {
            run::Step::LookUp(lookup) => Step::LookUp {
                id: lookup.id,
                key: lookup.key,
            },
            run::Step::Send(peer, positions) => Step::Send { peer, positions },
        })
    }

    /// The keys at these positions of the run.
    pub fn keys_at(&self, positions: &[usize]) -> Vec<Key> {
        let run = self.run.as_ref();
        run.map_or_else(Vec::new, |run| run.keys_at(positions))
    }

    /// A lookup has come to its end.
    pub fn looked_up(&mut self, id: u32, found: Vec<PeerId>) {
        let now = self.records.now();
        let Some(run) = &mut self.run else { return };
        if let Some(region) = run.looked_up(id, found, true) {
            self.regions.learn(region, now);
        }
    }

    /// A peer has acknowledged the keys at these positions.
    pub fn taken(&mut self, positions: &[usize]) {
        let now = self.records.now();
        let Some(run) = &mut self.run else { return };
        let taken = run.taken(positions);
        self.records.due().acknowledged(taken, now);
    }

    /// Sending to a peer is over: it has taken `taken` keys, or was not there if that is `None`.
    pub fn sent(&mut self, peer: PeerId, taken: Option<usize>) {
        if taken.is_none() {
            self.dead.insert(peer);
        }
        if let Some(run) = &mut self.run {
            run.sent(peer, taken > Some(0));
        }
    }

    /// The run is over; returns what it did.
    pub fn end_run(&mut self) -> RunReport {
        let now = self.records.now();
        let Some(run) = self.run.take() else {
            return RunReport::default();
        };
        self.records.due().failed(run.unacknowledged(), now);
        if !self.dead.is_empty() {
            self.regions.forget(&self.dead);
            self.dead.clear();
        }
        run.report()
    }

    /// When the next key is due; `u32::MAX` for never.
    pub fn next_due(&self) -> u32 {
        let now = self.records.now();
        self.records.due().next_due(now)
    }

    /// When churn is to be looked at again.
    pub fn next_look(&self) -> u32 {
        self.churn.next_look(self.records.now())
    }

    /// The keys whose closest peers are to be looked up to see who has gone.
    pub fn look(&mut self) -> Vec<Key> {
        let now = self.records.now();
        let records = self.records.clone();
        self.churn.look(now, |count| records.due().sample(count))
    }

    /// These peers are closest to a key now.
    pub fn seen(&mut self, key: Key, peers: Vec<PeerId>) {
        self.churn.seen(key, peers, self.records.now());
    }

    /// The time between two announcements of a key.
    pub fn interval_secs(&self) -> u32 {
        self.records.due().interval_secs()
    }

    /// The share of holders that are gone an hour later, as measured.
    pub fn churn_per_hour(&self) -> Option<f64> {
        self.churn.per_hour()
    }
}
