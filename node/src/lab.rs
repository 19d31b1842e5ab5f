//! For simulators: the pure parts of a node, which decide what is asked and who is served.
//!
//! Not for programs: what is here changes with the insides of the crate.

#![doc(hidden)]

pub use crate::choke::{Candidate, Choker, Decision, Load, Offers, ROUND_EVERY, Rate, Slots};
pub use crate::sched::{
    Action, DropReason, Event, Fault, Mono, Order, PeerSlot, Scheduler, SchedulerConfig,
};
