//! Announcing: which keys are due ([`due`]), where they go ([`plan`]), how they get there
//! ([`provide`]), and the engine that carries it out.

pub(crate) mod due;
mod engine;
mod plan;
mod provide;

pub(crate) use engine::{announce_file, run, schedule_file};
pub(crate) use provide::{PROVIDE_PROTOCOL, accept_provided};
