//! A connection whose streams count their bytes and keep to the limits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::Link;
use super::stream::Substream;
use super::traffic::Presence;

/// A connection of either transport.
pub(crate) struct Muxer<M> {
    inner: M,
    link: Arc<Link>,
    _presence: Presence,
}

impl<M> Muxer<M> {
    pub(super) fn new(inner: M, link: Link, presence: Presence) -> Self {
        Self {
            inner,
            link: Arc::new(link),
            _presence: presence,
        }
    }

    fn metered<S>(&self, stream: S) -> Substream<S> {
        Substream::new(stream, self.link.clone())
    }
}

impl<M> StreamMuxer for Muxer<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = Substream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let opened = Pin::new(&mut self.inner).poll_inbound(cx);
        opened.map_ok(|stream| self.metered(stream))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let opened = Pin::new(&mut self.inner).poll_outbound(cx);
        opened.map_ok(|stream| self.metered(stream))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
