//! `get --list`: checks the call, has the files fetched, and says what becomes of them here.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use casnode_cas::Claim;
use tokio_util::sync::CancellationToken;

use super::seed::parse_policy;
use crate::{
    api::{ApiError, ErrorKind, Keep, ListReport, ListedFile, events::EventSink},
    bundle::{self, Entered, Options, Seeking, Tally, list},
    clock,
    download::Stay,
    node::{Node, multiaddrs},
    publish::{self, PublishError},
    seeding::SeedPolicy,
    upkeep,
};

/// Files that are entered in the announce schedule with one sync.
const PUBLISHED_AT_ONCE: usize = 1024;

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
    check(&call, seed)?;
    let started = clock::now();
    let lines = list::lines(&call.files)?;
    let folder = list::open(&PathBuf::from(call.folder), call.force, call.mode).await?;
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
    let fetched = bundle::fetch(node, options, events, cancel).await?;
    list::sync(&folder).await?;
    keep_on(node, seed, &fetched.entered).await;
    Ok(list::report(fetched, started))
}

/// Says for how long files that came are served, and announces them.
pub(super) async fn keep_on(node: &Arc<Node>, seed: Option<SeedPolicy>, entered: &[Entered]) {
    if let Some(policy) = seed.or(node.seed) {
        serve(node, policy, entered).await;
    }
    if node.serve_dht {
        let publishing = node.clone();
        let entered: Vec<_> = entered.iter().map(|(address, ..)| *address).collect();
        node.tasks.spawn("publish", async move {
            for part in entered.chunks(PUBLISHED_AT_ONCE) {
                publish::many(&publishing, part).await?;
            }
            Ok::<(), PublishError>(())
        });
    }
}

/// Says of all files for how long they are served, and has that on the medium once.
async fn serve(node: &Node, policy: SeedPolicy, files: &[Entered]) {
    let now_s = clock::unix_s();
    for (address, bytes, _) in files {
        if (policy, node.seeding.policy(address)) == (SeedPolicy::Forever, SeedPolicy::Forever) {
            continue;
        }
        if let Err(error) = node.seeding.set(*address, policy, *bytes, now_s) {
            tracing::warn!(file = %address, %error, "a file is served for as long as it is here");
        }
    }
    upkeep::save_seeding(node).await;
}

fn check(call: &ManyCall, seed: Option<SeedPolicy>) -> Result<(), ApiError> {
    let refused = |why: &str, next: &str| {
        Err(ApiError::new(
            ErrorKind::Usage,
            "the files of the list were not fetched",
            why,
            next,
        ))
    };
    match call.keep {
        Keep::InPlace => refused(
            "many small files are kept as copies, or not at all",
            "leave --in-place out, or take --no-keep",
        ),
        Keep::No if call.pin => refused(
            "of what is not kept nothing can be pinned",
            "leave --no-keep or --pin out",
        ),
        Keep::No if seed.is_some_and(|seed| seed != SeedPolicy::None) => refused(
            "of what is not kept nothing can be served",
            "leave --no-keep or --seed out",
        ),
        _ => Ok(()),
    }
}
