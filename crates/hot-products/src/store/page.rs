//! A page of counters as DynamoDB sends it, parsed without a value of its own for each attribute.
//!
//! The format is DynamoDB's JSON (Amazon DynamoDB Developer Guide, "DynamoDB low-level API"):
//!
//! ```json
//! {"Count": 1, "Items": [{"bucket": {"S": "…"}, "source": {"S": "clicks-0"}, "#p1": {"N": "3"}, …}],
//!  "ConsumedCapacity": {"CapacityUnits": 0.5}, "LastEvaluatedKey": {"bucket": {"S": "…"}, "source": {"S": "clicks-0"}}}
//! ```

use std::{borrow::Cow, fmt, str};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use thiserror::Error;

use crate::counters::{CounterList, TopicPartition, attribute};

/// One page of a bucket.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    /// The counters of all items.
    pub(super) counters: CounterList,
    /// How many items the page has.
    pub(super) items: u64,
    /// Read units consumed.
    pub(super) read_units: f64,
    /// The sort key of the last item, if another page follows.
    pub(super) last_source: Option<String>,
}

/// Why a page could not be parsed.
#[derive(Debug, Error)]
pub(super) enum PageError {
    #[error("the answer has no body")]
    Missing,
    #[error("the answer is not UTF-8: {0}")]
    Text(#[from] str::Utf8Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl Page {
    /// Parses the body of an answer to a query that returned whole counter items.
    pub(super) fn parse(body: &[u8]) -> Result<Self, PageError> {
        // One check of the whole is faster than one for each string.
        let text = str::from_utf8(body)?;
        let mut page = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        PageSeed(&mut page).deserialize(&mut json)?;
        json.end()?;
        Ok(page)
    }
}

/// A string attribute.
#[derive(Deserialize)]
struct Text<'a> {
    #[serde(rename = "S", borrow)]
    value: Name<'a>,
}

#[derive(Deserialize)]
struct Key<'a> {
    #[serde(borrow)]
    source: Text<'a>,
}

#[derive(Deserialize)]
struct Capacity {
    #[serde(rename = "CapacityUnits", default)]
    units: f64,
}

/// The whole answer.
struct PageSeed<'p>(&'p mut Page);

impl<'de> DeserializeSeed<'de> for PageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer to a query")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = fields.next_key::<Name<'de>>()? {
            match &*name {
                "Items" => fields.next_value_seed(ItemsSeed(self.0))?,
                "ConsumedCapacity" => {
                    self.0.read_units = fields.next_value::<Option<Capacity>>()?.map_or(0.0, |capacity| capacity.units);
                }
                "LastEvaluatedKey" => {
                    let key = fields.next_value::<Option<Key<'de>>>()?;
                    self.0.last_source = key.map(|key| key.source.value.0.into_owned());
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct ItemsSeed<'p>(&'p mut Page);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(ItemSeed(&mut self.0.counters))?.is_some() {
            self.0.items += 1;
        }
        Ok(())
    }
}

struct ItemSeed<'p>(&'p mut CounterList);

impl<'de> DeserializeSeed<'de> for ItemSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut attributes: A) -> Result<(), A::Error> {
        let mut partition = None;
        while let Some(Name(name)) = attributes.next_key::<Name<'de>>()? {
            if let Some(product) = name.strip_prefix(attribute::COUNTER_PREFIX) {
                let Clicks(clicks) = attributes
                    .next_value()
                    .map_err(|error| de::Error::custom(format_args!("counter {name:?} is not an integer: {error}")))?;
                self.0.push(product, clicks);
            } else if name == attribute::SOURCE {
                partition = Some(TopicPartition::of_item(&attributes.next_value::<Text<'de>>()?.value.0));
            } else {
                attributes.next_value::<IgnoredAny>()?;
            }
        }
        self.0.end_item(partition.ok_or_else(|| de::Error::missing_field(attribute::SOURCE))?);
        Ok(())
    }
}

