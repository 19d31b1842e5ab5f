//! The local API: its messages, the frames that carry them over the Unix socket, and the daemon's end of it.

mod bundle;
mod error;
pub(crate) mod events;
mod files;
pub(crate) mod frame;
mod network;
#[cfg(test)]
mod pinned;
pub mod proto;
pub(crate) mod server;
pub(crate) mod socket;
mod state;
mod swarm;
mod tree;
mod upkeep;
mod why;

pub use bundle::*;
pub use error::{ApiError, ErrorKind};
pub use files::*;
pub use network::*;
pub use proto::*;
pub use state::*;
pub use swarm::*;
pub use tree::*;
pub use upkeep::*;
pub use why::*;
