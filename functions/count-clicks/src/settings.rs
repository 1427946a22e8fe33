//! The function's settings.

use std::{num::NonZeroU32, time::Duration};

use hot_products::{
    Policy, defaults,
    healing::Lifetimes,
    settings::{SettingError, Settings},
};

/// The settings of `count-clicks`. The defaults are in [`defaults`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountSettings {
    /// `COUNTERS_TABLE`: the table of the minute counters.
    pub counters_table: String,
    /// `REJECTS_TABLE`: the table of the rejected events.
    pub rejects_table: String,
    /// `COUNTED_ACTIONS` and `MAX_EVENT_AGE`.
    pub policy: Policy,
    /// `RETENTION`: how long counters live after the end of their minute.
    pub retention: Duration,
    /// `REJECT_RETENTION`: how long rejected events are kept.
    pub reject_retention: Duration,
    /// `SOURCE_EPOCH`: the epoch of the topic's offsets. To be raised when the topic is recreated or moved.
    pub source_epoch: Option<NonZeroU32>,
    /// `WRITE_CONCURRENCY`: how many items are written at the same time, 1 to 256.
    pub write_concurrency: usize,
}

impl CountSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        // Were they closer, a late click could create an expired item anew, without its `last_offset`, and redelivered
        // clicks would be counted twice.
        let lifetimes = Lifetimes::read(settings)?;
        Ok(Self {
            counters_table: settings.required("COUNTERS_TABLE", "the name of the table of minute counters")?,
            rejects_table: settings.required("REJECTS_TABLE", "the name of the table of rejected events")?,
            policy: Policy {
                counted_actions: settings.list("COUNTED_ACTIONS", defaults::COUNTED_ACTION)?,
                max_event_age: lifetimes.max_event_age(),
            },
            retention: lifetimes.retention(),
            reject_retention: settings.duration("REJECT_RETENTION", defaults::REJECT_RETENTION)?,
            source_epoch: settings.epoch("SOURCE_EPOCH")?,
            write_concurrency: settings.number("WRITE_CONCURRENCY", defaults::WRITE_CONCURRENCY, 1..=256)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<CountSettings, SettingError> {
        CountSettings::read(&[("COUNTERS_TABLE", "c"), ("REJECTS_TABLE", "r")].iter().chain(changes).copied().collect())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.retention, Duration::from_hours(26));
        assert_eq!(settings.policy.max_event_age, Duration::from_hours(24));
        assert_eq!(settings.policy.counted_actions, ["click"]);
        assert_eq!(settings.source_epoch, None);
    }

    #[test]
    fn the_retention_must_exceed_the_maximum_event_age_by_two_hours() {
        let message = read(&[("MAX_EVENT_AGE", "26h")]).unwrap_err().to_string();
        assert!(
            message
                .starts_with("RETENTION is \"1day 2h\": must exceed MAX_EVENT_AGE, which is 1day 2h, by at least 2h")
        );
        assert!(read(&[("MAX_EVENT_AGE", "24h 1s")]).is_err());
        assert!(read(&[("MAX_EVENT_AGE", "23h 59m")]).is_ok());
    }

    #[test]
    fn a_table_name_is_required() {
        let message = read(&[("REJECTS_TABLE", "")]).unwrap_err().to_string();
        assert_eq!(message, "REJECTS_TABLE is not set: set it to the name of the table of rejected events");
    }
}
