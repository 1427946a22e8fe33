//! `count-clicks`: an MSK batch becomes updates of minute counters.
//!
//! [`batch`] decodes what Lambda hands over and sorts every record into its outcome; `count` brings the counted ones
//! into the table, whatever is already there; the [`handler`] does one after the other for an invocation.

pub mod batch;
mod count;
mod cursors;
mod envelope;
pub mod handler;
pub mod settings;

pub use handler::{CountClicks, CountError, Summary};
pub use settings::CountSettings;
