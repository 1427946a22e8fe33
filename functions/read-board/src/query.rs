//! What a request asks for: its query and its path, parsed.

use std::{ops::RangeInclusive, time::Duration};

use form_urlencoded::parse;
use hot_products::{Minute, ProductId, UnixMillis, Window, click::Reason, snapshot::MAX_TOP_N};
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The most snapshots in one answer: a day of them.
pub const MAX_SNAPSHOTS: usize = 288;

/// The most products of each snapshot in a history.
pub const MAX_HISTORY_PRODUCTS: usize = 100;

/// The most minutes of a product's clicks in one answer: a day of them.
pub const MAX_MINUTES: usize = 1440;

const DAY: Duration = Duration::from_hours(24);

/// A parameter that can't be used: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// There is no such parameter.
    #[error("there is no parameter {name:?} here; the parameters are {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A parameter comes twice.
    #[error("the parameter {0} is given twice; give it once")]
    Repeated(String),
    /// A number is none, or out of its range.
    #[error("{name} is {value:?}; give a whole number from {from} to {to}")]
    Number {
        /// The parameter.
        name: &'static str,
        /// What it is.
        value: String,
        /// The lowest.
        from: usize,
        /// The highest.
        to: usize,
    },
    /// A time is none.
    #[error("{name} is {value:?}; give an RFC 3339 time such as 2022-12-27T16:50:00Z, with a + in it as %2B")]
    Time {
        /// The parameter.
        name: &'static str,
        /// What it is.
        value: String,
    },
    /// A range ends before it begins.
    #[error("from is {from}, after to, which is {to}; give a from that is not after to")]
    Range {
        /// Where it begins.
        from: UnixMillis,
        /// Where it ends.
        to: UnixMillis,
    },
    /// The id in the path is no text.
    #[error("the product's id is no UTF-8; percent-encode the bytes of its UTF-8 form")]
    NotText,
    /// No product can have the id.
    #[error("the product's id is empty or longer than {max} bytes; give the id as the click events have it", max = ProductId::MAX_BYTES)]
    ProductId,
}

impl From<Reason> for QueryError {
    fn from(_: Reason) -> Self {
        Self::ProductId
    }
}

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// How many of its products.
    pub limit: usize,
    /// The last window to have ended at this time; without it, the newest there is.
    pub at: Option<UnixMillis>,
}

/// Which snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The first window end, inclusive.
    pub from: UnixMillis,
    /// The last, inclusive.
    pub to: UnixMillis,
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

impl Newest {
    /// Parses a query such as `limit=10&at=2022-12-27T16:50:00Z`.
    ///
    /// # Errors
    /// When a parameter is unknown, repeated, or wrong.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let [limit, at] = parameters(query, ["limit", "at"])?;
        Ok(Self { limit: number("limit", limit, 100, 1..=MAX_TOP_N)?, at: time("at", at)? })
    }
}

impl History {
    /// Parses a query such as `from=2022-12-27T00:00:00Z`, at the time `now`.
    ///
    /// # Errors
    /// When a parameter is unknown, repeated, or wrong, or the range ends before it begins.
    pub fn parse(query: &str, now: UnixMillis) -> Result<Self, QueryError> {
        let [from, to, limit] = parameters(query, ["from", "to", "limit"])?;
        let to = time("to", to)?.unwrap_or(now);
        let from = time("from", from)?.unwrap_or(to.minus(DAY));
        if from > to {
            return Err(QueryError::Range { from, to });
        }
        Ok(Self { from, to, limit: number("limit", limit, 10, 1..=MAX_HISTORY_PRODUCTS)? })
    }
}

impl History {
    /// The windows that end in the range; `None` where none does.
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
    /// When a parameter is unknown, repeated, or wrong.
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

/// The product's id in the rest of a path behind `/products/`, percent-encoded; `None` where that does not end in
/// `/clicks`.
///
/// # Errors
/// When it is no id.
pub fn product_id(rest: &str) -> Option<Result<ProductId<'_>, QueryError>> {
    let id = rest.strip_suffix("/clicks")?;
    Some(match percent_decode_str(id).decode_utf8() {
        Ok(id) => ProductId::parse(id).map_err(QueryError::from),
        Err(_) => Err(QueryError::NotText),
    })
}

/// The values of the parameters `names`, as far as they are given.
///
/// A name that nobody knows is more likely a mistake than harmless. Those of a presigned URL are the exception.
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
        // A sign, though Rust would take it, is none of a whole number here.
        Ok(number) if range.contains(&number) && !value.starts_with('+') => Ok(number),
        _ => Err(QueryError::Number { name, value, from: *range.start(), to: *range.end() }),
    }
}

fn time(name: &'static str, value: Option<String>) -> Result<Option<UnixMillis>, QueryError> {
    /// 0001-01-01T00:00:00Z. A day before that could not be said in RFC 3339.
    const FIRST: UnixMillis = UnixMillis(-62_135_596_800_000);
    let Some(value) = value else { return Ok(None) };
    match UnixMillis::parse_rfc3339(&value) {
        Ok(time) if time >= FIRST => Ok(Some(time)),
        _ => Err(QueryError::Time { name, value }),
    }
}
