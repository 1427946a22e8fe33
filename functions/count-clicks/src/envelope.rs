//! The JSON that Lambda's event source mapping for Kafka wraps around the records of a batch, as far as decoding needs it.
//!
//! Lambda writes the envelope, producers write only what is inside a value. So the envelope is read strictly: an event of
//! another shape fails the invocation, and Lambda keeps it for another delivery. To reject its records instead would
//! commit clicks that were never read.
//!
//! Format: AWS Lambda Developer Guide, "Using Lambda with Amazon MSK", "Example event".

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use hot_products::{click::Text, plain_json::PlainJson};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use thiserror::Error;

/// The event is not a batch as Lambda's event source mapping for Kafka sends it.
///
/// Nothing was counted, and nothing may be committed: the invocation has to fail.
#[derive(Debug, Error)]
#[error(
    "the event is not an MSK batch: {problem}. Nothing was counted. Invoke count-clicks only through an Amazon MSK event source \
     mapping; if this event came from one, its format has changed: deploy a version that reads it before Kafka deletes \
     the records"
)]
pub struct NotAnMskBatch {
    problem: String,
}

impl From<serde_json::Error> for NotAnMskBatch {
    fn from(error: serde_json::Error) -> Self {
        // The parser quotes a string that it did not expect. It may hold a user's id, and up to 6 MB.
        let mut problem = error.to_string();
        if let (Some(start), Some(end)) = (problem.find('"'), problem.rfind('"')) {
            problem.replace_range(start..=end, "\"…\"");
        }
        Self { problem }
    }
}

pub(crate) type Records<'a> = BTreeMap<Text<'a>, Vec<Object<EnvelopeRecord<'a>>>>;

/// The event.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    /// The records by topic partition, such as `clicks-0`.
    #[serde(borrow, deserialize_with = "records")]
    pub(crate) records: Records<'a>,
}

impl<'a> Envelope<'a> {
    /// Reads an event.
    ///
    /// # Errors
    /// When it is not of Lambda's format.
    pub(crate) fn parse(event: &'a [u8]) -> Result<Self, NotAnMskBatch> {
        match str::from_utf8(event).ok().and_then(Self::plain) {
            Some(envelope) => Ok(envelope),
            // The event has an unusual form or another shape.
            None => Ok(serde_json::from_slice::<Object<Self>>(event)?.0),
        }
    }

    /// Reads an event in plain JSON, which is what Lambda sends.
    fn plain(event: &'a str) -> Option<Self> {
        let mut json = PlainJson::new(event)?;
        let mut records = None;
        json.object(|json, name| match name {
            b"records" if records.is_none() => {
                records = Some(plain_records(json)?);
                Some(())
            }
            b"records" => None,
            _ => json.skip(),
        })?;
        json.ends().then_some(Self { records: records? })
    }
}

fn plain_records<'a>(json: &mut PlainJson<'a>) -> Option<Records<'a>> {
    let mut records = Records::new();
    json.object(|json, name| {
        let mut of_name = Vec::new();
        json.array(|json| {
            of_name.push(Object(EnvelopeRecord::plain(json)?));
            Some(())
        })?;
        let is_new = !name.is_empty() && records.insert(Text(str::from_utf8(name).ok()?.into()), of_name).is_none();
        is_new.then_some(())
    })?;
    Some(records)
}

impl<'a> EnvelopeRecord<'a> {
    #[inline]
    fn plain(json: &mut PlainJson<'a>) -> Option<Self> {
        let (mut offset, mut value) = (None, None);
        json.object(|json, name| match name {
            b"offset" if offset.is_none() => {
                offset = Some(json.integer()?);
                Some(())
            }
            b"value" if value.is_none() => {
                value = Some(Text(json.string()?.into()));
                Some(())
            }
            b"offset" | b"value" => None,
            _ => json.skip(),
        })?;
        Some(Self { offset: offset?, value })
    }
}

