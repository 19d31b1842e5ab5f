//! `get`: checks the call and hands it to the downloader.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, ErrorKind, GetReport, Keep, Output, events::EventSink},
    choke::SwarmMode,
    client::Streams,
    download::{self, GetOptions, Stay, Target},
    node::{Node, multiaddrs},
};

/// The fields of [`crate::api::Request::Get`].
pub(super) struct GetCall {
    pub(super) address: String,
    pub(super) output: Output,
    pub(super) timeout_ms: Option<u64>,
    pub(super) peers: Vec<String>,
    pub(super) keep: Keep,
    pub(super) pin: bool,
    pub(super) seed: Option<String>,
    pub(super) swarm: Option<SwarmMode>,
    /// Permission bits of the output; `None`: by this process's umask.
    pub(super) mode: Option<u32>,
}

pub(super) async fn get(
    node: &Arc<Node>,
    call: GetCall,
    streams: Streams,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<GetReport, ApiError> {
    check(&call)?;
    let (target, output) = match call.output {
        Output::File { path, force } => (
            Target::File {
                path: PathBuf::from(path),
                force,
            },
            None,
        ),
        Output::Folder { path, force } => (
            Target::Folder {
                path: PathBuf::from(path),
                force,
            },
            None,
        ),
        Output::Stream => (Target::Stream, streams.output),
    };
    let options = GetOptions {
        address: super::parse("an address", &call.address)?,
        target,
        timeout: call.timeout_ms.map(Duration::from_millis),
        hints: multiaddrs("--peer", &call.peers)?,
        output,
        mode: call.mode,
        stay: Stay {
            keep: call.keep,
            pin: call.pin,
        },
    };
    let address = options.address;
    if let Some(mode) = call.swarm {
        node.swarms.set_mode(address, mode);
    }
    let _in_use = node.store.in_use(&address);
    let report = download::get(node, options, events, cancel).await?;
    super::touch(node, address).await;
    Ok(report)
}

/// What stays here must be somewhere.
fn check(call: &GetCall) -> Result<(), ApiError> {
    let refused = |why: &str, next: &str| {
        Err(ApiError::new(
            ErrorKind::Usage,
            format!("{} was not fetched", call.address),
            why,
            next,
        ))
    };
    match (call.keep, &call.output) {
        (Keep::InPlace | Keep::No, Output::Stream) => refused(
            "a stream can only be sent from chunks that are kept in the store",
            "name a file with -o, or leave --no-keep and --in-place out",
        ),
        (Keep::No, _) if call.pin => refused(
            "of what is not kept nothing can be pinned",
            "leave --no-keep or --pin out",
        ),
        _ => Ok(()),
    }
}
