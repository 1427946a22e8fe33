//! Tools for a Kafka cluster, on librdkafka. The only crate that depends on librdkafka.
//!
//! - [`source`] does the work of Lambda's event source mapping: it reads a topic with a consumer group and invokes a
//!   function with batches. Start reading there. [`invoke`] calls the function.
//! - [`produce`] fills a topic with the lines of a file.
//! - [`inspect`] shows brokers, topics, a group's lag, the newest records, and one record as it was written.
//! - [`records`] reads the records of a time.
//!
//! All of them take a [`Cluster`]: brokers, any of librdkafka's settings, and who signs in with [`iam`].

mod client;
mod cluster;
pub mod iam;
pub mod inspect;
pub mod invoke;
pub mod produce;
pub mod records;
pub mod source;

pub use cluster::{Cluster, Setting};
