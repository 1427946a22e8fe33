//! Hot products on one machine: the parts of the program `hot`, for it and for the end-to-end tests.
//!
//! - [`generate`] makes tracking data; [`msk`] brings it into the shape in which Lambda hands it to a function.
//! - [`embedded`] is a DynamoDB within this process; [`template`] reads the tables' definitions from the SAM template,
//!   and [`tables`] creates them on any endpoint.
//! - [`kafka`] plays Lambda's part between a real Kafka topic and a function, fills topics and looks into them.
//! - [`load`] simulates what a load consumes; [`bill`] says what that costs, and [`scale`] which limits it meets.
//! - [`product`], [`rejected`] and [`status`] read a stack's tables for people.
//! - [`serve`] serves the board on 127.0.0.1.
//! - [`replay`] runs the real handlers over a file of events; [`demo`] over a shop that it makes up, in time that runs
//!   faster than ours. [`show`] prints for people.

pub mod bill;
pub mod demo;
pub mod embedded;
pub mod generate;
pub mod kafka;
pub mod load;
pub mod msk;
pub mod product;
pub mod rejected;
pub mod replay;
pub mod scale;
pub mod serve;
pub mod show;
pub mod status;
pub mod tables;
pub mod template;
