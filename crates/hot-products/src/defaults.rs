//! The default values, each defined once. Functions, tools and the cost model use these.
//!
//! `infra/template.yaml` sets its own defaults for the settings that are parameters of the stack.

use std::time::Duration;

/// `EVENT_TIME_FIELD`: the field with the time of an event.
pub const EVENT_TIME_FIELD: &str = "event_time";

/// `PRODUCT_FIELD`: the field with the product's id.
pub const PRODUCT_FIELD: &str = "product_id";

/// `ACTION_FIELD`: the field with what the user did.
pub const ACTION_FIELD: &str = "action";

/// `COUNTED_ACTIONS`: the action that is counted.
pub const COUNTED_ACTION: &str = "click";

/// `MAX_EVENT_AGE`: an event older than this is stale. A day, so that an outage of a day loses nothing. [`RETENTION`] must
/// exceed it by [`MIN_RETENTION_MARGIN`](crate::healing::MIN_RETENTION_MARGIN).
pub const MAX_EVENT_AGE: Duration = Duration::from_hours(24);

/// `RETENTION`: how long counters live after the end of their minute. Two hours more than
/// [`MAX_EVENT_AGE`], in which each window is ranked for the last time.
pub const RETENTION: Duration = Duration::from_hours(26);

/// `REJECT_RETENTION`: how long rejected events are kept: 14 days.
pub const REJECT_RETENTION: Duration = Duration::from_hours(14 * 24);

/// `SNAPSHOT_RETENTION`: how long snapshots live after the end of their window: 30 days.
pub const SNAPSHOT_RETENTION: Duration = Duration::from_hours(30 * 24);

/// `TOP_N`: how many products a snapshot holds.
pub const TOP_N: usize = 100;

/// `WRITE_CONCURRENCY`: how many items count-clicks writes at the same time.
pub const WRITE_CONCURRENCY: usize = 16;

/// `READ_CONCURRENCY`: how many buckets rank-products reads at the same time.
pub const READ_CONCURRENCY: usize = 16;

/// `BatchSize`: the most records in a batch. It is also Lambda's maximum (AWS Lambda Developer Guide, "Amazon MSK and
/// self-managed Apache Kafka event source mapping parameters").
pub const BATCH_SIZE: usize = 10_000;

/// `BatchWindowSeconds`: the longest time Lambda collects records for a batch.
pub const BATCH_WINDOW: Duration = Duration::from_secs(30);

/// The timeout of count-clicks and rank-products: how long an invocation may take.
pub const INVOCATION_TIMEOUT: Duration = Duration::from_mins(1);

/// `DYNAMODB_CONNECT_TIMEOUT`: how long to wait for a connection, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// `DYNAMODB_ATTEMPT_TIMEOUT`: how long to wait for the answer to one attempt.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// `DYNAMODB_OPERATION_TIMEOUT`: how long a call with all its attempts may take. Far below [`INVOCATION_TIMEOUT`].
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

/// `DYNAMODB_MAX_ATTEMPTS`: how often a call is tried. Enough for a throttled key to recover, few enough to leave time for
/// the other calls.
pub const MAX_ATTEMPTS: usize = 5;

/// `DYNAMODB_MAX_BACKOFF`: the longest wait between two attempts. Five attempts then wait seven seconds at most, which
/// leaves time within [`OPERATION_TIMEOUT`].
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);
