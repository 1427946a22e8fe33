//! What an invocation asks for.

use serde::Deserialize;
use thiserror::Error;

/// The event, such as `{"clicks": 10000, "minutes": 5, "products": 500}`. Each field has this default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// How many clicks to write, 1 to 100,000.
    pub clicks: u64,
    /// Over how many minutes before now their event times are spread, 1 to 60: those of a window.
    pub minutes: u64,
    /// Of how many products, 1 to 10,000.
    pub products: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self { clicks: 10_000, minutes: 5, products: 500 }
    }
}

/// A field that is out of range.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{field}` is {value}: give a whole number from 1 to {most}")]
pub struct RequestError {
    /// Its name.
    field: &'static str,
    /// Its value.
    value: u64,
    /// The largest value.
    most: u64,
}

impl Request {
    /// Checks the fields. The limits bound what one invocation costs, and its memory.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), RequestError> {
        let fields =
            [("clicks", self.clicks, 100_000), ("minutes", self.minutes, 60), ("products", self.products, 10_000)];
        match fields.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            Some((field, value, most)) => Err(RequestError { field, value, most }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(event: &str) -> Result<Request, String> {
        let request: Request = serde_json::from_str(event).map_err(|error| error.to_string())?;
        request.check().map(|()| request).map_err(|error| error.to_string())
    }

    #[test]
    fn each_field_has_a_default_and_limits() {
        assert_eq!(checked("{}"), Ok(Request { clicks: 10_000, minutes: 5, products: 500 }));
        let largest = checked(r#"{"clicks": 100000, "minutes": 60, "products": 10000}"#);
        assert_eq!(largest, Ok(Request { clicks: 100_000, minutes: 60, products: 10_000 }));
        for (event, message) in [
            (r#"{"clicks": 0}"#, "`clicks` is 0: give a whole number from 1 to 100000"),
            (r#"{"clicks": 100001}"#, "`clicks` is 100001: give a whole number from 1 to 100000"),
            (r#"{"minutes": 61}"#, "`minutes` is 61: give a whole number from 1 to 60"),
            (r#"{"products": 0}"#, "`products` is 0: give a whole number from 1 to 10000"),
        ] {
            assert_eq!(checked(event), Err(message.to_owned()));
        }
        assert!(checked(r#"{"click": 5}"#).unwrap_err().starts_with("unknown field `click`, expected one of `clicks`"));
        assert!(checked(r#"{"clicks": "many"}"#).unwrap_err().contains("invalid type"));
    }
}
