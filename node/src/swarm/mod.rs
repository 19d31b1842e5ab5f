//! The swarms this node is part of: who is in them, who is served, what flows.
//!
//! The seeder and the downloads meet here: what a peer gives decides what it gets.

mod view;

use casnode_cas::{Address, ManifestId};
use casnode_dht::PeerId;
use tokio::sync::mpsc;

pub(crate) use self::view::{PeerView, SwarmView};
use crate::choke::SwarmMode;

/// Candidates that may wait for a download.
const MAX_CANDIDATES: usize = 64;

/// What a download knows of one of its sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SourceView {
    /// It sends this node nothing at present.
    pub(crate) chokes_us: bool,
    /// It has something this node wants.
    pub(crate) interests_us: bool,
    /// It was asked, and has sent nothing for a minute.
    pub(crate) snubs_us: bool,
    /// How many chunks it has.
    pub(crate) have_chunks: u32,
}

/// The swarms of a node.
#[derive(Debug, Default)]
pub(crate) struct Swarms {
    mode: SwarmMode,
}

impl Swarms {
    /// Swarms that are in this mode where nothing else is said of them.
    pub(crate) fn new(mode: SwarmMode) -> Self {
        Self { mode }
    }

    /// The mode of swarms of which nothing else was said.
    pub(crate) fn mode(&self) -> SwarmMode {
        self.mode
    }

    /// The swarm of this file is in this mode from now on, whether it is there already or not.
    pub(crate) fn set_mode(&self, _address: Address, _mode: SwarmMode) {}

    /// A swarm as it is now.
    pub(crate) fn report(&self, _manifest: ManifestId) -> SwarmView {
        SwarmView {
            mode: self.mode,
            ..SwarmView::default()
        }
    }

    /// A download has this many proven bytes of a peer.
    pub(crate) fn fetched(&self, _manifest: ManifestId, _peer: PeerId, _bytes: u64) {}

    /// What a download knows of a source changed.
    pub(crate) fn source(&self, _manifest: ManifestId, _peer: PeerId, _view: SourceView) {}

    /// A source of a download is gone.
    pub(crate) fn source_gone(&self, _manifest: ManifestId, _peer: PeerId) {}

    /// Peers that join the swarm from now on by a stream of their own: whoever downloads a file has parts of it.
    pub(crate) fn subscribe(&self, _manifest: ManifestId) -> mpsc::Receiver<PeerId> {
        mpsc::channel(MAX_CANDIDATES).1
    }
}
