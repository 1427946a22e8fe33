//! The tables as the SAM template defines them, so that tools and tests use the same tables as a deployed stack.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_yaml_ng::{Mapping, Value};

/// The text of `infra/template.yaml`, at build time.
pub const TEMPLATE: &str = include_str!("../../../infra/template.yaml");

/// The default name of the stack. The names of the tables begin with it.
pub const DEFAULT_STACK: &str = "hot-products";

/// A table's definition, as much of it as a local DynamoDB needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    /// The table's name, including the stack's.
    pub name: String,
    /// The key attributes in order, partition key first: name and type (`S` or `N`).
    pub keys: Vec<(String, String)>,
    /// The TTL attribute.
    pub ttl_attribute: Option<String>,
}

/// The names of a stack's tables. The template defines them; a test checks that these are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    /// The minute counters.
    pub counters: String,
    /// The snapshots.
    pub snapshots: String,
    /// The rejected events.
    pub rejects: String,
}

impl TableNames {
    /// The names in the stack `stack`.
    pub fn of(stack: &str) -> Self {
        Self {
            counters: format!("{stack}-minute-counters"),
            snapshots: format!("{stack}-snapshots"),
            rejects: format!("{stack}-rejected-events"),
        }
    }
}

/// The sizes of the stack's other resources, as far as they affect its price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StackSizes {
    /// Memory of `count-clicks`, in MB.
    pub count_memory_mb: f64,
    /// Memory of `rank-products`, in MB.
    pub rank_memory_mb: f64,
    /// Timeout of `rank-products`, in seconds.
    pub rank_timeout_seconds: f64,
    /// How many metrics the alarms watch: an alarm on a ratio watches two.
    pub alarm_metrics: f64,
    /// How many dashboards.
    pub dashboards: f64,
}

