//! The fields of an event of the default shape, as JSON.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::plain_json::PlainJson;

/// The fields that matter. Written by hand, because a derived `Deserialize` accepts an array in place of an object and
/// refuses a duplicate field.
pub(super) struct Fields<'a> {
    /// In milliseconds since the Unix epoch.
    pub(super) event_time: Option<i64>,
    pub(super) product_id: Option<Text<'a>>,
    pub(super) action: Option<Text<'a>>,
}

impl<'a> Fields<'a> {
    /// Reads an event in plain JSON, which is faster. Names with escapes and values of another type are not plain.
    pub(super) fn plain(text: &'a str) -> Option<Self> {
        let mut fields = Self { event_time: None, product_id: None, action: None };
        let mut json = PlainJson::new(text)?;
        json.object(|json, name| {
            match name {
                b"event_time" => fields.event_time = Some(json.integer()?),
                b"product_id" => fields.product_id = Some(Text(Cow::Borrowed(json.string()?))),
                b"action" => fields.action = Some(Text(Cow::Borrowed(json.string()?))),
                _ => json.skip()?,
            }
            Some(())
        })?;
        json.ends().then_some(fields)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    EventTime,
    ProductId,
    Action,
    #[serde(other)]
    Other,
}

/// A JSON string, borrowed if it has no escapes. (Serde does not borrow a plain `Cow`.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a click event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields { event_time: None, product_id: None, action: None };
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::EventTime => fields.event_time = Some(map.next_value()?),
                        Field::ProductId => fields.product_id = Some(map.next_value()?),
                        Field::Action => fields.action = Some(map.next_value()?),
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::click::{Event, EventShape};

    const NAMES: &[&str] =
        &["event_time", "product_id", "action", "user_id", "x", "", "action\\u0020", "product_i\\u0064"];
    const VALUES: &[&str] = &[
        "1672131001234",
        "0",
        "-1",
        "-0",
        "01",
        "1.0",
        "1e3",
        "9223372036854775807",
        "9223372036854775808",
        "999999999999999999",
        "\"p1\"",
        "\"click\"",
        "\"view\"",
        "\"\"",
        "\"é😀\"",
        "\"a\\\"b\"",
        "\"\\ud800\"",
        "null",
        "true",
        "[]",
        "{}",
        "[1,[2,{\"event_time\":3}]]",
        "{\"action\":\"click\"}",
        "tru",
        "",
        "\"",
        "\u{7f}",
        "\"\n\"",
    ];

    /// Values that are events or close to it, from parts.
    fn values() -> impl Strategy<Value = Vec<u8>> {
        let field =
            (prop::sample::select(NAMES), prop::sample::select(VALUES), prop::sample::select(vec!["", " ", "\n"]))
                .prop_map(|(name, value, space)| format!("{space}\"{name}\"{space}:{space}{value}{space}"));
        let valid =
            Just([r#""event_time":1672131001234"#, r#""product_id":"p1""#, r#""action":"click""#].map(String::from));
        let fields = (valid, prop::collection::vec(field, 0..4))
            .prop_map(|(valid, odd)| valid.into_iter().chain(odd).collect::<Vec<_>>())
            .prop_shuffle();
        let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()));
        (fields, change, prop::sample::select(vec!["", " ", "x", "}"])).prop_map(|(fields, change, end)| {
            let mut value = format!("{{{}}}{end}", fields.join(",")).into_bytes();
            if let Some((position, byte, insert)) = change {
                let position = position.index(value.len());
                if insert { value.insert(position, byte) } else { value[position] = byte }
            }
            value
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_plain_value_is_read_as_serde_json_reads_it_and_as_other_shapes_are_read(value in values()) {
            // A line break before the value makes it one that is not plain, and changes nothing else.
            let other = [b"\n", value.as_slice()].concat();
            prop_assert!(PlainJson::new(&String::from_utf8_lossy(&other)).is_none());
            let shape = EventShape::default();
            let event = Event::parse(&value, &shape);
            prop_assert_eq!(&event, &Event::parse(&other, &shape), "{}", String::from_utf8_lossy(&value));
            for value in [&value, &other] {
                if let Ok(text) = str::from_utf8(value) {
                    prop_assert_eq!(&event, &Event::parse_found(text, &shape), "{}", text);
                }
            }
        }
    }

    #[test]
    fn usual_values_are_plain() {
        for value in [
            r#"{"event_time":1672131001234,"product_id":"p1","action":"click","user_id":"u_1"}"#,
            r#"{"event_time": 1672131001234, "product_id": "p1", "action": "click", "user_id": null, "x": {"y": [1.5]}}"#,
        ] {
            assert!(Fields::plain(value).is_some(), "{value}");
        }
    }
}
