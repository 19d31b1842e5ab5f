//! A download, on its way to the caller.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{io::AsyncWrite, sync::mpsc};
use tokio_util::sync::PollSender;

/// Largest piece, and how many of them wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 2;

/// A writer whose bytes arrive in pieces.
pub(super) fn output() -> (OutputPieces, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (OutputPieces(PollSender::new(sender)), receiver)
}

pub(super) struct OutputPieces(PollSender<Bytes>);

impl AsyncWrite for OutputPieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.0.poll_reserve(cx)).map_err(gone)?;
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        let sent = self.0.send_item(Bytes::copy_from_slice(piece));
        sent.map_err(gone)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_in_pieces() {
        let (mut output, mut pieces) = output();
        let bytes: Vec<u8> = (0..=255).cycle().take(PIECE_BYTES + 7).collect();
        let write = async {
            output.write_all(&bytes).await.unwrap();
            output.shutdown().await.unwrap();
            drop(output);
        };
        let read = async {
            let mut arrived = Vec::new();
            while let Some(piece) = pieces.recv().await {
                assert!(piece.len() <= PIECE_BYTES);
                arrived.extend_from_slice(&piece);
            }
            arrived
        };
        let ((), arrived) = tokio::join!(write, read);
        assert_eq!(arrived, bytes);
    }

    #[tokio::test]
    async fn a_writer_hears_that_nobody_reads() {
        let (mut output, pieces) = output();
        drop(pieces);
        let error = output.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
