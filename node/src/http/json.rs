//! JSON of any length as a stream of pieces: a list of a million files never is one string in memory.

use std::{io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::tasks::Tasks;

/// Length of a piece.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that wait for whoever reads them.
const PIECES: usize = 2;

/// Writes `before`, the value and `after` on a blocking thread, in pieces. The thread ends when nobody reads any more.
pub(super) fn pieces<T: Serialize + Send + Sync + 'static>(
    tasks: &Tasks,
    before: &'static str,
    value: Arc<T>,
    after: &'static str,
) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tasks.spawn_blocking("write json", move || {
        let mut pieces = Pieces {
            sender,
            piece: BytesMut::with_capacity(PIECE_BYTES),
        };
        let written = pieces
            .put(before.as_bytes())
            .and_then(|()| Ok(serde_json::to_writer(&mut pieces, &*value)?))
            .and_then(|()| pieces.put(after.as_bytes()))
            .and_then(|()| pieces.send());
        if let Err(error) = written {
            tracing::debug!(%error, "an answer was not read to its end");
        }
    });
    receiver
}

struct Pieces {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl Pieces {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.put_slice(bytes);
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        let sent = self.sender.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a value is as JSON; `None`: longer than `most` bytes.
pub(super) fn length_within<T: Serialize>(value: &T, most: usize) -> Option<usize> {
    struct Count {
        bytes: usize,
        most: usize,
    }
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes += bytes.len();
            if self.bytes > self.most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count { bytes: 0, most };
    serde_json::to_writer(&mut count, value).ok()?;
    Some(count.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_value_comes_in_pieces_and_whole() {
        let tasks = Tasks::new();
        let value: Vec<u64> = (0..100_000).collect();
        let mut pieces = pieces(&tasks, "<", Arc::new(value.clone()), ">");
        let (mut whole, mut count) = (Vec::new(), 0);
        while let Some(piece) = pieces.recv().await {
            assert!(piece.len() < 2 * PIECE_BYTES, "{}", piece.len());
            whole.extend_from_slice(&piece);
            count += 1;
        }
        assert!(count > 5, "{count}");
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(whole, format!("<{json}>").into_bytes());
        assert_eq!(length_within(&value, json.len()), Some(json.len()));
        assert_eq!(length_within(&value, json.len() - 1), None);
    }

    #[tokio::test]
    async fn the_writer_ends_when_nobody_reads() {
        let tasks = Tasks::new();
        let value: Vec<u64> = (0..1_000_000).collect();
        drop(pieces(&tasks, "", Arc::new(value), ""));
        tasks.finish().await;
    }
}