/// One record. Keys, headers and timestamps do not matter here.
#[derive(Deserialize)]
pub(crate) struct EnvelopeRecord<'a> {
    /// The record's offset in its topic partition, 0 or more.
    #[serde(deserialize_with = "offset")]
    pub(crate) offset: i64,
    /// The value in Base64; `None` for a tombstone.
    #[serde(borrow)]
    pub(crate) value: Option<Text<'a>>,
}

/// Reads the records. A map's own `Deserialize` would silently drop the first of two entries with the same name.
fn records<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Records<'de>, D::Error> {
    struct RecordsVisitor;

    impl<'de> Visitor<'de> for RecordsVisitor {
        type Value = Records<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of records by topic partition")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut records = Records::new();
            while let Some((Text(name), of_name)) = map.next_entry()? {
                if name.is_empty() {
                    return Err(A::Error::custom("a topic partition without a name"));
                }
                if records.insert(Text(name), of_name).is_some() {
                    return Err(A::Error::custom("a duplicate topic partition"));
                }
            }
            Ok(records)
        }
    }

    deserializer.deserialize_map(RecordsVisitor)
}

fn offset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match i64::deserialize(deserializer)? {
        offset @ 0.. => Ok(offset),
        negative => Err(D::Error::invalid_value(Unexpected::Signed(negative), &"an offset of 0 or more")),
    }
}

