//! `rank-products`: turns the counters of a window's sixty minutes into its snapshot.
//!
//! Start reading at [`RankProducts::handle`]. A [`Request`] names the window.

mod handler;
mod read;
mod request;
pub mod settings;

pub use handler::{RankError, RankOutcome, RankProducts, RankSummary};
pub use read::ReadBucket;
pub use request::{Request, RequestError};
pub use settings::RankSettings;
