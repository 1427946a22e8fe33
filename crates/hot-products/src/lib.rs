//! The shared library of hot products: the rules by which the functions count and rank clicks, and the tables.
//!
//! Each click on a Kafka topic is counted once, in the minute of its event time. Every five minutes, the newest sixty
//! minutes are ranked into a snapshot. [`docs/architecture.md`](../../../docs/architecture.md) describes the data flow, the
//! items as they are stored, and the invariants with the tests that prove them. Read it before you change the [`protocol`].
//!
//! Only [`store`] does I/O. The modules, in the order in which a click passes through them:
//!
//! - [`click`] parses a record's value, in the shape that the settings name, and classifies it: counted, ignored, stale or
//!   rejected. [`plain_json`] reads the usual ones fast.
//! - [`time`] defines minutes and windows; [`clock`] passes the time in.
//! - [`counters`] is the layout of the counter items; [`protocol`] decides which write comes next. It is the reason why
//!   counting is exact and cheap.
//! - [`rejects`] is what is stored of events that can't be counted.
//! - [`ranking`] ranks the products of a window; [`snapshot`] is the result, which apps read.
//! - [`healing`] decides which windows are ranked again, until each snapshot is right.
//! - [`schedule`] defines when a window is ranked and when its snapshot is due.
//! - [`store`] talks to DynamoDB, with one type per table.
//! - [`settings`] reads the environment once, at start; [`defaults`] has every default value; [`metrics`] writes the one
//!   line that a function logs per invocation.
//!
//! # Example
//!
//! This counts a batch and ranks it, without DynamoDB. `Item` does what the conditional update does to an item.
//! `count-clicks` runs the same loop over [`store::CountersTable`].
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use hot_products::{
//!     Bucket, Classification, Minute, Policy, Shard, TopicPartition, UnixMillis, Window,
//!     protocol::{Chain, ChainWrite, Click, Cursor, Limits, Update, UpdateOutcome},
//!     ranking::{Ranking, RankingContext, ShardCounters},
//! };
//!
//! #[derive(Default)]
//! struct Item {
//!     last_offset: Option<i64>,
//!     counters: BTreeMap<&'static str, u64>,
//! }
//!
//! impl Item {
//!     /// Counts the update, unless the item has counted its first offset already.
//!     fn update(&mut self, update: &Update) -> UpdateOutcome {
//!         match self.last_offset {
//!             Some(last_offset) if last_offset >= update.counts.first => {
//!                 UpdateOutcome::Refused { last_offset, closed: false }
//!             }
//!             _ => {
//!                 for (product, clicks) in &update.counts.counts {
//!                     *self.counters.entry(PRODUCTS[*product as usize]).or_default() += clicks;
//!                 }
//!                 self.last_offset = Some(update.counts.last);
//!                 UpdateOutcome::Counted { write_units: 1 }
//!             }
//!         }
//!     }
//! }
//!
//! const PRODUCTS: [&str; 2] = ["p1", "p2"];
//!
//! let now = UnixMillis::parse_rfc3339("2022-12-27T16:50:30Z")?;
//! let batch = [
//!     r#"{"event_time": 1672159790000, "product_id": "p1", "action": "click"}"#,
//!     r#"{"event_time": 1672159791000, "product_id": "p2", "action": "click"}"#,
//!     r#"{"event_time": 1672159791000, "product_id": "p2", "action": "view"}"#,
//!     r#"{"event_time": 1672159792000, "product_id": "p1", "action": "click"}"#,
//! ];
//!
//! // Classify the records, and group the clicks by the item that counts them.
//! let policy = Policy::default();
//! let partition = TopicPartition::new("clicks-0", None);
//! let mut clicks: BTreeMap<Bucket, Vec<Click>> = BTreeMap::new();
//! for (offset, value) in (100..).zip(batch) {
//!     if let Classification::Counted(event) = policy.classify(now, value.as_bytes()) {
//!         let id = event.product_id.as_str();
//!         let bucket = Bucket::of(Minute::of(event.event_time), id, &partition);
//!         let product = PRODUCTS.iter().position(|product| *product == id).unwrap() as u32;
//!         clicks.entry(bucket).or_default().push(Click { offset, product });
//!     }
//! }
//!
//! // Count them. The second delivery changes nothing.
//! let mut items: BTreeMap<Bucket, Item> = BTreeMap::new();
//! for _delivery in 0..2 {
//!     for (bucket, clicks) in &clicks {
//!         let item = items.entry(*bucket).or_default();
//!         let mut chain = Chain::resume(Limits::TABLE, Cursor::START);
//!         while let Some(ChainWrite::Update(update)) = chain.next_write(clicks) {
//!             chain.updated(&update, item.update(&update));
//!         }
//!     }
//! }
//!
//! // Rank the window, shard by shard.
//! let window = Window::ended_by(now);
//! let mut ranking = Ranking::new(window, 10);
//! for shard in Shard::all() {
//!     let mut counters = ShardCounters::new();
//!     for bucket in window.minutes().flat_map(|minute| Bucket::of_shard(minute, shard)) {
//!         let item = items.get(&bucket);
//!         for (product, clicks) in item.into_iter().flat_map(|item| &item.counters) {
//!             counters.add(bucket.minute, &partition, product, *clicks);
//!         }
//!     }
//!     ranking.add(&counters);
//! }
//! let context = RankingContext { generated_at: now, is_final: false, previous: None };
//! let snapshot = ranking.finish(context).snapshot;
//! let ranked: Vec<_> = snapshot.products.iter().map(|product| (product.product_id.as_str(), product.clicks)).collect();
//! assert_eq!(ranked, [("p1", 2), ("p2", 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(feature = "store"), allow(dead_code))]

pub mod click;
pub mod clock;
pub mod counters;
pub mod defaults;
pub mod healing;
pub mod metrics;
pub mod plain_json;
pub mod protocol;
pub mod ranking;
pub mod rejects;
pub mod schedule;
pub mod settings;
pub mod snapshot;
#[cfg(feature = "store")]
pub mod store;
pub mod time;

pub use click::{Classification, Event, EventShape, Policy, ProductId, Reason};
pub use clock::{Clock, ManualClock, SystemClock};
pub use counters::{Bucket, ItemKey, PartitionGroup, Shard, TopicPartition};
pub use snapshot::{RankedProduct, Snapshot, SnapshotMinutes};
pub use time::{Minute, UnixMillis, Window};
