//! The swarm and the one task that owns it.
//!
//! [`driver`] turns commands into libp2p calls and libp2p events into answers; it decides nothing
//! about content and never waits for a disk or a caller. [`membership`] says who belongs to the network and stays
//! connected, [`reachability`] whether others can dial this node, [`transport`](mod@transport) how bytes get from one to the other.

pub(crate) mod addrs;
mod driver;
mod incoming;
mod membership;
mod reachability;
mod streams;
mod transport;

pub(crate) use driver::{Driver, Ways};
pub(crate) use incoming::{PerPeer, Slot, ValueQueue, accept_exchange, check_values};
pub(crate) use membership::Origins;
pub(crate) use reachability::{Ports, Question, answer_all, ask_around};
pub(crate) use streams::{Incoming as IncomingStreams, OpenError, Stream};
pub use transport::{Cipher, CipherPreference};
pub(crate) use transport::{Multiplexed, build as transport, is_refusal, secured};
