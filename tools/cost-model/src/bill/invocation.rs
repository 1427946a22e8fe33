//! How long an invocation of a function takes.

use super::Measured;
use crate::assumptions::READ_CONCURRENCY;

/// What one invocation of a function takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Invocation {
    /// Its duration in seconds.
    pub seconds: f64,
}

impl Invocation {
    /// An invocation that computes for `cpu_ms` on one core and waits for `rounds` sequential answers of DynamoDB, in a
    /// function of `memory_mb`. With less than 1,769 MB a function has a share of a core.
    pub fn of(cpu_ms: f64, rounds: f64, memory_mb: f64, measured: &Measured) -> Self {
        Self::on(cores(memory_mb, measured).min(1.0), cpu_ms, rounds, measured)
    }

    /// An invocation of `count-clicks`.
    pub fn count(records: f64, updates: f64, rounds: f64, memory_mb: f64, measured: &Measured) -> Self {
        let decode = records / 1_000.0 * measured.decode_cpu_ms_per_1000_records.value;
        Self::of(decode + updates * measured.update_cpu_ms.value, rounds, memory_mb, measured)
    }

    /// An invocation of `rank-products`, which uses all cores.
    pub fn rank(counters: f64, queries: f64, memory_mb: f64, measured: &Measured) -> Self {
        let cpu_ms = counters / 1_000.0 * measured.rank_cpu_ms_per_1000_counters.value
            + queries * measured.rank_query_cpu_ms.value;
        Self::on(cores(memory_mb, measured), cpu_ms, queries / READ_CONCURRENCY as f64, measured)
    }

    fn on(cores: f64, cpu_ms: f64, rounds: f64, measured: &Measured) -> Self {
        Self { seconds: (cpu_ms / cores + rounds * measured.update_wait_ms.value) / 1_000.0 }
    }
}

/// The cores of a function of `memory_mb`: six at most (AWS Lambda Developer Guide, "Configure Lambda function memory").
fn cores(memory_mb: f64, measured: &Measured) -> f64 {
    (memory_mb / measured.lambda_mb_per_vcpu.value).min(6.0)
}
