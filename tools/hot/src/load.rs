//! A load as the commands `cost` and `scale` take and report it.

use clap::ValueEnum;
use cost_model::load::{KeyedBy, Load};
use serde::Serialize;

/// What the records of the topic are keyed by.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Key {
    /// The product: each product is on one partition
    Product,
    /// The user: each product is on all partitions
    User,
}

impl From<Key> for KeyedBy {
    fn from(key: Key) -> Self {
        match key {
            Key::Product => Self::Product,
            Key::User => Self::User,
        }
    }
}

/// A load in JSON.
#[derive(Serialize)]
pub(crate) struct LoadReport {
    /// `null` for a topic that was simulated with several loads.
    pub(crate) clicks_per_second: Option<f64>,
    partitions: u32,
    products: u32,
    keyed_by: &'static str,
    window_seconds: f64,
    disorder_seconds: f64,
}

impl LoadReport {
    pub(crate) fn of(load: &Load) -> Self {
        Self {
            clicks_per_second: Some(load.clicks_per_second),
            partitions: load.partitions,
            products: load.products,
            keyed_by: load.keyed_by.name(),
            window_seconds: load.window.as_secs_f64(),
            disorder_seconds: load.disorder.as_secs_f64(),
        }
    }
}
