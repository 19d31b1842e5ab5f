//! `metrics`: numbers for a monitoring system.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use casnode_dht::Dht;

use super::network::status;
use crate::{
    api::{ApiError, MetricReport, MetricValue, Outcome, Response, ScrubReport, StatusReport},
    node::Node,
    swarm::Swarms,
};

const DROPPED_NAME: &str = "casnode_dht_dropped_total";
const DROPPED_HELP: &str = "What the network sent that was refused, by kind.";

/// Every number there is: those of the store, and with a network those of the network.
pub(super) async fn metrics(node: &Arc<Node>) -> Outcome {
    let metrics = all(node).await?;
    Ok(Response::Metrics { metrics })
}

pub(crate) async fn all(node: &Arc<Node>) -> Result<Vec<MetricReport>, ApiError> {
    let status = status(node).await?;
    let mut metrics = of_store(&status);
    if let Some(scrub) = &status.scrub {
        metrics.extend(of_scrub(scrub));
    }
    if let Some(dht) = &node.dht {
        metrics.extend(of_swarms(&node.swarms));
        metrics.extend(of_downloads(node));
        metrics.extend(of_dht(dht));
        metrics.push(gauge(
            "casnode_dht_connected_peers",
            "Peers this node is connected to.",
            dht.peers().await.len() as u64,
        ));
    }
    Ok(metrics)
}

fn of_store(status: &StatusReport) -> Vec<MetricReport> {
    let mut metrics = vec![
        gauge(
            "casnode_store_files",
            "File entries, unfinished downloads included.",
            status.files,
        ),
        gauge(
            "casnode_store_pinned_files",
            "Files that are kept whatever happens.",
            status.pinned_files,
        ),
        gauge(
            "casnode_store_chunks",
            "Chunks in the index, each counted once.",
            status.chunks,
        ),
        gauge(
            "casnode_store_chunk_bytes",
            "Bytes of these chunks.",
            status.stored_bytes,
        ),
        gauge(
            "casnode_store_disk_bytes",
            "Bytes on the disk: packs, index, reserve, clones and unfinished downloads.",
            status.disk_bytes,
        ),
        gauge(
            "casnode_store_reclaimable_bytes",
            "Bytes on the disk that nothing needs.",
            status.reclaimable_bytes,
        ),
        gauge(
            "casnode_store_read_only",
            "1 when the store can only be read.",
            u64::from(status.read_only),
        ),
    ];
    if let Some(max) = status.max_store_bytes {
        let help = "The most that the store may take of the disk.";
        metrics.push(gauge("casnode_store_max_bytes", help, max));
    }
    metrics
}

fn of_scrub(scrub: &ScrubReport) -> [MetricReport; 4] {
    [
        counter(
            "casnode_scrub_checked_bytes_total",
            "Stored bytes that were read and checked.",
            scrub.checked_bytes,
        ),
        counter(
            "casnode_scrub_rounds_total",
            "How often all that is stored was gone through.",
            scrub.rounds,
        ),
        counter(
            "casnode_scrub_bad_chunks_total",
            "Chunks that were found damaged.",
            scrub.bad_chunks,
        ),
        counter(
            "casnode_scrub_repaired_chunks_total",
            "Damaged chunks that were fetched again.",
            scrub.repaired_chunks,
        ),
    ]
}

fn of_swarms(swarms: &Swarms) -> [MetricReport; 9] {
    let (census, counters) = (swarms.census(), swarms.counters());
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        gauge(
            "casnode_swarms",
            "Files that this node fetches or is asked for.",
            census.swarms,
        ),
        gauge(
            "casnode_swarm_unchoked_streams",
            "Streams of peers that are sent chunks.",
            census.unchoked,
        ),
        gauge(
            "casnode_swarm_choked_streams",
            "Streams of peers that are not sent chunks at present.",
            census.choked,
        ),
        gauge(
            "casnode_swarm_interested_streams",
            "Streams of peers that want chunks, choked or not.",
            census.interested,
        ),
        gauge(
            "casnode_swarm_super_seeded",
            "Swarms whose members are told of chunks one by one, so that they have each other to fetch from.",
            census.super_seeded,
        ),
        counter(
            "casnode_uploaded_chunks_total",
            "Chunks sent to peers.",
            count(&counters.sent_chunks),
        ),
        counter(
            "casnode_uploaded_chunk_bytes_total",
            "Bytes of these chunks.",
            count(&counters.sent_bytes),
        ),
        counter(
            "casnode_choked_requests_total",
            "Requests for chunks that were refused because the peer was choked.",
            count(&counters.choked_requests),
        ),
        counter(
            "casnode_stream_breaches_total",
            "Streams that were closed because their peer broke the rules of the exchange.",
            count(&counters.breaches),
        ),
    ]
}

fn of_downloads(node: &Node) -> [MetricReport; 5] {
    let counters = node.swarms.counters();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        gauge(
            "casnode_downloads",
            "Downloads that run and know what they fetch.",
            node.downloads.running() as u64,
        ),
        counter(
            "casnode_downloaded_chunks_total",
            "Chunks fetched from peers.",
            count(&counters.fetched_chunks),
        ),
        counter(
            "casnode_downloaded_chunk_bytes_total",
            "Bytes of these chunks.",
            count(&counters.fetched_bytes),
        ),
        counter(
            "casnode_downloaded_duplicate_bytes_total",
            "Bytes of chunks that were fetched a second time.",
            count(&counters.duplicate_bytes),
        ),
        counter(
            "casnode_downloaded_wrong_chunks_total",
            "Chunks that did not have the hash they were asked for by.",
            count(&counters.wrong_chunks),
        ),
    ]
}

fn of_dht(dht: &Dht) -> Vec<MetricReport> {
    let told = dht.metrics();
    let mut metrics: Vec<_> = told
        .iter()
        // What is no number is left out: JSON has no form for it.
        .filter(|metric| metric.value.is_finite())
        .map(|metric| {
            let kind = if metric.counter { "counter" } else { "gauge" };
            single(metric.name, metric.help, kind, metric.value)
        })
        .collect();
    let dropped = dht.dropped();
    let values = dropped.iter().map(|(what, count)| MetricValue {
        what: Some(what.to_owned()),
        value: count as f64,
    });
    metrics.push(MetricReport {
        name: DROPPED_NAME.to_owned(),
        help: DROPPED_HELP.to_owned(),
        kind: "counter".to_owned(),
        values: values.collect(),
    });
    metrics
}

fn gauge(name: &str, help: &str, value: u64) -> MetricReport {
    single(name, help, "gauge", value as f64)
}

fn counter(name: &str, help: &str, value: u64) -> MetricReport {
    single(name, help, "counter", value as f64)
}

fn single(name: &str, help: &str, kind: &str, value: f64) -> MetricReport {
    MetricReport {
        name: name.to_owned(),
        help: help.to_owned(),
        kind: kind.to_owned(),
        values: vec![MetricValue { what: None, value }],
    }
}
