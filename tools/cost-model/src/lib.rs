//! Estimates what a load consumes, what that costs and which limit of AWS it reaches first.
//!
//! Start with [`load`]: it simulates some minutes of clicks and returns an [`Estimate`](load::Estimate). [`bill`] puts
//! prices on the estimate, and [`scale`] compares it with the limits of AWS. [`assumptions`] has the settings that all
//! of them assume.

pub mod assumptions;
pub mod bill;
pub mod load;
pub mod scale;
