//! Settings come from the environment, are read once at start, and a wrong one stops the function there.

use std::{fmt, num::NonZeroU32, ops::RangeInclusive, time::Duration};

use thiserror::Error;

/// A setting that is missing or wrong. Its message names the setting and says what to do.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// The setting has no default and is not set.
    #[error("{name} is not set: set it to {expected}")]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// The setting's value can't be used.
    #[error("{name} is {value:?}: {problem}")]
    Wrong {
        /// The environment variable.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong with that.
        problem: String,
    },
}

/// The message: it is what a `main` prints that returns the error.
impl fmt::Debug for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads settings from wherever they are looked up: the process's environment, or a test's.
pub struct Settings<L>(L);

impl Settings<fn(&str) -> Option<String>> {
    /// The settings of the process's environment. A variable that is no Unicode counts as not set.
    pub fn from_env() -> Self {
        Self(|name| std::env::var(name).ok())
    }
}

impl<L: Fn(&str) -> Option<String>> Settings<L> {
    /// The settings that `lookup` finds.
    pub fn new(lookup: L) -> Self {
        Self(lookup)
    }

    /// The setting's text; an empty one counts as not set, for a template can't leave a variable out.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The setting's text.
    ///
    /// # Errors
    /// When it is not set.
    pub fn required(&self, name: &'static str, expected: &'static str) -> Result<String, SettingError> {
        self.optional(name).ok_or(SettingError::Missing { name, expected })
    }

    /// A time span such as `90s`, `26h` or `1h 30m`, longer than zero.
    ///
    /// # Errors
    /// When it is set to something else.
    pub fn duration(&self, name: &'static str, default: Duration) -> Result<Duration, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        match humantime::parse_duration(&value) {
            Ok(duration) if !duration.is_zero() => Ok(duration),
            Ok(_) => Err(wrong(name, value, "must be longer than zero")),
            Err(error) => Err(wrong(name, value, format!("give a time span such as 90s, 26h or 14d ({error})"))),
        }
    }

    /// A whole number in `range`.
    ///
    /// # Errors
    /// When it is set to something else.
    pub fn number(
        &self,
        name: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(wrong(name, value, format!("give a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A comma-separated list, not empty.
    ///
    /// # Errors
    /// When an entry of it is empty.
    pub fn list(&self, name: &'static str, default: &str) -> Result<Vec<String>, SettingError> {
        let value = self.optional(name).unwrap_or_else(|| default.to_owned());
        let entries: Vec<String> = value.split(',').map(|entry| entry.trim().to_owned()).collect();
        if entries.iter().any(String::is_empty) {
            return Err(wrong(name, value, "give names with commas between them, such as click,add_to_cart"));
        }
        Ok(entries)
    }

    /// The number of a topic's life, 1 or more; `None` when it is not set.
    ///
    /// # Errors
    /// When it is set to something else.
    pub fn epoch(&self, name: &'static str) -> Result<Option<NonZeroU32>, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(None) };
        match value.parse() {
            Ok(epoch) => Ok(Some(epoch)),
            Err(_) => Err(wrong(name, value, "give a whole number from 1, or leave it empty")),
        }
    }
}

/// A [`SettingError::Wrong`].
pub fn wrong(name: &'static str, value: impl Into<String>, problem: impl Into<String>) -> SettingError {
    SettingError::Wrong { name, value: value.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: &'static str) -> Settings<impl Fn(&str) -> Option<String>> {
        Settings::new(move |_| Some(value.to_owned()))
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_to_do() {
        let message = settings("2 fortnights").duration("MAX_EVENT_AGE", Duration::ZERO).unwrap_err().to_string();
        assert!(message.starts_with(r#"MAX_EVENT_AGE is "2 fortnights": give a time span such as 90s"#), "{message}");
        let message = settings("0").number("TOP_N", 1, 1..=1000).unwrap_err().to_string();
        assert_eq!(message, r#"TOP_N is "0": give a whole number from 1 to 1000"#);
        let message = settings(" ").required("COUNTERS_TABLE", "the counters table's name").unwrap_err().to_string();
        assert_eq!(message, "COUNTERS_TABLE is not set: set it to the counters table's name");
        assert!(settings("0s").duration("RETENTION", Duration::ZERO).is_err());
        assert!(settings("click,,view").list("COUNTED_ACTIONS", "click").is_err());
        assert!(settings("0").epoch("SOURCE_EPOCH").is_err());
    }

    #[test]
    fn an_empty_setting_takes_the_default() {
        assert_eq!(settings("").duration("RETENTION", Duration::from_secs(9)).unwrap(), Duration::from_secs(9));
        assert_eq!(settings("").list("COUNTED_ACTIONS", "click").unwrap(), ["click"]);
        assert_eq!(settings("").epoch("SOURCE_EPOCH").unwrap(), None);
    }

    #[test]
    fn a_right_setting_is_taken() {
        assert_eq!(settings("1h 30m").duration("RETENTION", Duration::ZERO).unwrap(), Duration::from_mins(90));
        assert_eq!(settings("click, buy").list("COUNTED_ACTIONS", "x").unwrap(), ["click", "buy"]);
        assert_eq!(settings("3").epoch("SOURCE_EPOCH").unwrap(), NonZeroU32::new(3));
    }
}
