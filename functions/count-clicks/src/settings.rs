//! The function's settings.

use std::{num::NonZeroU32, time::Duration};

use hot_products::{
    Policy,
    settings::{SettingError, Settings, wrong},
};

/// What `count-clicks` is told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountSettings {
    /// `COUNTERS_TABLE`: the minute counters.
    pub counters_table: String,
    /// `REJECTS_TABLE`: the rejected events.
    pub rejects_table: String,
    /// `COUNTED_ACTIONS` (`click`) and `MAX_EVENT_AGE` (2 h).
    pub policy: Policy,
    /// `RETENTION` (26 h): how long counters live after their minute's end.
    pub retention: Duration,
    /// `REJECT_RETENTION` (14 days): how long rejected events are kept.
    pub reject_retention: Duration,
    /// `SOURCE_EPOCH` (none): which life of the topic this is.
    pub source_epoch: Option<NonZeroU32>,
    /// `WRITE_CONCURRENCY` (16): how many items are written at a time.
    pub write_concurrency: usize,
}

impl CountSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read<L: Fn(&str) -> Option<String>>(settings: &Settings<L>) -> Result<Self, SettingError> {
        let retention = settings.duration("RETENTION", Duration::from_hours(26))?;
        let max_event_age = settings.duration("MAX_EVENT_AGE", Duration::from_hours(2))?;
        if max_event_age >= retention {
            // An item that expired would be begun anew by a late click, and count again what it had counted.
            return Err(wrong(
                "MAX_EVENT_AGE",
                humantime::format_duration(max_event_age).to_string(),
                format!("must be below RETENTION, which is {}", humantime::format_duration(retention)),
            ));
        }
        Ok(Self {
            counters_table: settings.required("COUNTERS_TABLE", "the name of the minute counters' table")?,
            rejects_table: settings.required("REJECTS_TABLE", "the name of the rejected events' table")?,
            policy: Policy { counted_actions: settings.list("COUNTED_ACTIONS", "click")?, max_event_age },
            retention,
            reject_retention: settings.duration("REJECT_RETENTION", Duration::from_hours(14 * 24))?,
            source_epoch: settings.epoch("SOURCE_EPOCH")?,
            write_concurrency: settings.number("WRITE_CONCURRENCY", 16, 1..=256)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<CountSettings, SettingError> {
        CountSettings::read(&Settings::new(|name| {
            let set = [("COUNTERS_TABLE", "c"), ("REJECTS_TABLE", "r")];
            changes.iter().chain(&set).find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.retention, Duration::from_hours(26));
        assert_eq!(settings.policy.max_event_age, Duration::from_hours(2));
        assert_eq!(settings.policy.counted_actions, ["click"]);
        assert_eq!(settings.source_epoch, None);
    }

    #[test]
    fn events_must_go_stale_before_their_counters_expire() {
        let message = read(&[("MAX_EVENT_AGE", "26h")]).unwrap_err().to_string();
        assert_eq!(message, r#"MAX_EVENT_AGE is "1day 2h": must be below RETENTION, which is 1day 2h"#);
        assert!(read(&[("MAX_EVENT_AGE", "25h 59m")]).is_ok());
    }

    #[test]
    fn a_table_must_be_named() {
        let message = read(&[("REJECTS_TABLE", "")]).unwrap_err().to_string();
        assert_eq!(message, "REJECTS_TABLE is not set: set it to the name of the rejected events' table");
    }
}
