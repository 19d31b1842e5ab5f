//! Announcing: which keys are due ([`schedule`]), where they go ([`plan`]), what is done in which order ([`mod@run`]), how often
//! and how fast ([`churn`], [`pace`]), and the engine that
//! carries it out over the records protocol.

pub(crate) mod churn;
mod engine;
mod files;
pub(crate) mod pace;
pub(crate) mod plan;
mod rate;
pub(crate) mod regions;
pub(crate) mod run;
pub(crate) mod schedule;
mod send;
mod state;
mod status;

pub(crate) use engine::{run, run_limits, watch_churn};
pub(crate) use files::{announce_file, schedule_file, schedule_files};
pub(crate) use state::Announcer;
pub(crate) use status::status;
