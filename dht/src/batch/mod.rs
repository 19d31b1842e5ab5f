//! The records protocol: many keys in one message, to announce ([`BatchClient::announce`]) and to find
//! ([`BatchClient::find`]). A node announces only for itself: the provider is always the peer at the other
//! end of the connection.
//!
//! [`message`] is the wire form, [`client`] the asking side, [`serve`] the answering side.

mod client;
mod message;
mod serve;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use client::BatchClient;
pub(crate) use message::{ANNOUNCE_KEYS, FIND_KEYS, Provider};
pub(crate) use serve::{Server, accept, held};
pub(crate) use slots::Slots;
