//! The function's settings.

use hot_products::settings::{SettingError, Settings, wrong};

use crate::Caching;

/// What `read-board` is told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardSettings {
    /// `COUNTERS_TABLE`: the minute counters.
    pub counters_table: String,
    /// `SNAPSHOTS_TABLE`: the snapshots.
    pub snapshots_table: String,
    /// `BOARD_ACCESS` (`iam`): who may call the function. What only some may read, no shared cache may keep.
    pub caching: Caching,
}

impl BoardSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read<L: Fn(&str) -> Option<String>>(settings: &Settings<L>) -> Result<Self, SettingError> {
        Ok(Self {
            counters_table: settings.required("COUNTERS_TABLE", "the name of the minute counters' table")?,
            snapshots_table: settings.required("SNAPSHOTS_TABLE", "the name of the snapshots' table")?,
            caching: match settings.optional("BOARD_ACCESS").as_deref() {
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

    fn read(access: &'static str) -> Result<Caching, String> {
        let settings =
            Settings::new(move |name| Some(if name == "BOARD_ACCESS" { access } else { "table" }.to_owned()));
        BoardSettings::read(&settings).map(|settings| settings.caching).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_everybody_may_read_is_for_shared_caches() {
        assert_eq!(read(""), Ok(Caching::Private));
        assert_eq!(read("iam"), Ok(Caching::Private));
        assert_eq!(read("public"), Ok(Caching::Public));
        assert_eq!(read("none").unwrap_err(), r#"BOARD_ACCESS is "none": give iam or public"#);
    }
}
