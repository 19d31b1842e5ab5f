//! Many streams over one TCP connection, by yamux.
//!
//! libp2p's own wrapper does not let its two costly defaults be changed: a connection may make this
//! node buffer a GiB, and data is sent in pieces of 16 KiB, each with two writes and a TLS record.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::io::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use yamux::{Config, Connection, ConnectionError, Mode};

use super::cipher::Cipher;
use super::tls::Cork;

/// What the two sides call it.
pub(super) const MULTIPLEXER: &str = "/yamux/1.0.0";
/// Data is sent in pieces of this size: a chunk of 256 KiB and its header are four. A piece cannot be interrupted: at 10 Mbit/s this one delays
/// a DHT answer behind it by 50 ms.
const PIECE_BYTES: usize = 64 * 1024 + 64;
/// Streams of one connection, both sides' together; how many the other side may have open is up to whoever takes them.
const MAX_STREAMS: usize = 512;
/// What every stream may send before it hears more, as yamux has it.
const LEAST_WINDOW_BYTES: usize = 256 << 10;
/// Streams that wait to be taken. An honest peer opens no more at once than it may have open.
const MAX_WAITING: usize = 32;
/// Streams taken in one go, before other tasks get a turn.
const MAX_TAKEN: usize = 32;

/// A connection with many streams.
pub(crate) struct Multiplexed<C> {
    connection: Connection<C>,
    waiting: VecDeque<yamux::Stream>,
    taker: Option<Waker>,
    cipher: Option<Cipher>,
    cork: Arc<Cork>,
}

impl<C> Multiplexed<C> {
    /// What the connection is encrypted with, if with anything known here.
    pub(super) fn cipher(&self) -> Option<Cipher> {
        self.cipher
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Multiplexed<C> {
    /// The other side may make this node buffer [`LEAST_WINDOW_BYTES`] for each stream that it opens, and `window_bytes`
    /// beyond that for all of them. `cork` is the socket's.
    pub(crate) fn new(
        socket: C,
        mode: Mode,
        cipher: Option<Cipher>,
        cork: Arc<Cork>,
        window_bytes: usize,
    ) -> Self {
        let mut config = Config::default();
        let most_bytes = (MAX_STREAMS * LEAST_WINDOW_BYTES).saturating_add(window_bytes);
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(most_bytes));
        config.set_split_send_size(PIECE_BYTES);
        Self {
            connection: Connection::new(socket, config, mode),
            waiting: VecDeque::new(),
            taker: None,
            cipher,
            cork,
        }
    }

    /// Moves data on all streams until there is no more, and lets it leave then.
    fn poll_streams(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<yamux::Stream, ConnectionError>>> {
        let connection = &mut self.connection;
        let (polled, is_owed) = self.cork.during(|| connection.poll_next_inbound(cx));
        match polled {
            Poll::Pending if is_owed => connection.poll_next_inbound(cx),
            polled => polled,
        }
    }

    /// Moves data on all streams, and takes new ones.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        for _ in 0..MAX_TAKEN {
            match self.poll_streams(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(ConnectionError::Closed),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(error),
                // One stream too many is reset by being dropped.
                Poll::Ready(Some(Ok(stream))) if self.waiting.len() < MAX_WAITING => {
                    self.waiting.push_back(stream);
                    if let Some(taker) = self.taker.take() {
                        taker.wake();
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Multiplexed<C> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        if self.waiting.is_empty()
            && let Poll::Ready(error) = self.drive(cx)
        {
            return Poll::Ready(Err(error));
        }
        match self.waiting.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                self.taker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.drive(cx).map(Err)
    }
}
