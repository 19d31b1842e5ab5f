//! A file's bytes from the daemon: they come over one connection, and what is told of the call over another.

use std::{io, path::Path, time::Duration};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    CallError, events,
    exchange::{self, Answer},
};
use crate::api::{ApiError, Event, Outcome, Request, Response, socket};

/// When the last byte is there, or the bytes have broken off, the outcome is known within this time.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(10);

/// The same of a request that was refused.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);

/// How the bytes ended.
enum End {
    /// Every one is there.
    Whole,
    /// They broke off.
    Broken(io::Error),
    /// There are none.
    Refused(ApiError),
}

/// Fetches a file into a stream.
pub(super) async fn call(
    data_dir: &Path,
    request: Request,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let name = format!("get-{:032x}", rand::random::<u128>());
    let content = fetch(data_dir, &request, &name, output);
    let outcome = follow(data_dir, &name, on_event);
    tokio::pin!(content, outcome);
    let (end, outcome) = tokio::select! {
        end = &mut content => {
            let end = end?;
            // A request that was refused as such has begun no call that could be followed.
            let patience = match end {
                End::Refused(_) => REFUSED_PATIENCE,
                _ => OUTCOME_PATIENCE,
            };
            let told = tokio::time::timeout(patience, outcome).await;
            (end, told.unwrap_or(Err(CallError::Stuck)))
        }
        told = &mut outcome => match told {
            Ok(Err(error)) => return Ok(Err(error)),
            told => (content.await?, told),
        },
    };
    match (end, outcome) {
        // A directory has no bytes, and that is no error of the call.
        (End::Refused(_), Ok(Ok(response @ Response::Directory(_)))) => Ok(Ok(response)),
        (End::Refused(error), _) | (_, Ok(Err(error))) => Ok(Err(error)),
        (End::Broken(error), _) => Err(CallError::Connection(error)),
        (End::Whole, outcome) => outcome,
    }
}

/// The bytes.
async fn fetch(
    data_dir: &Path,
    request: &Request,
    name: &str,
    mut output: Box<dyn AsyncWrite + Send + Unpin>,
) -> Result<End, CallError> {
    let asked = exchange::ask_for_bytes(request, name)?;
    let stream = socket::connect(data_dir).await?;
    exchange::over(stream, asked, async |answer| match answer {
        Answer::Refused(error) => Ok(End::Refused(error)),
        Answer::Body(body) => copy(body, &mut output).await,
    })
    .await
}

async fn copy(
    mut body: Incoming,
    output: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<End, CallError> {
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Ok(End::Broken(io::Error::other(error))),
        };
        if let Ok(bytes) = frame.into_data() {
            output.write_all(&bytes).await.map_err(CallError::Output)?;
        }
    }
    output.flush().await.map_err(CallError::Output)?;
    Ok(End::Whole)
}

/// What is told.
async fn follow(
    data_dir: &Path,
    name: &str,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let asked = exchange::ask_to_follow(name)?;
    let stream = socket::connect(data_dir).await?;
    exchange::over(stream, asked, async |answer| match answer {
        Answer::Refused(error) => Ok(Err(error)),
        Answer::Body(body) => events::read(body, on_event).await,
    })
    .await
}
