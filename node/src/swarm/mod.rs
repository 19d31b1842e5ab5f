//! The swarms this node is part of: who is in them, who is served, what flows.
//!
//! The seeder and the downloads meet here: what a peer gives decides what it gets.

use casnode_cas::ManifestId;
use casnode_dht::PeerId;
use tokio::sync::mpsc;

/// Candidates that may wait for a download.
const MAX_CANDIDATES: usize = 64;

/// What a download knows of one of its sources.
#[derive(Debug, Clone, Copy, Default)]
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
pub(crate) struct Swarms {}

impl Swarms {
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
