//! AWS on this machine: what the tools and tests use in place of an AWS account.
//!
//! - [`embedded`] is a DynamoDB within this process; start reading there.
//! - [`template`] reads the tables' definitions from the SAM template, and [`tables`] creates them on any endpoint.
//! - [`serve`] serves a router on 127.0.0.1, as a function URL would.
//! - [`msk`] builds the events in which Lambda hands Kafka records to a function.

pub mod embedded;
pub mod msk;
pub mod serve;
pub mod tables;
pub mod template;
