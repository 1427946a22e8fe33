//! The model's measured and assumed figures: `measured.json`.

use anyhow::{Context, Result};
use serde::Deserialize;

const FILE: &str = include_str!("../../measured.json");

/// A figure and its origin.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The value, in the unit that the figure's name gives.
    pub value: f64,
    /// Whether it is measured, documented or assumed.
    pub basis: Basis,
    /// The measurement, the document, or the reason for the assumption.
    pub source: String,
}

/// The basis of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// A measurement on the file's machine.
    Measured,
    /// A document of AWS.
    Documented,
    /// An assumption, with its reason.
    Assumed,
}

/// The figures, by their names in the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the file describes each")]
pub struct Measured {
    pub decode_cpu_ms_per_1000_records: Figure,
    pub update_cpu_ms: Figure,
    pub single_update_cpu_ms: Figure,
    pub update_wait_ms: Figure,
    pub rank_cpu_ms_per_1000_counters: Figure,
    pub rank_query_cpu_ms: Figure,
    pub rank_base_mb: Figure,
    pub rank_bytes_per_page_byte: Figure,
    pub rank_bytes_per_product: Figure,
    pub rank_bytes_per_product_minute: Figure,
    pub lambda_mb_per_vcpu: Figure,
    pub ttl_delay_hours: Figure,
    pub flink_cpu_s_per_million_clicks: Figure,
    pub flink_utilisation: Figure,
    pub flink_storage_gb_per_kpu: Figure,
    pub rds_storage_gb: Figure,
    pub event_source_metrics: Figure,
    pub msk_retention_hours: Figure,
    pub msk_brokers: Figure,
}

#[derive(Deserialize)]
struct File {
    machine: String,
    date: String,
    figures: Measured,
}

impl Measured {
    /// The figures, the machine and the date.
    ///
    /// # Errors
    /// If the file does not have this form.
    pub fn read() -> Result<(Self, String)> {
        let file: File = serde_json::from_str(FILE).context("measured.json")?;
        Ok((file.figures, format!("{}, {}", file.machine, file.date)))
    }

    /// The KPUs that a Flink job needs at this load, without the one for orchestration.
    pub fn kpus(&self, clicks_per_second: f64) -> f64 {
        let cores = clicks_per_second / 1e6 * self.flink_cpu_s_per_million_clicks.value;
        (cores / self.flink_utilisation.value).ceil().max(1.0)
    }
}
