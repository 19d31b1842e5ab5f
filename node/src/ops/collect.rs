//! `gc` and `du`: what the store occupies, and giving back what nothing needs.

use std::sync::Arc;

use casnode_cas::Address;
use tokio_util::sync::CancellationToken;

use super::files::{not_here, on_store};
use crate::{
    api::{
        ApiError, ErrorKind, FileUsage, GcFile, GcPlanReport, GcReport, MAX_LISTED, Outcome, Phase,
        Response, events::EventSink,
    },
    errors,
    node::Node,
    steps::Steps,
    upkeep,
};

/// What `gc` would do.
pub(super) async fn plan(node: &Arc<Node>) -> Outcome {
    let plan = on_store(node, |store| store.gc_plan()).await?;
    Ok(Response::GcPlan(GcPlanReport {
        orphan_chunks: plan.orphan_chunks,
        orphan_bytes: plan.orphan_bytes,
        evict_files: plan.evict.len() as u64,
        evict: listed(&plan.evict),
        compact_packs: plan.compact_packs,
        copy_bytes: plan.compact_copy_bytes,
        reclaim_bytes: plan.reclaim_bytes,
    }))
}

/// Collects in small steps, on a thread that the node waits for.
pub(super) async fn gc(
    node: &Arc<Node>,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<GcReport, ApiError> {
    let store = node.store.clone();
    let mut steps = Steps::new(Phase::Collecting, events, cancel);
    let work = node.tasks.blocking("collect", move || {
        store.gc(&mut |progress| steps.step(progress.done_bytes, Some(progress.total_bytes)))
    });
    let report = work.await.map_err(errors::panicked)?;
    upkeep::withdraw_evicted(node).await;
    let report = report.map_err(|e| errors::store("the collection stopped", &e))?;
    if report.cancelled {
        return Err(ApiError::new(
            ErrorKind::Interrupted,
            "the collection was stopped",
            "it was interrupted",
            "what it has given back stays free; run it again for the rest",
        ));
    }
    Ok(GcReport {
        freed_chunks: report.freed_chunks,
        freed_bytes: report.freed_bytes,
        evicted_files: report.evicted.len() as u64,
        evicted: listed(&report.evicted),
        compacted_packs: report.compacted_packs,
        copied_bytes: report.copied_bytes,
        disk_bytes_before: report.disk_bytes_before,
        disk_bytes_after: report.disk_bytes_after,
    })
}

fn listed(files: &[casnode_cas::GcFile]) -> Vec<GcFile> {
    let report = |file: &casnode_cas::GcFile| GcFile {
        address: file.address.to_string(),
        name: file.name.clone(),
        bytes: file.bytes,
    };
    files.iter().take(MAX_LISTED).map(report).collect()
}

/// What files occupy.
pub(super) async fn du(node: &Arc<Node>, address: Option<&str>) -> Outcome {
    let address: Option<Address> = address
        .map(|text| super::parse("an address", text))
        .transpose()?;
    let mut used = on_store(node, move |store| {
        let mut stored = Vec::new();
        for usage in store.usage(address.as_ref())? {
            let at = store.file(&usage.address)?.map(|file| file.stored_unix_ms);
            stored.push((at, usage));
        }
        Ok(stored)
    })
    .await?;
    if let (Some(address), true) = (address, used.is_empty()) {
        return Err(not_here(&address));
    }
    used.sort_by_key(|(at, usage)| (*at, usage.address));
    let report = |(_, usage): (_, casnode_cas::FileUsage)| FileUsage {
        address: usage.address.to_string(),
        name: usage.name,
        logical_bytes: usage.logical_bytes,
        stored_bytes: usage.stored_bytes,
        shared_bytes: usage.shared_bytes,
        referenced_bytes: usage.referenced_bytes,
    };
    Ok(Response::Du {
        files: used.into_iter().map(report).collect(),
    })
}
