//! Days of a large network in seconds: the announcer's own decisions and record tables in virtual time,
//! over a model of who is there and of what a lookup finds.

pub mod calibration;
pub mod clock;
pub mod days;
pub mod network;
pub mod scenarios;
