//! What can go wrong in the network.

use std::io;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use crate::exchange::ExchangeError;
use crate::records::StoreError;

/// An operation of the network failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DhtError {
    /// The record store could not be opened or written.
    #[error("record store")]
    Store(#[from] StoreError),
    /// A transport could not be set up.
    #[error("cannot set up the network")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A listen address could not be used.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address as configured.
        addr: Multiaddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A peer or an address could not be dialled.
    #[error("cannot connect to {target}")]
    Dial {
        /// The peer or address that was dialled.
        target: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer does not speak the exchange protocol.
    #[error("peer {0} does not speak the exchange protocol")]
    Unsupported(PeerId),
    /// An exchange stream could not be opened.
    #[error("exchange stream with {peer}")]
    Exchange {
        /// The other side.
        peer: PeerId,
        /// Why.
        #[source]
        source: ExchangeError,
    },
    /// The peer has been banned by this node.
    #[error("peer {0} is banned")]
    Banned(PeerId),
    /// A value is larger than a record may be.
    #[error("a record of {len} bytes is larger than {max} bytes")]
    ValueTooLarge {
        /// Length of the refused value, in bytes.
        len: usize,
        /// The largest length allowed, in bytes.
        max: usize,
    },
    /// The time that was given has passed.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// The node is shutting down.
    #[error("the network has been shut down")]
    ShutDown,
}

impl DhtError {
    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Dial { .. } | Self::TimedOut(_) | Self::Exchange { .. }
        )
    }
}
