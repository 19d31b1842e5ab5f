//! The local API: its messages, the frames that carry them over the Unix socket, and the daemon's end of it.

mod error;
pub(crate) mod events;
pub(crate) mod frame;
pub mod proto;
pub(crate) mod server;
pub(crate) mod socket;
mod upkeep;

pub use error::{ApiError, ErrorKind};
pub use proto::*;
pub use upkeep::*;
