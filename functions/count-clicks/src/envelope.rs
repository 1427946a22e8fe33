//! The JSON that Lambda's event source mapping for Kafka wraps around the records of a batch, as far as decoding needs it.
//!
//! Lambda writes the envelope, producers write only what is inside a value. So the envelope is read strictly: an event of
//! another shape fails the invocation, and Lambda keeps it for another delivery. To reject its records instead would
//! commit clicks that were never read.
//!
//! Format: AWS Lambda Developer Guide, "Using Lambda with Amazon MSK", "Example event".

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use hot_products::click::Text;
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
        Ok(serde_json::from_slice::<Object<Self>>(event)?.0)
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
