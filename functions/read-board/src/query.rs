//! Parses what a request asks for: its query and its path.

use std::{ops::RangeInclusive, time::Duration};

use form_urlencoded::parse;
use hot_products::{Minute, ProductId, UnixMillis, Window, click::Reason};
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The most snapshots in one answer: a day of them.
pub const MAX_SNAPSHOTS: usize = 288;

/// The most products of each snapshot in a history.
pub const MAX_HISTORY_PRODUCTS: usize = 100;

/// The most minutes of a product's clicks in one answer over HTTP. A minute takes a query of the counters, and a board can be
/// public.
pub const MAX_MINUTES: usize = 180;

const DAY: Duration = Duration::from_hours(24);

/// A parameter that can't be used. The message says what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The parameter does not exist.
    #[error("there is no parameter {name:?}; the parameters are {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The parameters that exist.
        known: String,
    },
    /// A parameter is given twice.
    #[error("the parameter {0} is given twice; give it once")]
    Repeated(String),
    /// A value is not a number, or out of range.
    #[error("{name} is {value:?}; give a whole number from {from} to {to}")]
    Number {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// The lowest.
        from: usize,
        /// The highest.
        to: usize,
    },
    /// A value is not a time.
    #[error("{name} is {value:?}; give an RFC 3339 time such as 2022-12-27T16:50:00Z, with + written as %2B")]
    Time {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A time range ends before it begins.
    #[error("from is {from}, after to, which is {to}; give a from that is not after to")]
    Range {
        /// Where it begins.
        from: UnixMillis,
        /// Where it ends.
        to: UnixMillis,
    },
    /// The id in the path is not text.
    #[error("the product's id is not UTF-8; percent-encode the bytes of its UTF-8 form")]
    NotText,
    /// The id is not valid.
    #[error("the product's id is empty or longer than {max} bytes; give the id as in the click events", max = ProductId::MAX_BYTES)]
    ProductId,
}

impl From<Reason> for QueryError {
    fn from(_: Reason) -> Self {
        Self::ProductId
    }
}

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// How many of its products.
    pub limit: usize,
    /// The snapshot of the last window that had ended at this time; `None` for the newest snapshot.
    pub at: Option<UnixMillis>,
}

/// Which snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The first window end, inclusive.
    pub from: UnixMillis,
    /// The last, inclusive.
    pub to: UnixMillis,
    /// Whether `to` is the present and moves with it.
    pub to_now: bool,
    /// How many products of each.
    pub limit: usize,
}

/// Which minutes of a product's clicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minutes {
    /// How many.
    pub minutes: usize,
    /// The end of the last, exclusive: a minute's start.
    pub to: UnixMillis,
}

impl SnapshotQuery {
    /// Parses a query such as `limit=10&at=2022-12-27T16:50:00Z`, whose limit is in `limits`.
    ///
    /// # Errors
    /// If a parameter is unknown, repeated, or wrong.
    pub fn parse(query: &str, limits: RangeInclusive<usize>) -> Result<Self, QueryError> {
        let [limit, at] = parameters(query, ["limit", "at"])?;
        Ok(Self { limit: number("limit", limit, 100, limits)?, at: time("at", at)? })
    }

    /// The window asked for; `None` for the newest.
    pub fn window(&self) -> Option<Window> {
        self.at.map(Window::ended_by)
    }
}

impl HistoryQuery {
    /// Parses a query such as `from=2022-12-27T00:00:00Z`, at the time `now`.
    ///
    /// # Errors
    /// If a parameter is unknown, repeated, or wrong, or the range ends before it begins.
    pub fn parse(query: &str, now: UnixMillis) -> Result<Self, QueryError> {
        let [from, to, limit] = parameters(query, ["from", "to", "limit"])?;
        let to = time("to", to)?;
        let (to, to_now) = (to.unwrap_or(now), to.is_none());
        let from = time("from", from)?.unwrap_or(to.minus(DAY));
        if from > to {
            return Err(QueryError::Range { from, to });
        }
        Ok(Self { from, to, to_now, limit: number("limit", limit, 10, 1..=MAX_HISTORY_PRODUCTS)? })
    }
}

