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

/// A piece of an upload; `None` is its end.
type PieceIn = io::Result<Option<Bytes>>;

/// A reader of a body. A task reads the body, and goes on for a while when nobody wants it any more.
pub(super) fn input(tasks: &Tasks, body: BodyDataStream) -> InputPieces {
    let (sender, pieces) = mpsc::channel(PIECES);
    tasks.spawn("read content", read_body(body, sender));
    InputPieces {
        pieces,
        piece: Bytes::new(),
        has_ended: false,
    }
}

async fn read_body(mut body: BodyDataStream, sender: mpsc::Sender<PieceIn>) -> io::Result<()> {
    while let Some(piece) = body.next().await {
        let piece = piece.map(Some).map_err(io::Error::other);
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
