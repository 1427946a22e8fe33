//! What this version's template asks for, under the parameters of a stack.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use local_aws::template::TEMPLATE;
use serde_yaml_ng::{Mapping, Value};

/// What a stack that was deployed from this version's template has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// The value of each of the template's parameters.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Parameters that the stack has and the template does not.
    pub(crate) unknown_parameters: Vec<String>,
    /// Parameters that the template has and the stack does not.
    pub(crate) new_parameters: Vec<String>,
    /// The names of its resources in the template.
    pub(crate) resources: BTreeSet<String>,
    /// The alarms, by their full name.
    pub(crate) alarms: BTreeMap<String, ExpectedAlarm>,
    /// For each role, by its name in the template, the actions of each of its policies.
    pub(crate) roles: BTreeMap<String, BTreeMap<String, BTreeSet<Grant>>>,
    /// The functions, by their name in the template: the name in AWS, and the settings that are known.
    pub(crate) functions: BTreeMap<String, ExpectedFunction>,
}

/// An alarm.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ExpectedAlarm {
    /// The metric, unless it watches an expression.
    pub(crate) metric: Option<String>,
    /// The threshold, if the template has a number or a parameter there.
    pub(crate) threshold: Option<f64>,
    /// The number of periods.
    pub(crate) periods: Option<u64>,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpectedFunction {
    /// Its name in AWS.
    pub(crate) name: String,
    /// The environment variables whose values follow from the parameters.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Whether an action is allowed or denied, and the action: `Allow dynamodb:Query`.
pub(crate) type Grant = String;

impl Expected {
    /// What the template asks for in the stack `stack` with these parameters. A parameter without a value has its default.
    ///
    /// # Errors
    /// When the template is not as it was when this program was built, which tests exclude.
    pub(crate) fn new(stack: &str, given: &BTreeMap<String, String>) -> Result<Self> {
        let template: Value = serde_yaml_ng::from_str(TEMPLATE).context("the template is not YAML")?;
        let section = |name: &str| template[name].as_mapping().with_context(|| format!("the template has no {name}"));
        let mut parameters = BTreeMap::new();
        for (name, parameter) in named(section("Parameters")?) {
            let default = plain(&parameter["Default"]).unwrap_or_default();
            parameters.insert(name.to_owned(), given.get(name).cloned().unwrap_or(default));
        }
        let unknown_parameters = given.keys().filter(|name| !parameters.contains_key(*name)).cloned().collect();
        let new_parameters = parameters.keys().filter(|name| !given.contains_key(*name)).cloned().collect();
        let conditions = section("Conditions")?.clone();
        let resolver = Resolver { stack, parameters: &parameters, conditions: &conditions };
        let mut expected =
            Self { parameters: parameters.clone(), unknown_parameters, new_parameters, ..Self::default() };
        for (name, resource) in named(section("Resources")?) {
            if resource["Condition"].as_str().is_some_and(|condition| !resolver.condition(condition)) {
                continue;
            }
            expected.resources.insert(name.to_owned());
            let properties = &resource["Properties"];
            match resource["Type"].as_str().unwrap_or_default() {
                "AWS::CloudWatch::Alarm" => {
                    let alarm = resolver.text(&properties["AlarmName"]).context("an alarm has no name")?;
                    expected.alarms.insert(alarm, resolver.alarm(properties));
                }
                "AWS::IAM::Role" => {
                    expected.roles.insert(name.to_owned(), resolver.policies(&properties["Policies"]));
                }
                "AWS::Serverless::Function" => {
                    let function = resolver.function(properties).with_context(|| format!("{name} has no name"))?;
                    expected.functions.insert(name.to_owned(), function);
                }
                _ => {}
            }
        }
        Ok(expected)
    }

    /// The value of a parameter; empty if the template has no such parameter.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// The consumer group of the event source.
    pub(crate) fn consumer_group(&self, stack: &str) -> String {
        match self.parameter("ConsumerGroupId") {
            "" => format!("{stack}-count-clicks"),
            group => group.to_owned(),
        }
    }

    /// Whether the stack has an event source.
    pub(crate) fn has_event_source(&self) -> bool {
        self.parameter("EventSource") != "absent"
    }
}

fn named(mapping: &Mapping) -> impl Iterator<Item = (&str, &Value)> {
    mapping.iter().filter_map(|(name, value)| Some((name.as_str()?, value)))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Evaluates the few intrinsic functions that names, conditions and policies of the template use.
struct Resolver<'a> {
    stack: &'a str,
    parameters: &'a BTreeMap<String, String>,
    conditions: &'a Mapping,
}

impl Resolver<'_> {
    /// The value as text, if it needs nothing but parameters and the stack's name.
    fn text(&self, value: &Value) -> Option<String> {
        let Value::Tagged(tagged) = value else { return plain(value) };
        if tagged.tag == "Ref" {
            self.parameters.get(tagged.value.as_str()?).cloned()
        } else if tagged.tag == "Sub" {
            let mut text = tagged.value.as_str()?.replace("${AWS::StackName}", self.stack);
            for (name, value) in self.parameters {
                text = text.replace(&format!("${{{name}}}"), value);
            }
            (!text.contains("${")).then_some(text)
        } else if tagged.tag == "If" {
            self.text(self.branch(&tagged.value)?)
        } else {
            None
        }
    }

    /// The branch of an `!If` that applies.
    fn branch<'v>(&self, arguments: &'v Value) -> Option<&'v Value> {
        let holds = self.condition(arguments.get(0)?.as_str()?);
        arguments.get(if holds { 1 } else { 2 })
    }

    fn condition(&self, name: &str) -> bool {
        self.conditions.get(name).is_some_and(|value| self.holds(value))
    }

    fn holds(&self, value: &Value) -> bool {
        let Value::Tagged(tagged) = value else { return false };
        let arguments = tagged.value.as_sequence().map(Vec::as_slice).unwrap_or_default();
        if tagged.tag == "Equals" {
            matches!(arguments, [left, right] if self.text(left) == self.text(right))
        } else if tagged.tag == "Not" {
            !arguments.iter().any(|argument| self.holds(argument))
        } else if tagged.tag == "And" {
            arguments.iter().all(|argument| self.holds(argument))
        } else if tagged.tag == "Or" {
            arguments.iter().any(|argument| self.holds(argument))
        } else if tagged.tag == "Condition" {
            tagged.value.as_str().is_some_and(|name| self.condition(name))
        } else {
            false
        }
    }

    fn alarm(&self, properties: &Value) -> ExpectedAlarm {
        let number = |name: &str| self.text(&properties[name]).and_then(|text| text.parse().ok());
        ExpectedAlarm {
            metric: self.text(&properties["MetricName"]),
            threshold: number("Threshold"),
            periods: properties["EvaluationPeriods"].as_u64(),
        }
    }

    /// The actions of each inline policy, by the policy's name.
    fn policies(&self, policies: &Value) -> BTreeMap<String, BTreeSet<Grant>> {
        let existing = policies.as_sequence().into_iter().flatten().filter_map(|policy| match policy {
            Value::Tagged(tagged) if tagged.tag == "If" => self.branch(&tagged.value),
            policy => Some(policy),
        });
        existing
            .filter_map(|policy| {
                // A branch with `!Ref AWS::NoValue` has no name.
                let name = policy.get("PolicyName")?.as_str()?.to_owned();
                let statements = policy["PolicyDocument"]["Statement"].as_sequence()?;
                Some((name, statements.iter().flat_map(grants).collect()))
            })
            .collect()
    }

    fn function(&self, properties: &Value) -> Option<ExpectedFunction> {
        let variables = properties["Environment"]["Variables"].as_mapping();
        let settings = variables.into_iter().flat_map(named);
        let known = settings.filter_map(|(name, value)| Some((name.to_owned(), self.text(value)?)));
        Some(ExpectedFunction { name: self.text(&properties["FunctionName"])?, settings: known.collect() })
    }
}

