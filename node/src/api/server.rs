//! The daemon's end of the socket.

use std::{io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{
    API_VERSION, ApiError, ErrorKind, Event, FetchedFile, FileInfo, FileUsage, Outcome, Request,
    Response,
    events::EventSink,
    frame::{DATA_FRAME_BYTES, FrameKind, parse, read_frame, write_frame, write_message},
};
use crate::{client::Streams, node::Node, tasks::Tasks};

/// Callers at a time. Each may hold a few buffers of [`DATA_FRAME_BYTES`].
const MAX_CALLERS: usize = 64;

/// A caller that connects says what it wants within this time.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// After a caller could not be accepted (too many open files, mostly), the next one is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Files of a list in one frame. Of each the name takes 255 bytes and the path 4096 at most, six times that as JSON at
/// worst. So a part is below 14 MiB, and fits a frame.
const LIST_PART_FILES: usize = 512;

/// The same of [`FetchedFile`]s: each may name its path three times.
const FETCHED_PART_FILES: usize = 128;

/// What the daemon takes over from the process that calls it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Caller {
    /// Its umask: outputs get the permissions that it would have given them. `None`: the daemon's own.
    pub(crate) umask: Option<u32>,
}

impl Caller {
    /// This process.
    pub(crate) fn this() -> Self {
        Self {
            umask: Some(casnode_cas::own_umask()),
        }
    }
}

/// The first message of a caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) api_version: u32,
    #[serde(default)]
    pub(crate) caller: Caller,
    pub(crate) request: Request,
}

/// What the daemon sends besides data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerMessage {
    Event(Event),
    /// A part of a list that is too long for one frame; the outcome's own list is the last one, and empty.
    Files(Vec<FileInfo>),
    /// The same of what files occupy.
    Usage(Vec<FileUsage>),
    /// The same of what became of files.
    Fetched(Vec<FetchedFile>),
    Outcome(Box<Outcome>),
}

/// Where callers come from.
pub(crate) trait Accept: Send {
    fn accept(&mut self) -> impl Future<Output = io::Result<UnixStream>> + Send;
}

impl Accept for UnixListener {
    async fn accept(&mut self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

/// Serves callers until cancelled. A caller that cannot be accepted is no reason to refuse the next one.
pub(crate) async fn serve(
    mut listener: impl Accept,
    node: Arc<Node>,
    tasks: Tasks,
) -> io::Result<()> {
    let callers = Arc::new(Semaphore::new(MAX_CALLERS));
    loop {
        let Ok(permit) = callers.clone().acquire_owned().await else {
            return Ok(());
        };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a caller could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
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
        Err(error) => {
            return write_message(&mut writer, &ServerMessage::Outcome(Box::new(Err(error)))).await;
        }
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
    let call = node.execute(hello.request, hello.caller, streams, events, cancel.clone());
    let outward = forward(&mut writer, drain, queue);
    let inward = read_input(reader, feed, cancel.clone());
    tokio::select! {
        (outcome, sent) = async { tokio::join!(call, outward) } => {
            sent?;
            send_outcome(&mut writer, outcome).await?;
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

/// Sends the end of a call, a long list in parts before it.
pub(crate) async fn send_outcome(
    writer: &mut (impl AsyncWrite + Unpin),
    mut outcome: Outcome,
) -> io::Result<()> {
    match &mut outcome {
        Ok(Response::Ls { files }) => {
            send_parts(writer, files, LIST_PART_FILES, ServerMessage::Files).await?;
        }
        Ok(Response::Du { files }) => {
            send_parts(writer, files, LIST_PART_FILES, ServerMessage::Usage).await?;
        }
        Ok(Response::GetMany(report)) => {
            let files = &mut report.files;
            send_parts(writer, files, FETCHED_PART_FILES, ServerMessage::Fetched).await?;
        }
        _ => {}
    }
    write_message(writer, &ServerMessage::Outcome(Box::new(outcome))).await
}

/// Empties a list that is too long for one frame.
async fn send_parts<T: Clone>(
    writer: &mut (impl AsyncWrite + Unpin),
    list: &mut Vec<T>,
    part_files: usize,
    message: fn(Vec<T>) -> ServerMessage,
) -> io::Result<()> {
    if list.len() > part_files {
        for part in std::mem::take(list).chunks(part_files) {
            write_message(writer, &message(part.to_vec())).await?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeConfig;

    /// Fails twice, as a process without free descriptors does, and then has a caller.
    struct Exhausted {
        failures: u32,
        caller: Option<UnixStream>,
    }

    impl Accept for Exhausted {
        async fn accept(&mut self) -> io::Result<UnixStream> {
            if self.failures > 0 {
                self.failures -= 1;
                let error = rustix::io::Errno::MFILE;
                return Err(error.into());
            }
            match self.caller.take() {
                Some(caller) => Ok(caller),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn callers_are_served_after_some_that_could_not_be_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            network: None,
            serve_dht: false,
            ..NodeConfig::default()
        };
        let node = Node::start(config).await.unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        let listener = Exhausted {
            failures: 2,
            caller: Some(there),
        };
        let api = node.tasks.child();
        api.spawn("api", serve(listener, node.clone(), api.clone()));
        let hello = Hello {
            api_version: API_VERSION,
            caller: Caller::default(),
            request: Request::Ls,
        };
        write_message(&mut here, &hello).await.unwrap();
        let (_, body) = read_frame(&mut here)
            .await
            .unwrap()
            .expect("the API has ended");
        let ServerMessage::Outcome(outcome) = parse(&body).unwrap() else {
            panic!("not an outcome")
        };
        assert_eq!(*outcome, Ok(Response::Ls { files: Vec::new() }));
        node.shutdown().await;
    }
}
