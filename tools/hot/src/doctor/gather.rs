//! Reads the facts. Each call only reads.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::Client;
use futures_util::future::{join, join_all, join3, join4};
use hot_products::{UnixMillis, store::StoreError};
use local_aws::template::{self, TEMPLATE, TableNames};

use super::{
    answers::{EventSourceMappings, StackResources, Stacks},
    aws_cli::{Asked, AwsCli, Reason},
    clock::AwsClock,
    expected::Expected,
    facts::{
        ClusterFacts, Content, Facts, FunctionFacts, NetworkFacts, Parts, PollerFacts, RECENT_MINUTES, RoleFacts,
        TableFacts, Unreadable,
    },
    network::{ClusterAnswer, Subnets},
};
use crate::{
    aws::StackTables,
    status::{freshness, sources},
};

/// The alias that everything invokes.
pub(crate) const LIVE: &str = "live";

/// Where to get the AWS CLI.
const INSTALL: &str = "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html";

/// From about which difference of the clocks, in milliseconds, AWS refuses a signature: five minutes for most services (AWS
/// Signature Version 4).
const REFUSED_MS: i64 = 240_000;

/// A period of a metric, in seconds.
const PERIOD: &str = "60";

/// Reads everything about the stack `stack`. `client` gives the region and reads the tables.
///
/// # Errors
/// When nothing can be asked: there is no region, no AWS CLI, or no credentials.
pub(crate) async fn gather(client: &Client, endpoint: Option<&str>, stack: &str) -> Result<Facts> {
    let region = client.config().region().context("set AWS_REGION to the stack's region")?.to_string();
    let clock = AwsClock::new();
    let client = Client::from_conf(client.config().to_builder().interceptor(clock.clone()).build());
    let tables = StackTables::new(client, TableNames::of(stack));
    let aws = AwsCli::new(region.clone(), endpoint.map(str::to_owned));
    // The first answer of DynamoDB also tells the time.
    let (identity, layout) = join(aws.ask(&["sts", "get-caller-identity"]), tables.counters.check_layout()).await;
    if let Err(refusal) = &identity.answer {
        match refusal.reason {
            Reason::NoCli => bail!("hot doctor runs the AWS CLI, and `aws` is not on the path: install it, {INSTALL}"),
            _ if clock.ahead().is_some_and(|ahead| ahead.abs() >= REFUSED_MS) => {
                bail!("{}; this machine's clock is minutes off: set it by NTP", refusal.message)
            }
            // Everybody may ask who they are, whatever their policies.
            _ => bail!("{}; give AWS credentials, for example with AWS_PROFILE or `aws sso login`", refusal.message),
        }
    }
    let stacks = aws.ask::<Stacks>(&["cloudformation", "describe-stacks", "--stack-name", stack]).await;
    let missing = stacks.answer.as_ref().is_err_and(|refusal| refusal.reason == Reason::Missing);
    let parts = if missing {
        None
    } else {
        let gatherer = Gatherer { aws: &aws, stack, now: clock.now() };
        Some(gatherer.parts(&stacks.answer.clone().unwrap_or_default(), &tables, layout).await?)
    };
    let (stack, now) = (stack.to_owned(), clock.now());
    Ok(Facts { stack, region, now, clock_ahead: clock.ahead(), identity, stacks, parts })
}

struct Gatherer<'a> {
    aws: &'a AwsCli,
    stack: &'a str,
    now: UnixMillis,
}