fn grants(statement: &Value) -> Vec<Grant> {
    let effect = statement["Effect"].as_str().unwrap_or_default();
    let actions: Vec<&str> = match &statement["Action"] {
        Value::Sequence(actions) => actions.iter().filter_map(Value::as_str).collect(),
        action => action.as_str().into_iter().collect(),
    };
    actions.into_iter().map(|action| format!("{effect} {action}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(given: &[(&str, &str)]) -> Expected {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Expected::new("shop", &given).unwrap()
    }

    #[test]
    fn the_template_is_read_under_its_defaults() {
        let found = expected(&[("MskClusterArn", "arn:cluster")]);
        assert!(found.alarms.len() >= 16, "{:?}", found.alarms.keys());
        let lag = ExpectedAlarm { metric: Some("OffsetLag".to_owned()), threshold: Some(100_000.0), periods: Some(10) };
        assert_eq!(found.alarms["shop-event-source-lag"], lag);
        assert_eq!(found.alarms["shop-event-source-silent"].metric, None, "it watches an expression");
        let roles: Vec<&str> = found.roles.keys().map(String::as_str).collect();
        assert_eq!(roles, ["CountClicksRole", "RankProductsRole", "ReadBoardRole", "RolloutRole", "ScheduleRole"]);
        let count = &found.roles["CountClicksRole"];
        assert_eq!(count.keys().collect::<Vec<_>>(), ["event-source", "function", "msk"]);
        assert!(count["function"].contains("Allow dynamodb:UpdateItem"), "{count:?}");
        assert!(count["event-source"].contains("Deny kafka:*"), "{count:?}");
        let function = &found.functions["CountClicksFunction"];
        assert_eq!(function.name, "shop-count-clicks");
        assert_eq!(function.settings.get("MAX_EVENT_AGE").map(String::as_str), Some("24h"));
        assert!(!function.settings.contains_key("COUNTERS_TABLE"), "a reference to a resource");
        assert!(!function.settings.contains_key("SOURCE_EPOCH"), "not set");
        assert_eq!(found.consumer_group("shop"), "shop-count-clicks");
        assert!(found.has_event_source() && !found.resources.contains("AlarmTopic"));
    }

    #[test]
    fn parameters_decide_what_exists() {
        let found = expected(&[
            ("EventSource", "absent"),
            ("BoardAccess", "none"),
            ("AlarmEmail", "on-call@example.com"),
            ("Tracing", "xray"),
            ("KafkaAuthentication", "scram"),
            ("KafkaSecretArn", "arn:secret"),
            ("ConsumerGroupId", "mine"),
            ("SourceEpoch", "2"),
            ("MaxOffsetLag", "7"),
        ]);
        assert!(!found.has_event_source() && !found.alarms.contains_key("shop-event-source-silent"));
        assert!(!found.functions.contains_key("ReadBoardFunction") && !found.roles.contains_key("ReadBoardRole"));
        assert!(found.resources.contains("AlarmTopic"));
        let policies: Vec<_> = found.roles["CountClicksRole"].keys().map(String::as_str).collect();
        assert_eq!(policies, ["event-source", "function", "kafka-secret", "tracing"]);
        assert_eq!(found.consumer_group("shop"), "mine");
        assert_eq!(found.functions["CountClicksFunction"].settings["SOURCE_EPOCH"], "2");
        assert_eq!(found.alarms["shop-event-source-lag"].threshold, Some(7.0));
    }
}
