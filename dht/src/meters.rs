//! Counts of what a node does, for people who watch it.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::counters::Counter;
use crate::handle::Inner;
use crate::records::tables::Sizes;
use crate::report::{Metric, ProvideStatus};

/// Declares the meters with the names and explanations under which they are told, so that none is forgotten.
macro_rules! meters {
    ($($name:ident: $told:literal, $help:literal;)*) => {
        /// What this node has done since its start.
        #[derive(Debug, Default)]
        pub(crate) struct Meters { $(#[doc = $help] pub(crate) $name: Counter,)* }

        impl Meters {
            /// All of them.
            pub(crate) fn told(&self) -> Vec<Metric> {
                vec![$(Metric::counter($told, $help, self.$name.get()),)*]
            }
        }
    };
}

meters! {
    announced_keys: "casnode_dht_announced_keys_total", "Keys announced: acknowledged by a first peer, once a run.";
    announced_copies: "casnode_dht_announced_copies_total", "Provider records that peers have acknowledged.";
    value_copies: "casnode_dht_value_copies_total", "Value records that peers have answered; they check them only then, so not all need have been kept.";
    failed_keys: "casnode_dht_failed_keys_total", "Keys of a run that nobody acknowledged.";
    failed_sends: "casnode_dht_failed_sends_total", "Peers that keys could not be sent to.";
    runs: "casnode_dht_announce_runs_total", "Runs of the announcer.";
    region_lookups: "casnode_dht_region_lookups_total", "Lookups of regions, for announcing.";
    lookups: "casnode_dht_lookups_total", "Lookups of any kind begun.";
    requests: "casnode_dht_requests_total", "Requests sent in lookups.";
    timed_out_lookups: "casnode_dht_timed_out_lookups_total", "Lookups that their deadline ended.";
    found_providers: "casnode_dht_found_providers_total", "Providers that searches have found.";
}

impl Meters {
    /// A lookup has ended after this many requests.
    pub(crate) fn ended(&self, requests: u32, timed_out: bool) {
        self.requests.add(requests.into());
        self.timed_out_lookups.add(timed_out.into());
    }
}

/// All numbers of a node for a monitoring system.
pub(crate) fn metrics(inner: &Inner) -> Vec<Metric> {
    let mut metrics = inner.meters.told();
    metrics.extend(on_the_line(inner));
    metrics.extend(announcing(&crate::announce::status(inner)));
    let sizes = inner.records.tables().sizes();
    metrics.extend(held(&sizes));
    metrics.extend(routed(inner));
    metrics
}

/// What went over the line, and how much may.
fn on_the_line(inner: &Inner) -> [Metric; 4] {
    let (traffic, limits) = (inner.line.traffic(), inner.line.bandwidth());
    let rate = |limit: Option<NonZeroU64>| limit.map_or(0, NonZeroU64::get);
    [
        Metric::counter(
            "casnode_dht_sent_bytes_total",
            "Bytes sent on all streams.",
            traffic.up_bytes,
        ),
        Metric::counter(
            "casnode_dht_taken_bytes_total",
            "Bytes taken from all streams.",
            traffic.down_bytes,
        ),
        Metric::gauge(
            "casnode_dht_up_limit_bytes_per_second",
            "The most that is sent, 0 when there is no limit.",
            rate(limits.up_bytes_per_s),
        ),
        Metric::gauge(
            "casnode_dht_down_limit_bytes_per_second",
            "The most that is taken, 0 when there is no limit.",
            rate(limits.down_bytes_per_s),
        ),
    ]
}

/// How announcing stands.
fn announcing(status: &ProvideStatus) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::gauge(
            "casnode_dht_scheduled_keys",
            "Keys in the announce schedule.",
            status.keys,
        ),
        Metric::gauge(
            "casnode_dht_done_keys",
            "Scheduled keys that somebody holds a record of.",
            status.done,
        ),
        Metric::gauge(
            "casnode_dht_due_keys",
            "Scheduled keys to be announced now.",
            status.due,
        ),
        Metric::gauge(
            "casnode_dht_failing_keys",
            "Due keys whose latest announcement nobody acknowledged.",
            status.failed,
        ),
        Metric::gauge(
            "casnode_dht_behind",
            "1 when records will run out before they are renewed.",
            status.behind.is_some().into(),
        ),
        Metric::gauge(
            "casnode_dht_interval_seconds",
            "Time between two announcements of a key.",
            status.interval.as_secs(),
        ),
        Metric::gauge(
            "casnode_dht_network_peers",
            "How many peers the network seems to have.",
            status.network_peers,
        ),
    ];
    // Unknown while keys are due and none is announced.
    let nothing = (status.due == 0).then_some(Duration::ZERO);
    let backlog = status.finish.or(nothing).map(|span| {
        Metric::gauge(
            "casnode_dht_announce_backlog_seconds",
            "How long announcing what is due takes at the rate of the last hour.",
            span.as_secs(),
        )
    });
    metrics.extend(backlog);
    metrics
}

/// What is held for others.
fn held(sizes: &Sizes) -> [Metric; 5] {
    [
        Metric::gauge(
            "casnode_dht_held_provider_records",
            "Provider records held for others.",
            sizes.providers as u64,
        ),
        Metric::gauge(
            "casnode_dht_held_peers",
            "Peers whose records are held.",
            sizes.peers as u64,
        ),
        Metric::gauge(
            "casnode_dht_held_value_records",
            "Value records held for others.",
            sizes.values as u64,
        ),
        Metric::gauge(
            "casnode_dht_held_value_bytes",
            "Bytes of these value records.",
            sizes.value_bytes as u64,
        ),
        Metric::gauge(
            "casnode_dht_remembered_peers",
            "Peers remembered for the next start.",
            sizes.remembered as u64,
        ),
    ]
}

/// The routing table.
fn routed(inner: &Inner) -> [Metric; 2] {
    let connected = *inner.routed.borrow();
    let known = inner.neighbourhood.borrow().peers().len();
    [
        Metric::gauge(
            "casnode_dht_connected_routing_peers",
            "Connected peers in the routing table.",
            connected as u64,
        ),
        Metric::gauge(
            "casnode_dht_routing_peers",
            "Peers in the routing table.",
            known as u64,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_named_as_counters_are_and_no_two_alike() {
        let meters = Meters::default();
        meters.runs.add(3);
        let told = meters.told();
        for Metric { name, help, .. } in &told {
            assert!(
                name.starts_with("casnode_dht_") && name.ends_with("_total"),
                "{name}"
            );
            assert!(help.ends_with('.'), "{help}");
            assert_eq!(told.iter().filter(|other| other.name == *name).count(), 1);
        }
        let runs = told
            .iter()
            .find(|metric| metric.name == "casnode_dht_announce_runs_total");
        assert_eq!(runs.unwrap().value, 3.0);
    }
}
