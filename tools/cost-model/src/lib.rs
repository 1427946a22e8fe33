//! What a load consumes, what that costs, and which limit of AWS it meets first.
//!
//! [`load`] simulates a load; [`bill`] prices it, and [`scale`] compares it with the limits of AWS.

pub mod bill;
pub mod load;
pub mod scale;
