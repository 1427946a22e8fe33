//! The settings that the model assumes: the defaults of the functions, and of the template.

use std::time::Duration;

pub use hot_products::defaults::{
    BATCH_SIZE, BATCH_WINDOW, MAX_EVENT_AGE, READ_CONCURRENCY, RETENTION, SNAPSHOT_RETENTION, TOP_N, WRITE_CONCURRENCY,
};

/// How long CloudWatch keeps logs: the template's `LogRetentionDays`.
pub const LOG_RETENTION: Duration = Duration::from_hours(30 * 24);
