//! The daemon's end of the socket.

use std::{io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{
    API_VERSION, ApiError, ErrorKind, Event, Outcome, Request,
    events::EventSink,
    frame::{DATA_FRAME_BYTES, FrameKind, parse, read_frame, write_frame, write_message},
};
use crate::{client::Streams, node::Node, tasks::Tasks};

/// Callers at a time. Each may hold a few buffers of [`DATA_FRAME_BYTES`].
const MAX_CALLERS: usize = 64;

/// A caller that connects says what it wants within this time.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// The first message of a caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) api_version: u32,
    pub(crate) request: Request,
}

/// What the daemon sends besides data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerMessage {
    Event(Event),
    Outcome(Outcome),
}

/// Serves callers until cancelled.
pub(crate) async fn serve(listener: UnixListener, node: Arc<Node>, tasks: Tasks) -> io::Result<()> {
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    loop {
        let Ok(permit) = callers.clone().acquire_owned().await else {
            return Ok(());
        };
        let (stream, _) = listener.accept().await?;
        let node = node.clone();
        tasks.spawn("api caller", async move {
            let _permit = permit;
            serve_caller(stream, node).await
        });
    }
}

async fn serve_caller(stream: UnixStream, node: Arc<Node>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let hello = tokio::time::timeout(HELLO_DEADLINE, read_frame(&mut reader)).await??;
    let Some((FrameKind::Message, body)) = hello else {
        return Ok(());
    };
    let hello: Hello = match check_hello(&body) {
        Ok(hello) => hello,
        Err(error) => return write_message(&mut writer, &ServerMessage::Outcome(Err(error))).await,
    };
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let (input, feed) = tokio::io::duplex(DATA_FRAME_BYTES);
    let (drain, output) = tokio::io::duplex(DATA_FRAME_BYTES);
    let (events, queue) = EventSink::new();
    let streams = Streams {
        input: Some(Box::new(input)),
        output: Some(Box::new(output)),
    };
    let call = node.execute(hello.request, streams, events, cancel.clone());
    let outward = forward(&mut writer, drain, queue);
    let inward = read_input(reader, feed, cancel.clone());
    tokio::select! {
        (outcome, sent) = async { tokio::join!(call, outward) } => {
            sent?;
            write_message(&mut writer, &ServerMessage::Outcome(outcome)).await?;
            writer.shutdown().await
        }
        // The caller is gone: the call is dropped with what it has kept.
        () = inward => Ok(()),
    }
}

fn check_hello(body: &[u8]) -> Result<Hello, ApiError> {
    #[derive(Deserialize)]
    struct Version {
        api_version: u32,
    }
    let refused = |why: String| {
        ApiError::new(
            ErrorKind::Usage,
            "the daemon did not understand the command",
            why,
            "run the same version of casnode as the daemon, or restart the daemon",
        )
    };
    let Version { api_version } = parse(body).map_err(|e| refused(e.to_string()))?;
    if api_version != API_VERSION {
        return Err(refused(format!(
            "it speaks API version {API_VERSION}, the command {api_version}"
        )));
    }
    parse(body).map_err(|e| refused(e.to_string()))
}

/// Copies data frames to the call until the caller closes.
async fn read_input(mut reader: OwnedReadHalf, feed: DuplexStream, cancel: CancellationToken) {
    let mut feed = Some(feed);
    loop {
        match read_frame(&mut reader).await {
            Ok(Some((FrameKind::Data, body))) => {
                if let Some(f) = &mut feed
                    && f.write_all(&body).await.is_err()
                {
                    feed = None;
                }
            }
            Ok(Some((FrameKind::End, _))) => feed = None,
            Ok(Some((FrameKind::Message, _)) | None) | Err(_) => break,
        }
    }
    cancel.cancel();
}

/// Sends events and output data until the call has dropped both.
async fn forward(
    writer: &mut OwnedWriteHalf,
    mut drain: DuplexStream,
    mut queue: tokio::sync::mpsc::Receiver<Event>,
) -> io::Result<()> {
    let mut buffer = vec![0u8; DATA_FRAME_BYTES];
    let (mut events_open, mut data_open) = (true, true);
    while events_open || data_open {
        tokio::select! {
            event = queue.recv(), if events_open => match event {
                Some(event) => write_message(writer, &ServerMessage::Event(event)).await?,
                None => events_open = false,
            },
            read = drain.read(&mut buffer), if data_open => match read? {
                0 => data_open = false,
                n => write_frame(writer, FrameKind::Data, &buffer[..n]).await?,
            },
        }
    }
    Ok(())
}
