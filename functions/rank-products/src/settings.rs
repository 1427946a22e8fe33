//! The function's settings.

use std::time::Duration;

use hot_products::{
    defaults,
    healing::Lifetimes,
    settings::{SettingError, Settings},
    snapshot::MAX_TOP_N,
};

/// The settings of `rank-products`. The defaults are in [`defaults`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankSettings {
    /// `COUNTERS_TABLE`: the table of the minute counters.
    pub counters_table: String,
    /// `SNAPSHOTS_TABLE`: the table of the snapshots.
    pub snapshots_table: String,
    /// `TOP_N`: how many products a snapshot holds, 1 to [`MAX_TOP_N`].
    pub top_n: usize,
    /// `MAX_EVENT_AGE` and `RETENTION` of `count-clicks`: when a window is final, and how long its counters live.
    pub lifetimes: Lifetimes,
    /// `SNAPSHOT_RETENTION`: how long snapshots live after the end of their window.
    pub snapshot_retention: Duration,
    /// `READ_CONCURRENCY`: how many buckets are read at the same time, 1 to 480.
    pub read_concurrency: usize,
}

impl RankSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        Ok(Self {
            counters_table: settings.required("COUNTERS_TABLE", "the name of the table of minute counters")?,
            snapshots_table: settings.required("SNAPSHOTS_TABLE", "the name of the table of snapshots")?,
            top_n: settings.number("TOP_N", defaults::TOP_N, 1..=MAX_TOP_N)?,
            lifetimes: Lifetimes::read(settings)?,
            snapshot_retention: settings.duration("SNAPSHOT_RETENTION", defaults::SNAPSHOT_RETENTION)?,
            read_concurrency: settings.number("READ_CONCURRENCY", defaults::READ_CONCURRENCY, 1..=480)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_must_fit_into_an_item() {
        let read = |top_n: &str, table: &str| {
            RankSettings::read(&[("TOP_N", top_n), ("COUNTERS_TABLE", table), ("SNAPSHOTS_TABLE", table)].into())
        };
        assert!(read("1001", "").unwrap_err().to_string().contains("COUNTERS_TABLE"));
        assert_eq!(read("", "t").unwrap().top_n, 100);
        assert_eq!(
            read("1001", "t").unwrap_err().to_string(),
            r#"TOP_N is "1001": give a whole number from 1 to 1000"#
        );
    }
}
