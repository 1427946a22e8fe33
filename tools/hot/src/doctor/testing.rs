//! The facts of a stack that works, for tests to break.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hot_products::Window;
use local_aws::template::{self, TEMPLATE};
use serde_json::json;

use super::{
    checks::testing::{answered, at},
    expected::{Expected, ExpectedAlarm},
    facts::{ClusterFacts, Content, Facts, FunctionFacts, NetworkFacts, Parts, PollerFacts, RoleFacts, TableFacts},
};
use crate::status::{NewestSnapshot, SourceState};

const STACK: &str = "hot-products";
const CLUSTER: &str = "arn:aws:kafka:eu-west-1:123456789012:cluster/shop/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-2";

/// The event source.
pub(super) const MAPPING: &str = r#"{"UUID": "14e0db71", "State": "Enabled", "StateTransitionReason": "USER_INITIATED",
    "LastProcessingResult": "OK", "Topics": ["clicks"],
    "EventSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/shop/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-2",
    "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:hot-products-count-clicks:live",
    "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "hot-products-count-clicks"}}"#;

/// The endpoints of the network.
pub(super) const ENDPOINTS: &str = r#"{"VpcEndpoints": [
    {"VpcId": "vpc-1", "ServiceName": "com.amazonaws.eu-west-1.lambda", "State": "available", "PrivateDnsEnabled": true,
     "Groups": [{"GroupId": "sg-e"}]},
    {"VpcId": "vpc-1", "ServiceName": "com.amazonaws.eu-west-1.sts", "State": "available", "PrivateDnsEnabled": true,
     "Groups": [{"GroupId": "sg-e"}]}]}"#;