/// A `T` that is written as an object. A derived `Deserialize` alone also takes an array of a struct's fields.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A valid value.
    const VALUE: &str = "e30=";

    fn event_of(records: &str) -> String {
        format!(r#"{{"records":{{"clicks-0":[{records}]}}}}"#)
    }

    fn problem_of(event: &str) -> String {
        let Err(error) = Envelope::parse(event.as_bytes()) else { panic!("accepted: {event}") };
        error.to_string()
    }

    /// The records of an envelope as text: topic partition, offset and value.
    fn texts(envelope: &Envelope<'_>) -> Vec<String> {
        let of_name = |(Text(name), records): (&Text<'_>, &Vec<Object<EnvelopeRecord<'_>>>)| {
            let records = records.iter().map(|Object(record)| format!("{} {:?}", record.offset, record.value));
            format!("{name}: {}", records.collect::<Vec<_>>().join(", "))
        };
        envelope.records.iter().map(of_name).collect()
    }

    #[test]
    fn a_record_of_another_shape_fails_the_whole_batch() {
        for (record, problem) in [
            (format!(r#"{{"value":"{VALUE}"}}"#), "missing field `offset`"),
            (
                format!(r#"{{"offset":-1,"value":"{VALUE}"}}"#),
                "invalid value: integer `-1`, expected an offset of 0 or more",
            ),
            (
                format!(r#"{{"offset":9223372036854775808,"value":"{VALUE}"}}"#),
                "invalid value: integer `9223372036854775808`, expected i64",
            ),
            (format!(r#"{{"offset":1.5,"value":"{VALUE}"}}"#), "invalid type: floating point `1.5`, expected i64"),
            (format!(r#"{{"offset":"5","value":"{VALUE}"}}"#), "invalid type: string \"…\", expected i64"),
            (format!(r#"{{"offset":null,"value":"{VALUE}"}}"#), "invalid type: null, expected i64"),
            (r#"{"offset":5,"value":7}"#.to_owned(), "invalid type: integer `7`, expected a string"),
            (r#"{"offset":5,"value":{}}"#.to_owned(), "invalid type: map, expected a string"),
            (r#"{"offset":5,"value":1e400}"#.to_owned(), "number out of range"),
            (format!(r#"{{"offset":5,"offset":5,"value":"{VALUE}"}}"#), "duplicate field `offset`"),
            (format!(r#"{{"offset":5,"value":"{VALUE}","value":"{VALUE}"}}"#), "duplicate field `value`"),
            (format!(r#"[5,"{VALUE}"]"#), "invalid type: sequence, expected an object"),
            ("null".to_owned(), "invalid type: null, expected an object"),
            ("[]".to_owned(), "invalid type: sequence, expected an object"),
            (r#""u_1233""#.to_owned(), "invalid type: string \"…\", expected an object"),
        ] {
            // Other records before and after it do not matter.
            let valid = format!(r#"{{"offset":1,"value":"{VALUE}"}}"#);
            let message = problem_of(&event_of(&format!("{valid},{record},{valid}")));
            assert!(message.starts_with(&format!("the event is not an MSK batch: {problem}")), "{record}: {message}");
            assert!(message.contains("at line 1 column"), "{message}");
            assert!(!message.contains("1233"), "{message}");
        }
    }

    #[test]
    fn a_plain_event_is_read_as_serde_json_reads_it() {
        let record = format!(r#"{{"offset": 1, "value": "{VALUE}"}}"#);
        let lambda = format!(
            r#"{{"topic":"clicks","partition":0,"offset":7,"timestamp":1,"timestampType":"X","key":null,"value":"{VALUE}","headers":[{{"h":[-1,2]}}]}}"#
        );
        let other = [
            r#"{"offset":1}"#,
            r#"{"offset":1,"value":""}"#,
            r#"{"offset":1,"value":"é😀"}"#,
            r#"{"offset":999999999999999999,"x":{"offset":2},"y":[[]]}"#,
        ];
        for records in [record.as_str(), &lambda, &format!("{record} , {lambda}"), "", &other.join(",")] {
            for event in [
                event_of(records),
                format!(
                    r#" {{ "x" : {{"records":7}} , "records" : {{ "b-1" : [ {records} ] , "a-0" : [] , "é" : [] }} , "y" : 0 }} "#
                ),
            ] {
                let plain = Envelope::plain(&event).unwrap_or_else(|| panic!("not plain: {event}"));
                let Object(other) = serde_json::from_str::<Object<Envelope<'_>>>(&event).unwrap();
                assert_eq!(texts(&plain), texts(&other), "{event}");
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_read_by_serde_json() {
        for record in [
            r#"{"offset":-0,"value":null}"#,
            r#"{"offset":9223372036854775807,"value":null}"#,
            r#"{"offset":1,"value":"\u0065\/"}"#,
            r#"{"\u006fffset":1}"#,
        ] {
            assert!(Envelope::plain(&event_of(record)).is_none(), "{record}");
        }
        let event = event_of(r#"{"offset":9223372036854775807,"\u0076alue":"\u0065\/"}"#);
        let envelope = Envelope::parse(event.as_bytes()).unwrap();
        assert_eq!(texts(&envelope), [r#"clicks-0: 9223372036854775807 Some(Text("e/"))"#]);
        // Text that is skipped need not be UTF-8.
        assert!(Envelope::parse(b"{\"x\":\"\xff\",\"records\":{}}").is_ok());
    }

    #[test]
    fn an_event_of_another_shape_is_an_error() {
        let record = format!(r#"{{"offset":1,"value":"{VALUE}"}}"#);
        for event in [
            "",
            "{}",
            "[]",
            "null",
            r#""records""#,
            r#"{"Records":[]}"#,
            r#"{"records":[]}"#,
            r#"{"records":null}"#,
            r#"{"records":"u_1233 \" u_1233"}"#,
            r#"{"records":{"clicks-0":null}}"#,
            r#"{"records":{"clicks-0":{}}}"#,
            r#"{"records":{"clicks-0":"no list"}}"#,
            r#"{"records":{},"records":{}}"#,
            &format!(r#"[{{"clicks-0":[{record}]}}]"#),
            &format!(r#"{{"records":{{"clicks-0":[{record}],"clicks-0":[{record}]}}}}"#),
            &format!(r#"{{"records":{{"":[{record}]}}}}"#),
            &format!(r#"{{"records":{{"clicks-0":[{record}]}}"#),
        ] {
            let message = problem_of(event);
            assert!(message.starts_with("the event is not an MSK batch: "), "{event}: {message}");
            assert!(
                message.contains("Invoke count-clicks only through an Amazon MSK event source mapping"),
                "{message}"
            );
            assert!(!message.contains("u_1233"), "{message}");
        }
    }
}
