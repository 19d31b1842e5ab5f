//! The casnode node: downloader, seeder, publisher and the local API.
//!
//! It is the only place where content (`casnode-cas`) and network (`casnode-dht`) meet. `docs/ARCHITECTURE.md` shows
//! its tasks and the life of a chunk both ways.
//!
//! Non-goals: what a person types and sees is the command line's; how bytes are kept and sent is the crates' below.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod bench;
mod budget;
mod bundle;
mod change;
mod choke;
mod client;
mod clock;
mod config;
mod daemon;
pub mod doctor;
mod download;
mod errors;
mod foreground;
mod http;
mod identity;
pub mod lab;
mod link;
mod node;
mod ops;
mod publish;
mod read;
mod rebuild;
mod repair;
mod room;
mod sched;
mod seeder;
mod seeding;
mod steps;
mod swarm;
mod tasks;
mod tree;
mod upkeep;
mod why;

pub use budget::{MemoryBudget, Shares};
pub use bundle::list::check_list;
pub use casnode_cas::MAX_SMALL_FILE_BYTES;
pub use casnode_dht::{BadNetworkName, Bandwidth, CipherPreference, NetworkName, Profile};
pub use change::{ChangeCall, SettingsChange};
pub use choke::SwarmMode;
pub use client::{Client, Streams};
pub use config::{HttpConfig, NetworkConfig, NodeConfig, StoreLimit};
pub use daemon::{PassedSockets, run_daemon};
pub use http::token::read_token;
pub use link::{LINK_SCHEME, Link, LinkError, MAX_LINK_BYTES, MAX_LINK_PEERS, is_link};
pub use node::check_multiaddr;
pub use rebuild::rebuild_index;
pub use seeding::{SeedPolicy, SeedPolicyError};
