//! The casnode node: downloader, seeder, publisher and the local API.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod client;
mod config;

pub use client::{Client, Streams, run_daemon};
pub use config::{NetworkConfig, NodeConfig};
