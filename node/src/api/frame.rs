//! Frames of the local socket: `length u32 LE | kind u8 | body`; the length counts kind and body.

use std::io;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame: holds any message (a long list goes in parts), and bounds what a caller can make the daemon allocate.
pub(crate) const MAX_FRAME_BYTES: usize = 16 << 20;

/// Largest data frame that is sent.
pub(crate) const DATA_FRAME_BYTES: usize = 256 << 10;

/// What a frame's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A JSON message.
    Message,
    /// Bytes of the accompanying stream.
    Data,
    /// The accompanying stream has ended; the body is empty.
    End,
}

impl FrameKind {
    fn byte(self) -> u8 {
        match self {
            Self::Message => 0,
            Self::Data => 1,
            Self::End => 2,
        }
    }

    fn from_byte(byte: u8) -> io::Result<Self> {
        match byte {
            0 => Ok(Self::Message),
            1 => Ok(Self::Data),
            2 => Ok(Self::End),
            other => Err(invalid(format!("frame kind {other} is unknown"))),
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes one frame.
pub(crate) async fn write_frame(
    out: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len() + 1;
    if length > MAX_FRAME_BYTES {
        return Err(invalid(format!(
            "a message of {length} bytes is over the limit of {MAX_FRAME_BYTES}"
        )));
    }
    let length = u32::try_from(length).map_err(|e| invalid(e.to_string()))?;
    let mut head = [0u8; 5];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4] = kind.byte();
    out.write_all(&head).await?;
    out.write_all(body).await?;
    out.flush().await
}

/// Writes a JSON message.
pub(crate) async fn write_message(
    out: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    write_frame(out, FrameKind::Message, &serde_json::to_vec(message)?).await
}

/// Reads one frame; `None` when the other side has closed. Cancel-unsafe: a read that is dropped loses its place.
pub(crate) async fn read_frame(
    input: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(FrameKind, Bytes)>> {
    let mut length = [0u8; 4];
    match input.read_exact(&mut length).await {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(invalid(format!(
            "a frame of {length} bytes is outside 1..={MAX_FRAME_BYTES}"
        )));
    }
    let mut body = vec![0u8; length];
    input.read_exact(&mut body).await?;
    let kind = FrameKind::from_byte(body[0])?;
    Ok(Some((kind, Bytes::from(body).slice(1..))))
}

/// Reads a JSON message body.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body)
        .map_err(|e| invalid(format!("a message is not what was expected: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_as_sent() {
        let (mut a, mut b) = tokio::io::duplex(64);
        let writer = async {
            write_message(&mut a, &"hello").await.unwrap();
            write_frame(&mut a, FrameKind::Data, &[7; 300])
                .await
                .unwrap();
            write_frame(&mut a, FrameKind::End, &[]).await.unwrap();
            drop(a);
        };
        let reader = async {
            let (kind, body) = read_frame(&mut b).await.unwrap().unwrap();
            assert_eq!(
                (kind, parse::<String>(&body).unwrap().as_str()),
                (FrameKind::Message, "hello")
            );
            let (kind, body) = read_frame(&mut b).await.unwrap().unwrap();
            assert_eq!((kind, body.len()), (FrameKind::Data, 300));
            assert_eq!(read_frame(&mut b).await.unwrap().unwrap().0, FrameKind::End);
            assert!(read_frame(&mut b).await.unwrap().is_none());
        };
        tokio::join!(writer, reader);
    }

    #[tokio::test]
    async fn hostile_lengths_and_kinds_are_refused() {
        for bytes in [&[0u8, 0, 0, 0][..], &[255, 255, 255, 255], &[1, 0, 0, 0, 9]] {
            assert!(read_frame(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
    }
}
