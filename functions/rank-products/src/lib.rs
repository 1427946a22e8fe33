//! `rank-products`: the counters of a window's sixty minutes become its snapshot.
//!
//! [`request`] tells which window; the [`handler`] reads, sums, ranks and writes.

pub mod handler;
pub mod request;
pub mod settings;

pub use handler::{RankError, RankProducts, Summary};
pub use request::{Request, RequestError};
pub use settings::RankSettings;
