//! Dials that name a peer end at that peer or fail, each address by itself.
//!
//! The swarm learns who has answered only after the first of all addresses has connected, and then gives the
//! others up: one false word about a peer would hide where it really is.

use std::error::Error as StdError;
use std::io;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;

use crate::net::addrs;

type Muxed = (PeerId, StreamMuxerBox);

/// Somebody else lives where a peer was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another peer answers there: {0}")]
pub(in crate::net) struct SomebodyElse(pub(in crate::net) PeerId);

/// Whether an address failed because another peer answered there.
pub(in crate::net) fn is_somebody_else(error: &(dyn StdError + 'static)) -> bool {
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

/// Passes on what has connected, unless a dial named another peer than the one that answered.
pub(super) async fn only_named(muxed: Muxed, point: ConnectedPoint) -> io::Result<Muxed> {
    let named = match &point {
        ConnectedPoint::Dialer { address, .. } => addrs::named_peer(address),
        ConnectedPoint::Listener { .. } => None,
    };
    match named {
        Some(named) if named != muxed.0 => Err(io::Error::other(SomebodyElse(muxed.0))),
        _ => Ok(muxed),
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
