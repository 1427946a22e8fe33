//! The real functions on one machine, in the time of a manual clock.
//!
//! `Simulator` (in `simulator.rs`, start reading there) is the topic, the event source and the schedule around
//! `count-clicks` and `rank-products`. Two modules drive it:
//!
//! - [`replay`] with a file of events: time advances with the events.
//! - [`demo`] with a simulated shop: time advances with the system's clock, but faster.

pub mod demo;
mod remembered;
pub mod replay;
mod simulator;
mod topic;

pub use simulator::{Rankings, SimulatorOptions, SimulatorTotals};
pub use topic::PartitionStatus;
