//! AWS's prices by region: `prices.json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

const FILE: &str = include_str!("../../prices.json");

/// A price and its origin.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The price of one `unit`, in the catalogue's currency.
    pub price: f64,
    /// The unit that the price is for.
    pub unit: String,
    /// AWS's page with the price.
    pub source: String,
    /// Whether the price was read from a source, rather than written from memory.
    pub verified: bool,
    /// The source it was read from.
    pub read_at: Option<String>,
    /// A remark.
    pub note: Option<String>,
}

macro_rules! price_list {
    ($($name:ident),* $(,)?) => {
        /// The prices of a region, by their names in the file.
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "the file describes each")]
        pub struct PriceList { $(pub $name: Price),* }

        impl PriceList {
            /// The prices with their names.
            pub fn all(&self) -> Vec<(&'static str, &Price)> {
                vec![$((stringify!($name), &self.$name)),*]
            }
        }
    };
}

price_list!(
    dynamodb_write_units,
    dynamodb_read_units,
    dynamodb_storage,
    dynamodb_recovery,
    lambda_requests,
    lambda_duration,
    logs_ingested,
    logs_stored,
    custom_metrics,
    alarms,
    dashboards,
    scheduler,
    msk_broker,
    msk_storage,
    interface_endpoint,
    flink_kpu,
    flink_storage,
    rds_instance,
    rds_storage,
);

/// A region and its prices.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// AWS's display name.
    pub name: String,
    /// Its prices.
    pub prices: PriceList,
}

/// All prices.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Catalogue {
    /// The currency of all prices.
    pub currency: String,
    /// When the prices were read.
    pub date: String,
    regions: BTreeMap<String, Region>,
}

impl Catalogue {
    /// The built-in catalogue.
    ///
    /// # Errors
    /// If the file does not have this form.
    pub fn read() -> Result<Self> {
        // Through a `Value`, so that an error names the region and the price.
        let file: Value = serde_json::from_str(FILE).context("prices.json")?;
        serde_json::from_value(file).context("prices.json")
    }

    /// The region with this code, such as `us-east-1`.
    ///
    /// # Errors
    /// If the catalogue does not have the region; the error lists those that it has.
    pub fn region(&self, code: &str) -> Result<&Region> {
        match self.regions.get(code) {
            Some(region) => Ok(region),
            None => bail!("no prices of the region {code:?}: there are those of {}", self.codes().join(", ")),
        }
    }

    /// The codes of the regions.
    pub fn codes(&self) -> Vec<&str> {
        self.regions.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_price_has_a_page_of_aws_and_states_whether_it_is_verified() {
        let catalogue = Catalogue::read().unwrap();
        for code in catalogue.codes() {
            for (name, price) in catalogue.region(code).unwrap().prices.all() {
                assert!(price.price > 0.0 && price.price.is_finite(), "{code} {name}");
                assert!(price.source.starts_with("https://aws.amazon.com/"), "{code} {name}");
                assert_eq!(price.verified, price.read_at.is_some(), "{code} {name}");
                assert!(price.verified || price.note.is_some(), "{code} {name}");
            }
        }
    }

    #[test]
    fn an_unknown_region_is_an_error_that_lists_the_known_regions() {
        let error = Catalogue::read().unwrap().region("mars-north-1").unwrap_err().to_string();
        assert_eq!(error, r#"no prices of the region "mars-north-1": there are those of eu-central-1, us-east-1"#);
    }
}
