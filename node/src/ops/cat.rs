//! `cat`: a range of a file, to a stream.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use casnode_cas::{Address, Listing};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, CatReport, ErrorKind, Phase, Progress, events::EventSink},
    client::Streams,
    clock, errors,
    node::{Node, multiaddrs},
    read::{OpenFile, RangeReader, ReadOptions},
    tree::listing::Wanted,
};

/// The fields of [`crate::api::Request::Cat`].
pub(super) struct CatCall {
    pub(super) address: String,
    pub(super) path: String,
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) peers: Vec<String>,
}

pub(super) async fn cat(
    node: &Arc<Node>,
    call: CatCall,
    streams: Streams,
    events: &EventSink,
    cancel: CancellationToken,
) -> Result<CatReport, ApiError> {
    let link = super::parse_link(&call.address)?;
    let mut hints = multiaddrs("--peer", &call.peers)?;
    hints.extend(link.peers().cloned());
    let begun = clock::now();
    let deadline = call.timeout_ms.map(|ms| begun + Duration::from_millis(ms));
    let (address, told_bytes) = match call.path.as_str() {
        "" => (link.address(), link.size_bytes()),
        path => {
            let wanted = Wanted {
                address: link.address(),
                deadline,
                hints: &hints,
                size_bytes: link.size_bytes(),
                events,
                cancel: &cancel,
            };
            let file = super::tree::file_at(node, wanted, path).await?;
            (file.address, Some(file.size_bytes))
        }
    };
    // A part of it, or what a directory calls a file, is bytes, whatever they are.
    let is_whole = call.path.is_empty() && (call.offset_bytes, call.length_bytes) == (0, None);
    let options = ReadOptions {
        hints,
        deadline,
        name_patience: Duration::ZERO,
    };
    let reading = async {
        let file = OpenFile::open(node, address, options, events).await?;
        let size_bytes = file.size_bytes();
        if let Some(told_bytes) = told_bytes.filter(|told| *told != size_bytes) {
            return Err(errors::wrong_size(&address, told_bytes, size_bytes));
        }
        let offset_bytes = call.offset_bytes;
        let end = match call.length_bytes {
            Some(length_bytes) => offset_bytes.checked_add(length_bytes),
            None => Some(size_bytes.max(offset_bytes)),
        };
        let Some(end) = end.filter(|end| *end <= size_bytes) else {
            return Err(beyond(&address, size_bytes));
        };
        let mut reader = file.read(offset_bytes..end)?;
        let first = reader.next().await?;
        if is_whole && is_directory(&file, first.as_ref()).await? {
            return Err(errors::no_stream(&address));
        }
        let length_bytes = end - offset_bytes;
        let rest = (first, &mut reader);
        write_out(rest, length_bytes, streams.output, events).await?;
        Ok(CatReport {
            address: address.to_string(),
            offset_bytes,
            bytes: length_bytes,
            size_bytes,
            name: file.name().map(str::to_owned),
            seconds: begun.elapsed().as_secs_f64(),
        })
    };
    tokio::select! {
        report = reading => report,
        () = cancel.cancelled() => Err(interrupted(&address)),
    }
}

/// Whether a file that begins with these bytes is a directory.
async fn is_directory(file: &OpenFile, first: Option<&Bytes>) -> Result<bool, ApiError> {
    let begins_so = first.is_some_and(|bytes| Listing::is_listing(bytes));
    Ok(begins_so && file.listing().await?.is_some())
}

/// Copies what was read, and what is read behind it, to the stream of the call.
async fn write_out(
    (mut next, reader): (Option<Bytes>, &mut RangeReader),
    length_bytes: u64,
    output: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    events: &EventSink,
) -> Result<(), ApiError> {
    let mut output = output.unwrap_or_else(|| Box::new(tokio::io::sink()));
    let mut done_bytes = 0;
    while let Some(bytes) = next {
        output
            .write_all(&bytes)
            .await
            .map_err(|e| errors::stream(&e))?;
        done_bytes += bytes.len() as u64;
        events.progress(Progress {
            phase: Phase::Fetching,
            done_bytes,
            total_bytes: Some(length_bytes),
            sources: 0,
            detail: String::new(),
        });
        next = reader.next().await?;
    }
    output.shutdown().await.map_err(|e| errors::stream(&e))
}

fn beyond(address: &Address, size_bytes: u64) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        format!("nothing of {address} was read"),
        format!("the range ends beyond the file, which has {size_bytes} bytes"),
        "choose a smaller --offset or --length, or leave --length out to read to the end",
    )
}

fn interrupted(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        format!("{address} was not read to the end of the range"),
        "it was interrupted",
        "what was fetched is kept: the same call fetches the rest",
    )
}
