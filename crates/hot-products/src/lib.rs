//! What the functions of hot products share: the rules, pure, and the tables, behind a small store.
//!
//! A click on a Kafka topic is counted once, in the minute of its event time, and every five minutes the sixty
//! newest minutes are summed into a ranked snapshot. The parts, in the order in which a click meets them:
//!
//! - [`click`] parses a record's value and classifies it: counted, ignored, stale or rejected.
//! - [`time`] has the minutes clicks fall into and the windows they are ranked in; [`clock`] hands the time in.
//! - [`counters`] is the layout of the counter items; [`protocol`] decides which write comes next, the reason why
//!   counting is exactly-once and cheap.
//! - [`rejects`] is what is kept of events that could not be counted.
//! - [`ranking`] ranks a window's products; [`snapshot`] is the result, which apps read.
//! - [`healing`] decides which windows are ranked again, until each snapshot is right.
//! - [`schedule`] defines when a window is ranked and when its snapshot is due.
//! - [`store`] is the only part that talks to DynamoDB; one type a table.
//! - [`settings`] reads the environment once, at start; [`defaults`] has every default value; [`metrics`] writes the one
//!   line that a function logs.

pub mod click;
pub mod clock;
pub mod counters;
pub mod defaults;
pub mod healing;
pub mod metrics;
pub mod protocol;
pub mod ranking;
pub mod rejects;
pub mod schedule;
pub mod settings;
pub mod snapshot;
pub mod store;
pub mod time;

pub use click::{Classification, Event, Policy, ProductId, Reason};
pub use clock::{Clock, ManualClock, SystemClock};
pub use counters::{Bucket, ItemKey, Shard, TopicPartition};
pub use snapshot::{RankedProduct, Snapshot, SnapshotMinutes};
pub use time::{Minute, UnixMillis, Window};
