//! The function's settings.

use std::{num::NonZeroU32, time::Duration};

use hot_products::{
    EventShape, Policy,
    click::{EventFields, FieldPath, Role, TimeUnit},
    defaults,
    healing::Lifetimes,
    settings::{SettingError, Settings, wrong},
};

/// The settings of `count-clicks`. The defaults are in [`defaults`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountSettings {
    /// `COUNTERS_TABLE`: the table of the minute counters.
    pub counters_table: String,
    /// `REJECTS_TABLE`: the table of the rejected events.
    pub rejects_table: String,
    /// The shape of events (`EVENT_TIME_FIELD`, `EVENT_TIME_UNIT`, `PRODUCT_FIELD`, `INTEGER_PRODUCT_IDS`, `ACTION_FIELD`),
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
                shape: event_shape(settings)?,
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

/// Reads the settings of events that other programs write.
fn event_shape(settings: &Settings) -> Result<EventShape, SettingError> {
    let EventFields { event_time, product, action } = EventFields::default();
    let action = match settings.optional("ACTION_FIELD") {
        None => action,
        Some(text) => {
            FieldPath::parse_optional(text).map_err(|error| wrong("ACTION_FIELD", text, error.to_string()))?
        }
    };
    let fields = EventFields {
        event_time: settings.parsed("EVENT_TIME_FIELD", event_time)?,
        product: settings.parsed("PRODUCT_FIELD", product)?,
        action,
    };
    let time_unit = settings.parsed("EVENT_TIME_UNIT", TimeUnit::default())?;
    EventShape::new(fields, time_unit, settings.flag("INTEGER_PRODUCT_IDS")?).map_err(|overlap| {
        let name = match overlap.role {
            Role::EventTime => "EVENT_TIME_FIELD",
            Role::Product => "PRODUCT_FIELD",
            Role::Action => "ACTION_FIELD",
        };
        wrong(name, overlap.path.to_string(), overlap.to_string())
    })
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
        assert_eq!(settings.policy, Policy::default());
    }

    #[test]
    fn the_shape_of_events_is_read() {
        let settings = read(&[
            ("EVENT_TIME_FIELD", "payload.ts"),
            ("EVENT_TIME_UNIT", "s"),
            ("PRODUCT_FIELD", "payload.item_id"),
            ("INTEGER_PRODUCT_IDS", "true"),
            ("ACTION_FIELD", "none"),
        ]);
        let fields = EventFields {
            event_time: "payload.ts".parse().unwrap(),
            product: "payload.item_id".parse().unwrap(),
            action: None,
        };
        let shape = EventShape::new(fields, TimeUnit::Seconds, true).unwrap();
        assert_eq!(settings.unwrap().policy, Policy { shape, ..Policy::default() });
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (name, value, problem) in [
            ("EVENT_TIME_FIELD", "payload.", "give the name of a field"),
            ("EVENT_TIME_UNIT", "ns", "give ms, s, us or rfc3339"),
            ("PRODUCT_FIELD", "event_time", "the product id can't be in event_time if the event time is in event_time"),
            ("PRODUCT_FIELD", "event_time.id", "the product id can't be in event_time.id if the event time is in"),
            ("INTEGER_PRODUCT_IDS", "1", "give true or false"),
            ("ACTION_FIELD", "a..b", "give the name of a field"),
            ("ACTION_FIELD", "product_id", "the action can't be in product_id if the product id is in product_id"),
        ] {
            let message = read(&[(name, value)]).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{name} is {value:?}: {problem}")), "{message}");
        }
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
