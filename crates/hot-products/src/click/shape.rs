//! The shape of events: which fields of a record's JSON hold what counting needs, and how they are written.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::event_time::TimeUnit;
use crate::defaults;

/// The place of a field in an event: its name, or, for a field in nested objects, their names and its own, joined by dots.
///
/// A dot always separates names: `payload.ts` is the field `ts` in the object `payload`. A field whose own name has a dot
/// can't be named, nor an element of an array.
///
/// ```
/// use hot_products::click::FieldPath;
///
/// assert!("payload.ts".parse::<FieldPath>().is_ok());
/// assert!("payload..ts".parse::<FieldPath>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// The most bytes of a path. Generous: parameters of the stack are shorter.
    pub const MAX_BYTES: usize = 256;
    /// The most names in a path. It bounds how often the text of nested objects is read.
    pub const MAX_NAMES: usize = 8;
    /// What says that there is no such field, in settings and options that can say so.
    pub const NONE: &str = "none";

    /// Parses a path, or [`FieldPath::NONE`].
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, FieldPathError> {
        if text == Self::NONE { Ok(None) } else { text.parse().map(Some) }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether it is the field `name` outside any nested object.
    pub(crate) fn is_top_level(&self, name: &str) -> bool {
        matches!(self.0.as_slice(), [only] if only == name)
    }

    /// Whether the paths are equal, or one of the fields is in the other.
    fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(name, other)| name == other)
    }

    /// A field that is not in another.
    fn top_level(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX_BYTES {
            return Err(FieldPathError::TooLong);
        }
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(FieldPathError::EmptyName);
        }
        if names.len() > Self::MAX_NAMES {
            return Err(FieldPathError::TooDeep);
        }
        Ok(Self(names))
    }
}

/// As it is parsed.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Why a text is not a [`FieldPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldPathError {
    /// Such as in `payload..ts`, or without any.
    #[error(
        "give the name of a field, or for a nested field names joined by dots, such as payload.ts; none may be empty"
    )]
    EmptyName,
    /// More names than [`FieldPath::MAX_NAMES`].
    #[error("give at most {} names joined by dots", FieldPath::MAX_NAMES)]
    TooDeep,
    /// More bytes than [`FieldPath::MAX_BYTES`].
    #[error("give at most {} bytes", FieldPath::MAX_BYTES)]
    TooLong,
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// When it happened.
    EventTime,
    /// The product's id.
    Product,
    /// What the user did.
    Action,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventTime => "event time",
            Self::Product => "product id",
            Self::Action => "action",
        })
    }
}

/// The fields of an event that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFields {
    /// When it happened.
    pub event_time: FieldPath,
    /// The product's id.
    pub product: FieldPath,
    /// What the user did. `None` if events do not say so: then each of them is counted.
    pub action: Option<FieldPath>,
}

impl Default for EventFields {
    fn default() -> Self {
        Self {
            event_time: FieldPath::top_level(defaults::EVENT_TIME_FIELD),
            product: FieldPath::top_level(defaults::PRODUCT_FIELD),
            action: Some(FieldPath::top_level(defaults::ACTION_FIELD)),
        }
    }
}

/// Two fields of which one is the other, or is in it. No event could have both.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the {role} can't be in {path} if the {other_role} is in {other_path}: give fields of which none is in another"
)]
pub struct OverlappingFields {
    /// What the later field is for, in the order of [`Role`].
    pub role: Role,
    /// The later field.
    pub path: FieldPath,
    /// What the earlier field is for.
    pub other_role: Role,
    /// The earlier field.
    pub other_path: FieldPath,
}

/// How events are written: their fields, the unit of their times, and whether product ids can be numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventShape {
    fields: EventFields,
    time_unit: TimeUnit,
    integer_product_ids: bool,
    /// Whether it is the shape with the shortest way through the parser. Known once, not for each event.
    is_default: bool,
}

/// `{"event_time": 1672131001234, "product_id": "p1234", "action": "click"}`.
impl Default for EventShape {
    fn default() -> Self {
        Self {
            fields: EventFields::default(),
            time_unit: TimeUnit::default(),
            integer_product_ids: false,
            is_default: true,
        }
    }
}

