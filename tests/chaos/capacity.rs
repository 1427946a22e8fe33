//! A table's write capacity: a token bucket of write units that also charges for refused writes, as DynamoDB does.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hot_products::UnixMillis;
use hyper::StatusCode;
use serde_json::Value;

/// The maximum write units of a table.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// The table's name. Writes to other tables are not limited.
    pub table: String,
    /// Write units per second.
    pub units_per_second: u32,
    /// How long unused units are kept, in whole seconds. DynamoDB keeps them for up to 300 s (Amazon DynamoDB Developer
    /// Guide, "Burst capacity"). With one second, there is no burst.
    pub burst: Duration,
}

/// The remaining units of a ceiling.
#[derive(Debug)]
pub struct Capacity {
    ceiling: Ceiling,
    /// In thousandths of a unit, at the time of the last refill.
    left: Mutex<(i64, UnixMillis)>,
}

/// A write unit in the thousandths that [`Capacity`] counts.
const UNIT: i64 = 1000;

impl Capacity {
    /// A full bucket at the time `now`.
    pub fn new(ceiling: Ceiling, now: UnixMillis) -> Self {
        let left = Mutex::new((Self::depth(&ceiling), now));
        Self { ceiling, left }
    }

    /// Whether writes to `table` need units.
    pub fn limits(&self, table: &str) -> bool {
        self.ceiling.table == table
    }

    /// Takes a unit for a write at the time `now`. If there is none, returns false: the write is throttled. The write may
    /// cost more, which only its response shows.
    pub fn admit(&self, now: UnixMillis) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        // A unit per second is a thousandth per millisecond.
        let refill = now.since(left.1).as_millis() as i64 * i64::from(self.ceiling.units_per_second);
        *left = (left.0.saturating_add(refill).min(Self::depth(&self.ceiling)), now.max(left.1));
        let admitted = left.0 >= UNIT;
        if admitted {
            left.0 -= UNIT;
        }
        admitted
    }

    /// Charges an admitted write for all of its `units`. The remaining units may become negative; later writes wait.
    pub fn charge(&self, units: u64) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).0 -= (units as i64 - 1) * UNIT;
    }

    fn depth(ceiling: &Ceiling) -> i64 {
        UNIT * i64::from(ceiling.units_per_second) * (ceiling.burst.as_secs() as i64).max(1)
    }
}

/// The write units of a write with this response. A write whose condition failed costs as much as an applied one: one unit
/// per KB of the item, at least one (Amazon DynamoDB Developer Guide, "Write operation consumption"). An invalid request
/// costs nothing.
pub fn write_units(status: StatusCode, response: &[u8]) -> u64 {
    let response: Value = serde_json::from_slice(response).unwrap_or_default();
    if status == StatusCode::OK {
        let consumed = response["ConsumedCapacity"]["CapacityUnits"].as_f64().map(|units| units.ceil() as u64);
        return consumed.unwrap_or_else(|| kilobytes(&response["Attributes"]));
    }
    let condition_failed = response["__type"].as_str().is_some_and(|kind| kind.contains("ConditionalCheckFailed"));
    if condition_failed { kilobytes(&response["Item"]) } else { 0 }
}

/// An item's size, rounded up to KB, at least one (Amazon DynamoDB Developer Guide, "DynamoDB item sizes and formats").
fn kilobytes(item: &Value) -> u64 {
    let attributes = item.as_object().into_iter().flatten();
    let bytes: usize = attributes.map(|(name, value)| name.len() + value_bytes(value)).sum();
    bytes.div_ceil(1024).max(1) as u64
}

/// The size of a string, number or boolean. Counter items have no other types.
fn value_bytes(value: &Value) -> usize {
    match (value["S"].as_str(), value["N"].as_str()) {
        (Some(text), _) => text.len(),
        (_, Some(number)) => number.trim_start_matches('-').len().div_ceil(2) + 1,
        _ => 1,
    }
}
