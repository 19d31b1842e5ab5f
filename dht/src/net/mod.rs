//! The swarm and the one task that owns it.
//!
//! [`driver`] turns commands into libp2p calls and libp2p events into answers; it decides nothing
//! about content and never waits for a disk or a caller.

pub(crate) mod addrs;
mod behaviour;
mod book;
mod bootstrap;
mod dialling;
mod driver;
mod events;
mod incoming;
mod keep;
mod local;
mod lookups;
mod multiplex;
mod queries;
mod security;
mod transport;

pub(crate) use driver::{Driver, Ways};
pub(crate) use incoming::{MAX_UNCHECKED_VALUES, accept_exchange, check_values};
