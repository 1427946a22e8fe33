//! The snapshot of a window: its hottest products, as apps read them.
//!
//! [`Snapshot`] and [`SnapshotMinutes`] are the only records of a ranked window. The table, the read API and `--json` all
//! have their fields, under the same names.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::{Minute, UnixMillis, Window, fixed_width};

/// The one board: all counted clicks. The partition key of the snapshots.
pub const BOARD: &str = "clicks";

/// The partition key of the clicks per minute of the snapshots' top products. They are separate items, so that a snapshot
/// stays small, and under their own key, so that a query for the newest snapshot does not read them.
pub const MINUTES_BOARD: &str = "clicks#minutes";

/// The partition key of the records of rankings, one item for each day (UTC).
pub const RANKINGS_BOARD: &str = "clicks#rankings";

/// How long before its window's end a topic partition may have counted its last click, until readers are told. A
/// partition with little traffic has some minutes without a click.
pub const QUIET_AFTER: Duration = Duration::from_mins(5);

/// The most products in a snapshot. One with the longest ids stays below DynamoDB's limit of 400 KB an item (Amazon
/// DynamoDB Developer Guide, "Quotas").
pub const MAX_TOP_N: usize = 1000;

/// The most products whose clicks per minute are stored.
pub const MAX_MINUTES_PRODUCTS: usize = 100;

/// Attribute names of the snapshots table that expressions need. The other attributes are the records' fields.
pub mod attribute {
    /// Partition key: [`BOARD`](super::BOARD) or [`MINUTES_BOARD`](super::MINUTES_BOARD).
    pub const BOARD: &str = "board";
    /// Sort key: the first instant after the window.
    pub const WINDOW_END: &str = "window_end";
    /// When the ranking of the window began.
    pub const GENERATED_AT: &str = "generated_at";
    /// Clicks in the window.
    pub const TOTAL_CLICKS: &str = "total_clicks";
    /// Whether the snapshot is right for good.
    pub const FINAL: &str = "final";
    /// How far each topic partition has counted.
    pub const COUNTED_THROUGH: &str = "counted_through";
    /// Products with a click in the window.
    pub const DISTINCT_PRODUCTS: &str = "distinct_products";
    /// The top products.
    pub const PRODUCTS: &str = "products";
    /// DynamoDB's TTL, in epoch seconds. Not a field of the records: readers do not need it.
    pub const EXPIRES_AT: &str = "expires_at";
}

/// The hottest products of one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The sixty minutes it ranks; `window_start` and `window_end` in a record.
    #[serde(flatten, with = "bounds")]
    pub window: Window,
    /// When its ranking began, before it read any counter.
    #[serde(with = "fixed_width")]
    pub generated_at: UnixMillis,
    /// Whether no click could join the window any more when its ranking began: the snapshot is right for good.
    #[serde(default, rename = "final")]
    pub is_final: bool,
    /// The newest minute of the window in which each topic partition has counted a click, by its name. A partition that
    /// stops before the window's end had no clicks since, or is behind: the counters cannot tell. Empty if unknown: in
    /// snapshots from before this was stored, and in a history, which does not read it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counted_through: BTreeMap<String, Minute>,
    /// Clicks in the whole window, not only on the top products.
    pub total_clicks: u64,
    /// Products with a click in the whole window.
    pub distinct_products: u64,
    /// Clicks in each of the window's minutes, in order, on all products. Empty if unknown: in snapshots from before this
    /// was stored, and in a history, which does not read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clicks_per_minute: Vec<u64>,
    /// The top products, best first. A query that asks for no products of an item gets no list.
    #[serde(default)]
    pub products: Vec<RankedProduct>,
}

impl Snapshot {
    /// The topic partitions that have counted nothing for longer than `longest` before the window's end, by name.
    pub fn quiet_or_behind(&self, longest: Duration) -> impl Iterator<Item = CountedPartition> {
        self.partitions().filter(move |partition| partition.is_quiet_for(longest))
    }

    /// How far each topic partition has counted, by name.
    pub fn partitions(&self) -> impl Iterator<Item = CountedPartition> {
        self.counted_through.iter().map(|(source, newest_minute)| CountedPartition {
            source: source.clone(),
            newest_minute: *newest_minute,
            quiet_seconds: self.window.end().since(newest_minute.end()).as_secs(),
        })
    }
}

/// How far a topic partition has counted by the end of a snapshot's window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountedPartition {
    /// The topic partition's name.
    pub source: String,
    /// The newest minute with a counted click.
    pub newest_minute: Minute,
    /// Seconds from the end of that minute to the end of the window.
    pub quiet_seconds: u64,
}

impl CountedPartition {
    /// Whether it has counted nothing for longer than `longest` before the window's end: it had no clicks, or is behind.
    pub fn is_quiet_for(&self, longest: Duration) -> bool {
        Duration::from_secs(self.quiet_seconds) > longest
    }
}

/// A product's place in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankedProduct {
    /// 1 for the hottest, without gaps.
    pub rank: u64,
    /// The product.
    pub product_id: String,
    /// Its clicks in the window.
    pub clicks: u64,
    /// Its rank in the snapshot five minutes before; `None` for a newcomer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rank: Option<u64>,
}

