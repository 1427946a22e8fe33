//! The function's settings.

use std::time::Duration;

use hot_products::{
    settings::{SettingError, Settings},
    snapshot::MAX_TOP_N,
};

/// What `rank-products` is told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankSettings {
    /// `COUNTERS_TABLE`: the minute counters.
    pub counters_table: String,
    /// `SNAPSHOTS_TABLE`: the snapshots.
    pub snapshots_table: String,
    /// `TOP_N` (100): how many products a snapshot holds.
    pub top_n: usize,
    /// `SNAPSHOT_RETENTION` (30 days): how long snapshots live after their window's end.
    pub snapshot_retention: Duration,
    /// `READ_CONCURRENCY` (16): how many buckets are read at a time.
    pub read_concurrency: usize,
}

impl RankSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read<L: Fn(&str) -> Option<String>>(settings: &Settings<L>) -> Result<Self, SettingError> {
        Ok(Self {
            counters_table: settings.required("COUNTERS_TABLE", "the name of the minute counters' table")?,
            snapshots_table: settings.required("SNAPSHOTS_TABLE", "the name of the snapshots' table")?,
            top_n: settings.number("TOP_N", 100, 1..=MAX_TOP_N)?,
            snapshot_retention: settings.duration("SNAPSHOT_RETENTION", Duration::from_hours(30 * 24))?,
            read_concurrency: settings.number("READ_CONCURRENCY", 16, 1..=480)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_must_fit_an_item() {
        let read = |top_n: &'static str| {
            RankSettings::read(&Settings::new(move |name| Some(if name == "TOP_N" { top_n } else { "" }.to_owned())))
        };
        assert!(read("1001").unwrap_err().to_string().contains("COUNTERS_TABLE"));
        let read = |top_n: &'static str| {
            RankSettings::read(&Settings::new(move |name| match name {
                "TOP_N" => Some(top_n.to_owned()),
                "COUNTERS_TABLE" | "SNAPSHOTS_TABLE" => Some(name.to_owned()),
                _ => None,
            }))
        };
        assert_eq!(read("").unwrap().top_n, 100);
        assert_eq!(read("1001").unwrap_err().to_string(), r#"TOP_N is "1001": give a whole number from 1 to 1000"#);
    }
}
