//! What is stored of a rejected record's value. Nobody can know what a broken record contains, so a sample is made from an
//! allow-list: nothing is copied from a value except what this module names. The original stays in Kafka.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::click::{EventShape, FieldPath, FoundFields, Reason, Text};

/// The longest value of an event's field that is stored, in bytes.
pub const MAX_VALUE_BYTES: usize = 64;
/// How many names of other fields are stored.
pub const MAX_OTHER_FIELDS: usize = 16;
/// The longest name of another field that is stored, in bytes.
pub const MAX_NAME_BYTES: usize = 32;
/// How many digits such a name may have. More look like an id.
const MAX_NAME_DIGITS: usize = 2;

/// The first bytes of formats that producers send in place of JSON.
const MAGIC: [(&[u8], &str); 5] = [
    (b"Obj\x01", "avro_container"),      // Apache Avro specification, "Object Container Files"
    (b"\xc3\x01", "avro_single_object"), // Apache Avro specification, "Single-object encoding"
    (b"\x1f\x8b", "gzip"),               // RFC 1952, section 2.3.1
    (b"\x28\xb5\x2f\xfd", "zstd"),       // RFC 8878, section 3.1.1
    (b"\0", "confluent_schema_registry"), // Confluent, "Wire format": the magic byte before the schema's id
];

/// A rejected record, as far as it is stored. Reasons, contents and types are text: the program that reads them may be
/// older or newer than the one that wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedSample {
    /// The record's offset.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: String,
    /// The kind of its value, such as `json_object`, `json_array`, `broken_json`, `xml`, `gzip`, `text` or `binary`; `none`
    /// for a record without a value.
    pub content: String,
    /// The length of its value, in bytes.
    pub bytes: u64,
    /// A hash of its value (XXH3, 64 bits, hexadecimal), by which equal values can be recognized. Only of values that are
    /// not JSON objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What a JSON object consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectSample>,
}

impl RejectedSample {
    /// The sample of the record at `offset`, with its value if it has one. Of the fields that `shape` names, values may be
    /// stored: what they hold is what the counters would store too.
    pub fn of(offset: i64, reason: Reason, value: Option<&[u8]>, shape: &EventShape) -> Self {
        let object = value.and_then(|value| ObjectSample::parse(value, shape));
        let content = match (value, &object) {
            (None, _) => "none",
            (Some(_), Some(_)) => "json_object",
            (Some(value), None) => content(value),
        };
        let hash = value.filter(|_| object.is_none()).map(|value| format!("{:016x}", xxh3_64(value)));
        let bytes = value.map_or(0, <[u8]>::len) as u64;
        Self { offset, reason: reason.name().to_owned(), content: content.to_owned(), bytes, hash, object }
    }
}

/// The fields of a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSample {
    /// Those fields of an event that it has, such as `event_time`, `product_id` and `action`. Of a duplicate field the last.
    pub fields: BTreeMap<String, FieldSample>,
    /// The types of other fields by name: the first [`MAX_OTHER_FIELDS`] whose names look like the name of a field. Not of
    /// fields in nested objects.
    pub other_fields: BTreeMap<String, String>,
    /// How many fields there are besides: a name can be a user's id too.
    pub unnamed_fields: u64,
}

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSample {
    /// The type of its value: `string`, `number`, `boolean`, `null`, `array` or `object`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The length of its value, in bytes: of a string's text, otherwise of the JSON.
    pub bytes: u64,
    /// The value, if it is a string or a number of at most [`MAX_VALUE_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl FieldSample {
    fn of(json: &str) -> Self {
        let kind = kind(json);
        let text = match kind {
            // A string with half a surrogate pair is not valid text.
            "string" => serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0.into_owned()),
            "number" => Some(json.to_owned()),
            _ => None,
        };
        let bytes = text.as_ref().map_or(json.len(), String::len) as u64;
        Self { kind: kind.to_owned(), bytes, value: text.filter(|text| text.len() <= MAX_VALUE_BYTES) }
    }
}

impl ObjectSample {
    /// The fields of `value`; `None` if it is not a JSON object.
    fn parse(value: &[u8], shape: &EventShape) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut json = serde_json::Deserializer::from_str(text);
        let mut object = json.deserialize_map(ObjectVisitor(shape)).ok()?;
        json.end().ok()?;
        // It fails if the name of a field in a nested object is not valid text.
        if let Ok(found) = FoundFields::find(text, shape) {
            let fields = fields(shape).zip([found.event_time, found.product, found.action]);
            object.fields = fields
                .filter_map(|(path, json)| path.zip(json))
                .map(|(path, json)| (path.to_string(), FieldSample::of(json)))
                .collect();
        }
        Some(object)
    }

    /// Adds a field that is not one of an event.
    fn push(&mut self, name: &str, value: &RawValue) {
        let kind = kind(value.get());
        if let Some(known) = self.other_fields.get_mut(name) {
            kind.clone_into(known);
        } else if self.other_fields.len() < MAX_OTHER_FIELDS && is_field_name(name) {
            self.other_fields.insert(name.to_owned(), kind.to_owned());
        } else {
            self.unnamed_fields += 1;
        }
    }
}

/// The paths of an event's fields.
fn fields(shape: &EventShape) -> impl Iterator<Item = Option<&FieldPath>> {
    let fields = shape.fields();
    [Some(&fields.event_time), Some(&fields.product), fields.action.as_ref()].into_iter()
}

struct ObjectVisitor<'s>(&'s EventShape);

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ObjectSample;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = ObjectSample::default();
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
            if !fields(self.0).flatten().any(|path| path.is_top_level(&name)) {
                object.push(&name, value);
            }
        }
        Ok(object)
    }
}

/// Whether `name` looks like the name that a programmer gives a field, and not like data.
fn is_field_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && name.bytes().filter(u8::is_ascii_digit).count() <= MAX_NAME_DIGITS
}

/// The type of a JSON value.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// The kind of a value that is not a JSON object.
fn content(value: &[u8]) -> &'static str {
    if value.is_empty() {
        return "empty";
    }
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| value.starts_with(magic)) {
        return format;
    }
    let Ok(text) = std::str::from_utf8(value) else { return "binary" };
    if let Ok(raw) = serde_json::from_str::<&RawValue>(text) {
        return match kind(raw.get()) {
            "string" => "json_string",
            "array" => "json_array",
            "boolean" => "json_boolean",
            "null" => "json_null",
            "number" => "json_number",
            // It parses, but the name of a field is not valid text.
            _ => "broken_json",
        };
    }
    match text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).bytes().next() {
        Some(b'<') => "xml",
        Some(b'{' | b'[') => "broken_json",
        _ if text.chars().all(|char| !char.is_control() || matches!(char, '\t' | '\r' | '\n')) => "text",
        _ => "binary",
    }
}

#[cfg(test)]
mod tests;
