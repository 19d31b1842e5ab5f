//! What a caller hears when its own streams fail, when the daemon goes, and of long lists.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::*;
use crate::api::{ChunkerName, FileInfo, Response};

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

/// Reads the head of a request.
async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A daemon that answers the first request with these events, whatever it is, and stays.
async fn answer(mut there: UnixStream, events: &[u8]) -> UnixStream {
    read_head(&mut there).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    there.write_all(head.as_bytes()).await.unwrap();
    there.write_all(events).await.unwrap();
    there
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_not_the_daemons_fault() {
    for (why, kind) in [
        (io::ErrorKind::StorageFull, ErrorKind::NoSpace),
        (io::ErrorKind::BrokenPipe, ErrorKind::Failure),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let listener = socket::bind(dir.path()).unwrap();
        let request = Request::Get {
            address: "ab".repeat(32),
            output: Output::Stream,
            timeout_ms: None,
            peers: Vec::new(),
            keep: crate::api::Keep::Auto,
            pin: false,
            seed: None,
            swarm: None,
        };
        let streams = Streams {
            input: None,
            output: Some(Box::new(Failing(why))),
        };
        let daemon = async {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if read_head(&mut stream).await.starts_with("POST /v1/get ") {
                    let body = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbytes";
                    stream.write_all(body.as_bytes()).await.unwrap();
                }
                kept.push(stream);
            }
        };
        let mut heard = |_| {};
        let error = tokio::select! {
            outcome = call(dir.path(), request, streams, &mut heard) => ApiError::from(outcome.unwrap_err()),
            () = daemon => unreachable!(),
        };
        assert_eq!(error.kind, kind);
        assert!(error.what.contains("the output stream"), "{error}");
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
    let input = Box::new(Failing(io::ErrorKind::IsADirectory));
    let (here, there) = UnixStream::pair().unwrap();
    let ended = call_over(here, request, Some(input), &mut |_| {}).await;
    drop(there);
    let error = ApiError::from(ended.unwrap_err());
    assert_eq!(error.kind, ErrorKind::Failure);
    assert!(error.what.contains("standard input"), "{error}");
    assert!(error.why.contains("directory"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_told_as_such() {
    for events in [&b""[..], b":\n\nevent: result\nda"] {
        let (here, there) = UnixStream::pair().unwrap();
        let leave = async { drop(answer(there, events).await) };
        let mut heard = |_| {};
        let call = call_over(here, Request::Ls, None, &mut heard);
        let (ended, ()) = tokio::join!(call, leave);
        let error = ApiError::from(ended.unwrap_err());
        assert!(error.what.contains("daemon went away"), "{error}");
    }
}

#[tokio::test]
async fn what_speaks_another_language_is_no_daemon_of_this_version() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let other = async {
        read_head(&mut there).await;
        there.write_all(&[0; 64]).await.unwrap();
    };
    let mut heard = |_| {};
    let call = call_over(here, Request::Ls, None, &mut heard);
    let (ended, ()) = tokio::join!(call, other);
    let error = ApiError::from(ended.unwrap_err());
    assert!(error.next.contains("version"), "{error:?}");
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
        in_place: Some("\n".repeat(4096)),
        source_state: Some("intact".to_owned()),
        directory: None,
    };
    for count in [0, 1, 2_000] {
        let files: Vec<FileInfo> = (0..count).map(file).collect();
        let sent = Response::Ls {
            files: files.clone(),
        };
        let event = format!(
            "event: result\ndata: {}\n\n",
            serde_json::to_string(&sent).unwrap()
        );
        let (here, there) = UnixStream::pair().unwrap();
        let mut heard = |_| {};
        let call = call_over(here, Request::Ls, None, &mut heard);
        let (outcome, _there) = tokio::join!(call, answer(there, event.as_bytes()));
        let Ok(Response::Ls { files: listed }) = outcome.unwrap() else {
            panic!("not a list")
        };
        assert!(listed == files, "{count} files became {}", listed.len());
    }
}