impl EventShape {
    /// A shape. With `integer_product_ids`, a product's id may also be an integer: 7 is the same product as "7".
    ///
    /// # Errors
    /// When two fields are the same, or one is in another.
    pub fn new(fields: EventFields, time_unit: TimeUnit, integer_product_ids: bool) -> Result<Self, OverlappingFields> {
        let roles = [
            (Role::EventTime, Some(&fields.event_time)),
            (Role::Product, Some(&fields.product)),
            (Role::Action, fields.action.as_ref()),
        ];
        let paths = || roles.iter().filter_map(|(role, path)| Some((*role, (*path)?)));
        for (number, (role, path)) in paths().enumerate() {
            if let Some((other_role, other_path)) = paths().take(number).find(|(_, other)| other.overlaps(path)) {
                let (path, other_path) = (path.clone(), other_path.clone());
                return Err(OverlappingFields { role, path, other_role, other_path });
            }
        }
        let is_default = fields == EventFields::default() && time_unit == TimeUnit::default() && !integer_product_ids;
        Ok(Self { fields, time_unit, integer_product_ids, is_default })
    }

    /// The fields.
    pub fn fields(&self) -> &EventFields {
        &self.fields
    }

    /// The unit of event times.
    pub fn time_unit(&self) -> TimeUnit {
        self.time_unit
    }

    /// Whether a product's id may be an integer.
    pub fn integer_product_ids(&self) -> bool {
        self.integer_product_ids
    }

    pub(super) fn is_default(&self) -> bool {
        self.is_default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    fn shape(event_time: &str, product: &str, action: &str) -> Result<EventShape, OverlappingFields> {
        let action = FieldPath::parse_optional(action).unwrap();
        let fields = EventFields { event_time: path(event_time), product: path(product), action };
        EventShape::new(fields, TimeUnit::Milliseconds, false)
    }

    #[test]
    fn a_path_has_one_to_eight_names() {
        assert_eq!(path("ts").names(), ["ts"]);
        assert_eq!(path("payload.after.@ts").names(), ["payload", "after", "@ts"]);
        assert_eq!(path("a.b").to_string(), "a.b");
        assert_eq!(path("a.b.c.d.e.f.g.h").names().len(), FieldPath::MAX_NAMES);
        for (text, error) in [
            ("", FieldPathError::EmptyName),
            (".", FieldPathError::EmptyName),
            ("a.", FieldPathError::EmptyName),
            (".a", FieldPathError::EmptyName),
            ("a..b", FieldPathError::EmptyName),
            ("a.b.c.d.e.f.g.h.i", FieldPathError::TooDeep),
            (&"x".repeat(257), FieldPathError::TooLong),
        ] {
            assert_eq!(text.parse::<FieldPath>(), Err(error), "{text}");
        }
        assert!("x".repeat(256).parse::<FieldPath>().is_ok());
        assert_eq!(FieldPath::parse_optional("none"), Ok(None));
        assert_eq!(FieldPath::parse_optional("None"), Ok(Some(path("None"))));
    }

    #[test]
    fn no_field_is_another_or_in_another() {
        for (event_time, product, action) in
            [("ts", "id", "none"), ("a.ts", "a.id", "a.action"), ("a", "ab", "abc"), ("a.b", "b.a", "b.c")]
        {
            assert!(shape(event_time, product, action).is_ok(), "{event_time} {product} {action}");
        }
        let message = |event_time, product, action| shape(event_time, product, action).unwrap_err().to_string();
        assert_eq!(
            message("payload.ts", "payload", "action"),
            "the product id can't be in payload if the event time is in payload.ts: give fields of which none is in another"
        );
        assert!(message("ts", "ts", "none").starts_with("the product id can't be in ts if the event time is in ts"));
        assert!(message("a", "b", "b.c").starts_with("the action can't be in b.c if the product id is in b"));
        assert!(message("a.b.c", "d", "a.b").starts_with("the action can't be in a.b if the event time is in a.b.c"));
    }

    #[test]
    fn a_shape_knows_whether_it_is_the_default() {
        assert_eq!(shape("event_time", "product_id", "action"), Ok(EventShape::default()));
        assert!(!shape("event_time", "product_id", "none").unwrap().is_default());
        let fields = EventFields::default;
        assert!(!EventShape::new(fields(), TimeUnit::Seconds, false).unwrap().is_default());
        assert!(!EventShape::new(fields(), TimeUnit::Milliseconds, true).unwrap().is_default());
        assert!(EventShape::new(fields(), TimeUnit::Milliseconds, false).unwrap().is_default());
    }
}
