//! The swarm and the one task that owns it.
//!
//! [`driver`] turns commands into libp2p calls and libp2p events into answers; it decides nothing
//! about content and never waits for a disk or a caller.

pub(crate) mod addrs;
mod behaviour;
mod book;
mod bootstrap;
mod cipher;
mod dialling;
mod driver;
mod events;
mod gate;
mod incoming;
mod keep;
mod local;
mod lookups;
mod members;
mod membership;
mod multiplex;
mod named;
mod origins;
mod queries;
mod reach;
mod reachability;
mod remembered;
mod security;
mod showing;
mod spare;
mod streams;
mod tcp;
mod testing;
mod tls;
mod transport;
mod upgrade;

pub use cipher::{Cipher, CipherPreference};
pub(crate) use driver::{Driver, Ways};
pub(crate) use incoming::{PerPeer, Slot, ValueQueue, accept_exchange, check_values};
pub(crate) use multiplex::Multiplexed;
pub(crate) use origins::Origins;
pub(crate) use reach::{Ports, Question, answer_all, ask_around};
pub(crate) use security::secured;
pub(crate) use streams::{Incoming as IncomingStreams, OpenError, Stream};
pub(crate) use transport::build as transport;
pub(crate) use upgrade::is_refusal;
