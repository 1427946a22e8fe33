//! AWS's prices by region: `local/prices.json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

const FILE: &str = include_str!("../../prices.json");

/// A price and where it is from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// In the catalogue's currency, of the unit below.
    pub price: f64,
    /// What costs that much.
    pub unit: String,
    /// AWS's page of the price.
    pub source: String,
    /// Whether it was read somewhere, rather than remembered.
    pub verified: bool,
    /// Where it was read.
    pub read_at: Option<String>,
    /// What else is to be said of it.
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
    kms_requests,
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
    /// As AWS calls it for people.
    pub name: String,
    /// Its prices.
    pub prices: PriceList,
}

/// All prices.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Catalogue {
    /// The currency of all prices.
    pub currency: String,
    /// When they were read.
    pub date: String,
    regions: BTreeMap<String, Region>,
}

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Errors
    /// When the file is not of this form.
    pub fn read() -> Result<Self> {
        // By way of a tree, so that an error names the region and the price.
        let file: Value = serde_json::from_str(FILE).context("prices.json")?;
        serde_json::from_value(file).context("prices.json")
    }

    /// The region by its code, such as `us-east-1`.
    ///
    /// # Errors
    /// When its prices are not known; the error names those that are.
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
    fn each_price_is_of_aws_and_says_whether_it_was_read_or_remembered() {
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
    fn an_unknown_region_is_an_error_that_names_the_known_ones() {
        let error = Catalogue::read().unwrap().region("mars-north-1").unwrap_err().to_string();
        assert_eq!(error, r#"no prices of the region "mars-north-1": there are those of eu-central-1, us-east-1"#);
    }
}
