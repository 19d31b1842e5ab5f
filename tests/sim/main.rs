//! Small swarms in virtual time, many of them: what must hold whatever the numbers and whoever misbehaves.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::cast_possible_truncation,
    reason = "a test; what only the simulator's tables need is not used"
)]

mod checks;
mod clock;
mod fetch;
mod invariants;
mod meet;
mod net;
mod node;
mod serve;
mod world;
