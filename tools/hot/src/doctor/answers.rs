//! The parts of AWS's answers that the checks read. Names are those of the AWS CLI's JSON.

#![expect(clippy::struct_field_names, reason = "AWS's names")]

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `aws sts get-caller-identity`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
}

/// `aws cloudformation describe-stacks`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Stacks {
    pub(crate) stacks: Vec<Stack>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Stack {
    pub(crate) stack_status: String,
    pub(crate) stack_status_reason: Option<String>,
    pub(crate) parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Parameter {
    pub(crate) parameter_key: String,
    pub(crate) parameter_value: String,
}

/// `aws cloudformation list-stack-resources`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StackResources {
    pub(crate) stack_resource_summaries: Vec<StackResource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StackResource {
    pub(crate) logical_resource_id: String,
    pub(crate) physical_resource_id: Option<String>,
}

impl StackResources {
    /// The id in AWS of the resource with this name in the template.
    pub(crate) fn id_of(&self, logical: &str) -> Option<&str> {
        self.stack_resource_summaries
            .iter()
            .find(|resource| resource.logical_resource_id == logical)
            .and_then(|resource| resource.physical_resource_id.as_deref())
    }
}

/// `aws dynamodb describe-table`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TableAnswer {
    pub(crate) table: Table,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Table {
    pub(crate) table_status: String,
    pub(crate) key_schema: Vec<Key>,
    pub(crate) attribute_definitions: Vec<Attribute>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Key {
    pub(crate) attribute_name: String,
    pub(crate) key_type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Attribute {
    pub(crate) attribute_name: String,
    pub(crate) attribute_type: String,
}

/// `aws lambda get-alias`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Alias {
    pub(crate) function_version: String,
    pub(crate) routing_config: Option<RoutingConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RoutingConfig {
    pub(crate) additional_version_weights: BTreeMap<String, f64>,
}

/// `aws lambda get-function-configuration`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct FunctionConfiguration {
    pub(crate) state: Option<String>,
    pub(crate) last_update_status: Option<String>,
    pub(crate) environment: Environment,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
}

/// `aws lambda list-event-source-mappings`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EventSourceMappings {
    pub(crate) event_source_mappings: Vec<EventSourceMapping>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EventSourceMapping {
    #[serde(rename = "UUID")]
    pub(crate) uuid: String,
    pub(crate) state: String,
    pub(crate) state_transition_reason: Option<String>,
    pub(crate) last_processing_result: Option<String>,
    pub(crate) event_source_arn: String,
    pub(crate) function_arn: String,
    pub(crate) topics: Vec<String>,
    pub(crate) amazon_managed_kafka_event_source_config: KafkaConfig,
    pub(crate) self_managed_kafka_event_source_config: KafkaConfig,
    pub(crate) function_response_types: Vec<String>,
    pub(crate) destination_config: Option<DestinationConfig>,
    pub(crate) maximum_retry_attempts: Option<i64>,
    pub(crate) maximum_record_age_in_seconds: Option<i64>,
    pub(crate) bisect_batch_on_function_error: Option<bool>,
}

impl EventSourceMapping {
    /// The configurations of its Kafka. That of Amazon MSK, or that of another Kafka, is empty.
    pub(crate) fn kafka(&self) -> [&KafkaConfig; 2] {
        [&self.amazon_managed_kafka_event_source_config, &self.self_managed_kafka_event_source_config]
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct KafkaConfig {
    pub(crate) consumer_group_id: Option<String>,
    pub(crate) consumption_mode: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DestinationConfig {
    pub(crate) on_failure: Option<Destination>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Destination {
    pub(crate) destination: Option<String>,
}

/// `aws scheduler get-schedule`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Schedule {
    pub(crate) state: String,
    pub(crate) schedule_expression: String,
    pub(crate) target: Target,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Target {
    pub(crate) arn: String,
}

/// `aws iam get-role-policy`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RolePolicy {
    pub(crate) policy_document: PolicyDocument,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PolicyDocument {
    pub(crate) statement: Vec<Statement>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Statement {
    pub(crate) effect: String,
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) action: Vec<String>,
}

/// A policy has a string or a list.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Strings {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Strings::deserialize(deserializer)? {
        Strings::One(text) => vec![text],
        Strings::Many(texts) => texts,
    })
}

/// `aws cloudwatch describe-alarms`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Alarms {
    pub(crate) metric_alarms: Vec<Alarm>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Alarm {
    pub(crate) alarm_name: String,
    pub(crate) actions_enabled: bool,
    pub(crate) alarm_actions: Vec<String>,
    pub(crate) state_value: String,
    pub(crate) metric_name: Option<String>,
    pub(crate) threshold: Option<f64>,
    pub(crate) evaluation_periods: Option<u64>,
}

/// `aws sns list-subscriptions-by-topic`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Subscriptions {
    pub(crate) subscriptions: Vec<Subscription>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Subscription {
    pub(crate) protocol: String,
    pub(crate) subscription_arn: String,
}

/// `aws cloudwatch get-metric-statistics`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Statistics {
    pub(crate) datapoints: Vec<Datapoint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Datapoint {
    pub(crate) sum: Option<f64>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_the_aws_cli_prints_them_are_read() {
        // From the examples of AWS's API references; the reader ignores fields that it does not know.
        let mappings: EventSourceMappings = serde_json::from_str(
            r#"{"EventSourceMappings": [{"UUID": "14e0db71", "StartingPosition": "TRIM_HORIZON", "BatchSize": 10000,
                "EventSourceArn": "arn:aws:kafka:c", "FunctionArn": "arn:f:live", "LastModified": 1569284520.333,
                "LastProcessingResult": "No records processed", "State": "Enabled",
                "StateTransitionReason": "USER_INITIATED", "Topics": ["clicks"], "DestinationConfig": {"OnFailure": {}},
                "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"}}]}"#,
        )
        .unwrap();
        let mapping = &mappings.event_source_mappings[0];
        assert_eq!((mapping.uuid.as_str(), mapping.topics.as_slice()), ("14e0db71", &["clicks".to_owned()][..]));
        assert_eq!(mapping.amazon_managed_kafka_event_source_config.consumer_group_id.as_deref(), Some("g"));
        assert!(mapping.destination_config.as_ref().is_some_and(|config| config.on_failure.is_some()));
        let policy: RolePolicy = serde_json::from_str(
            r#"{"RoleName": "r", "PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "a:B", "Resource": "*"}, {"Effect": "Deny", "Action": ["c:D", "e:F"]}]}}"#,
        )
        .unwrap();
        let actions: Vec<_> = policy.policy_document.statement.iter().flat_map(|s| s.action.clone()).collect();
        assert_eq!(actions, ["a:B", "c:D", "e:F"]);
        let resources: StackResources = serde_json::from_str(
            r#"{"StackResourceSummaries": [{"LogicalResourceId": "A", "PhysicalResourceId": "a-1"}, {"LogicalResourceId": "B"}]}"#,
        )
        .unwrap();
        assert_eq!((resources.id_of("A"), resources.id_of("B")), (Some("a-1"), None));
    }
}
