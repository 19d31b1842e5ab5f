//! What a node tells people of its announcements and lookups.

use std::time::Duration;

use crate::announce::schedule::Totals;
use crate::{AnnounceStatus, AnnounceTimes};

use libp2p::{Multiaddr, PeerId};

/// How announcing stands, over all keys. Times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProvideStatus {
    /// Keys in the schedule, files' and chunks'.
    pub keys: u64,
    /// Of these, files'.
    pub files: u64,
    /// Keys that somebody has acknowledged within the expiry.
    pub done: u64,
    /// Keys to be announced now: never announced, due for renewal, or waiting for another try.
    pub due: u64,
    /// Of these, keys never announced, or not within the expiry.
    pub new: u64,
    /// Keys whose latest announcement nobody acknowledged.
    pub failed: u64,
    /// When a peer last acknowledged any key.
    pub last_success: Option<u32>,
    /// When the next key is due; in the past when something is due now.
    pub next_due: Option<u32>,
    /// Keys announced per hour: what the last hour had, or the time since the start.
    pub keys_per_hour: u64,
    /// How long the keys that are due take at that rate; `None` when nothing is due or nothing moves.
    pub finish: Option<Duration>,
    /// Time between two announcements of a key, as measured churn has set it.
    pub interval: Duration,
    /// Time after which others forget a record.
    pub expiry: Duration,
    /// Of the peers that held records, how many are gone an hour later, in percent; `None` until measured.
    pub churn_percent_per_hour: Option<u32>,
    /// How many peers the network seems to have, this node among them.
    pub network_peers: u64,
    /// Why records will run out before they are renewed, if they will.
    pub behind: Option<Behind>,
    /// The latest run.
    pub last_run: Option<RunReport>,
}

impl ProvideStatus {
    /// What the schedule alone says.
    pub(crate) fn of(totals: Totals, times: &AnnounceTimes) -> Self {
        Self {
            keys: totals.keys,
            files: totals.files,
            done: totals.done,
            due: totals.due,
            new: totals.keys - totals.done,
            failed: totals.failed,
            last_success: Some(totals.last_success).filter(|at| *at > 0),
            next_due: Some(totals.next_due).filter(|_| totals.keys > 0),
            interval: times.renewal,
            expiry: times.expiry,
            ..Self::default()
        }
    }

    /// The two numbers that matter most.
    pub(crate) fn in_short(&self) -> AnnounceStatus {
        AnnounceStatus {
            announced: self.done,
            to_announce: self.keys - self.done,
        }
    }
}

/// Why announcing falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behind {
    /// No peer is connected.
    NoPeers,
    /// Keys are due and no peer has acknowledged any for this long.
    Stalled(Duration),
    /// At the present rate the keys that are due take longer than records last.
    TooSlow {
        /// How long they take.
        needs: Duration,
        /// How long they may take.
        has: Duration,
    },
}

/// What one run of the announcer did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// When it ended, Unix seconds.
    pub ended: u32,
    /// Keys in it.
    pub keys: u64,
    /// Lookups made; regions known from before need none.
    pub lookups: u32,
    /// Peers that keys were sent to.
    pub peers: u32,
    /// Of these, peers that failed and were replaced.
    pub failed_peers: u32,
    /// Acknowledged copies of all keys together.
    pub copies: u64,
    /// How long it took.
    pub took: Duration,
}

/// How announcing stands, over some keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysStatus {
    /// Keys asked about.
    pub keys: u64,
    /// Of these, keys that are not in the schedule.
    pub unscheduled: u64,
    /// Keys that somebody has acknowledged within the expiry.
    pub done: u64,
    /// Keys to be announced now.
    pub due: u64,
    /// Keys whose latest announcement nobody acknowledged.
    pub failed: u64,
    /// The fewest and the median number of peers that acknowledged a key in its latest run.
    pub copies_min: u32,
    /// See `copies_min`.
    pub copies_median: u32,
    /// The success that is the longest ago, of the keys that were announced.
    pub oldest_success: Option<u32>,
    /// The latest success.
    pub last_success: Option<u32>,
    /// When the next of them is due.
    pub next_due: Option<u32>,
}

/// A lookup of the peers closest to a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupReport {
    /// The peers that answered, closest first, with the bits each shares with the key.
    pub peers: Vec<(PeerId, Vec<Multiaddr>, u32)>,
    /// Requests sent.
    pub asked_peers: u32,
    /// Whether the lookup came to its end.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
}

/// A record put to the network and read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutTest {
    /// The closest peers that the lookup found.
    pub closest: u32,
    /// Of these, peers that acknowledged the provider record.
    pub provider_copies: u32,
    /// Of these, peers that answered the value record. They answer before they check it, so this says that
    /// it arrived, and not that it was kept: see `value_read`.
    pub value_copies: u32,
    /// Of the closest peers asked one by one, how many name this node as provider.
    pub provider_read: u32,
    /// Whether a lookup brought the value back from another peer.
    pub value_read: bool,
    /// How long the lookup, storing and reading took.
    pub lookup_took: Duration,
    /// See `lookup_took`.
    pub put_took: Duration,
    /// See `lookup_took`.
    pub read_took: Duration,
}

/// One number for a monitoring system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, as Prometheus wants it: `casnode_dht_…`.
    pub name: &'static str,
    /// One line of explanation.
    pub help: &'static str,
    /// Whether it only ever grows.
    pub counter: bool,
    /// Its value.
    pub value: f64,
}

impl Metric {
    /// One that only ever grows.
    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            counter: true,
            value: as_f64(value),
        }
    }

    /// One that goes up and down.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            counter: false,
            value: as_f64(value),
        }
    }
}

/// Exact up to 2^53.
pub(crate) fn as_f64(value: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and gauges may be rounded"
    )]
    let value = value as f64;
    value
}
