//! The function's settings.

use hot_products::settings::{SettingError, Settings, wrong};

use crate::Caching;

/// The settings of `read-board`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardSettings {
    /// `COUNTERS_TABLE`: the table of the minute counters.
    pub counters_table: String,
    /// `SNAPSHOTS_TABLE`: the table of the snapshots.
    pub snapshots_table: String,
    /// `BOARD_ACCESS` (`iam` by default): who may call the function. Shared caches may keep only public answers.
    pub caching: Caching,
}

impl BoardSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        Ok(Self {
            counters_table: settings.required("COUNTERS_TABLE", "the name of the table of minute counters")?,
            snapshots_table: settings.required("SNAPSHOTS_TABLE", "the name of the table of snapshots")?,
            caching: match settings.optional("BOARD_ACCESS") {
                None | Some("iam") => Caching::Private,
                Some("public") => Caching::Public,
                Some(other) => return Err(wrong("BOARD_ACCESS", other, "give iam or public")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(access: &str) -> Result<Caching, String> {
        let settings = [("BOARD_ACCESS", access), ("COUNTERS_TABLE", "c"), ("SNAPSHOTS_TABLE", "s")].into();
        BoardSettings::read(&settings).map(|settings| settings.caching).map_err(|error| error.to_string())
    }

    #[test]
    fn only_public_answers_may_be_kept_by_shared_caches() {
        assert_eq!(read(""), Ok(Caching::Private));
        assert_eq!(read("iam"), Ok(Caching::Private));
        assert_eq!(read("public"), Ok(Caching::Public));
        assert_eq!(read("none").unwrap_err(), r#"BOARD_ACCESS is "none": give iam or public"#);
    }
}
