//! A connection whose streams count their bytes and keep to the limits, and are not too many.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::Link;
use super::places::{Place, Places};
use super::stream::Substream;
use super::traffic::Presence;

/// Streams that are refused in one go, before other tasks get a turn.
const MAX_REFUSED: usize = 32;

/// A connection of either transport.
pub(crate) struct Muxer<M> {
    inner: M,
    link: Arc<Link>,
    places: Places,
    _presence: Presence,
}

impl<M> Muxer<M> {
    pub(super) fn new(inner: M, link: Link, presence: Presence) -> Self {
        Self {
            inner,
            link: Arc::new(link),
            places: Places::default(),
            _presence: presence,
        }
    }

    fn metered<S>(&self, stream: S, place: Option<Place>) -> Substream<S> {
        Substream::new(stream, self.link.clone(), place)
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
        for _ in 0..MAX_REFUSED {
            let stream = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
            // One too many is reset by being dropped.
            if let Some(place) = self.places.take() {
                return Poll::Ready(Ok(self.metered(stream, Some(place))));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let opened = Pin::new(&mut self.inner).poll_outbound(cx);
        opened.map_ok(|stream| self.metered(stream, None))
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