impl HistoryQuery {
    /// The windows that end in the range; `None` if there are none.
    pub fn windows(self) -> Option<RangeInclusive<Window>> {
        let first = Window::ended_by(self.from);
        let first = if first.end() < self.from { first.next() } else { first };
        let last = Window::ended_by(self.to);
        (first <= last).then_some(first..=last)
    }
}

impl Minutes {
    /// Parses a query such as `minutes=60`, at the time `now`.
    ///
    /// # Errors
    /// If a parameter is unknown, repeated, or wrong.
    pub fn parse(query: &str, now: UnixMillis) -> Result<Self, QueryError> {
        let [minutes, to] = parameters(query, ["minutes", "to"])?;
        let minutes = number("minutes", minutes, 60, 1..=MAX_MINUTES)?;
        Ok(Self { minutes, to: Minute::of(time("to", to)?.unwrap_or(now)).start() })
    }

    /// The minutes, in order.
    pub fn all(self) -> impl Iterator<Item = Minute> {
        (1..=self.minutes as u64).rev().map(move |back| Minute::of(self.to.minus(Duration::from_mins(back))))
    }

    /// The start of the first.
    pub fn from(self) -> UnixMillis {
        self.to.minus(Duration::from_mins(self.minutes as u64))
    }
}

/// The product's id in the part of a path after `/products/`, percent-decoded; `None` if that does not end in `/clicks`.
///
/// # Errors
/// If it is not a valid id.
pub fn product_id(rest: &str) -> Option<Result<ProductId<'_>, QueryError>> {
    let id = rest.strip_suffix("/clicks")?;
    Some(match percent_decode_str(id).decode_utf8() {
        Ok(id) => ProductId::parse(id).map_err(QueryError::from),
        Err(_) => Err(QueryError::NotText),
    })
}

