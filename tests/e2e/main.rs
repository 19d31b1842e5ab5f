//! End-to-end tests: the real binary, as real processes, in private directories, on loopback ports of the
//! system's choice. No test knows another; every wait has a limit.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that unwraps fails, as it should"
)]

mod content;
mod harness;
mod hostile;
mod privileges;
mod proxy;
#[path = "../xfs.rs"]
mod xfs;

mod activation;
mod api;
mod bench;
mod cipher;
mod commands;
mod config;
mod default_place;
mod demo;
mod dht;
mod directories;
mod doctor;
mod durability;
mod gateway;
mod hostile_peers;
mod in_place;
mod input;
mod json;
mod links;
mod list;
mod memory;
mod metrics;
mod output;
mod port;
mod provide;
mod quota;
mod ranges;
mod resume;
mod sharing;
mod swarm;
mod transfer;
mod tree_in_place;
mod upkeep;
mod web;
mod why;
