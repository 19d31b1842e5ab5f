//! From a TCP connection to streams with a known peer.
//!
//! As libp2p's own builder does it, with the same bytes on the wire; but that one does not tell what was agreed on.

use std::io;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::{ConnectedPoint, Endpoint};
use multistream_select::{
    Negotiated, NegotiationError, Version, dialer_select_proto, listener_select_proto,
};
use yamux::Mode;

use super::multiplex::{MULTIPLEXER, Multiplexed};
use super::security::{Protocol, Secured, Security, SecurityError};

/// How long a connection may take from its first byte to the multiplexer.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection did not come to its streams.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum UpgradeError {
    #[error("the two sides have no protocol in common")]
    Negotiation(#[from] NegotiationError),
    #[error(transparent)]
    Security(#[from] SecurityError),
}

impl UpgradeError {
    /// True when the other side does not have the one protocol that it was offered.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Negotiation(error) => matches!(error, NegotiationError::Failed),
            Self::Security(error) => error.io().is_some_and(is_refusal),
        }
    }
}

/// True when the other side does not have the protocol that was taken for granted, which shows with the first read.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref();
    let inner = inner.and_then(|inner| inner.downcast_ref::<NegotiationError>());
    matches!(inner, Some(NegotiationError::Failed))
}

/// A connection that is encrypted and carries many streams.
pub(super) type Upgraded<C> = Multiplexed<Negotiated<Secured<Negotiated<C>>>>;

/// Which part this side has. Two that dial each other at once agree elsewhere on who is the listener.
fn side(point: &ConnectedPoint) -> Endpoint {
    match point {
        ConnectedPoint::Dialer { role_override, .. } => *role_override,
        ConnectedPoint::Listener { .. } => Endpoint::Listener,
    }
}

/// Encrypts a connection and puts the multiplexer on it, with a window of `window_bytes` for all streams together.
///
/// The side that dials offers `offered` alone, so that its name goes with the first bytes of its handshake and costs no
/// round trip of its own: see [`UpgradeError::is_refusal`] for where the other side does not have it.
pub(super) async fn upgrade<C>(
    socket: C,
    point: ConnectedPoint,
    security: Security,
    offered: Protocol,
    window_bytes: usize,
) -> Result<(PeerId, Upgraded<C>), UpgradeError>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if let Endpoint::Dialer = side(&point) {
        let (name, socket) = dialer_select_proto(socket, [offered], Version::V1Lazy).await?;
        let (peer, socket) = security.secure(socket, name, Endpoint::Dialer).await?;
        let (cipher, cork) = (socket.cipher(), socket.cork());
        let (_, socket) = dialer_select_proto(socket, [MULTIPLEXER], Version::V1Lazy).await?;
        let muxer = Multiplexed::new(socket, Mode::Client, Some(cipher), cork, window_bytes);
        return Ok((peer, muxer));
    }
    let (name, socket) = listener_select_proto(socket, Protocol::ALL).await?;
    let (peer, socket) = security.secure(socket, name, Endpoint::Listener).await?;
    let (cipher, cork) = (socket.cipher(), socket.cork());
    let (_, socket) = listener_select_proto(socket, [MULTIPLEXER]).await?;
    let muxer = Multiplexed::new(socket, Mode::Server, Some(cipher), cork, window_bytes);
    Ok((peer, muxer))
}