/// The values of the parameters `names`; `None` for those that are not given.
///
/// An unknown parameter is an error, because it is probably a mistake. The parameters of a presigned URL are ignored.
fn parameters<const N: usize>(query: &str, names: [&'static str; N]) -> Result<[Option<String>; N], QueryError> {
    let mut values = [const { None }; N];
    for (name, value) in parse(query.as_bytes()) {
        match names.iter().position(|known| *known == name) {
            Some(place) if values[place].is_some() => return Err(QueryError::Repeated(name.into_owned())),
            Some(place) => values[place] = Some(value.into_owned()),
            None if name.starts_with("X-Amz-") => {}
            None => return Err(QueryError::Unknown { name: name.into_owned(), known: names.join(", ") }),
        }
    }
    Ok(values)
}

fn number(
    name: &'static str,
    value: Option<String>,
    default: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, QueryError> {
    let Some(value) = value else { return Ok(default) };
    match value.parse() {
        // Rust would accept a sign.
        Ok(number) if range.contains(&number) && !value.starts_with('+') => Ok(number),
        _ => Err(QueryError::Number { name, value, from: *range.start(), to: *range.end() }),
    }
}

fn time(name: &'static str, value: Option<String>) -> Result<Option<UnixMillis>, QueryError> {
    /// 0001-01-01T00:00:00Z. RFC 3339 can't express the day before.
    const FIRST: UnixMillis = UnixMillis(-62_135_596_800_000);
    let Some(value) = value else { return Ok(None) };
    match UnixMillis::parse_rfc3339(&value) {
        Ok(time) if time >= FIRST => Ok(Some(time)),
        _ => Err(QueryError::Time { name, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    const NOW: &str = "2022-12-27T16:52:07.5Z";
    const LIMITS: RangeInclusive<usize> = 1..=1000;

    #[test]
    fn absent_parameters_have_defaults() {
        assert_eq!(SnapshotQuery::parse("", LIMITS), Ok(SnapshotQuery { limit: 100, at: None }));
        let history = HistoryQuery::parse("", at(NOW)).unwrap();
        assert_eq!(history, HistoryQuery { from: at("2022-12-26T16:52:07.5Z"), to: at(NOW), to_now: true, limit: 10 });
        let minutes = Minutes::parse("", at(NOW)).unwrap();
        assert_eq!(minutes, Minutes { minutes: 60, to: at("2022-12-27T16:52:00Z") });
    }

    #[test]
    fn parameters_are_accepted_at_their_bounds() {
        assert_eq!(
            SnapshotQuery::parse("limit=1000&at=2022-12-27T17%3A50%3A00%2B01%3A00", LIMITS).unwrap().at,
            Some(at("2022-12-27T16:50:00Z"))
        );
        let history = HistoryQuery::parse("limit=100&from=2022-12-27T16:00:00Z&to=2022-12-27T16:00:00Z", at(NOW));
        assert_eq!(
            history.unwrap().windows(),
            Some(Window::ended_by(at("2022-12-27T16:00:00Z"))..=Window::ended_by(at("2022-12-27T16:00:00Z")))
        );
        let minutes = Minutes::parse("minutes=3&to=2022-12-27T16:50:59.999Z", at(NOW)).unwrap();
        let starts: Vec<_> = minutes.all().map(|minute| minute.start().to_string()).collect();
        assert_eq!(starts, ["2022-12-27T16:47:00Z", "2022-12-27T16:48:00Z", "2022-12-27T16:49:00Z"]);
        assert_eq!(minutes.from().to_string(), starts[0]);
    }

    #[test]
    fn a_range_includes_the_windows_that_end_in_it() {
        let ends = |from: &str, to: &str| {
            let windows = HistoryQuery { from: at(from), to: at(to), to_now: false, limit: 1 }.windows()?;
            Some((windows.start().end().to_string(), windows.end().end().to_string()))
        };
        let both = Some(("2022-12-27T16:50:00Z".to_owned(), "2022-12-27T16:55:00Z".to_owned()));
        assert_eq!(ends("2022-12-27T16:50:00Z", "2022-12-27T16:55:00Z"), both);
        assert_eq!(ends("2022-12-27T16:45:00.001Z", "2022-12-27T16:59:59.999Z"), both);
        assert_eq!(ends("2022-12-27T16:50:00.001Z", "2022-12-27T16:54:59.999Z"), None);
    }

    #[test]
    fn errors_name_the_parameter_and_say_what_to_do() {
        let newest = |query| SnapshotQuery::parse(query, LIMITS).unwrap_err().to_string();
        assert_eq!(newest("limit=0"), r#"limit is "0"; give a whole number from 1 to 1000"#);
        assert_eq!(newest("limit=+5"), r#"limit is " 5"; give a whole number from 1 to 1000"#);
        assert_eq!(newest("size=1"), r#"there is no parameter "size"; the parameters are limit, at"#);
        assert_eq!(newest("at=&at="), "the parameter at is given twice; give it once");
        assert!(newest("at=2022-12-27").starts_with(r#"at is "2022-12-27"; give an RFC 3339 time"#));
        assert!(newest("at=0000-12-31T23:59:59Z").contains("RFC 3339"));
        let range = HistoryQuery::parse("to=2022-12-27T16:00:00Z&from=2022-12-27T16:00:01Z", at(NOW)).unwrap_err();
        assert!(range.to_string().contains("give a from that is not after to"), "{range}");
        assert!(Minutes::parse("minutes=1e3", at(NOW)).is_err());
    }

    #[test]
    fn the_signature_of_a_presigned_url_is_accepted() {
        assert!(SnapshotQuery::parse("limit=5&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00", LIMITS).is_ok());
    }

    #[test]
    fn every_valid_id_can_be_in_a_path() {
        let id = |rest: &str| product_id(rest).map(|id| id.map(|id| id.as_str().to_owned()));
        let is = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(id("p1234/clicks"), is("p1234"));
        assert_eq!(id("a%2Fb/clicks"), is("a/b"));
        assert_eq!(id("a/b/clicks"), is("a/b"), "decoded by a gateway");
        assert_eq!(id("a/clicks/clicks"), is("a/clicks"));
        assert_eq!(id("caff%C3%A8+%25%20%23/clicks"), is("caffè+% #"));
        assert_eq!(id("50%/clicks"), is("50%"));
        assert_eq!(id("p1234"), None);
        assert_eq!(id("%FF/clicks"), Some(Err(QueryError::NotText)));
        assert_eq!(id("/clicks"), Some(Err(QueryError::ProductId)));
        assert_eq!(id(&format!("{}/clicks", "%41".repeat(256))), is(&"A".repeat(256)));
        assert_eq!(id(&format!("{}/clicks", "%41".repeat(257))), Some(Err(QueryError::ProductId)));
    }
}
