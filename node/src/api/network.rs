//! What calls about announcing, lookups and numbers return.
//!
//! Times of day are milliseconds since 1970, as elsewhere; spans are whole seconds or milliseconds, by name.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ProviderInfo;

/// What part in the DHT a node takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DhtMode {
    /// A server unless others find that it cannot be reached.
    #[default]
    Auto,
    /// Holds records for others.
    Server,
    /// Looks up and announces, and holds nothing for others.
    Client,
}

/// How announcing stands, over all keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvideReport {
    /// True when a daemon answered: nobody else renews anything.
    pub daemon: bool,
    /// Keys in the schedule, files' and chunks'.
    pub keys: u64,
    /// Of these, files'.
    pub files: u64,
    /// Keys that somebody has acknowledged within the expiry.
    pub done: u64,
    /// Keys to be announced now.
    pub due: u64,
    /// Of these, keys never announced, or not within the expiry.
    pub new: u64,
    /// Keys whose latest announcement nobody acknowledged.
    pub failed: u64,
    /// When a peer last acknowledged any key.
    pub last_success_unix_ms: Option<u64>,
    /// When the next key is due; in the past when something is due now.
    pub next_due_unix_ms: Option<u64>,
    /// Keys announced per hour.
    pub keys_per_hour: u64,
    /// How long the keys that are due take at that rate; absent when nothing is due or nothing moves.
    pub finish_secs: Option<u64>,
    /// Time between two announcements of a key.
    pub interval_secs: u64,
    /// Time after which others forget a record.
    pub expiry_secs: u64,
    /// Of the peers that held records, how many are gone an hour later; absent until measured.
    pub churn_percent_per_hour: Option<u32>,
    /// How many peers the network seems to have, this node among them; absent without a daemon.
    pub network_peers: Option<u64>,
    /// Why records will run out before they are renewed, if they will.
    pub behind: Option<BehindReport>,
    /// The latest run.
    pub last_run: Option<ProvideRun>,
}

/// Why announcing falls behind, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BehindReport {
    /// `no_daemon`, `no_peers`, `stalled` or `too_slow`.
    pub reason: String,
    /// What happens.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub next: String,
}

/// What one run of the announcer did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvideRun {
    /// When it ended.
    pub ended_unix_ms: u64,
    /// Keys in it.
    pub keys: u64,
    /// Lookups made.
    pub lookups: u32,
    /// Peers that keys were sent to.
    pub peers: u32,
    /// Of these, peers that failed and were replaced.
    pub failed_peers: u32,
    /// Acknowledged copies of all keys together.
    pub copies: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// How announcing of one file stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvideFileReport {
    /// The file.
    pub address: String,
    /// Its name hint.
    pub name: Option<String>,
    /// The file's own key.
    pub file: KeysReport,
    /// The keys of its chunks that are here. A chunk whose key is the file's own is counted there alone.
    pub chunks: KeysReport,
}

/// How announcing stands, over some keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeysReport {
    /// Keys.
    pub keys: u64,
    /// Of these, keys that are not in the schedule.
    pub unscheduled: u64,
    /// Keys that somebody has acknowledged within the expiry.
    pub done: u64,
    /// Keys to be announced now.
    pub due: u64,
    /// Keys whose latest announcement nobody acknowledged.
    pub failed: u64,
    /// The fewest peers that acknowledged a key in its latest run.
    pub copies_min: u32,
    /// The median of these numbers.
    pub copies_median: u32,
    /// The success that is the longest ago, of the keys that were announced.
    pub oldest_success_unix_ms: Option<u64>,
    /// The latest success.
    pub last_success_unix_ms: Option<u64>,
    /// When the next of them is due.
    pub next_due_unix_ms: Option<u64>,
}

/// What `provide now` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvideNowReport {
    /// The file, when it was about one.
    pub address: Option<String>,
    /// Keys that were made due.
    pub keys: u64,
    /// True when it was waited until none of them was due any more.
    pub waited: bool,
    /// How long that took; 0 when it was not waited for.
    pub took_ms: u64,
}

/// The peers closest to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhtLookupReport {
    /// The key.
    pub key: String,
    /// The peers that answered, closest first.
    pub peers: Vec<ClosePeer>,
    /// Requests sent.
    pub asked_peers: u32,
    /// True when the lookup came to its end; what a deadline cut off may lack the closest of all.
    pub complete: bool,
    /// How long it took.
    pub took_ms: u64,
}

/// A peer close to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClosePeer {
    /// Its peer id.
    pub peer: String,
    /// Leading bits that its place in the keyspace shares with the key's.
    pub shared_bits: u32,
    /// Where it said it listens.
    pub addrs: Vec<String>,
}

/// What the DHT holds under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhtGetReport {
    /// The key.
    pub key: String,
    /// The value record; absent of chunks, and of what nobody has published.
    pub record: Option<RecordReport>,
    /// Who has it; this node too, if it does.
    pub providers: Vec<ProviderInfo>,
    /// Requests sent for both.
    pub asked_peers: u32,
    /// How long both took.
    pub took_ms: u64,
}

/// A file's metadata record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordReport {
    /// Length of the encoded record.
    pub record_bytes: u64,
    /// The file's length.
    pub bytes: u64,
    /// What kind of file.
    pub kind: String,
    /// How it was cut, in words with numbers.
    pub chunker: String,
    /// Chunks it was cut into.
    pub chunks: u32,
    /// The name hint.
    pub name: Option<String>,
    /// True when the list of chunks is in the record.
    pub has_manifest: bool,
    /// Peer id of whoever signed the record.
    pub publisher: Option<String>,
    /// When it was signed.
    pub published_unix_ms: Option<u64>,
}

/// A record put to the network and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhtPutTestReport {
    /// The key that was made up for it.
    pub key: String,
    /// The closest peers that the lookup found.
    pub closest_peers: u32,
    /// Of these, peers that acknowledged the provider record.
    pub provider_copies: u32,
    /// Of these, peers that answered the value record: it arrived there, which does not say that it was kept.
    pub value_copies: u32,
    /// Of these, peers that name this node as provider when asked.
    pub provider_read: u32,
    /// True when another peer gave the value back.
    pub value_read: bool,
    /// How long the lookup took.
    pub lookup_ms: u64,
    /// How long storing took.
    pub put_ms: u64,
    /// How long reading took.
    pub read_ms: u64,
    /// True when both records were read back.
    pub ok: bool,
}

/// Which part in the DHT this node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhtModeReport {
    /// What was chosen.
    pub mode: DhtMode,
    /// True when it holds records for others now.
    pub serving: bool,
}

/// A number, or several of a kind, for a monitoring system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricReport {
    /// Its name.
    pub name: String,
    /// One line of explanation.
    pub help: String,
    /// `counter` or `gauge`.
    pub kind: String,
    /// Its values: one without a label, or one for each label.
    pub values: Vec<MetricValue>,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricValue {
    /// Of what; the label `what` where there is one.
    pub what: Option<String>,
    /// The number.
    pub value: f64,
}

#[cfg(test)]
mod tests;