impl Gatherer<'_> {
    async fn parts(
        &self,
        stacks: &Stacks,
        tables: &StackTables,
        layout: Result<Option<UnixMillis>, StoreError>,
    ) -> Result<Parts> {
        let given = stacks.stacks.iter().flat_map(|stack| &stack.parameters);
        let given = given.map(|p| (p.parameter_key.clone(), p.parameter_value.clone())).collect();
        let expected = Expected::new(self.stack, &given)?;
        let (resources, mappings) = join(
            self.aws.ask::<StackResources>(&["cloudformation", "list-stack-resources", "--stack-name", self.stack]),
            self.mappings(),
        )
        .await;
        let none = StackResources::default();
        let known = resources.answer.as_ref().unwrap_or(&none);
        let found =
            mappings.answer.as_ref().ok().and_then(|found: &EventSourceMappings| found.event_source_mappings.first());
        let cluster = match (expected.parameter("MskClusterArn"), found) {
            // The event source of another Kafka than Amazon MSK has no ARN.
            ("", found) => found.map(|mapping| mapping.event_source_arn.clone()).filter(|arn| !arn.is_empty()),
            (arn, _) => Some(arn.to_owned()),
        };
        let cluster = async {
            match &cluster {
                Some(arn) => Some(self.cluster(arn, expected.parameter("Topic")).await),
                None => None,
            }
        };
        let poller = async {
            match found {
                Some(mapping) => Some(self.poller(&mapping.uuid).await),
                None => None,
            }
        };
        let subscriptions = async {
            match known.id_of("AlarmTopic") {
                Some(topic) => Some(self.aws.ask(&["sns", "list-subscriptions-by-topic", "--topic-arn", topic]).await),
                None => None,
            }
        };
        let schedule = format!("{}-rank-products", self.stack);
        let prefix = format!("{}-", self.stack);
        let ((tables, content), (functions, roles), (poller, cluster), (schedule, alarms, subscriptions)) = join4(
            join(Box::pin(self.tables()), Box::pin(self.content(tables, layout))),
            join(Box::pin(self.functions(&expected)), Box::pin(self.roles(&expected, known))),
            join(Box::pin(poller), Box::pin(cluster)),
            join3(
                self.aws.ask(&["scheduler", "get-schedule", "--name", &schedule]),
                self.aws.ask(&["cloudwatch", "describe-alarms", "--alarm-name-prefix", &prefix]),
                subscriptions,
            ),
        )
        .await;
        let tables = tables?;
        let parameters_known = !stacks.stacks.is_empty();
        Ok(Parts {
            parameters_known,
            expected,
            resources,
            tables,
            content,
            functions,
            roles,
            mappings,
            schedule,
            alarms,
            subscriptions,
            poller,
            cluster,
        })
    }

    async fn mappings(&self) -> Asked<EventSourceMappings> {
        let function = format!("{}-count-clicks:{LIVE}", self.stack);
        self.aws.ask(&["lambda", "list-event-source-mappings", "--function-name", &function]).await
    }

    async fn tables(&self) -> Result<Vec<TableFacts>> {
        let tables = template::tables(TEMPLATE, self.stack)?;
        Ok(join_all(tables.into_iter().map(async |table| {
            let answer = self.aws.ask(&["dynamodb", "describe-table", "--table-name", &table.name]).await;
            TableFacts { name: table.name, keys: table.keys, answer }
        }))
        .await)
    }

    async fn content(&self, tables: &StackTables, layout: Result<Option<UnixMillis>, StoreError>) -> Content {
        let (newest, sources) =
            join(tables.snapshots.newest(), sources(&tables.counters, self.now, RECENT_MINUTES)).await;
        Content {
            layout: layout.map_err(|error| unreadable(&error)),
            newest: newest
                .map(|newest| newest.map(|newest| freshness(&newest, self.now)))
                .map_err(|error| unreadable(&error)),
            sources: sources.map(|(sources, _)| sources).map_err(|error| unreadable(&error)),
        }
    }

    async fn functions(&self, expected: &Expected) -> Vec<FunctionFacts> {
        join_all(expected.functions.iter().map(async |(logical, function)| {
            let name = function.name.as_str();
            let (alias, configuration) = join(
                self.aws.ask(&["lambda", "get-alias", "--function-name", name, "--name", LIVE]),
                self.aws.ask(&["lambda", "get-function-configuration", "--function-name", name, "--qualifier", LIVE]),
            )
            .await;
            FunctionFacts { logical: logical.clone(), alias, configuration }
        }))
        .await
    }

    async fn roles(&self, expected: &Expected, known: &StackResources) -> BTreeMap<String, RoleFacts> {
        let roles =
            expected.roles.iter().filter_map(|(logical, policies)| Some((logical, known.id_of(logical)?, policies)));
        let asked = roles.map(async |(logical, role, policies)| {
            let policies = join_all(policies.keys().map(async |policy| {
                let asked =
                    self.aws.ask(&["iam", "get-role-policy", "--role-name", role, "--policy-name", policy]).await;
                (policy.clone(), asked)
            }));
            (logical.clone(), RoleFacts { policies: policies.await.into_iter().collect() })
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn poller(&self, mapping: &str) -> PollerFacts {
        let start = self.now.minus(Duration::from_mins(RECENT_MINUTES));
        let (start, end) = (start.utc().format("%FT%TZ").to_string(), self.now.utc().format("%FT%TZ").to_string());
        let statistics = async |metric: &str, dimension: &str, statistics: &[&str]| {
            let mut arguments = vec!["cloudwatch", "get-metric-statistics", "--namespace", "AWS/Lambda"];
            arguments.extend(["--metric-name", metric, "--dimensions", dimension, "--period", PERIOD]);
            arguments.extend(["--start-time", &start, "--end-time", &end, "--statistics"]);
            arguments.extend(statistics);
            self.aws.ask(&arguments).await
        };
        let (mapping, function) = (
            format!("Name=EventSourceMappingUUID,Value={mapping}"),
            format!("Name=FunctionName,Value={}-count-clicks", self.stack),
        );
        let (polled, lag) = join(
            statistics("PolledEventCount", &mapping, &["Sum"]),
            statistics("OffsetLag", &function, &["Minimum", "Maximum"]),
        )
        .await;
        PollerFacts { polled, lag }
    }

    async fn cluster(&self, arn: &str, topic: &str) -> ClusterFacts {
        let (cluster, topic) = join(
            self.aws.ask::<ClusterAnswer>(&["kafka", "describe-cluster-v2", "--cluster-arn", arn]),
            self.aws.ask(&["kafka", "describe-topic", "--cluster-arn", arn, "--topic-name", topic]),
        )
        .await;
        let network = match cluster.answer.as_ref().map(|answer| answer.cluster_info.network()) {
            Ok((subnets, _)) if !subnets.is_empty() => Some(self.network(&subnets).await),
            _ => None,
        };
        ClusterFacts { cluster, topic, network }
    }

    async fn network(&self, subnets: &[String]) -> NetworkFacts {
        let mut arguments = vec!["ec2", "describe-subnets", "--subnet-ids"];
        arguments.extend(subnets.iter().map(String::as_str));
        let subnets = self.aws.ask::<Subnets>(&arguments).await;
        let vpc =
            subnets.answer.as_ref().ok().and_then(|answer| answer.subnets.first()).map_or("", |subnet| &subnet.vpc_id);
        let filter = format!("Name=vpc-id,Values={vpc}");
        let (routes, endpoints, groups) = join3(
            self.aws.ask(&["ec2", "describe-route-tables", "--filters", &filter]),
            self.aws.ask(&["ec2", "describe-vpc-endpoints", "--filters", &filter]),
            self.aws.ask(&["ec2", "describe-security-groups", "--filters", &filter]),
        )
        .await;
        NetworkFacts { subnets, routes, endpoints, groups }
    }
}

fn unreadable(error: &StoreError) -> Unreadable {
    Unreadable { other_layout: matches!(error, StoreError::OtherLayout { .. }), message: error.to_string() }
}
