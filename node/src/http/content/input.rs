//! An upload, on its way to be stored.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::BodyDataStream;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
};

use crate::tasks::Tasks;

/// Pieces that wait.
const PIECES: usize = 4;

/// An upload of which nothing is wanted any more is read for so long, so that its sender gets to read why.
const LINGER: Duration = Duration::from_secs(5);

/// How long an upload over TCP may say nothing while it is waited for. On the socket there is no limit: what feeds a
/// command may take its time, and whoever may call there owns the node.
pub(super) const SILENCE: Duration = Duration::from_secs(120);

/// A piece of an upload; `None` is its end.
type PieceIn = io::Result<Option<Bytes>>;

/// A reader of a body, which fails after so long a `silence`. A task reads the body, and goes on for a while when nobody
/// wants it any more.
pub(super) fn input(tasks: &Tasks, body: BodyDataStream, silence: Option<Duration>) -> InputPieces {
    let (sender, pieces) = mpsc::channel(PIECES);
    tasks.spawn("read content", read_body(body, sender, silence));
    InputPieces {
        pieces,
        piece: Bytes::new(),
        has_ended: false,
    }
}

async fn read_body(
    mut body: BodyDataStream,
    sender: mpsc::Sender<PieceIn>,
    silence: Option<Duration>,
) -> io::Result<()> {
    while let Some(piece) = next(&mut body, silence).await {
        let piece = piece.map(Some);
        let is_broken = piece.is_err();
        if sender.send(piece).await.is_err() {
            let rest = async { while let Some(Ok(_)) = body.next().await {} };
            let _ = tokio::time::timeout(LINGER, rest).await;
            return Ok(());
        }
        if is_broken {
            return Ok(());
        }
    }
    let _ = sender.send(Ok(None)).await; // whoever left does not want to know
    Ok(())
}

/// The next piece of a body; an error when there is none for too long.
async fn next(body: &mut BodyDataStream, silence: Option<Duration>) -> Option<io::Result<Bytes>> {
    let piece = match silence {
        None => body.next().await,
        Some(limit) => match tokio::time::timeout(limit, body.next()).await {
            Ok(piece) => piece,
            Err(_) => {
                let why = format!("nothing came for {} s", limit.as_secs());
                return Some(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
        },
    };
    piece.map(|piece| piece.map_err(io::Error::other))
}

/// The other end of an upload. That its task is gone is no end of it.
pub(super) struct InputPieces {
    pieces: mpsc::Receiver<PieceIn>,
    piece: Bytes,
    has_ended: bool,
}

impl AsyncRead for InputPieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() && !self.has_ended {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.has_ended = true,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        let length = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece[..length]);
        self.piece.advance(length);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn reader(pieces: Vec<PieceIn>) -> InputPieces {
        let (sender, receiver) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        InputPieces {
            pieces: receiver,
            piece: Bytes::new(),
            has_ended: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_says_nothing_for_too_long_is_given_up_and_a_slow_one_is_not() {
        let piece = |pause: Duration| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, io::Error>(Bytes::from_static(b"x"))
        };
        let body = |pauses: [Duration; 2]| {
            let pieces = futures::stream::iter(pauses).then(piece);
            axum::body::Body::from_stream(pieces).into_data_stream()
        };
        let tasks = Tasks::new();
        let (slow, silent) = (SILENCE / 2, SILENCE * 2);
        let mut whole = Vec::new();
        let mut read = input(&tasks, body([slow, slow]), Some(SILENCE));
        read.read_to_end(&mut whole).await.unwrap();
        assert_eq!(whole, b"xx");
        let mut read = input(&tasks, body([silent, silent]), None);
        read.read_to_end(&mut whole).await.unwrap();
        let mut read = input(&tasks, body([slow, silent]), Some(SILENCE));
        let error = read.read_to_end(&mut whole).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_upload_ends_where_its_sender_said_so_and_nowhere_else() {
        let piece = |text: &'static str| Ok(Some(Bytes::from_static(text.as_bytes())));
        let mut whole = Vec::new();
        let mut input = reader(vec![piece("ab"), piece(""), piece("c"), Ok(None)]);
        input.read_to_end(&mut whole).await.unwrap();
        assert_eq!(whole, b"abc");
        assert_eq!(input.read(&mut [0]).await.unwrap(), 0, "an end stays one");
        let broken = Err(io::ErrorKind::ConnectionReset.into());
        for pieces in [vec![piece("ab")], vec![], vec![piece("ab"), broken]] {
            let mut input = reader(pieces);
            input.read_to_end(&mut Vec::new()).await.unwrap_err();
        }
    }
}
