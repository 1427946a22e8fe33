//! What is kept of the records that were rejected: one item a source and batch, for a producer gone wrong sends bad
//! records by the million. The originals stay in Kafka at the offsets noted here.

use std::{collections::BTreeMap, sync::LazyLock};

use regex_lite::Regex;

use crate::click::Reason;

/// How many raw values an item keeps.
pub const MAX_SAMPLES: usize = 5;
/// What is kept of a raw value, in bytes.
pub const MAX_SAMPLE_BYTES: usize = 1024;
/// How many offsets an item lists: all of a batch, whose records Lambda limits to 10,000 for Kafka (AWS Lambda
/// Developer Guide, "Batching behavior"). Keeps the item well below 400 KB.
pub const MAX_OFFSETS: usize = 10_000;

/// A rejected record's value, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The record's offset.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: Reason,
    /// The value's start as text, without the user's id.
    pub value: String,
}

/// The rejected records of one source in one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejects {
    /// How many there are by reason.
    pub by_reason: BTreeMap<Reason, u64>,
    /// Where they are, in the order of the batch; the first [`MAX_OFFSETS`].
    pub offsets: Vec<i64>,
    /// The first [`MAX_SAMPLES`] values.
    pub samples: Vec<Sample>,
}

impl Rejects {
    /// Notes the record at `offset`, with its value where it has one.
    pub fn push(&mut self, offset: i64, reason: Reason, value: Option<&[u8]>) {
        *self.by_reason.entry(reason).or_default() += 1;
        if self.offsets.len() < MAX_OFFSETS {
            self.offsets.push(offset);
        }
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(Sample { offset, reason, value: sample(value.unwrap_or_default()) });
        }
    }

    /// How many records were rejected.
    pub fn count(&self) -> u64 {
        self.by_reason.values().sum()
    }

    /// The sort key of the item: the lowest offset. `None` when nothing was rejected.
    pub fn first_offset(&self) -> Option<i64> {
        self.offsets.iter().copied().min()
    }
}

/// The start of a raw value as text, with what looks like a user's id blotted out.
fn sample(value: &[u8]) -> String {
    // A user's id that is cut off behind the limit must not be told from one that is not.
    let head = &value[..value.len().min(2 * MAX_SAMPLE_BYTES)];
    let text = String::from_utf8_lossy(head);
    let mut text = USER_ID.replace_all(&text, "$1\"…\"").into_owned();
    text.truncate(text.floor_char_boundary(MAX_SAMPLE_BYTES));
    text
}

/// `user_id` and its value, also within a string of JSON or in broken JSON. Where the value's end is in doubt it takes
/// too much rather than too little.
static USER_ID: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant, tried by the tests")]
    Regex::new(r#"(?si)(user_?id\\*["']?\s*[:=]\s*)(?:\\*"(?:[^"\\]|\\.)*"?|[^,}\]\s]*)"#).expect("a valid pattern")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_whole_and_kept_in_part() {
        let mut rejects = Rejects::default();
        for offset in 0..20_000 {
            rejects.push(offset + 7, if offset % 2 == 0 { Reason::NotJson } else { Reason::NoValue }, Some(b"x"));
        }
        assert_eq!((rejects.count(), rejects.first_offset()), (20_000, Some(7)));
        assert_eq!(rejects.by_reason[&Reason::NotJson], 10_000);
        assert_eq!((rejects.offsets.len(), rejects.samples.len()), (MAX_OFFSETS, MAX_SAMPLES));
    }

    #[test]
    fn a_sample_is_cut_at_a_character() {
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