/// The sizes in the template.
///
/// # Errors
/// When the template is not YAML or has no such resource.
pub fn sizes(template: &str) -> Result<StackSizes> {
    let template: Value = serde_yaml_ng::from_str(template).context("the template is not YAML")?;
    let number = |function: &str, property: &str| {
        let value = &template["Resources"][function]["Properties"][property];
        // A parameter counts with its default.
        let value = match value {
            Value::Tagged(tagged) if tagged.tag == "Ref" => &template["Parameters"][&tagged.value]["Default"],
            value => value,
        };
        value.as_f64().with_context(|| format!("the template's {function} has no {property}"))
    };
    let resources = template["Resources"].as_mapping().context("the template has no Resources")?;
    let of_type = |kind: &'static str| resources.values().filter(move |resource| resource["Type"] == kind);
    let watched = |alarm: &Value| match alarm["Properties"]["Metrics"].as_sequence() {
        Some(metrics) => metrics.iter().filter(|metric| metric.get("MetricStat").is_some()).count(),
        None => 1,
    };
    Ok(StackSizes {
        count_memory_mb: number("CountClicksFunction", "MemorySize")?,
        rank_memory_mb: number("RankProductsFunction", "MemorySize")?,
        rank_timeout_seconds: number("RankProductsFunction", "Timeout")?,
        alarm_metrics: of_type("AWS::CloudWatch::Alarm").map(watched).sum::<usize>() as f64,
        dashboards: of_type("AWS::CloudWatch::Dashboard").count() as f64,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    table_name: Value,
    attribute_definitions: Vec<Attribute>,
    key_schema: Vec<Key>,
    time_to_live_specification: Option<TimeToLive>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    attribute_name: String,
    attribute_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    attribute_name: String,
    key_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TimeToLive {
    attribute_name: String,
}

/// The tables of the template, with their names in the stack `stack`.
///
/// # Errors
/// When the template is not YAML, or defines a table in a way that is not supported here.
pub fn tables(template: &str, stack: &str) -> Result<Vec<TableDefinition>> {
    let template: Value = serde_yaml_ng::from_str(template).context("the template is not YAML")?;
    let resources: &Mapping =
        template.get("Resources").and_then(Value::as_mapping).context("the template has no Resources")?;
    resources
        .iter()
        .filter(|(_, resource)| resource.get("Type").and_then(Value::as_str) == Some("AWS::DynamoDB::Table"))
        .map(|(id, resource)| {
            let id = id.as_str().unwrap_or("?");
            let properties = resource.get("Properties").cloned().unwrap_or_default();
            table(properties, stack).with_context(|| format!("the template's table {id}"))
        })
        .collect()
}

fn table(properties: Value, stack: &str) -> Result<TableDefinition> {
    let properties: Properties = serde_yaml_ng::from_value(properties)?;
    let name = match &properties.table_name {
        Value::String(name) => name.clone(),
        Value::Tagged(tagged) if tagged.tag == "Sub" => {
            let name = tagged.value.as_str().context("TableName: !Sub must have a string")?;
            name.replace("${AWS::StackName}", stack)
        }
        other => bail!("TableName is {other:?}, neither a string nor a !Sub"),
    };
    if name.contains("${") {
        bail!("TableName {name:?} refers to more than the stack's name");
    }
    let mut keys = properties.key_schema;
    keys.sort_by_key(|key| key.key_type != "HASH");
    let keys = keys
        .into_iter()
        .map(|key| {
            let definition = properties
                .attribute_definitions
                .iter()
                .find(|attribute| attribute.attribute_name == key.attribute_name);
            let definition = definition.with_context(|| format!("the key {} has no type", key.attribute_name))?;
            Ok((key.attribute_name, definition.attribute_type.clone()))
        })
        .collect::<Result<_>>()?;
    Ok(TableDefinition {
        name,
        keys,
        ttl_attribute: properties.time_to_live_specification.map(|ttl| ttl.attribute_name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_the_three_tables_of_the_design() {
        let mut tables = tables(TEMPLATE, "shop").unwrap();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let names = TableNames::of("shop");
        let table = |name: &str, keys: [(&str, &str); 2]| TableDefinition {
            name: name.to_owned(),
            keys: keys.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into(),
            ttl_attribute: Some("expires_at".to_owned()),
        };
        assert_eq!(
            tables,
            [
                table(&names.counters, [("bucket", "S"), ("source", "S")]),
                table(&names.rejects, [("source", "S"), ("first_offset", "N")]),
                table(&names.snapshots, [("board", "S"), ("window_end", "S")]),
            ]
        );
    }

    #[test]
    fn an_alarm_counts_as_many_metrics_as_it_watches() {
        let function = "{Properties: {MemorySize: 128, Timeout: !Ref Seconds}}";
        let template = format!(
            "Parameters: {{Seconds: {{Default: 3}}}}\n\
             Resources: {{CountClicksFunction: {function}, RankProductsFunction: {function}, \
             Plain: {{Type: 'AWS::CloudWatch::Alarm', Properties: {{MetricName: x}}}}, \
             Ratio: {{Type: 'AWS::CloudWatch::Alarm', Properties: {{Metrics: \
             [{{Expression: a / b}}, {{MetricStat: {{}}}}, {{MetricStat: {{}}}}]}}}}}}"
        );
        let sizes = sizes(&template).unwrap();
        assert_eq!((sizes.alarm_metrics as u64, sizes.dashboards as u64), (3, 0));
        assert_eq!((sizes.rank_memory_mb as u64, sizes.rank_timeout_seconds as u64), (128, 3));
    }

    #[test]
    fn errors_name_what_is_wrong_with_a_template() {
        assert!(tables("Resources: [", "s").unwrap_err().to_string().contains("not YAML"));
        assert!(tables("Parameters: {}", "s").unwrap_err().to_string().contains("no Resources"));
        let template = "Resources: {T: {Type: 'AWS::DynamoDB::Table', Properties: {}}}";
        assert!(tables(template, "s").unwrap_err().to_string().contains("table T"));
    }
}
