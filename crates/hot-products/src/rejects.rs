//! What is kept of the records that were rejected: one item for each topic partition and batch, because a broken producer
//! sends bad records by the million. The originals stay in Kafka at the offsets listed here.

use std::{collections::BTreeMap, sync::LazyLock};

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use crate::{
    click::Reason,
    counters::TopicPartition,
    time::{UnixMillis, fixed_width},
};

/// How many values an item keeps.
pub const MAX_SAMPLES: usize = 5;
/// How much of a value is kept, in bytes.
pub const MAX_SAMPLE_BYTES: usize = 1024;
/// How many offsets an item lists: all of a batch, because Lambda limits batches from Kafka to 10,000 records (AWS Lambda
/// Developer Guide, "Batching behavior"). Keeps the item well below 400 KB.
pub const MAX_OFFSETS: usize = 10_000;

/// Attribute names of the rejected events' table that expressions need. The other attributes are the fields of
/// [`RejectedBatch`].
pub mod attribute {
    /// Partition key: the topic partition.
    pub const SOURCE: &str = "source";
    /// Sort key: the lowest offset of a rejected record.
    pub const FIRST_OFFSET: &str = "first_offset";
    /// How many records were rejected.
    pub const REJECTED: &str = "rejected";
    /// When they were rejected.
    pub const REJECTED_AT: &str = "rejected_at";
    /// DynamoDB's TTL, in epoch seconds. Not a field of [`RejectedBatch`](super::RejectedBatch): readers do not need it.
    pub const EXPIRES_AT: &str = "expires_at";
}

/// The rejected records of one topic partition in one batch, as stored. Reasons are text: the program that reads them may
/// be older or newer than the one that wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedBatch {
    /// The topic partition.
    pub source: String,
    /// The lowest offset of a rejected record.
    pub first_offset: i64,
    /// When they were rejected.
    #[serde(with = "fixed_width")]
    pub rejected_at: UnixMillis,
    /// How many records were rejected.
    pub rejected: u64,
    /// How many of them for each reason.
    pub reasons: BTreeMap<String, u64>,
    /// Their offsets, in the order of the batch; the first [`MAX_OFFSETS`].
    pub offsets: Vec<i64>,
    /// The first [`MAX_SAMPLES`] values.
    pub samples: Vec<RejectedSample>,
}

/// A rejected record's value, as far as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedSample {
    /// The record's offset.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: String,
    /// The start of the value as text, without the user's id.
    pub value: String,
}

/// Collects the rejected records of one topic partition while a batch is decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRejects {
    /// How many there are by reason.
    pub by_reason: BTreeMap<Reason, u64>,
    /// Their offsets, in the order of the batch; the first [`MAX_OFFSETS`].
    pub offsets: Vec<i64>,
    /// The first [`MAX_SAMPLES`] values.
    pub samples: Vec<RejectedSample>,
}

impl BatchRejects {
    /// Adds the record at `offset`, with its value if it has one.
    pub fn push(&mut self, offset: i64, reason: Reason, value: Option<&[u8]>) {
        *self.by_reason.entry(reason).or_default() += 1;
        if self.offsets.len() < MAX_OFFSETS {
            self.offsets.push(offset);
        }
        if self.samples.len() < MAX_SAMPLES {
            let value = sample(value.unwrap_or_default());
            self.samples.push(RejectedSample { offset, reason: reason.name().to_owned(), value });
        }
    }

    /// How many records were rejected.
    pub fn count(&self) -> u64 {
        self.by_reason.values().sum()
    }

    /// The record to store of a batch of `source` that was rejected at the time `now`. `None` when nothing was rejected.
    pub fn record(&self, source: &TopicPartition, now: UnixMillis) -> Option<RejectedBatch> {
        Some(RejectedBatch {
            source: source.as_str().to_owned(),
            first_offset: self.offsets.iter().copied().min()?,
            rejected_at: now,
            rejected: self.count(),
            reasons: self.by_reason.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            offsets: self.offsets.clone(),
            samples: self.samples.clone(),
        })
    }
}

/// The start of a value as text, with everything that looks like a user's id removed.
fn sample(value: &[u8]) -> String {
    // Twice the limit: a user's id that is cut at the limit must still be recognized.
    let head = &value[..value.len().min(2 * MAX_SAMPLE_BYTES)];
    let text = String::from_utf8_lossy(head);
    let mut text = USER_ID.replace_all(&text, "$1\"…\"").into_owned();
    text.truncate(text.floor_char_boundary(MAX_SAMPLE_BYTES));
    text
}

