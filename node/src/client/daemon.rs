//! One call to a daemon behind its socket.
//!
//! Three things can fail: the connection, and the byte streams at this end. Each is told as what it is.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::Streams;
use crate::api::{
    API_VERSION, ApiError, ErrorKind, Event, Outcome, Request, Response,
    frame::{DATA_FRAME_BYTES, FrameKind, parse, read_frame, write_frame, write_message},
    server::{Caller, Hello, ServerMessage},
    socket,
};

/// Why a call has no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
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

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Connection(error) => Self::new(
                ErrorKind::Failure,
                "the daemon went away in the middle of the command",
                error.to_string(),
                "look at the daemon's log, start it again, and repeat the command: what was fetched is kept",
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
            CallError::Output(error) if is_no_space(&error) => Self::new(
                ErrorKind::NoSpace,
                "standard output could not be written",
                error.to_string(),
                "free some space where it goes, and run the command again: what was fetched is kept",
            ),
            CallError::Output(error) => Self::new(
                ErrorKind::Failure,
                "standard output could not be written",
                error.to_string(),
                "look at where it goes, and run the command again: what was fetched is kept",
            ),
        }
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
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
        let stream = socket::connect(data_dir).await?;
        call_over(stream, request, streams, on_event).await
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

async fn call_over(
    stream: UnixStream,
    request: Request,
    streams: Streams,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let (reader, mut writer) = stream.into_split();
    let hello = Hello {
        api_version: API_VERSION,
        caller: Caller::this(),
        request,
    };
    write_message(&mut writer, &hello).await?;
    let listen = read_answers(reader, streams.output, on_event);
    tokio::pin!(listen);
    tokio::select! {
        outcome = &mut listen => outcome,
        sent = send_input(&mut writer, streams.input) => {
            // Input that breaks off is never taken for its end: the connection is closed without an `End`.
            sent?;
            listen.await
        }
    }
}

/// Sends the input to its end. A daemon that no longer reads has answered already; its answer counts.
async fn send_input(
    writer: &mut OwnedWriteHalf,
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
) -> Result<(), CallError> {
    let Some(mut input) = input else {
        return Ok(());
    };
    let mut buffer = vec![0u8; DATA_FRAME_BYTES];
    loop {
        let n = input.read(&mut buffer).await.map_err(CallError::Input)?;
        let (kind, body) = if n == 0 {
            (FrameKind::End, &[][..])
        } else {
            (FrameKind::Data, &buffer[..n])
        };
        if let Err(error) = write_frame(writer, kind, body).await {
            tracing::debug!(%error, "the daemon stopped reading");
            return Ok(());
        }
        if n == 0 {
            return Ok(());
        }
    }
}

async fn read_answers(
    mut reader: OwnedReadHalf,
    mut output: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let (mut listed, mut used, mut fetched) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match read_frame(&mut reader).await? {
            None => {
                let closed =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed");
                return Err(closed.into());
            }
            Some((FrameKind::End, _)) => {}
            Some((FrameKind::Data, body)) => {
                if let Some(out) = &mut output {
                    out.write_all(&body).await.map_err(CallError::Output)?;
                }
            }
            Some((FrameKind::Message, body)) => match parse::<ServerMessage>(&body)? {
                ServerMessage::Event(event) => on_event(event),
                ServerMessage::Files(part) => listed.extend(part),
                ServerMessage::Usage(part) => used.extend(part),
                ServerMessage::Fetched(part) => fetched.extend(part),
                ServerMessage::Outcome(mut outcome) => {
                    if let Some(out) = &mut output {
                        out.flush().await.map_err(CallError::Output)?;
                    }
                    match &mut *outcome {
                        Ok(Response::Ls { files }) => files.splice(0..0, listed).for_each(drop),
                        Ok(Response::Du { files }) => files.splice(0..0, used).for_each(drop),
                        Ok(Response::GetMany(report)) => {
                            report.files.splice(0..0, fetched).for_each(drop);
                        }
                        _ => {}
                    }
                    return Ok(*outcome);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
