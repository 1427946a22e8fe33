//! Finds the fields of an event of any shape, without reading the rest of it.

use std::fmt;

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Reason, Text,
    shape::{EventShape, FieldPath},
};
use crate::plain_json::PlainJson;

/// How many fields an event has that matter.
const FIELDS: usize = 3;

/// The JSON of an event's fields, without white space around it. Of a duplicate field the last, also if it is an object
/// with the wanted field in it: an earlier object of that name does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundFields<'a> {
    pub(crate) event_time: Option<&'a str>,
    pub(crate) product: Option<&'a str>,
    pub(crate) action: Option<&'a str>,
}

impl<'a> FoundFields<'a> {
    /// Finds the fields in a record's value.
    ///
    /// # Errors
    /// When it is not JSON, or not an object. Objects that are looked into must have names that are valid text.
    pub(crate) fn find(text: &'a str, shape: &EventShape) -> Result<Self, Reason> {
        let fields = shape.fields();
        let action = fields.action.as_ref().map(FieldPath::names);
        let paths = Paths([Some(fields.event_time.names()), Some(fields.product.names()), action]);
        let [event_time, product, action] = match find_plain(text, paths) {
            Some(found) => found,
            None => find_any(text, paths)?,
        };
        Ok(Self { event_time, product, action })
    }
}

/// The JSON of each field, if it was found.
type Found<'a> = [Option<&'a str>; FIELDS];

/// Where to look for each field, from an object on. `None` if it is not there, or not wanted.
#[derive(Clone, Copy)]
struct Paths<'p>([Option<&'p [String]>; FIELDS]);

impl Paths<'_> {
    /// Where to look in the field `name` of the object. An empty path means that the field itself is wanted.
    fn within(self, name: &[u8]) -> Self {
        Self(self.0.map(|path| {
            let (first, rest) = path?.split_first()?;
            (first.as_bytes() == name).then_some(rest)
        }))
    }

    /// The number of the field that is wanted itself. There is one at most, because no field is in another.
    fn wanted(self) -> Option<usize> {
        self.0.iter().position(|path| path.is_some_and(<[String]>::is_empty))
    }

    fn is_empty(self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Forgets what was found in an earlier field of the same name.
    fn forget(self, found: &mut Found<'_>) {
        for (path, found) in self.0.iter().zip(found) {
            if path.is_some() {
                *found = None;
            }
        }
    }
}

/// Finds the fields in plain JSON, which is faster.
fn find_plain<'a>(text: &'a str, paths: Paths<'_>) -> Option<Found<'a>> {
    let mut found = [None; FIELDS];
    let mut json = PlainJson::new(text)?;
    find_in_plain_object(&mut json, paths, &mut found)?;
    json.ends().then_some(found)
}

/// Reads an object. It calls itself as often as paths have names, however deep the text is.
fn find_in_plain_object<'a>(json: &mut PlainJson<'a>, paths: Paths<'_>, found: &mut Found<'a>) -> Option<()> {
    json.object(|json, name| {
        let within = paths.within(name);
        if within.is_empty() {
            return json.skip();
        }
        within.forget(found);
        match within.wanted() {
            Some(field) => found[field] = Some(json.raw()?),
            None if json.starts_object() => find_in_plain_object(json, within, found)?,
            None => json.skip()?,
        }
        Some(())
    })
}

/// Finds the fields in any JSON. `serde_json` does not recurse for what is not looked into.
fn find_any<'a>(text: &'a str, paths: Paths<'_>) -> Result<Found<'a>, Reason> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| Reason::NotJson)?;
    if !raw.get().starts_with('{') {
        return Err(Reason::NotAnObject);
    }
    find_in_object(raw.get(), paths)
}

/// Reads an object, and then the objects in it that have wanted fields.
fn find_in_object<'a>(object: &'a str, paths: Paths<'_>) -> Result<Found<'a>, Reason> {
    let mut json = serde_json::Deserializer::from_str(object);
    let mut found = json.deserialize_map(ObjectVisitor(paths)).map_err(|_| Reason::NotJson)?;
    for field in 0..FIELDS {
        let Some([first, _, ..]) = paths.0[field] else { continue };
        let (within, Some(object)) = (paths.within(first.as_bytes()), found[field]) else { continue };
        // Once for the fields of an object: they stand where the first of them was found.
        if within.0[..field].iter().any(Option::is_some) {
            continue;
        }
        let inner = if object.starts_with('{') { find_in_object(object, within)? } else { [None; FIELDS] };
        for (other, path) in within.0.iter().enumerate() {
            if path.is_some() {
                found[other] = inner[other];
            }
        }
    }
    Ok(found)
}

