//! `get --list`: checks the call, has the files fetched, and says what becomes of them here.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use casnode_cas::Claim;
use tokio_util::sync::CancellationToken;

use super::seed::parse_policy;
use crate::{
    api::{ApiError, ErrorKind, Keep, ListReport, ListedFile, events::EventSink},
    bundle::{self, ManyOptions},
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
    let options = ManyOptions {
        files: call.files,
        folder: PathBuf::from(call.folder),
        force: call.force,
        timeout: call.timeout_ms.map(Duration::from_millis),
        hints: multiaddrs("--peer", &call.peers)?,
        mode: call.mode,
        stay: Stay {
            keep: call.keep,
            claim: Claim::own(call.pin),
        },
    };
    let many = bundle::get_many(node, options, events, cancel).await?;
    if let Some(policy) = seed.or(node.seed) {
        serve(node, policy, &many.entered).await;
    }
    if node.serve_dht {
        let publishing = node.clone();
        let entered: Vec<_> = many.entered.iter().map(|(address, ..)| *address).collect();
        node.tasks.spawn("publish", async move {
            for part in entered.chunks(PUBLISHED_AT_ONCE) {
                publish::many(&publishing, part).await?;
            }
            Ok::<(), PublishError>(())
        });
    }
    Ok(many.report)
}

/// Says of all files for how long they are served, and has that on the medium once.
async fn serve(node: &Node, policy: SeedPolicy, files: &[bundle::Entered]) {
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
