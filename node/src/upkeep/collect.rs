//! Giving back space when enough of it is wasted, and keeping to the limit when it was lowered.

use std::{convert::Infallible, ops::ControlFlow, sync::Arc, time::Duration};

use casnode_cas::{GcReport, Store, StoreError, StoreStats};
use tokio_util::sync::CancellationToken;

use crate::node::Node;

/// The first look: after what a start has to do.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// How often is looked whether it pays.
const PAUSE: Duration = Duration::from_secs(600);

/// Wasted bytes that are worth a collection.
const WASTE_BYTES: u64 = 256 << 20;

/// Less than that is worth one when it is this part of what the store occupies, and not next to nothing.
const WASTE_PART: u64 = 10;
const LEAST_WASTE_BYTES: u64 = 16 << 20;

/// Whether a collection pays.
fn pays(stats: &StoreStats) -> bool {
    let waste_bytes = stats.waste_bytes;
    let over = stats.max_bytes.is_some_and(|max| stats.disk_bytes > max);
    let is_large_part = waste_bytes >= LEAST_WASTE_BYTES
        && waste_bytes.saturating_mul(WASTE_PART) >= stats.disk_bytes;
    over || is_large_part || waste_bytes >= WASTE_BYTES
}

/// Collects when it pays, until the node ends.
pub(super) async fn run(node: Arc<Node>) -> Result<(), Infallible> {
    tokio::time::sleep(FIRST_PAUSE).await;
    loop {
        let (store, end) = (node.store.clone(), node.tasks.token().clone());
        let work = node
            .tasks
            .blocking("collect", move || collect(&store, &end));
        match work.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(report))) => tell(&report),
            Ok(Err(error)) => tracing::warn!(%error, "space could not be given back"),
            Err(error) => tracing::warn!(%error, "space could not be given back"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn collect(store: &Store, end: &CancellationToken) -> Result<Option<GcReport>, StoreError> {
    if !pays(&store.stats()?) {
        return Ok(None);
    }
    let mut progress = |_| {
        if end.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    store.gc(&mut progress).map(Some)
}

fn tell(report: &GcReport) {
    let (before, after) = (report.disk_bytes_before, report.disk_bytes_after);
    tracing::info!(
        evicted = report.evicted.len(),
        packs = report.compacted_packs,
        given_back_bytes = before.saturating_sub(after),
        "space was given back"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_pays_for_a_tenth_or_a_lot_or_over_the_limit() {
        let pays = |waste_bytes, disk_bytes, max_bytes| {
            let mut stats = StoreStats::default();
            stats.waste_bytes = waste_bytes;
            stats.disk_bytes = disk_bytes;
            stats.max_bytes = max_bytes;
            pays(&stats)
        };
        assert!(!pays(0, 0, None));
        assert!(!pays(0, 1 << 30, Some(1 << 30)));
        assert!(!pays(1 << 20, 2 << 20, None), "next to nothing");
        assert!(!pays(100 << 20, 2 << 30, None));
        assert!(pays(128 << 20, 1 << 30, None));
        assert!(pays(WASTE_BYTES, 1 << 40, None));
        assert!(pays(0, 1 << 30, Some((1 << 30) - 1)));
    }
}