/// Keeps the JSON of fields that are wanted or have wanted fields in them.
struct ObjectVisitor<'p>(Paths<'p>);

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; FIELDS];
        while let Some(Text(name)) = map.next_key()? {
            let within = self.0.within(name.as_bytes());
            if within.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &'de RawValue = map.next_value()?;
            for (path, found) in within.0.iter().zip(&mut found) {
                if path.is_some() {
                    *found = Some(value.get());
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::{collection::vec, option, prelude::*, sample::select};
    use serde_json::json;

    use super::*;
    use crate::{
        click::{Event, EventFields, TimeUnit},
        time::UnixMillis,
    };

    fn shape(event_time: &str, product: &str, action: &str) -> EventShape {
        let fields = EventFields {
            event_time: event_time.parse().unwrap(),
            product: product.parse().unwrap(),
            action: FieldPath::parse_optional(action).unwrap(),
        };
        EventShape::new(fields, TimeUnit::Milliseconds, true).unwrap()
    }

    /// The fields as text, in both ways.
    fn find<'a>(text: &'a str, shape: &EventShape) -> Result<[&'a str; FIELDS], Reason> {
        let fields = shape.fields();
        let action = fields.action.as_ref().map(FieldPath::names);
        let paths = Paths([Some(fields.event_time.names()), Some(fields.product.names()), action]);
        let found = find_any(text, paths);
        if let Some(plain) = find_plain(text, paths) {
            assert_eq!(found, Ok(plain), "{text}");
        }
        found.map(|found| found.map(|field| field.unwrap_or("-")))
    }

    #[test]
    fn fields_are_found_at_their_paths_and_nowhere_else() {
        let shape = shape("meta.ts", "payload.item.id", "type");
        for (text, found) in [
            (r#"{"meta":{"ts":1},"payload":{"item":{"id":"a"}},"type":"pv"}"#, ["1", "\"a\"", "\"pv\""]),
            (
                r#"{"type":"pv" , "meta":{"x":{"ts":2},"ts": 1 },"payload":{"id":"b","item":{"id":[1, 2]}}}"#,
                ["1", "[1, 2]", "\"pv\""],
            ),
            (
                r#"{"ts":1,"meta":[{"ts":1}],"payload":{"item":null},"payload.item.id":"a","meta.ts":1}"#,
                ["-", "-", "-"],
            ),
            (r#"{"meta":"{\"ts\":1}","payload":7,"type":null}"#, ["-", "-", "null"]),
            (r#"{"m\u0065ta":{"\u0074s":1},"payload":{"it\u0065m":{"id":"\u0061"}}}"#, ["1", r#""\u0061""#, "-"]),
            ("{}", ["-", "-", "-"]),
        ] {
            assert_eq!(find(text, &shape), Ok(found), "{text}");
        }
    }

    #[test]
    fn of_duplicate_fields_and_objects_the_last_is_used() {
        let shape = shape("a.ts", "a.b.id", "a.b.action");
        for (text, found) in [
            (r#"{"a":{"ts":1,"b":{"id":1,"action":1}},"a":{"ts":2}}"#, ["2", "-", "-"]),
            (r#"{"a":{"ts":1,"b":{"id":1},"b":{"action":2}}}"#, ["1", "-", "2"]),
            (r#"{"a":{"ts":1},"a":null}"#, ["-", "-", "-"]),
            (r#"{"a":null,"a":{"b":[],"b":{"id":1,"id":2}}}"#, ["-", "2", "-"]),
        ] {
            assert_eq!(find(text, &shape), Ok(found), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_object_has_no_fields() {
        let shape = shape("a.ts", "a.id", "none");
        for text in
            ["", "{", "{\"a\":{\"ts\":1}", "{\"a\":{\"ts\":1,}}", "{\"a\":{\"\\ud800\":1}}", "{\"\\ud800\":1}", "{} x"]
        {
            assert_eq!(find(text, &shape), Err(Reason::NotJson), "{text}");
        }
        // Nobody looks into it.
        assert_eq!(find("{\"b\":{\"\\ud800\":1}}", &shape), Ok(["-", "-", "-"]));
        for text in ["null", "[{\"a\":{\"ts\":1}}]", "1e400", " \"{}\" "] {
            assert_eq!(find(text, &shape), Err(Reason::NotAnObject), "{text}");
        }
    }

    #[test]
    fn deep_nesting_neither_recurses_nor_panics() {
        let shape = shape("a.a.a.a.a.a.a.a", "b", "none");
        let nested = |depth: usize| format!(r#"{}7{},"b":1}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth - 1));
        assert_eq!(find(&nested(8), &shape), Ok(["7", "1", "-"]));
        let deep = nested(100_000);
        let [event_time, product, _] = find(&deep, &shape).unwrap();
        assert_eq!((event_time.len(), product), (99_992 * 6 + 1, "1"));
        assert_eq!(find(&r#"{"a":"#.repeat(100_000), &shape), Err(Reason::NotJson));
    }

    /// An object to write, or a value.
    enum Node {
        Object(Vec<(String, Node)>),
        Value(String),
    }

    /// Puts a value at a path.
    fn put(object: &mut Vec<(String, Node)>, path: &[String], json: String) {
        let [name, rest @ ..] = path else { unreachable!("a path has a name") };
        if rest.is_empty() {
            return object.push((name.clone(), Node::Value(json)));
        }
        let position = object.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            object.push((name.clone(), Node::Object(Vec::new())));
            object.len() - 1
        });
        if let Node::Object(inner) = &mut object[position].1 {
            put(inner, rest, json);
        }
    }

    /// Writes an object, with other fields in it. `dice` decides how.
    fn write(object: &[(String, Node)], dice: &mut vec::IntoIter<u8>) -> String {
        let mut roll = |sides: u8| usize::from(dice.next().unwrap_or(0) % sides);
        let odd = ["null", "-1e400", r#"{"a":{"ts":1},"b":2}"#, "[[{}]]", r#""\ud83d\ude00""#, "\"x\""];
        let mut fields = Vec::new();
        for (name, node) in object {
            let mut text = json!(name).to_string();
            if roll(4) == 0 {
                let escapes: Vec<_> = name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                text = format!("\"{}\"", escapes.concat());
            }
            match roll(4) {
                0 => fields.push(format!("{text}:{}", odd[roll(6)])),
                1 => fields.push(format!("\"other\" : {}", odd[roll(6)])),
                _ => {}
            }
            let colon = [":", ": ", "\t:"][roll(3)];
            let value = match node {
                Node::Value(json) => json.clone(),
                Node::Object(inner) => {
                    let mut rest: Vec<u8> = (0..64).map(|_| roll(255) as u8).collect();
                    rest.reverse();
                    write(inner, &mut rest.into_iter())
                }
            };
            fields.push(format!("{text}{colon}{value}"));
        }
        format!("{{{}}}", fields.join([",", ", ", ",\n"][roll(3)]))
    }

    fn shapes() -> impl Strategy<Value = EventShape> {
        let name = select(vec!["a", "b", "ts", "é", "x y", "q\"", "event_time", "action"]);
        let path = vec(name, 1..=4).prop_map(|names| names.join(".").parse::<FieldPath>().unwrap());
        let units = vec![TimeUnit::Milliseconds, TimeUnit::Seconds, TimeUnit::Microseconds, TimeUnit::Rfc3339];
        let action = option::weighted(0.8, path.clone());
        (path.clone(), path, action, select(units), any::<bool>()).prop_filter_map(
            "fields must differ",
            |(event_time, product, action, unit, integers)| {
                EventShape::new(EventFields { event_time, product, action }, unit, integers).ok()
            },
        )
    }

    /// A time as JSON, in a unit. `finer` is below a millisecond.
    fn time(millis: i64, unit: TimeUnit, finer: u8) -> String {
        let sign = if millis < 0 { "-" } else { "" };
        match unit {
            TimeUnit::Milliseconds => millis.to_string(),
            TimeUnit::Seconds => format!("{sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000),
            TimeUnit::Microseconds => (millis * 1000 + i64::from(finer)).to_string(),
            TimeUnit::Rfc3339 => format!("{:?}", UnixMillis(millis).rfc3339()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn an_event_is_the_same_in_any_shape(
            shape in shapes(),
            // The years from 1 to 9999, which RFC 3339 can write.
            millis in prop_oneof![-62_135_596_800_000_i64..253_402_300_799_999, -2000..2000_i64],
            product in "[a-z\"\\\\ é]{1,8}|0|-?[1-9][0-9]{0,30}|.{1,60}",
            action in "click|view|.{0,9}",
            dice in vec(any::<u8>(), 400),
            order in Just([0, 1, 2]).prop_shuffle(),
        ) {
            let usual = json!({"event_time": millis, "product_id": product, "action": action}).to_string();
            let mut expected = Event::parse(usual.as_bytes(), &EventShape::default()).unwrap();

            let is_integer = product == "0" || product.trim_start_matches('-').starts_with(|c: char| ('1'..='9').contains(&c))
                && product.strip_prefix('-').unwrap_or(&product).chars().all(|c| c.is_ascii_digit());
            let id = if shape.integer_product_ids() && is_integer { product.clone() } else { json!(product).to_string() };
            let fields = shape.fields();
            let mut object = Vec::new();
            for field in order {
                match field {
                    0 => put(&mut object, fields.event_time.names(), time(millis, shape.time_unit(), dice[0])),
                    1 => put(&mut object, fields.product.names(), id.clone()),
                    _ => match &fields.action {
                        Some(path) => put(&mut object, path.names(), json!(action).to_string()),
                        None => expected.action = None,
                    },
                }
            }
            let text = write(&object, &mut dice.into_iter());
            prop_assert_eq!(Event::parse(text.as_bytes(), &shape), Ok(expected.clone()), "{}", text);
            // Not plain, which changes nothing else.
            let other = format!("\n{text}");
            prop_assert_eq!(Event::parse(other.as_bytes(), &shape), Ok(expected), "{}", other);
        }
    }
}
