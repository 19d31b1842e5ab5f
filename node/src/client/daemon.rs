//! One call to a daemon behind its socket, over HTTP.
//!
//! Three things can fail: the connection, and the byte streams at this end. Each is told as what it is.

mod download;
mod events;
mod exchange;

use std::{io, path::Path, time::Duration};

use tokio::{io::AsyncRead, net::UnixStream};

use self::exchange::{Answer, Input};
use super::Streams;
use crate::{
    api::{ApiError, ErrorKind, Event, Outcome, Output, Request, Source, TreeOutput, socket},
    errors,
};

/// Why a call has no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the connection to the daemon broke")]
    Connection(#[from] io::Error),
    #[error("the connection to the daemon broke in the middle of a get")]
    GetCutOff(#[source] io::Error),
    #[error("the daemon does not answer")]
    Stuck,
    #[error("the input could not be read")]
    Input(#[source] io::Error),
    #[error("the output could not be written")]
    Output(#[source] io::Error),
}

impl From<hyper::Error> for CallError {
    fn from(error: hyper::Error) -> Self {
        Self::Connection(io::Error::other(error))
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Connection(error) => Self::new(
                ErrorKind::Failure,
                "the daemon went away in the middle of the command",
                error.to_string(),
                "look at the daemon's log, start it again with this version of casnode, and repeat the command: what was fetched is kept",
            ),
            CallError::GetCutOff(error) => Self::new(
                ErrorKind::Partial,
                "the daemon went away in the middle of the get",
                error.to_string(),
                "start it again and repeat the command: it goes on from what was kept",
            ),
            CallError::Stuck => Self::new(
                ErrorKind::Busy,
                "the daemon does not answer",
                format!("it said nothing for {} s", SHORT_ANSWER.as_secs()),
                "look at its log; if it hangs, end it and start it again: nothing stored is lost",
            ),
            CallError::Input(error) => Self::new(
                ErrorKind::Failure,
                "standard input could not be read",
                error.to_string(),
                "look at what feeds it, and run the command again: nothing was stored",
            ),
            CallError::Output(error) => errors::stream(&error),
        }
    }
}

/// A daemon that says nothing to a question that needs no work for this long is stuck.
const SHORT_ANSWER: Duration = Duration::from_secs(15);

/// Makes one call to the daemon of a data directory.
pub(super) async fn call(
    data_dir: &Path,
    request: Request,
    streams: Streams,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let short = match &request {
        Request::Ls
        | Request::LsAll
        | Request::Stat { .. }
        | Request::PinLs
        | Request::ProvideStatus { address: None }
        | Request::DhtMode { .. }
        | Request::Limits { .. }
        | Request::SwarmStatus { .. }
        | Request::Metrics
        | Request::Status
        | Request::Peers => Some(SHORT_ANSWER),
        _ => None,
    };
    let resumable = matches!(
        request,
        Request::Get { .. } | Request::GetMany { .. } | Request::GetTree { .. }
    );
    let call = async {
        match (&request, streams.output) {
            (
                Request::Get {
                    output: Output::Stream,
                    ..
                }
                | Request::GetTree {
                    output: TreeOutput::Stream,
                    ..
                }
                | Request::Cat { .. },
                Some(output),
            ) => download::call(data_dir, request, output, on_event).await,
            _ => {
                let stream = socket::connect(data_dir).await?;
                call_over(stream, request, streams.input, on_event).await
            }
        }
    };
    let outcome = match short {
        None => call.await,
        Some(limit) => tokio::time::timeout(limit, call)
            .await
            .unwrap_or(Err(CallError::Stuck)),
    };
    match outcome {
        Err(CallError::Connection(error)) if resumable => Err(CallError::GetCutOff(error)),
        outcome => outcome,
    }
}

/// Makes one call over a connection to a daemon.
pub(crate) async fn call_over(
    stream: UnixStream,
    request: Request,
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let input = match &request {
        Request::Store {
            source: Source::Stream,
            ..
        } => Some(Input::new(
            input.unwrap_or_else(|| Box::new(tokio::io::empty())),
        )),
        _ => None,
    };
    let failed = input.as_ref().map(Input::failure);
    let asked = exchange::ask_for_events(&request, input)?;
    let outcome = exchange::over(stream, asked, async |answer| match answer {
        Answer::Refused(error) => Ok(Err(error)),
        Answer::Body(body) => events::read(body, on_event).await,
    });
    let outcome = outcome.await;
    // Input that breaks off breaks everything: that is what is told.
    match failed.and_then(|failed| failed.take()) {
        Some(error) => Err(CallError::Input(error)),
        None => outcome,
    }
}

#[cfg(test)]
mod tests;
