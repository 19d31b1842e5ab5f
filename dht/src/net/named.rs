//! Dials that name a peer end at that peer or fail, each address by itself.
//!
//! The swarm learns who has answered only after the first of all addresses has connected, and then gives the
//! others up: one false word about a peer would hide where it really is.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId};

use super::addrs;

type Muxed = (PeerId, StreamMuxerBox);

/// Somebody else lives where a peer was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another peer answers there: {0}")]
pub(super) struct SomebodyElse(pub(super) PeerId);

/// Whether an address failed because another peer answered there.
pub(super) fn is_somebody_else(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<SomebodyElse>() {
        return true;
    }
    // The source of an I/O error is not the error within, but the source of that.
    let within = match error.downcast_ref::<io::Error>() {
        Some(error) => error
            .get_ref()
            .map(|within| within as &(dyn StdError + 'static)),
        None => error.source(),
    };
    within.is_some_and(is_somebody_else)
}

/// A transport whose dials fail when somebody else answers than the address names.
pub(super) struct Named(pub(super) Boxed<Muxed>);

impl Transport for Named {
    type Output = Muxed;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Muxed> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Muxed>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let named = addrs::named_peer(&addr);
        let dial = self.0.dial(addr, opts)?;
        Ok(async move {
            let (peer, muxer) = dial.await?;
            match named {
                Some(named) if named != peer => Err(io::Error::other(SomebodyElse(peer))),
                _ => Ok((peer, muxer)),
            }
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_within_other_errors() {
        let reason = || io::Error::other(SomebodyElse(PeerId::random()));
        assert!(is_somebody_else(&reason()));
        assert!(is_somebody_else(&io::Error::other(reason())));
        let by_name = libp2p::dns::Error::Transport(reason());
        assert!(is_somebody_else(&io::Error::other(by_name)));
        assert!(!is_somebody_else(&io::Error::other("nobody there")));
        assert!(!is_somebody_else(&io::Error::from(io::ErrorKind::TimedOut)));
    }
}
