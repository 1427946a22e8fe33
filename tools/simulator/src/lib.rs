//! The real functions on one machine, at the time of a manual clock.
//!
//! [`replay`] runs them over a file of events, [`demo`] over a simulated shop; [`generate`] makes files of events.

pub mod demo;
pub mod generate;
pub mod replay;