/// The facts of a stack that works, with an alarm topic. It was asked on 2022-12-27 at 16:52.
pub(super) fn healthy() -> Facts {
    // All parameters are given, as CloudFormation returns them.
    let mut given = Expected::new(STACK, &BTreeMap::new()).unwrap().parameters;
    given.insert("MskClusterArn".to_owned(), CLUSTER.to_owned());
    given.insert("AlarmTopicArn".to_owned(), "arn:aws:sns:eu-west-1:123456789012:on-call".to_owned());
    let parts = parts(Expected::new(STACK, &given).unwrap());
    Facts {
        stack: STACK.to_owned(),
        region: "eu-west-1".to_owned(),
        now: at("2022-12-27T16:52:00Z"),
        clock_ahead: Some(0),
        identity: answered(r#"{"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/me"}"#),
        stacks: answered(r#"{"Stacks": [{"StackStatus": "CREATE_COMPLETE"}]}"#),
        parts: Some(parts),
    }
}

fn parts(expected: Expected) -> Parts {
    let mut resources: Vec<_> = expected
        .resources
        .iter()
        .map(|name| json!({ "LogicalResourceId": name, "PhysicalResourceId": name }))
        .collect();
    for function in expected.functions.keys() {
        let id = format!("{function}Version0123abcd");
        resources
            .push(json!({ "LogicalResourceId": id, "PhysicalResourceId": format!("arn:aws:lambda:f:{function}:7") }));
    }
    let alarms: Vec<_> = expected
        .alarms
        .iter()
        .map(|(name, ExpectedAlarm { metric, threshold, periods })| {
            json!({ "AlarmName": name, "ActionsEnabled": true, "AlarmActions": ["arn:topic"], "StateValue": "OK",
                "MetricName": metric, "Threshold": threshold, "EvaluationPeriods": periods })
        })
        .collect();
    Parts {
        parameters_known: true,
        resources: answered(&json!({ "StackResourceSummaries": resources }).to_string()),
        tables: tables(),
        content: content(),
        functions: expected
            .functions
            .iter()
            .map(|(logical, function)| FunctionFacts {
                logical: logical.clone(),
                alias: answered(r#"{"FunctionVersion": "7"}"#),
                configuration: answered(
                    &json!({ "State": "Active", "Environment": { "Variables": function.settings } }).to_string(),
                ),
            })
            .collect(),
        roles: expected.roles.iter().map(|(name, policies)| (name.clone(), role(policies))).collect(),
        mappings: answered(&format!(r#"{{"EventSourceMappings": [{MAPPING}]}}"#)),
        schedule: answered(
            r#"{"State": "ENABLED", "ScheduleExpression": "cron(1/5 * * * ? *)",
                "Target": {"Arn": "arn:aws:lambda:eu-west-1:123456789012:function:hot-products-rank-products:live"}}"#,
        ),
        alarms: answered(&json!({ "MetricAlarms": alarms }).to_string()),
        subscriptions: Some(answered(r#"{"Subscriptions": [{"Protocol": "email", "SubscriptionArn": "arn:s"}]}"#)),
        poller: Some(PollerFacts {
            polled: answered(r#"{"Datapoints": [{"Sum": 5.0}, {"Sum": 7.0}]}"#),
            lag: answered(r#"{"Datapoints": [{"Minimum": 0.0, "Maximum": 3.0}]}"#),
        }),
        cluster: Some(cluster()),
        expected,
    }
}

fn role(policies: &BTreeMap<String, BTreeSet<String>>) -> RoleFacts {
    let policy = |grants: &BTreeSet<String>| {
        let statement = |grant: &String| {
            let (effect, action) = grant.split_once(' ').unwrap();
            json!({ "Effect": effect, "Action": action })
        };
        let statements: Vec<_> = grants.iter().map(statement).collect();
        answered(&json!({ "PolicyDocument": { "Statement": statements } }).to_string())
    };
    RoleFacts { policies: policies.iter().map(|(name, grants)| (name.clone(), policy(grants))).collect() }
}

fn tables() -> Vec<TableFacts> {
    let tables = template::tables(TEMPLATE, STACK).unwrap().into_iter();
    tables
        .map(|table| {
            let keys = table.keys.iter().zip(["HASH", "RANGE"]);
            let schema: Vec<_> = keys.map(|((n, _), k)| json!({ "AttributeName": n, "KeyType": k })).collect();
            let types = table.keys.iter().map(|(n, t)| json!({ "AttributeName": n, "AttributeType": t }));
            let types: Vec<_> = types.collect();
            let answer =
                json!({ "Table": { "TableStatus": "ACTIVE", "KeySchema": schema, "AttributeDefinitions": types } });
            TableFacts { answer: answered(&answer.to_string()), name: table.name, keys: table.keys }
        })
        .collect()
}

fn content() -> Content {
    let window = Window::ended_by(at("2022-12-27T16:50:00Z"));
    Content {
        layout: Ok(Some(at("2022-12-01T00:00:00Z"))),
        newest: Ok(Some(NewestSnapshot {
            window_end: window.end(),
            generated_at: window.end().plus(Duration::from_mins(1)),
            is_final: false,
            next_due: at("2022-12-27T16:56:10Z"),
            overdue: false,
        })),
        sources: Ok(vec![SourceState {
            source: "clicks-0".to_owned(),
            last_offset: 41,
            newest_minute: at("2022-12-27T16:51:00Z"),
            behind_seconds: 0,
        }]),
    }
}

fn cluster() -> ClusterFacts {
    ClusterFacts {
        cluster: answered(
            r#"{"ClusterInfo": {"State": "ACTIVE", "Provisioned": {"BrokerNodeGroupInfo":
                {"ClientSubnets": ["s-1", "s-2"], "SecurityGroups": ["sg-k"]}}}}"#,
        ),
        topic: answered(r#"{"TopicName": "clicks", "Status": "ACTIVE", "PartitionCount": 6}"#),
        network: Some(NetworkFacts {
            subnets: answered(
                r#"{"Subnets": [{"VpcId": "vpc-1", "CidrBlock": "10.0.0.0/26"}, {"VpcId": "vpc-1", "CidrBlock": "10.0.0.64/26"}]}"#,
            ),
            routes: answered(r#"{"RouteTables": [{"Associations": [{"Main": true}], "Routes": []}]}"#),
            endpoints: answered(ENDPOINTS),
            groups: answered(
                r#"{"SecurityGroups": [
                    {"GroupId": "sg-k",
                     "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 9098, "ToPort": 9098, "UserIdGroupPairs": [{"GroupId": "sg-k"}]}],
                     "IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]},
                    {"GroupId": "sg-e",
                     "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "UserIdGroupPairs": [{"GroupId": "sg-k"}]}]}]}"#,
            ),
        }),
    }
}
