//! A record's value becomes an [`Event`], and a [`Policy`] sorts it into one of four [`Outcome`]s.
//!
//! Parsing is strict about the three fields that matter and blind to all others: `user_id` is never read, so that it
//! can be neither logged nor stored.

use std::{borrow::Cow, fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::time::UnixMillis;

/// How far ahead of the clock an event's time may lie: room for producers whose clocks run fast.
pub const MAX_AHEAD: Duration = Duration::from_mins(5);

/// Why a record can't be counted. The names are those of the rejected-events table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The envelope's record is not of the shape that Lambda documents: no object, or no offset.
    MalformedRecord,
    /// The record has no value: a tombstone, or none in the envelope.
    NoValue,
    /// The envelope's value is no standard Base64 text.
    NotBase64,
    /// The value is no JSON text in UTF-8.
    NotJson,
    /// The value is JSON, but no object.
    NotAnObject,
    /// `event_time` is missing.
    MissingEventTime,
    /// `event_time` is no whole number of milliseconds that fits 64 bits.
    MistypedEventTime,
    /// `product_id` is missing.
    MissingProductId,
    /// `product_id` is no string.
    MistypedProductId,
    /// `product_id` is the empty string.
    EmptyProductId,
    /// `product_id` is longer than [`ProductId::MAX_BYTES`].
    ProductIdTooLong,
    /// `action` is missing.
    MissingAction,
    /// `action` is no string.
    MistypedAction,
    /// `event_time` lies more than [`MAX_AHEAD`] ahead of the clock.
    EventTimeInFuture,
}

