//! Real nodes over simulated lines.

pub mod air;
pub mod hostile;
pub mod keyspace;
pub mod line;
pub mod scenarios;
pub mod world;
