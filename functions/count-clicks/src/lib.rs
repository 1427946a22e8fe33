//! `count-clicks`: the Lambda function that turns an MSK batch into updates of minute counters.
//!
//! [`batch`] decodes Lambda's event and classifies its records. `count` adds the clicks to the counters, each exactly
//! once. The [`handler`] does both for one invocation; start reading there.

pub mod batch;
mod count;
mod cursors;
mod envelope;
pub mod handler;
mod offsets;
mod products;
mod settings;

pub use handler::{CountClicks, CountError, CountSummary};
pub use settings::CountSettings;
