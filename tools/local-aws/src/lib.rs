//! AWS on this machine: what the tools and tests use instead of an AWS account.
//!
//! - [`embedded`] is a DynamoDB in this process, with the stack's tables. Start reading there.
//! - [`template`] reads the table definitions from the SAM template; [`tables`] creates the tables on any endpoint.
//! - [`serve`] serves a router on 127.0.0.1, as a function URL does in AWS.
//! - [`msk`] builds the events that Lambda sends for an MSK topic.

pub mod embedded;
pub mod msk;
pub mod serve;
pub mod tables;
pub mod template;
