//! `why`: walks the way of a `get` and keeps nothing, to tell what stands in it.
//!
//! [`search`] goes through the network, [`provider`] asks one provider, [`mod@verdict`] names the cause; each step is
//! [`told`](trace) as it happens. Every wait has an end, and all of them together the caller's.

mod provider;
mod search;
mod trace;
mod verdict;

use std::{sync::Arc, time::Duration};

use casnode_cas::{Address, FileState, StoreError};
use casnode_dht::Multiaddr;
use tokio_util::sync::CancellationToken;

use self::{
    trace::Trace,
    verdict::{Here, Room, verdict},
};
use crate::{
    api::{ApiError, ErrorKind, WhyKind, WhyOutcome, WhyReport, events::EventSink},
    clock, download, errors,
    link::Link,
    node::Node,
    room,
    tasks::blocking,
};

/// A trace takes no longer, unless its caller says so.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is asked for.
pub(crate) struct WhyOptions {
    pub(crate) link: Link,
    pub(crate) hints: Vec<Multiaddr>,
    pub(crate) timeout: Option<Duration>,
}

/// Traces a retrieval.
pub(crate) async fn why(
    node: &Arc<Node>,
    options: WhyOptions,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<WhyReport, ApiError> {
    let began = clock::now();
    let address = options.link.address();
    let limit = options.timeout.unwrap_or(DEADLINE);
    let mut trace = Trace::new(events, options.link.size_bytes());
    trace.facts.is_daemon = node.serve_dht;
    trace.facts.is_read_only = node.store.is_read_only();
    trace.facts.has_bootstrap = node.has_bootstrap();
    let here_bytes = look_here(node, address, &mut trace).await?;
    if trace.facts.here != Here::Whole {
        let search = search::search(node, address, &options.hints, began + limit, &mut trace);
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, search) => ended.is_ok(),
            () = cancel.cancelled() => return Err(interrupted(&address)),
        };
        trace.facts.out_of_time = !ended;
        look_for_room(node, here_bytes, &mut trace).await?;
    }
    let verdict = verdict(&trace.facts);
    Ok(WhyReport {
        address: address.to_string(),
        steps: trace.steps,
        cause: verdict.cause,
        what: verdict.what,
        next: verdict.next,
        took_ms: trace::millis(began.elapsed()),
    })
}

/// What the store has of the file; the bytes of it that are here.
async fn look_here(node: &Arc<Node>, address: Address, trace: &mut Trace) -> Result<u64, ApiError> {
    let (began, store) = (clock::now(), node.store.clone());
    let look = move || -> Result<_, StoreError> {
        let (Some(entry), Some(manifest)) = (store.file(&address)?, store.manifest(&address)?)
        else {
            return Ok(None);
        };
        let have = store.have(&manifest)?;
        let chunks = manifest.chunks();
        let bytes: u64 = have
            .iter_ones()
            .map(|i| u64::from(chunks[i].len_bytes))
            .sum();
        let is_whole = entry.state == FileState::Complete && have.is_complete();
        let size_bytes = manifest.size_bytes();
        Ok(Some((
            is_whole,
            have.count(),
            chunks.len(),
            bytes,
            size_bytes,
        )))
    };
    let looked = blocking(look).await.map_err(errors::panicked)?;
    let took = began.elapsed();
    let (outcome, what, bytes) = match looked {
        Ok(None) => (WhyOutcome::Nothing, "nothing of it is here".to_owned(), 0),
        Ok(Some((is_whole, have, all, bytes, size_bytes))) => {
            trace.size_is(size_bytes);
            trace.facts.here = if is_whole { Here::Whole } else { Here::Part };
            let what = format!("{have} of {all} chunks are here, {bytes} of {size_bytes} bytes");
            let outcome = if is_whole {
                WhyOutcome::Ok
            } else {
                WhyOutcome::Nothing
            };
            (outcome, what, bytes)
        }
        Err(error) => (WhyOutcome::Failed, errors::chain(&error), 0),
    };
    trace.step(WhyKind::Here, outcome, None, what, took);
    Ok(bytes)
}

/// Whether what is missing fits, as far as the size is known.
async fn look_for_room(
    node: &Arc<Node>,
    here_bytes: u64,
    trace: &mut Trace,
) -> Result<(), ApiError> {
    let Some(size_bytes) = trace.size_bytes() else {
        return Ok(());
    };
    let (began, store) = (clock::now(), node.store.clone());
    let (data_dir, needed_bytes) = (node.data_dir.clone(), size_bytes.saturating_sub(here_bytes));
    let look = move || {
        let fits = match room::check(&store, needed_bytes) {
            Ok(_) => true,
            // What is kept in place takes no room in the store.
            Err(StoreError::OverQuota { .. })
                if download::may_be_in_place(&store, &data_dir, size_bytes) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        Ok((fits, rustix::fs::statvfs(&data_dir).ok()))
    };
    let mut copy_fits = true;
    let looked = blocking(look).await.map_err(errors::panicked)?;
    let room = match looked {
        Err(StoreError::OverQuota {
            needed_bytes,
            available_bytes,
            max_bytes,
        }) => Room::OverLimit {
            needed_bytes,
            available_bytes,
            max_bytes,
        },
        Err(error) => {
            let why = errors::chain(&error);
            trace.step(
                WhyKind::Room,
                WhyOutcome::Failed,
                None,
                why,
                began.elapsed(),
            );
            return Ok(());
        }
        Ok((fits, disk)) => {
            copy_fits = fits;
            let free = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            match free {
                Some(free_bytes) if free_bytes < needed_bytes => Room::DiskFull {
                    needed_bytes,
                    free_bytes,
                },
                _ => Room::Enough,
            }
        }
    };
    trace.facts.room = room;
    let (outcome, what) = match room {
        Room::Enough | Room::Unknown if !copy_fits => (
            WhyOutcome::Ok,
            format!(
                "there is room for {needed_bytes} bytes in place, on the data directory's file system; the limit of the store leaves none for a copy"
            ),
        ),
        Room::Enough | Room::Unknown => (
            WhyOutcome::Ok,
            format!("there is room for {needed_bytes} bytes"),
        ),
        _ => (
            WhyOutcome::Failed,
            format!("there is no room for {needed_bytes} bytes"),
        ),
    };
    trace.step(WhyKind::Room, outcome, None, what, began.elapsed());
    Ok(())
}

fn interrupted(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        format!("the trace of {address} was stopped"),
        "it was interrupted",
        "run it again",
    )
}
