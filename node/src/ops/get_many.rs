//! `get --list`: checks the call, has the files fetched, and says what becomes of them here.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use casnode_cas::Claim;
use tokio_util::sync::CancellationToken;

use super::{kept, seed::parse_policy};
use crate::{
    api::{ApiError, Keep, ListReport, ListedFile, events::EventSink},
    bundle::{self, Options, Seeking, Tally, list, moves},
    clock,
    download::Stay,
    node::{Node, multiaddrs},
};

/// The fields of [`crate::api::Request::GetMany`].
pub(super) struct ManyCall {
    pub(super) files: Vec<ListedFile>,
    pub(super) folder: OsString,
    pub(super) force: bool,
    pub(super) timeout_ms: Option<u64>,
    pub(super) peers: Vec<String>,
    pub(super) keep: Keep,
    pub(super) pin: bool,
    pub(super) seed: Option<String>,
    /// Permission bits of the files; `None`: by this process's umask.
    pub(super) mode: Option<u32>,
}

pub(super) async fn get_many(
    node: &Arc<Node>,
    call: ManyCall,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<ListReport, ApiError> {
    let seed = call.seed.as_deref().map(parse_policy).transpose()?;
    let what = "the files of the list were not fetched".to_owned();
    kept::check_many(what.clone(), call.keep)?;
    kept::check(what, call.keep, call.pin, seed)?;
    let started = clock::now();
    let lines = list::lines(&call.files)?;
    let folder = list::open(&PathBuf::from(call.folder), call.force, call.mode).await?;
    if folder.replaces() {
        let places = lines
            .iter()
            .map(|line| (line.path.clone(), Some(line.address)));
        moves::save(node, &folder, places.collect(), &events, &cancel).await?;
    }
    let options = Options {
        tally: Tally {
            total_files: lines.len() as u64,
            ..Tally::default()
        },
        lines,
        folder: folder.clone(),
        deadline: call
            .timeout_ms
            .map(|ms| started + Duration::from_millis(ms)),
        seeking: Seeking {
            hints: multiaddrs("--peer", &call.peers)?,
            ..Seeking::default()
        },
        mode: call.mode,
        stay: Stay {
            keep: call.keep,
            claim: Claim::own(call.pin),
        },
    };
    let working = node.foreground.begin();
    let fetched = bundle::fetch(node, options, events, cancel).await;
    drop(working);
    let fetched = fetched?;
    list::sync(&folder).await?;
    kept::keep_on(node, seed, &fetched.entered).await;
    Ok(list::report(fetched, started))
}
