//! What a caller hears when its own streams fail, when the daemon goes, and of long lists.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::ReadBuf;

use super::*;
use crate::api::{ChunkerName, FileInfo, Source, server::send_outcome};

/// A stream that fails, always in the same way.
struct Failing(io::ErrorKind);

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.0.into()))
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The error of a call whose streams these are; the daemon's end stays open until it is known.
async fn failure(request: Request, streams: Streams, says: &[(FrameKind, &[u8])]) -> ApiError {
    let (here, mut there) = UnixStream::pair().unwrap();
    for (kind, body) in says {
        write_frame(&mut there, *kind, body).await.unwrap();
    }
    let ended = call_over(here, request, streams, &mut |_| {}).await;
    drop(there);
    ended.unwrap_err().into()
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_not_the_daemons_fault() {
    for (why, kind) in [
        (io::ErrorKind::StorageFull, ErrorKind::NoSpace),
        (io::ErrorKind::BrokenPipe, ErrorKind::Failure),
    ] {
        let streams = Streams {
            input: None,
            output: Some(Box::new(Failing(why))),
        };
        let error = failure(Request::Ls, streams, &[(FrameKind::Data, b"bytes")]).await;
        assert_eq!(error.kind, kind);
        assert!(error.what.contains("standard output"), "{error}");
    }
}

#[tokio::test]
async fn an_input_that_cannot_be_read_is_not_the_daemons_fault() {
    let request = Request::Store {
        source: Source::Stream,
        name: None,
        chunker: ChunkerName::Fixed,
        pinned: true,
        in_place: false,
    };
    let streams = Streams {
        input: Some(Box::new(Failing(io::ErrorKind::IsADirectory))),
        output: None,
    };
    let error = failure(request, streams, &[]).await;
    assert_eq!(error.kind, ErrorKind::Failure);
    assert!(error.what.contains("standard input"), "{error}");
    assert!(error.why.contains("directory"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_told_as_such() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let leave = async {
        read_frame(&mut there).await.unwrap();
        drop(there);
    };
    let mut heard = |_| {};
    let call = call_over(here, Request::Ls, Streams::default(), &mut heard);
    let (ended, ()) = tokio::join!(call, leave);
    let error = ApiError::from(ended.unwrap_err());
    assert!(error.what.contains("daemon went away"), "{error}");
}

#[tokio::test]
async fn a_list_of_any_length_arrives_whole_and_in_order() {
    let file = |i: u64| FileInfo {
        address: format!("{i:064x}"),
        name: Some("\u{1}".repeat(255)), // no character is longer as JSON
        bytes: i,
        chunks: 1,
        state: "complete".to_owned(),
        pinned: true,
        stored_unix_ms: i,
        last_used_unix_ms: i,
        in_place: Some("\u{1}".repeat(4096)),
        source_state: Some("intact".to_owned()),
        directory: None,
    };
    for count in [0, 1, 512, 513, 2_000] {
        let files: Vec<FileInfo> = (0..count).map(file).collect();
        let (here, mut there) = UnixStream::pair().unwrap();
        let sent = Response::Ls {
            files: files.clone(),
        };
        let answer = async {
            let _hello = read_frame(&mut there).await.unwrap();
            send_outcome(&mut there, Ok(sent)).await.unwrap();
        };
        let mut heard = |_| {};
        let call = call_over(here, Request::Ls, Streams::default(), &mut heard);
        let (outcome, ()) = tokio::join!(call, answer);
        let Ok(Response::Ls { files: listed }) = outcome.unwrap() else {
            panic!("not a list")
        };
        assert!(listed == files, "{count} files became {}", listed.len());
    }
}