/// `user_id` and its value, also inside a JSON string or in broken JSON. If the end of the value is unclear, it matches too
/// much rather than too little.
static USER_ID: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant, covered by the tests")]
    Regex::new(r#"(?si)(user_?id\\*["']?\s*[:=]\s*)(?:\\*"(?:[^"\\]|\\.)*"?|[^,}\]\s]*)"#)
        .expect("the pattern is valid")
});

#[cfg(test)]
mod tests {
    use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

    use super::*;

    #[test]
    fn all_rejects_are_counted_but_only_the_first_are_kept() {
        let mut rejects = BatchRejects::default();
        for offset in 0..20_000 {
            rejects.push(offset + 7, if offset % 2 == 0 { Reason::NotJson } else { Reason::NoValue }, Some(b"x"));
        }
        let record = rejects.record(&TopicPartition::new("clicks-0", None), UnixMillis(0)).unwrap();
        assert_eq!((rejects.count(), record.first_offset), (20_000, 7));
        assert_eq!(rejects.by_reason[&Reason::NotJson], 10_000);
        assert_eq!((rejects.offsets.len(), rejects.samples.len()), (MAX_OFFSETS, MAX_SAMPLES));
    }

    #[test]
    fn an_item_has_the_attributes_that_expressions_name() {
        let mut rejects = BatchRejects::default();
        rejects.push(9, Reason::NotJson, Some(b"x"));
        rejects.push(-4, Reason::NoValue, None);
        let record = rejects.record(&TopicPartition::new("clicks-0", None), UnixMillis(1_672_159_861_000)).unwrap();
        let item = to_item(&record).unwrap();
        let mut names: Vec<_> = item.keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut expected = [
            attribute::SOURCE,
            attribute::FIRST_OFFSET,
            attribute::REJECTED,
            attribute::REJECTED_AT,
            "reasons",
            "offsets",
            "samples",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(item["first_offset"].as_n().unwrap(), "-4");
        assert_eq!(item["rejected_at"].as_s().unwrap(), "2022-12-27T16:51:01.000Z");
        assert_eq!(item["reasons"].as_m().unwrap()["not_json"].as_n().unwrap(), "1");
        assert_eq!(item["samples"].as_l().unwrap()[1].as_m().unwrap()["value"].as_s().unwrap(), "");
        assert_eq!(from_item::<RejectedBatch>(item).unwrap(), record);
    }

    #[test]
    fn a_sample_is_cut_between_characters() {
        let value = "é".repeat(2000);
        assert_eq!(sample(value.as_bytes()).len(), MAX_SAMPLE_BYTES);
        assert_eq!(sample(&[0xff, b'a']), "\u{fffd}a");
        assert!(sample(&[0xff; 5000]).len() <= MAX_SAMPLE_BYTES);
    }

    #[test]
    fn a_users_id_is_never_kept() {
        for value in [
            r#"{"user_id": "u_1233", "event_time": "x"}"#,
            r#"{"event_time": "x", "user_id":"u_1233"}"#,
            r#"{"user_id":"u_\"1233","action":1}"#,
            r#"{"user_id":"u 1233"#,
            r#"{"user_id":1233,"action":1}"#,
            r#"{"user_id": {"n":1233}}"#,
            r#""{\"user_id\":\"u_1233\",\"action\":\"click\"}""#,
            r#""{\\\"user_id\\\":\\\"u_1233\\\"}""#,
            "user_id=1233&action=click",
            "{'userId' : 1233}",
            "{\"USER_ID\"\n:\n\"u\n1233\"}",
        ] {
            assert!(!sample(value.as_bytes()).contains("1233"), "{value} keeps {}", sample(value.as_bytes()));
        }
        assert_eq!(sample(br#"{"user_id":"u_1","action":7}"#), r#"{"user_id":"…","action":7}"#);
        let late = format!("{}\"user_id\":\"1233{}\"", " ".repeat(MAX_SAMPLE_BYTES - 20), "3".repeat(3000));
        assert!(!sample(late.as_bytes()).contains("1233"));
    }
}