/// A string, borrowed unless it has an escape. `Cow` would always copy it.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        json.deserialize_str(NameVisitor)
    }
}

/// The value of a counter: a number attribute.
struct Clicks(u64);

impl<'de> Deserialize<'de> for Clicks {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct ClicksVisitor;

        impl<'de> Visitor<'de> for ClicksVisitor {
            type Value = Clicks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number attribute")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut value: A) -> Result<Clicks, A::Error> {
                let (Some(Name(kind)), Name(number)) = (value.next_key()?, value.next_value()?) else {
                    return Err(de::Error::missing_field("N"));
                };
                if kind != "N" || value.next_key::<IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom(format_args!("the attribute has type {kind:?}")));
                }
                number.parse().map(Clicks).map_err(|_| de::Error::custom(format_args!("it is {number:?}")))
            }
        }

        json.deserialize_map(ClicksVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(page: &Page) -> Vec<(&str, u64)> {
        page.counters.iter().collect()
    }

    #[test]
    fn a_page_has_the_counters_and_the_partitions_of_its_items_in_any_order_of_attributes() {
        let body = r###"{"Count":3,"ScannedCount":3,"ConsumedCapacity":{"CapacityUnits":1.5,"TableName":"t"},"Items":[
            {"#p1":{"N":"3"},"bucket":{"S":"b"},"source":{"S":"clicks-0"},"last_offset":{"N":"7"},"closed":{"BOOL":false}},
            {"source":{"S":"clicks-0+1"},"##":{"N":"18446744073709551615"},"#\"\u00e9\n":{"N":"0"}},
            {"source":{"S":"clicks-1@2"},"#p1":{"N":"2"}}]}"###;
        let page = Page::parse(body.as_bytes()).unwrap();
        assert_eq!(counters(&page), [("p1", 3), ("#", u64::MAX), ("\"é\n", 0), ("p1", 2)]);
        assert_eq!(
            page.counters.partitions().map(TopicPartition::as_str).collect::<Vec<_>>(),
            ["clicks-0", "clicks-1@2"]
        );
        let mut of_partitions = Vec::new();
        page.counters.for_each(|partition, product, _| of_partitions.push(format!("{partition} {product}")));
        assert_eq!(of_partitions, ["clicks-0 p1", "clicks-0 #", "clicks-0 \"é\n", "clicks-1@2 p1"]);
        assert_eq!((page.items, page.read_units.to_bits(), page.last_source), (3, 1.5_f64.to_bits(), None));
    }

    #[test]
    fn the_last_key_says_that_another_page_follows() {
        let body = br#"{"LastEvaluatedKey":{"source":{"S":"clicks-0"},"bucket":{"S":"b"}},"Items":[]}"#;
        assert_eq!(Page::parse(body).unwrap().last_source.as_deref(), Some("clicks-0"));
        assert_eq!(Page::parse(br#"{"Items":[],"LastEvaluatedKey":null}"#).unwrap(), Page::default());
    }

    #[test]
    fn what_is_not_a_page_of_counters_is_an_error_that_names_the_counter() {
        let item =
            |value: &str| Page::parse(format!(r##"{{"Items":[{{"source":{{"S":"c"}},"#p":{value}}}]}}"##).as_bytes());
        for value in
            [r#"{"N":"1.5"}"#, r#"{"N":"-1"}"#, r#"{"S":"1"}"#, r#"{"N":"1","S":"1"}"#, r#"{"N":1}"#, "{}", "1"]
        {
            let error = item(value).unwrap_err().to_string();
            assert!(error.starts_with(r##"counter "#p" is not an integer"##), "{value}: {error}");
        }
        for body in ["", "{", "[]", r#"{"Items":[{}]}"#, r#"{"Items":[]} x"#, r#"{"Items":{}}"#] {
            assert!(Page::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Page::parse(b"{\"Items\":[],\"\xff\":1}").is_err());
    }
}
