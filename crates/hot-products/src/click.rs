//! Parsing and classifying: a record's value becomes an [`Event`], and a [`Policy`] decides what happens to it.
//!
//! Parsing is strict about the three fields that matter and ignores all others. `user_id` is never read, so it can be
//! neither logged nor stored.
//!
//! An [`EventShape`] says which fields these are, for topics that exist already. Events of the default shape are read by
//! `fields`, which knows the names at compile time and is faster, those of other shapes by `find`.

mod event_time;
mod fields;
mod find;
mod shape;

use std::{borrow::Cow, fmt, time::Duration};

use serde::Serialize;

use self::fields::Fields;
pub(crate) use self::find::FoundFields;
pub use self::{
    event_time::{TimeUnit, UnknownTimeUnit},
    fields::Text,
    shape::{EventFields, EventShape, FieldPath, FieldPathError, OverlappingFields, Role},
};
use crate::{defaults, time::UnixMillis};

/// How far ahead of the clock an event time may be. Allows for producers whose clocks are fast.
pub const MAX_AHEAD: Duration = Duration::from_mins(5);

/// Why a record is rejected. The names are those in the table of rejected events. They are the same for all shapes:
/// `event_time` stands for the field with the event time, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The record has no value (a tombstone).
    NoValue,
    /// The value in Lambda's event is not standard Base64.
    NotBase64,
    /// The value is not JSON in UTF-8.
    NotJson,
    /// The value is JSON, but not an object.
    NotAnObject,
    /// `event_time` is missing.
    MissingEventTime,
    /// `event_time` is not a time in the unit of the shape, or does not fit 64 bits in milliseconds.
    MistypedEventTime,
    /// `product_id` is missing.
    MissingProductId,
    /// `product_id` is not a string, or, if the shape has integers as ids, not an integer either.
    MistypedProductId,
    /// `product_id` is the empty string.
    EmptyProductId,
    /// `product_id` is longer than [`ProductId::MAX_BYTES`].
    ProductIdTooLong,
    /// `action` is missing.
    MissingAction,
    /// `action` is not a string.
    MistypedAction,
    /// `event_time` is more than [`MAX_AHEAD`] ahead of the clock.
    EventTimeInFuture,
}

