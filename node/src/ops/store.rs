//! `store`: import, publish, report.

use std::{
    io::{self, Read},
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use casnode_cas::{Chunking, ImportError, ImportOptions, Imported, import_file, import_reader};
use tokio::io::AsyncRead;
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};

use crate::{
    api::{
        ApiError, ChunkerName, ErrorKind, Phase, Progress, Source, StoreReport, events::EventSink,
    },
    client::Streams,
    errors,
    node::Node,
    publish,
    tasks::blocking,
};

/// Progress of an import is told at most this often.
const PROGRESS_SPAN: Duration = Duration::from_millis(100);

pub(super) async fn store(
    node: &Arc<Node>,
    source: Source,
    streams: Streams,
    name: Option<String>,
    chunker: ChunkerName,
    events: &EventSink,
    cancel: CancellationToken,
) -> Result<StoreReport, ApiError> {
    let (name, label) = name_of(&source, name)?;
    let chunking = match chunker {
        ChunkerName::Fixed => Chunking::Fixed,
        ChunkerName::FastCdc => Chunking::FastCdc,
    };
    let options = ImportOptions {
        chunking,
        name: name.clone(),
        pinned: true,
    };
    let imported = import(node, source, streams, options, events.clone(), cancel).await;
    let imported = imported?.map_err(|e| errors::import(&label, &e))?;
    let announced_to = publish(node, &imported, name.as_deref(), events).await;
    Ok(StoreReport {
        address: imported.address.to_string(),
        bytes: imported.bytes,
        chunks: imported.chunks,
        new_chunks: imported.new_chunks,
        new_bytes: imported.new_bytes,
        name,
        announced_to,
    })
}

/// The name hint to publish and what to call the source in messages.
fn name_of(source: &Source, name: Option<String>) -> Result<(Option<String>, String), ApiError> {
    if let Some(name) = &name
        && casnode_cas::safe_file_name(name).is_none()
    {
        return Err(ApiError::new(
            ErrorKind::Usage,
            format!("{name:?} cannot be a file's name"),
            "a name is 1 to 255 bytes, has no '/' and is neither '.' nor '..'",
            "give another one with --name",
        ));
    }
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

/// Reads the source on a blocking thread. The outer error is a bug, the inner one the import's.
async fn import(
    node: &Arc<Node>,
    source: Source,
    streams: Streams,
    options: ImportOptions,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Result<Imported, ImportError>, ApiError> {
    let store = node.store.clone();
    let guard = cancel.clone();
    let runtime = tokio::runtime::Handle::current();
    let work = blocking(move || {
        let mut told = crate::clock::now();
        let mut progress = |done_bytes: u64, total_bytes: Option<u64>| {
            if told.elapsed() >= PROGRESS_SPAN {
                told = crate::clock::now();
                let detail = String::new();
                events.progress(Progress {
                    phase: Phase::Importing,
                    done_bytes,
                    total_bytes,
                    sources: 0,
                    detail,
                });
            }
            if guard.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        match source {
            Source::File(path) => {
                import_file(&store, &PathBuf::from(path), &options, &mut progress)
            }
            Source::Stream => {
                let input = streams
                    .input
                    .unwrap_or_else(|| Box::new(tokio::io::empty()));
                let mut input = WholeInput {
                    input: SyncIoBridge::new_with_handle(input, runtime),
                    cancel: guard.clone(),
                };
                import_reader(&store, &mut input, None, &options, &mut progress)
            }
        }
    });
    // The import itself sees the cancellation; dropping this future makes it so.
    let _cancel = cancel.drop_guard();
    work.await.map_err(errors::panicked)
}

/// A stream whose end counts only when its sender said so: a caller that is gone has not finished.
struct WholeInput {
    input: SyncIoBridge<Box<dyn AsyncRead + Send + Unpin>>,
    cancel: CancellationToken,
}

impl Read for WholeInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        if n == 0 && self.cancel.is_cancelled() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the input broke off",
            ));
        }
        Ok(n)
    }
}

/// Sends the file's own record out and schedules its chunks. What cannot be published stays due: a file that is stored
/// is never reported as lost because the network is away.
async fn publish(
    node: &Arc<Node>,
    imported: &Imported,
    name: Option<&str>,
    events: &EventSink,
) -> u32 {
    let Some(dht) = node
        .dht
        .clone()
        .filter(|_| node.serve_dht || node.has_bootstrap())
    else {
        events
            .warn("no daemon runs on this data directory, so nobody can fetch this file yet; start `casnode daemon`")
            .await;
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
    if let Err(error) = publish::schedule_chunks(&dht, &imported.manifest).await {
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
    let announced = match publish::announce(&dht, &imported.manifest, name).await {
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
        events
            .warn("nobody can fetch this file when this command has ended; start `casnode daemon`")
            .await;
    }
    announced
}
