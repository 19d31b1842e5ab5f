//! Where the connected peers come from, for whoever has to be fair between them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use libp2p::{Multiaddr, PeerId};

use crate::origin::Origin;

/// The connected peers and their origins. Bounded by the connections there may be.
#[derive(Debug, Default)]
pub(crate) struct Origins(Mutex<HashMap<PeerId, Origin>>);

impl Origins {
    /// The origin of a connected peer; unknown of others.
    pub(crate) fn of(&self, peer: &PeerId) -> Origin {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(peer).copied().unwrap_or_default()
    }

    pub(in crate::net) fn connected(&self, peer: PeerId, remote: &Multiaddr) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(peer).or_insert_with(|| Origin::of(remote));
    }

    pub(in crate::net) fn disconnected(&self, peer: &PeerId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(peer);
    }
}
