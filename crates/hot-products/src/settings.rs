//! Settings come from the environment. A function reads them once, at start; a wrong setting stops it there.

use std::{
    collections::HashMap,
    env,
    fmt::{self, Display},
    num::NonZeroU32,
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use thiserror::Error;

/// A setting that is missing or wrong. The message names the setting and says what to do.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// The setting is not set, and has no default.
    #[error("{name} is not set: set it to {expected}")]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// What to set it to.
        expected: &'static str,
    },
    /// The value can't be used.
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

/// The same as `Display`, because Rust prints an error that `main` returns with `Debug`.
impl fmt::Debug for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Settings by name, with readers for each kind of value.
///
/// The functions read the environment. Tests and tools collect what they set:
///
/// ```
/// use hot_products::settings::Settings;
///
/// let settings = Settings::from([("COUNTERS_TABLE", "shop-minute-counters"), ("TOP_N", "50")]);
/// assert_eq!(settings.number("TOP_N", 100, 1..=1000).unwrap(), 50);
/// ```
///
/// It has no `Debug`, because the environment holds credentials.
#[derive(Clone, Default)]
pub struct Settings(HashMap<String, String>);

impl Settings {
    /// The environment of the process. A variable that is not Unicode counts as not set.
    pub fn from_env() -> Self {
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// A setting's text, or `None` when it is not set. An empty one counts as not set, because a template can't leave out
    /// a variable.
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The text of a setting without a default; `expected` says what to set it to.
    ///
    /// # Errors
    /// When it is not set.
    pub fn required(&self, name: &'static str, expected: &'static str) -> Result<String, SettingError> {
        self.optional(name).map(str::to_owned).ok_or(SettingError::Missing { name, expected })
    }

    /// Who calls AWS, and in which region: the variables that Lambda sets.
    ///
    /// # Errors
    /// The first that is not set.
    pub fn aws_access(&self) -> Result<AwsAccess, SettingError> {
        Ok(AwsAccess {
            access_key_id: self.required("AWS_ACCESS_KEY_ID", "an access key (Lambda sets it)")?,
            secret_access_key: self.required("AWS_SECRET_ACCESS_KEY", "a secret key (Lambda sets it)")?,
            session_token: self.optional("AWS_SESSION_TOKEN").map(str::to_owned),
            region: self.required("AWS_REGION", "a region such as eu-central-1 (Lambda sets it)")?,
        })
    }

    /// A duration such as `90s`, `26h` or `1h 30m`, longer than zero.
    ///
    /// # Errors
    /// When it is set to something else.
    pub fn duration(&self, name: &'static str, default: Duration) -> Result<Duration, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        match humantime::parse_duration(value) {
            Ok(duration) if !duration.is_zero() => Ok(duration),
            Ok(_) => Err(wrong(name, value, "must be longer than zero")),
            Err(error) => Err(wrong(name, value, format!("give a duration such as 90s, 26h or 14d ({error})"))),
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

    /// A value of a type whose errors say what to give instead.
    ///
    /// # Errors
    /// When it is set to something else.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &'static str, default: T) -> Result<T, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        value.parse().map_err(|error: T::Err| wrong(name, value, error.to_string()))
    }

    /// `true` or `false`; `false` when it is not set.
    ///
    /// # Errors
    /// When it is set to something else.
    pub fn flag(&self, name: &'static str) -> Result<bool, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(false) };
        value.parse().map_err(|_| wrong(name, value, "give true or false"))
    }

    /// A list of names, separated by commas.
    ///
    /// # Errors
    /// When a name is empty.
    pub fn list(&self, name: &'static str, default: &str) -> Result<Vec<String>, SettingError> {
        let value = self.optional(name).unwrap_or(default);
        let entries: Vec<String> = value.split(',').map(|entry| entry.trim().to_owned()).collect();
        if entries.iter().any(String::is_empty) {
            return Err(wrong(name, value, "give names separated by commas, such as click,add_to_cart"));
        }
        Ok(entries)
    }

    /// The epoch of a topic, 1 or more; `None` when it is not set.
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

/// Who calls AWS, and in which region. It has no `Debug`, because it holds credentials.
pub struct AwsAccess {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`; temporary credentials, such as those of a role, have one.
    pub session_token: Option<String>,
    /// `AWS_REGION`.
    pub region: String,
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(settings: I) -> Self {
        Self(settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl<N: Into<String>, V: Into<String>, const LEN: usize> From<[(N, V); LEN]> for Settings {
    fn from(settings: [(N, V); LEN]) -> Self {
        settings.into_iter().collect()
    }
}

/// A [`SettingError::Wrong`].
pub fn wrong(name: &'static str, value: impl Into<String>, problem: impl Into<String>) -> SettingError {
    SettingError::Wrong { name, value: value.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click::FieldPath;

    /// Each setting that these tests read, set to `value`.
    fn settings(value: &str) -> Settings {
        ["COUNTERS_TABLE", "COUNTED_ACTIONS", "MAX_EVENT_AGE", "RETENTION", "SOURCE_EPOCH", "TOP_N"]
            .map(|name| (name, value))
            .into()
    }

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn the_message_names_a_wrong_setting_and_says_what_to_do() {
        let message = settings("2 fortnights").duration("MAX_EVENT_AGE", Duration::ZERO).unwrap_err().to_string();
        assert!(message.starts_with(r#"MAX_EVENT_AGE is "2 fortnights": give a duration such as 90s"#), "{message}");
        let message = settings("0").number("TOP_N", 1, 1..=1000).unwrap_err().to_string();
        assert_eq!(message, r#"TOP_N is "0": give a whole number from 1 to 1000"#);
        let message = settings(" ").required("COUNTERS_TABLE", "the counters table's name").unwrap_err().to_string();
        assert_eq!(message, "COUNTERS_TABLE is not set: set it to the counters table's name");
        assert!(settings("0s").duration("RETENTION", Duration::ZERO).is_err());
        assert!(settings("click,,view").list("COUNTED_ACTIONS", "click").is_err());
        assert!(settings("0").epoch("SOURCE_EPOCH").is_err());
        let message = settings("a..b").parsed("COUNTERS_TABLE", path("c")).unwrap_err().to_string();
        assert!(message.starts_with(r#"COUNTERS_TABLE is "a..b": give the name of a field"#), "{message}");
        let message = settings("yes").flag("TOP_N").unwrap_err().to_string();
        assert_eq!(message, r#"TOP_N is "yes": give true or false"#);
    }

    #[test]
    fn an_empty_setting_has_its_default() {
        assert_eq!(settings("").duration("RETENTION", Duration::from_secs(9)).unwrap(), Duration::from_secs(9));
        assert_eq!(settings("").list("COUNTED_ACTIONS", "click").unwrap(), ["click"]);
        assert_eq!(settings("").epoch("SOURCE_EPOCH").unwrap(), None);
        assert_eq!(settings("").parsed("COUNTERS_TABLE", path("c")).unwrap(), path("c"));
        assert!(!settings("").flag("TOP_N").unwrap());
    }

    #[test]
    fn a_valid_setting_is_used() {
        assert_eq!(settings("1h 30m").duration("RETENTION", Duration::ZERO).unwrap(), Duration::from_mins(90));
        assert_eq!(settings("click, buy").list("COUNTED_ACTIONS", "x").unwrap(), ["click", "buy"]);
        assert_eq!(settings("3").epoch("SOURCE_EPOCH").unwrap(), NonZeroU32::new(3));
        assert_eq!(settings("a.b").parsed("COUNTERS_TABLE", path("c")).unwrap(), path("a.b"));
        assert!(settings("true").flag("TOP_N").unwrap() && !settings("false").flag("TOP_N").unwrap());
    }
}
