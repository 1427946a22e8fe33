//! The one line that a function logs per invocation, in CloudWatch's embedded metric format. CloudWatch extracts metrics
//! from it, so no API has to be called, and people can read it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::time::UnixMillis;

/// The CloudWatch namespace of all metrics.
pub const NAMESPACE: &str = "HotProducts";

/// A metric's unit, as CloudWatch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// A plain number.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Kilobytes. DynamoDB's have 1,024 bytes.
    Kilobytes,
}

/// The log line of `function`, the name under which it is deployed: each of `metrics` with its unit, then the other
/// `fields` as they are. A metric without a value is omitted.
///
/// The name is the only dimension of the metrics, so that two stacks in one account have separate metrics.
///
/// Format: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
pub fn line(
    function: &str,
    now: UnixMillis,
    metrics: &[(&str, Unit, Option<u64>)],
    fields: impl IntoIterator<Item = (&'static str, Value)>,
) -> String {
    let present = || metrics.iter().filter_map(|(name, unit, value)| value.map(|value| (*name, *unit, value)));
    let definitions: Vec<Value> = present().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".into(),
        json!({
            "Timestamp": now.0,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["function"]],
                "Metrics": definitions,
            }],
        }),
    );
    line.insert("function".into(), function.into());
    line.extend(present().map(|(name, _, value)| (name.to_owned(), value.into())));
    line.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_embedded_metric_format() {
        let metrics = [("records", Unit::Count, Some(3)), ("lag_ms", Unit::Milliseconds, None)];
        let line = line("shop-count-clicks", UnixMillis(5), &metrics, [("why", json!("x\ny"))]);
        assert!(!line.contains('\n'));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {"Timestamp": 5, "CloudWatchMetrics": [{
                    "Namespace": "HotProducts",
                    "Dimensions": [["function"]],
                    "Metrics": [{"Name": "records", "Unit": "Count"}],
                }]},
                "function": "shop-count-clicks",
                "records": 3,
                "why": "x\ny",
            })
        );
    }
}
