//! `get`: checks the call and hands it to the downloader.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, GetReport, Keep, Output, events::EventSink},
    client::Streams,
    download::{self, GetOptions, Target},
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
    if call.keep != Keep::Store || call.pin {
        return Err(super::not_yet("--in-place, --no-keep and --pin"));
    }
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
    };
    download::get(node, options, events, cancel).await
}