impl Reason {
    /// The reason's name in tables, logs and reports, such as `not_json`.
    pub fn name(self) -> &'static str {
        match self {
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

/// A product's id: 1 to [`ProductId::MAX_BYTES`] bytes of UTF-8, with any characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProductId<'a>(Cow<'a, str>);

impl<'a> ProductId<'a> {
    /// The longest id, in bytes. An id becomes the name of an attribute in the counters table, and one update holds up to
    /// [`MAX_PRODUCTS_PER_UPDATE`](crate::protocol::MAX_PRODUCTS_PER_UPDATE) of them.
    pub const MAX_BYTES: usize = 256;

    /// Checks the length of `id`.
    ///
    /// # Errors
    /// When `id` is empty or too long: the reason to reject its event.
    pub fn parse(id: Cow<'a, str>) -> Result<Self, Reason> {
        match id.len() {
            0 => Err(Reason::EmptyProductId),
            1..=Self::MAX_BYTES => Ok(Self(id)),
            _ => Err(Reason::ProductIdTooLong),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A valid tracking event. Its action and its time decide whether it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// When it happened, according to the producer's clock.
    pub event_time: UnixMillis,
    /// The product.
    pub product_id: ProductId<'a>,
    /// What the user did: `click`, `view`, … `None` if events of this shape do not say so.
    pub action: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// Parses a record's value. Text without escapes is borrowed from it. Of a duplicate field the last is used, as most
    /// JSON parsers do.
    ///
    /// # Errors
    /// The first reason why the value is not a valid event.
    pub fn parse(value: &'a [u8], shape: &EventShape) -> Result<Self, Reason> {
        let text = std::str::from_utf8(value).map_err(|_| Reason::NotJson)?;
        if shape.is_default()
            && let Some(fields) = Fields::plain(text)
        {
            return Self::from_fields(fields, true);
        }
        Self::parse_any(text, shape)
    }

    /// Parses a value of another shape, or one that is not plain JSON.
    fn parse_any(text: &'a str, shape: &EventShape) -> Result<Self, Reason> {
        if shape.is_default()
            && let Ok(fields) = serde_json::from_str(text)
        {
            return Self::from_fields(fields, true);
        }
        Self::parse_found(text, shape)
    }

    /// Parses a value of any shape. Also one of the default shape that is not valid, to find the reason, or that has
    /// unusual fields: of a duplicate field only the last matters.
    ///
    /// The fields are found as JSON first, because a [`serde_json::Value`] can't hold every number and every nesting depth
    /// that JSON allows.
    fn parse_found(text: &'a str, shape: &EventShape) -> Result<Self, Reason> {
        let found = FoundFields::find(text, shape)?;
        let event_time = match found.event_time {
            None => None,
            Some(json) => Some(shape.time_unit().read(json).ok_or(Reason::MistypedEventTime)?.0),
        };
        let product_id = match found.product {
            Some(json) if shape.integer_product_ids() && is_integer(json) => Some(Text(Cow::Borrowed(json))),
            json => text_of(json, Reason::MistypedProductId)?,
        };
        let action = text_of(found.action, Reason::MistypedAction)?;
        Self::from_fields(Fields { event_time, product_id, action }, shape.fields().action.is_some())
    }

    fn from_fields(fields: Fields<'a>, has_action: bool) -> Result<Self, Reason> {
        let event_time = UnixMillis(fields.event_time.ok_or(Reason::MissingEventTime)?);
        let product_id = fields.product_id.ok_or(Reason::MissingProductId)?.0;
        let action = fields.action.map(|action| action.0);
        if has_action && action.is_none() {
            return Err(Reason::MissingAction);
        }
        Ok(Self { event_time, product_id: ProductId::parse(product_id)?, action })
    }
}

/// The text of a field; `mistyped` is the error if it is not a string.
fn text_of(json: Option<&str>, mistyped: Reason) -> Result<Option<Text<'_>>, Reason> {
    match json.map(|json| (json, serde_json::from_str(json))) {
        None => Ok(None),
        Some((_, Ok(text))) => Ok(Some(text)),
        // A string with half a surrogate pair is not valid text.
        Some((json, Err(_))) if json.starts_with('"') => Err(Reason::NotJson),
        Some((_, Err(_))) => Err(mistyped),
    }
}

/// Whether a JSON value is an integer as JSON writes it, so that equal numbers have equal text: neither 7.0 nor 7e0, and not
/// -0.
fn is_integer(json: &str) -> bool {
    json != "-0" && json.strip_prefix('-').unwrap_or(json).bytes().all(|byte| byte.is_ascii_digit())
}

/// What happens to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classification<'a> {
    /// It is a click: it adds one to the counter of its product and minute.
    Counted(Event<'a>),
    /// A valid event whose action is not counted.
    Ignored,
    /// Older than [`Policy::max_event_age`].
    Stale(Event<'a>),
    /// Not a valid event, or one from the future.
    Rejected(Reason),
}

/// The rules that decide which events are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How events are written.
    pub shape: EventShape,
    /// The actions that are counted. Upper and lower case matter. If the shape has no action, all events are counted.
    pub counted_actions: Vec<String>,
    /// An event older than this is stale, and is not counted.
    pub max_event_age: Duration,
}

/// The rules when nothing is set.
impl Default for Policy {
    fn default() -> Self {
        Self {
            shape: EventShape::default(),
            counted_actions: vec![defaults::COUNTED_ACTION.to_owned()],
            max_event_age: defaults::MAX_EVENT_AGE,
        }
    }
}

impl Policy {
    /// Classifies the record with this `value` at the time `now`.
    pub fn classify<'a>(&self, now: UnixMillis, value: &'a [u8]) -> Classification<'a> {
        let event = match Event::parse(value, &self.shape) {
            Ok(event) => event,
            Err(reason) => return Classification::Rejected(reason),
        };
        let counts = |action: &Cow<'_, str>| self.counted_actions.iter().any(|counted| counted == action);
        if !event.action.as_ref().is_none_or(counts) {
            Classification::Ignored
        } else if event.event_time > now.plus(MAX_AHEAD) {
            Classification::Rejected(Reason::EventTimeInFuture)
        } else if event.event_time < now.minus(self.max_event_age) {
            Classification::Stale(event)
        } else {
            Classification::Counted(event)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_672_131_001_234);

    fn policy() -> Policy {
        Policy { max_event_age: Duration::from_hours(2), ..Policy::default() }
    }

    fn event(time: i64) -> String {
        format!(r#"{{"event_time":{time},"product_id":"p1","action":"click","user_id":"u_1"}}"#)
    }

    fn parse(value: &[u8]) -> Result<Event<'_>, Reason> {
        Event::parse(value, &EventShape::default())
    }

    fn reason(value: &str) -> Reason {
        parse(value.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_documented_event_is_counted() {
        let value = br#"{"event_time": 1672131001234, "product_id": "p1234", "action": "click", "user_id": "u_1233"}"#;
        let Classification::Counted(event) = policy().classify(NOW, value) else { panic!("not counted") };
        assert_eq!((event.event_time, event.product_id.as_str()), (NOW, "p1234"));
        assert!(matches!(event.product_id.0, Cow::Borrowed(_)), "text without escapes is borrowed");
    }

    #[test]
    fn escapes_unknown_fields_and_duplicate_fields_are_accepted() {
        let value = r#"{"x":[[{"y":null}]],"product_id":"old","product_id":"a\"b\u00e9\ud83d\ude00","action":"click","event_time":1}"#;
        assert_eq!(parse(value.as_bytes()).unwrap().product_id.as_str(), "a\"bé😀");
        let value = r#"{"event_time":"1","event_time":2,"product_id":"p","action":"click"}"#;
        assert_eq!(parse(value.as_bytes()).unwrap().event_time, UnixMillis(2));
    }

    #[test]
    fn huge_numbers_and_deep_nesting_are_valid_json() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for odd in ["1e400", "-1e400", &deep] {
            let twice = format!(r#"{{"product_id":{odd},"event_time":1,"product_id":"p","action":"click"}}"#);
            assert!(parse(twice.as_bytes()).is_ok(), "only the last of a duplicate field matters");
            assert_eq!(reason(&event(1).replace("\"p1\"", odd)), Reason::MistypedProductId);
            assert_eq!(reason(&format!(r#"{{"event_time":{odd},"x":{odd}}}"#)), Reason::MistypedEventTime);
            assert_eq!(reason(odd), Reason::NotAnObject);
        }
    }

    #[test]
    fn each_fault_has_its_own_reason() {
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
        assert_eq!(parse(b"{\"event_time\":1,\"x\":\"\xff\"}").unwrap_err(), Reason::NotJson);
        assert!(parse(event(1).replace("p1", &"x".repeat(256)).as_bytes()).is_ok());
    }

    #[test]
    fn deep_nesting_neither_recurses_nor_panics() {
        let deep = "[".repeat(200_000);
        assert_eq!(reason(&deep), Reason::NotJson);
        let value =
            format!(r#"{{"x":{}{},"event_time":1,"product_id":"p","action":"click"}}"#, deep, "]".repeat(200_000));
        assert!(parse(value.as_bytes()).is_ok());
    }

    #[test]
    fn event_times_exactly_at_the_limits_are_counted() {
        let (two_hours, five_minutes) = (7_200_000, 300_000);
        let classify = |time| {
            let value = event(time);
            match policy().classify(NOW, value.as_bytes()) {
                Classification::Counted(_) => "counted",
                Classification::Ignored => "ignored",
                Classification::Stale(_) => "stale",
                Classification::Rejected(reason) => reason.name(),
            }
        };
        assert_eq!(classify(NOW.0 - two_hours), "counted");
        assert_eq!(classify(NOW.0 - two_hours - 1), "stale");
        assert_eq!(classify(NOW.0 + five_minutes), "counted");
        assert_eq!(classify(NOW.0 + five_minutes + 1), "event_time_in_future");
        assert_eq!(classify(i64::MIN), "stale");
        assert_eq!(classify(i64::MAX), "event_time_in_future");
    }

    #[test]
    fn integers_are_product_ids_if_the_shape_says_so() {
        let shape = EventShape::new(EventFields::default(), TimeUnit::default(), true).unwrap();
        let id = |json: &str| {
            let value = event(1).replace("\"p1\"", json);
            Event::parse(value.as_bytes(), &shape).map(|event| event.product_id.as_str().to_owned())
        };
        let huge = "9".repeat(256);
        for (json, product) in [("7", "7"), ("\"7\"", "7"), ("-1", "-1"), ("0", "0"), (&huge, &huge), ("\"p\"", "p")] {
            assert_eq!(id(json).as_deref(), Ok(product), "{json}");
        }
        for json in ["7.0", "7e0", "7E2", "-0", "-0.0", "true", "null", "[7]", "{}"] {
            assert_eq!(id(json), Err(Reason::MistypedProductId), "{json}");
        }
        assert_eq!(id(&"9".repeat(257)), Err(Reason::ProductIdTooLong));
        assert_eq!(id("\"\\ud800\""), Err(Reason::NotJson));
    }

    #[test]
    fn without_an_action_every_event_counts() {
        let fields = EventFields { action: None, ..EventFields::default() };
        let policy = Policy { shape: EventShape::new(fields, TimeUnit::default(), false).unwrap(), ..policy() };
        for value in [event(NOW.0), event(NOW.0).replace("click", "view"), event(NOW.0).replace("\"click\"", "7")] {
            let Classification::Counted(event) = policy.classify(NOW, value.as_bytes()) else { panic!("{value}") };
            assert_eq!(event.action, None);
        }
        let value = event(NOW.0).replace("product_id", "id");
        assert_eq!(policy.classify(NOW, value.as_bytes()), Classification::Rejected(Reason::MissingProductId));
    }

    #[test]
    fn other_actions_are_ignored_at_any_time() {
        let value = event(0).replace("click", "view");
        assert_eq!(policy().classify(NOW, value.as_bytes()), Classification::Ignored);
    }
}
