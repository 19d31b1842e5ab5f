//! The local API: its messages, and the frames that carry them over the Unix socket.

pub mod proto;

pub use proto::*;
