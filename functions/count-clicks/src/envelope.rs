//! The shape of Lambda's Kafka event, as far as it matters: read by hand, for a derived `Deserialize` would take an array
//! for an object and refuse a field that stands twice.

use std::{fmt, marker::PhantomData};

use hot_products::{Reason, click::Text, rejects::NO_OFFSET};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// What counts of an event: the entries of `records`, also where it stands twice, with the records of a source read as
/// `R`.
pub(crate) struct Envelope<'a, R>(Vec<Entries<'a, R>>);

impl<'a, R> Envelope<'a, R> {
    /// The sources by name, each with its records; one that stands twice comes twice.
    pub(crate) fn into_sources(self) -> impl Iterator<Item = (Text<'a>, R)> {
        self.0.into_iter().flat_map(|entries| entries.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EnvelopeField {
    Records,
    #[serde(other)]
    Other,
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Envelope<'de, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor<R>(PhantomData<R>);

        impl<'de, R: Deserialize<'de>> Visitor<'de> for EnvelopeVisitor<R> {
            type Value = Envelope<'de, R>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `records`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut records = Vec::new();
                while let Some(field) = map.next_key()? {
                    match field {
                        EnvelopeField::Records => records.push(map.next_value()?),
                        EnvelopeField::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                if records.is_empty() { Err(de::Error::missing_field("records")) } else { Ok(Envelope(records)) }
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor(PhantomData))
    }
}

/// The entries of an object in their order, a name that stands twice included.
struct Entries<'a, V>(Vec<(Text<'a>, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<'de, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
            type Value = Entries<'de, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of records by topic partition")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// What counts of a record; the source is known from the records' name, and keys, headers and timestamps don't matter.
pub(crate) struct Record<'a> {
    /// From 0.
    pub(crate) offset: i64,
    /// Base64, if it is well.
    pub(crate) value: Option<Text<'a>>,
}

/// Reads a record of the wrong shape once more, slowly, to save its offset if it has one, and to name what is wrong.
pub(crate) fn why_malformed(record: &str) -> (i64, Reason) {
    let fields = serde_json::from_str(record).map_or(Vec::new(), |Entries::<&RawValue>(fields)| fields);
    let last = |name| fields.iter().rfind(|(field, _)| field.0 == name).map(|(_, value)| value.get());
    match last("offset").and_then(|offset| serde_json::from_str(offset).ok()) {
        Some(offset @ 0..) if !last("value").is_some_and(|value| value.starts_with('"')) => (offset, Reason::NotBase64),
        Some(offset @ 0..) => (offset, Reason::MalformedRecord),
        _ => (NO_OFFSET, Reason::MalformedRecord),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    Offset,
    Value,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Record<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;

        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = Record<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Kafka record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut offset, mut value) = (None, None);
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Offset => offset = Some(map.next_value()?),
                        Field::Value => value = map.next_value()?,
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                match offset {
                    Some(offset @ 0..) => Ok(Record { offset, value }),
                    _ => Err(de::Error::custom("a record has an offset from 0")),
                }
            }
        }

        deserializer.deserialize_map(RecordVisitor)
    }
}