/// The clicks per minute of a snapshot's top products.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMinutes {
    /// The snapshot's window; `window_start` and `window_end` in a record.
    #[serde(flatten, with = "bounds")]
    pub window: Window,
    /// That of the snapshot with the same counts.
    #[serde(with = "fixed_width")]
    pub generated_at: UnixMillis,
    /// That of the snapshot with the same counts.
    #[serde(default)]
    pub total_clicks: u64,
    /// The first [`MAX_MINUTES_PRODUCTS`] of the snapshot's products, best first.
    pub products: Vec<ProductMinutes>,
}

/// The clicks per minute of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductMinutes {
    /// The product.
    pub product_id: String,
    /// Its clicks in each of the window's minutes, in order.
    pub clicks_per_minute: Vec<u64>,
}

/// Serde for a window: its two bounds. The end alone defines it.
mod bounds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::time::{UnixMillis, Window, bound};

    #[derive(Serialize)]
    struct Bounds {
        window_start: String,
        window_end: String,
    }

    #[derive(Deserialize)]
    struct End {
        window_end: String,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(window: &Window, serializer: S) -> Result<S::Ok, S::Error> {
        Bounds { window_start: bound(window.start()), window_end: bound(window.end()) }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Window, D::Error> {
        let end = End::deserialize(deserializer)?.window_end;
        UnixMillis::parse_rfc3339(&end).map(Window::ended_by).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            window: Window::ended_by(UnixMillis(1_672_159_800_000)),
            generated_at: UnixMillis(1_672_159_861_230),
            is_final: true,
            counted_through: BTreeMap::from([("clicks-0".to_owned(), Minute::of(UnixMillis(1_672_159_740_000)))]),
            total_clicks: 12,
            distinct_products: 2,
            clicks_per_minute: vec![0, 12],
            products: vec![
                RankedProduct { rank: 1, product_id: "p1".to_owned(), clicks: 9, previous_rank: Some(2) },
                RankedProduct { rank: 2, product_id: "p2".to_owned(), clicks: 3, previous_rank: None },
            ],
        }
    }

    #[test]
    fn json_has_the_fields_of_the_table() {
        let json = r#"{"window_start":"2022-12-27T15:50:00Z","window_end":"2022-12-27T16:50:00Z","generated_at":"2022-12-27T16:51:01.230Z","final":true,"counted_through":{"clicks-0":"2022-12-27T16:49:00Z"},"total_clicks":12,"distinct_products":2,"clicks_per_minute":[0,12],"products":[{"rank":1,"product_id":"p1","clicks":9,"previous_rank":2},{"rank":2,"product_id":"p2","clicks":3}]}"#;
        assert_eq!(serde_json::to_string(&snapshot()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Snapshot>(json).unwrap(), snapshot());
    }

    #[test]
    fn an_item_has_the_attributes_that_expressions_name() {
        let item = to_item(snapshot()).unwrap();
        let mut names: Vec<_> = item.keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut expected = [
            attribute::WINDOW_END,
            attribute::GENERATED_AT,
            attribute::FINAL,
            attribute::COUNTED_THROUGH,
            attribute::TOTAL_CLICKS,
            attribute::DISTINCT_PRODUCTS,
            attribute::PRODUCTS,
            "window_start",
            "clicks_per_minute",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(item["generated_at"].as_s().unwrap(), "2022-12-27T16:51:01.230Z");
        assert_eq!(item["total_clicks"].as_n().unwrap(), "12");
        assert_eq!(item["clicks_per_minute"].as_l().unwrap()[1].as_n().unwrap(), "12");
        let newcomer = item["products"].as_l().unwrap()[1].as_m().unwrap();
        assert!(!newcomer.contains_key("previous_rank"));
        assert_eq!(from_item::<Snapshot>(item).unwrap(), snapshot());
    }

    #[test]
    fn an_item_without_newer_attributes_can_be_read() {
        let mut item = to_item(snapshot()).unwrap();
        for absent in ["window_start", "clicks_per_minute", "products", "final", "counted_through"] {
            item.remove(absent).unwrap();
        }
        let read: Snapshot = from_item(item).unwrap();
        let expected = Snapshot {
            is_final: false,
            counted_through: BTreeMap::new(),
            clicks_per_minute: Vec::new(),
            products: Vec::new(),
            ..snapshot()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_partition_is_quiet_or_behind_if_it_counted_nothing_for_longer_than_asked() {
        let ended = |back: u64| Minute::of(snapshot().window.end().minus(Duration::from_mins(back + 1)));
        let counted = [("clicks-0", 0), ("clicks-1", 5), ("clicks-2", 6), ("clicks-3", 27)];
        let snapshot = Snapshot {
            counted_through: counted.map(|(name, back)| (name.to_owned(), ended(back))).into(),
            ..snapshot()
        };
        let found = |longest| snapshot.quiet_or_behind(longest).map(|quiet| (quiet.source, quiet.quiet_seconds));
        let expected = [("clicks-2".to_owned(), 360), ("clicks-3".to_owned(), 1620)];
        assert_eq!(found(QUIET_AFTER).collect::<Vec<_>>(), expected);
        assert_eq!(found(Duration::from_mins(10)).collect::<Vec<_>>(), expected[1..]);
        assert_eq!(found(Duration::ZERO).count(), 3, "the last minute has a click");
    }

    #[test]
    fn an_item_with_unknown_attributes_can_be_read() {
        let mut item = to_item(snapshot()).unwrap();
        item.insert("newer".to_owned(), aws_sdk_dynamodb::types::AttributeValue::Bool(true));
        assert_eq!(from_item::<Snapshot>(item).unwrap(), snapshot());
    }
}
