//! `store`: import, publish, report.
//!
//! Import and publishing are one task of the node's: a caller who leaves cancels an import that is not complete, and
//! one that is complete is published all the same.

mod many;

use std::{
    convert::Infallible,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use casnode_cas::{
    Chunking, Claim, ImportError, ImportOptions, Imported, Manifest, Placement, import_file,
    import_reader,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    runtime::Handle,
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use super::room;
use crate::{
    api::{
        ApiError, ChunkerName, ErrorKind, Phase, Progress, Source, StoreReport, events::EventSink,
    },
    client::Streams,
    errors,
    node::Node,
    publish,
    seeding::SeedPolicy,
    steps::Steps,
    upkeep,
};

pub(super) use many::{ManyCall, store_many};

const NO_DAEMON: &str = "no daemon runs on this data directory, so nobody can fetch this file yet; start `casnode daemon`";

const NOBODY_CAN_FETCH: &str =
    "nobody can fetch this file when this command has ended; start `casnode daemon`";

/// The fields of [`crate::api::Request::Store`].
pub(super) struct StoreCall {
    pub(super) source: Source,
    pub(super) name: Option<String>,
    pub(super) chunker: ChunkerName,
    pub(super) pinned: bool,
    pub(super) in_place: bool,
}

pub(super) async fn store(
    node: &Arc<Node>,
    call: StoreCall,
    streams: Streams,
    events: &EventSink,
    cancel: CancellationToken,
) -> Result<StoreReport, ApiError> {
    let source = call.source;
    if call.in_place && source == Source::Stream {
        return Err(ApiError::new(
            ErrorKind::Usage,
            "standard input was not stored",
            "a stream has no place where it could stay",
            "name a file, or leave --in-place out",
        ));
    }
    let (name, label) = name_of(&source, call.name)?;
    let options = ImportOptions {
        chunking: chunking(call.chunker),
        name,
        claim: Claim::own(call.pinned),
        placement: match call.in_place {
            true => Placement::InPlace,
            false => Placement::Copy,
        },
    };
    let work = Work {
        node: node.clone(),
        source,
        input: streams.input,
        options,
        in_place: call.in_place,
        label,
        events: events.clone(),
        cancel: cancel.child_token(),
    };
    let (tell, told) = oneshot::channel();
    node.tasks.spawn("store", async move {
        let _ = tell.send(work.run().await); // a caller who has left does not want to know
        Ok::<(), Infallible>(())
    });
    let _cancel = cancel.drop_guard();
    told.await.unwrap_or_else(|_| Err(leaving()))
}

/// How the store cuts what is to be cut so.
pub(super) fn chunking(chunker: ChunkerName) -> Chunking {
    match chunker {
        ChunkerName::Fixed => Chunking::Fixed,
        ChunkerName::FastCdc => Chunking::FastCdc,
    }
}

/// The node ends before the file is stored and published.
pub(super) fn leaving() -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        "the file may not be stored",
        "the node was stopped",
        "run the command again: it is quick where the file is stored already",
    )
}

/// What one `store` takes, owned by its task.
struct Work {
    node: Arc<Node>,
    source: Source,
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    options: ImportOptions,
    /// It stays where it is and takes no room.
    in_place: bool,
    /// What the source is called in messages.
    label: String,
    events: EventSink,
    cancel: CancellationToken,
}

impl Work {
    async fn run(self) -> Result<StoreReport, ApiError> {
        let Self {
            node,
            source,
            input,
            options,
            in_place,
            label,
            events,
            cancel,
        } = self;
        // When the node ends, this future is dropped, and the import hears of it.
        let _cancel = cancel.clone().drop_guard();
        let name = options.name.clone();
        if let (Source::File(path), false) = (&source, in_place) {
            let path = Path::new(path);
            let room = room::make(&node, path, &options, events.clone(), cancel.clone()).await?;
            room.map_err(|e| errors::import(&label, &e))?;
        }
        let imported = import(&node, source, input, options, events.clone(), cancel).await;
        upkeep::withdraw_evicted(&node).await;
        let imported = imported?.map_err(|e| errors::import(&label, &e))?;
        // It is the user's own from now on, whatever was said when it was fetched.
        if node.seeding.policy(&imported.address) != SeedPolicy::Forever {
            node.serve_for(SeedPolicy::Forever, imported.address, imported.bytes)
                .await;
        }
        let announced_to = announce_now(&node, &imported.manifest, name.as_deref(), &events).await;
        Ok(StoreReport {
            address: imported.address.to_string(),
            bytes: imported.bytes,
            chunks: imported.chunks,
            new_chunks: imported.new_chunks,
            new_bytes: imported.new_bytes,
            saved_bytes: imported.saved_bytes,
            referenced_bytes: imported.referenced_bytes,
            name,
            announced_to,
        })
    }
}