impl Reason {
    /// The reason's name in tables, logs and reports, such as `not_json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedRecord => "malformed_record",
            Self::NoValue => "no_value",
            Self::NotBase64 => "not_base64",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::MissingEventTime => "missing_event_time",
            Self::MistypedEventTime => "mistyped_event_time",
            Self::MissingProductId => "missing_product_id",
            Self::MistypedProductId => "mistyped_product_id",
            Self::EmptyProductId => "empty_product_id",
            Self::ProductIdTooLong => "product_id_too_long",
            Self::MissingAction => "missing_action",
            Self::MistypedAction => "mistyped_action",
            Self::EventTimeInFuture => "event_time_in_future",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A product's id: 1 to [`ProductId::MAX_BYTES`] bytes of UTF-8, any characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProductId<'a>(Cow<'a, str>);

impl<'a> ProductId<'a> {
    /// The longest id, in bytes: an id is an attribute's name in the counters table, and 200 of them go into one
    /// update.
    pub const MAX_BYTES: usize = 256;

    /// Takes `id` as a product's id.
    ///
    /// # Errors
    /// The reason to reject the event that holds it, when `id` is empty or too long.
    pub fn parse(id: Cow<'a, str>) -> Result<Self, Reason> {
        match id.len() {
            0 => Err(Reason::EmptyProductId),
            1..=Self::MAX_BYTES => Ok(Self(id)),
            _ => Err(Reason::ProductIdTooLong),
        }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A well-formed tracking event: one that could be counted if its action and its time are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// When it happened, by the producer's clock.
    pub event_time: UnixMillis,
    /// What it happened to.
    pub product_id: ProductId<'a>,
    /// What happened: `click`, `view`, …
    pub action: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// Parses a record's value, borrowing from it what has no escapes. Where a field stands twice, the last counts,
    /// as most JSON parsers have it.
    ///
    /// # Errors
    /// The first reason why the value is no event.
    pub fn parse(value: &'a [u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(value).map_err(|_| Reason::NotJson)?;
        match serde_json::from_str(text) {
            Ok(fields) => Self::from_fields(fields),
            Err(_) => Self::parse_slowly(text),
        }
    }

    fn from_fields(fields: Fields<i64, Text<'a>>) -> Result<Self, Reason> {
        let event_time = fields.event_time.ok_or(Reason::MissingEventTime)?;
        let product_id = fields.product_id.ok_or(Reason::MissingProductId)?.0;
        let action = fields.action.ok_or(Reason::MissingAction)?.0;
        Ok(Self { event_time: UnixMillis(event_time), product_id: ProductId::parse(product_id)?, action })
    }

    /// Reads a value that held something wrong once more, to name it. It may be well after all: only the last of a
    /// field that stands twice matters.
    ///
    /// The fields are read as raw text first, for a [`serde_json::Value`] holds neither every number nor every depth
    /// that JSON may have.
    fn parse_slowly(text: &'a str) -> Result<Self, Reason> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| Reason::NotJson)?;
        if !raw.get().starts_with('{') {
            return Err(Reason::NotAnObject);
        }
        let fields: Fields<&RawValue, &RawValue> = serde_json::from_str(text).map_err(|_| Reason::NotJson)?;
        let text = |field: Option<&'a RawValue>, mistyped| match field.map(|raw| (raw, serde_json::from_str(raw.get())))
        {
            None => Ok(None),
            Some((_, Ok(text))) => Ok(Some(text)),
            // A string that is no text: half a pair of surrogates.
            Some((raw, Err(_))) if raw.get().starts_with('"') => Err(Reason::NotJson),
            Some((_, Err(_))) => Err(mistyped),
        };
        let event_time = match fields.event_time.map(|raw| serde_json::from_str(raw.get())) {
            None => None,
            Some(time) => Some(time.map_err(|_| Reason::MistypedEventTime)?),
        };
        let product_id = text(fields.product_id, Reason::MistypedProductId)?;
        let action = text(fields.action, Reason::MistypedAction)?;
        Self::from_fields(Fields { event_time, product_id, action })
    }
}

/// The fields that matter, read as far as `Time` and `Text` say. By hand, for a derived `Deserialize` would take an
/// array for an object and refuse a field that stands twice.
struct Fields<Time, Text> {
    event_time: Option<Time>,
    product_id: Option<Text>,
    action: Option<Text>,
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

/// A JSON text that is borrowed where it has no escapes; serde borrows a bare `Cow` only when told to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'de, Time: Deserialize<'de>, Text: Deserialize<'de>> Deserialize<'de> for Fields<Time, Text> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor<Time, Text>(PhantomData<(Time, Text)>);

        impl<'de, Time: Deserialize<'de>, Text: Deserialize<'de>> Visitor<'de> for FieldsVisitor<Time, Text> {
            type Value = Fields<Time, Text>;

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

        deserializer.deserialize_map(FieldsVisitor(PhantomData))
    }
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It adds one to its product's counter of its minute.
    Counted(Event<'a>),
    /// A well-formed event whose action is not counted.
    Ignored,
    /// Too old for any window to come.
    Stale(Event<'a>),
    /// No event, or one that can't be true.
    Rejected(Reason),
}

/// The rules that sort events; the same for every batch of a function's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The actions that count, exactly as events write them.
    pub counted_actions: Vec<String>,
    /// An event older than this is stale: no window to come can see it.
    pub max_event_age: Duration,
}

impl Policy {
    /// Sorts the record with this `value` at the time `now`.
    pub fn sort<'a>(&self, now: UnixMillis, value: &'a [u8]) -> Outcome<'a> {
        let event = match Event::parse(value) {
            Ok(event) => event,
            Err(reason) => return Outcome::Rejected(reason),
        };
        if !self.counted_actions.iter().any(|action| *action == event.action) {
            Outcome::Ignored
        } else if event.event_time > now.plus(MAX_AHEAD) {
            Outcome::Rejected(Reason::EventTimeInFuture)
        } else if event.event_time < now.minus(self.max_event_age) {
            Outcome::Stale(event)
        } else {
            Outcome::Counted(event)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_672_131_001_234);

    fn policy() -> Policy {
        Policy { counted_actions: vec!["click".into()], max_event_age: Duration::from_hours(2) }
    }

    fn event(time: i64) -> String {
        format!(r#"{{"event_time":{time},"product_id":"p1","action":"click","user_id":"u_1"}}"#)
    }

    fn reason(value: &str) -> Reason {
        Event::parse(value.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_sample_event_of_the_contract_is_counted() {
        let value = br#"{"event_time": 1672131001234, "product_id": "p1234", "action": "click", "user_id": "u_1233"}"#;
        let Outcome::Counted(event) = policy().sort(NOW, value) else { panic!("not counted") };
        assert_eq!((event.event_time, event.product_id.as_str()), (NOW, "p1234"));
        assert!(matches!(event.product_id.0, Cow::Borrowed(_)), "nothing is copied without need");
    }

    #[test]
    fn escapes_unknown_fields_and_repeated_fields_are_fine() {
        let value = r#"{"x":[[{"y":null}]],"product_id":"old","product_id":"a\"b\u00e9\ud83d\ude00","action":"click","event_time":1}"#;
        assert_eq!(Event::parse(value.as_bytes()).unwrap().product_id.as_str(), "a\"bé😀");
        let value = r#"{"event_time":"1","event_time":2,"product_id":"p","action":"click"}"#;
        assert_eq!(Event::parse(value.as_bytes()).unwrap().event_time, UnixMillis(2));
    }

    #[test]
    fn numbers_and_depths_beyond_a_parsers_reach_are_json_all_the_same() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for odd in ["1e400", "-1e400", &deep] {
            let twice = format!(r#"{{"product_id":{odd},"event_time":1,"product_id":"p","action":"click"}}"#);
            assert!(Event::parse(twice.as_bytes()).is_ok(), "only the last of a field that stands twice matters");
            assert_eq!(reason(&event(1).replace("\"p1\"", odd)), Reason::MistypedProductId);
            assert_eq!(reason(&format!(r#"{{"event_time":{odd},"x":{odd}}}"#)), Reason::MistypedEventTime);
            assert_eq!(reason(odd), Reason::NotAnObject);
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let long = "x".repeat(257);
        for (value, expected) in [
            ("", Reason::NotJson),
            ("nonsense", Reason::NotJson),
            (r#"{"event_time":1,"#, Reason::NotJson),
            (r#"{"event_time":1,"product_id":"p","action":"click"} x"#, Reason::NotJson),
            (r#"{"event_time":1,"product_id":"\ud800","action":"click"}"#, Reason::NotJson),
            ("42", Reason::NotAnObject),
            ("null", Reason::NotAnObject),
            (r#"[1672131001234,"p1","click"]"#, Reason::NotAnObject),
            (r#"{"product_id":"p","action":"click"}"#, Reason::MissingEventTime),
            (r#"{"event_time":"1","product_id":"p","action":"click"}"#, Reason::MistypedEventTime),
            (r#"{"event_time":1.5,"product_id":"p","action":"click"}"#, Reason::MistypedEventTime),
            (r#"{"event_time":null,"product_id":"p","action":"click"}"#, Reason::MistypedEventTime),
            (r#"{"event_time":99999999999999999999,"product_id":"p","action":"click"}"#, Reason::MistypedEventTime),
            (r#"{"event_time":1,"action":"click"}"#, Reason::MissingProductId),
            (r#"{"event_time":1,"product_id":7,"action":"click"}"#, Reason::MistypedProductId),
            (r#"{"event_time":1,"product_id":"","action":"click"}"#, Reason::EmptyProductId),
            (&format!(r#"{{"event_time":1,"product_id":"{long}","action":"click"}}"#), Reason::ProductIdTooLong),
            (r#"{"event_time":1,"product_id":"p"}"#, Reason::MissingAction),
            (r#"{"event_time":1,"product_id":"p","action":["click"]}"#, Reason::MistypedAction),
        ] {
            assert_eq!(reason(value), expected, "{value}");
        }
        assert_eq!(Event::parse(b"{\"event_time\":1,\"x\":\"\xff\"}").unwrap_err(), Reason::NotJson);
        assert!(Event::parse(event(1).replace("p1", &"x".repeat(256)).as_bytes()).is_ok());
    }

    #[test]
    fn deep_nesting_neither_recurses_nor_panics() {
        let deep = "[".repeat(200_000);
        assert_eq!(reason(&deep), Reason::NotJson);
        let value =
            format!(r#"{{"x":{}{},"event_time":1,"product_id":"p","action":"click"}}"#, deep, "]".repeat(200_000));
        assert!(Event::parse(value.as_bytes()).is_ok());
    }

    #[test]
    fn the_bounds_of_time_belong_to_the_counted() {
        let (two_hours, five_minutes) = (7_200_000, 300_000);
        let sort = |time| {
            let value = event(time);
            match policy().sort(NOW, value.as_bytes()) {
                Outcome::Counted(_) => "counted",
                Outcome::Ignored => "ignored",
                Outcome::Stale(_) => "stale",
                Outcome::Rejected(reason) => reason.name(),
            }
        };
        assert_eq!(sort(NOW.0 - two_hours), "counted");
        assert_eq!(sort(NOW.0 - two_hours - 1), "stale");
        assert_eq!(sort(NOW.0 + five_minutes), "counted");
        assert_eq!(sort(NOW.0 + five_minutes + 1), "event_time_in_future");
        assert_eq!(sort(i64::MIN), "stale");
        assert_eq!(sort(i64::MAX), "event_time_in_future");
    }

    #[test]
    fn an_action_that_is_not_counted_is_ignored_whatever_its_time() {
        let value = event(0).replace("click", "view");
        assert_eq!(policy().sort(NOW, value.as_bytes()), Outcome::Ignored);
    }
}
