//! `count-clicks`: the Lambda function that turns an MSK batch into updates of minute counters.
//!
//! [`batch`] decodes Lambda's event and classifies its records. `count` adds the clicks to the counters, each exactly
//! once. The [`handler`] does both for one invocation; start reading there.

pub mod batch;
#[cfg(feature = "function")]
mod count;
#[cfg(feature = "function")]
mod cursors;
mod envelope;
#[cfg(feature = "function")]
pub mod handler;
#[cfg(feature = "function")]
mod offsets;
mod products;
#[cfg(feature = "function")]
mod settings;

#[cfg(feature = "function")]
pub use handler::{CountClicks, CountError, CountSummary};
#[cfg(feature = "function")]
pub use settings::CountSettings;