/// Refuses a name that no file can have.
pub(super) fn check_name(name: Option<&str>) -> Result<(), ApiError> {
    match name {
        Some(name) if casnode_cas::safe_file_name(name).is_none() => Err(ApiError::new(
            ErrorKind::Usage,
            format!("{name:?} cannot be a file's name"),
            "a name is 1 to 255 bytes, has no '/' and is neither '.' nor '..'",
            "give another one with --name",
        )),
        _ => Ok(()),
    }
}

/// The name hint to publish and what to call the source in messages.
fn name_of(source: &Source, name: Option<String>) -> Result<(Option<String>, String), ApiError> {
    check_name(name.as_deref())?;
    Ok(match source {
        Source::Stream => (name, "standard input".to_owned()),
        Source::File(path) => {
            let path = PathBuf::from(path);
            let own = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(casnode_cas::safe_file_name);
            (
                name.or_else(|| own.map(str::to_owned)),
                path.display().to_string(),
            )
        }
    })
}

/// Reads the source on a blocking thread that the node waits for. The outer error is a bug, the inner one the import's.
async fn import(
    node: &Arc<Node>,
    source: Source,
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    options: ImportOptions,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Result<Imported, ImportError>, ApiError> {
    let store = node.store.clone();
    let runtime = Handle::current();
    let work = node.tasks.blocking("import", move || {
        let mut steps = Steps::new(Phase::Importing, events, cancel.clone());
        let mut progress = |done_bytes, total_bytes| steps.step(done_bytes, total_bytes);
        match source {
            Source::File(path) => {
                import_file(&store, &PathBuf::from(path), &options, &mut progress)
            }
            Source::Stream => {
                let mut input = WholeInput {
                    input: input.unwrap_or_else(|| Box::new(tokio::io::empty())),
                    runtime,
                    cancel: cancel.clone(),
                };
                import_reader(&store, &mut input, None, &options, &mut progress)
            }
        }
    });
    work.await.map_err(errors::panicked)
}

/// A stream whose end counts only when its sender said so: a caller that is gone has not finished. Waiting for more
/// of it ends with the call.
struct WholeInput {
    input: Box<dyn AsyncRead + Send + Unpin>,
    runtime: Handle,
    cancel: CancellationToken,
}

impl Read for WholeInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let broken_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the input broke off");
        let (input, cancel) = (&mut self.input, &self.cancel);
        let n = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(broken_off()),
                n = input.read(buffer) => n,
            }
        })?;
        if n == 0 && self.cancel.is_cancelled() {
            return Err(broken_off());
        }
        Ok(n)
    }
}

/// Sends the file's own record out and schedules its chunks. What cannot be published stays due: a file that is stored
/// is never reported as lost because the network is away.
pub(super) async fn announce_now(
    node: &Arc<Node>,
    manifest: &Manifest,
    name: Option<&str>,
    events: &EventSink,
) -> u32 {
    let Some(dht) = node
        .dht
        .clone()
        .filter(|_| node.serve_dht || node.has_bootstrap())
    else {
        events.warn(NO_DAEMON).await;
        return 0;
    };
    let wait = |phase, detail: &str| {
        let detail = detail.to_owned();
        events.progress(Progress {
            phase,
            done_bytes: 0,
            total_bytes: None,
            sources: 0,
            detail,
        });
    };
    if let Err(error) = publish::schedule_chunks(&dht, manifest).await {
        events
            .warn(format!(
                "the chunks were not scheduled for announcing: {error}"
            ))
            .await;
    }
    let patience = if node.serve_dht {
        Duration::ZERO
    } else {
        node.network_patience()
    };
    if !patience.is_zero() {
        wait(Phase::Connecting, "waiting for a first peer");
        dht.connected_within(patience).await;
    }
    wait(
        Phase::Publishing,
        "telling the peers closest to the address",
    );
    let announced = match publish::announce(&dht, manifest, name).await {
        Ok(0) => {
            events
                .warn("no peer is connected, so the file is not announced yet; it will be as soon as one is")
                .await;
            0
        }
        Ok(peers) => peers,
        Err(error) => {
            events
                .warn(format!(
                    "the file is stored but not announced yet: {error}; it will be tried again"
                ))
                .await;
            0
        }
    };
    if !node.serve_dht {
        events.warn(NOBODY_CAN_FETCH).await;
    }
    announced
}

#[cfg(test)]
mod tests;
