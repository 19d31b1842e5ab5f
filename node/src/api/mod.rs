//! The local API: what can be asked and answered. `crate::http` carries it.

mod bundle;
pub(crate) mod call;
mod caller;
mod doctor;
mod error;
pub(crate) mod events;
mod files;
mod network;
pub(crate) mod path;
#[cfg(test)]
mod pinned;
mod prometheus;
pub mod proto;
mod request;
mod response;
#[cfg(test)]
mod samples;
pub(crate) mod socket;
mod state;
mod swarm;
mod tree;
mod upkeep;
mod why;

pub use bundle::*;
pub(crate) use caller::Caller;
pub use doctor::*;
pub use error::{ApiError, ErrorKind};
pub use files::*;
pub use network::*;
pub use prometheus::prometheus_text;
pub use proto::*;
pub use request::*;
pub use response::*;
pub use state::*;
pub use swarm::*;
pub use tree::*;
pub use upkeep::*;
pub use why::*;
