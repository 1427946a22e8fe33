//! Clients for a stack's tables: in AWS, or at a local endpoint.

use std::env;
#[cfg(feature = "kafka")]
use std::sync::Arc;

#[cfg(feature = "kafka")]
use anyhow::Context as _;
use anyhow::anyhow;
#[cfg(feature = "kafka")]
use aws_config::Region;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_dynamodb::{Client, config::Credentials};
#[cfg(feature = "kafka")]
use hot_products::SystemClock;
use hot_products::store::{self, CallLimits, CountersTable, RejectsTable, SnapshotsTable, StoreError};
use local_aws::{
    tables::{local_credentials, local_region},
    template::TableNames,
};

/// The tables of a stack.
#[derive(Clone, Debug)]
pub(crate) struct StackTables {
    pub(crate) counters: CountersTable,
    pub(crate) snapshots: SnapshotsTable,
    pub(crate) rejects: RejectsTable,
}

impl StackTables {
    pub(crate) fn new(client: Client, names: TableNames) -> Self {
        Self {
            counters: CountersTable::new(client.clone(), names.counters),
            snapshots: SnapshotsTable::new(client.clone(), names.snapshots),
            rejects: RejectsTable::new(client, names.rejects),
        }
    }
}

/// A client with the usual credentials (environment, profile, SSO, container or instance role), for AWS or for `endpoint`.
///
/// An endpoint is usually an emulator that checks neither credentials nor region, so there both have a default.
pub(crate) async fn client(endpoint: Option<&str>) -> Client {
    let mut loader = loader();
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
        loader = match default_credentials() {
            Some(credentials) => loader.credentials_provider(credentials),
            None => loader,
        };
        if !is_set("AWS_REGION") && !is_set("AWS_DEFAULT_REGION") && !is_set("AWS_PROFILE") {
            loader = loader.region(local_region());
        }
    }
    Client::new(&loader.load().await)
}

/// The credentials for an endpoint, if the environment names none.
pub(crate) fn default_credentials() -> Option<Credentials> {
    (!is_set("AWS_ACCESS_KEY_ID") && !is_set("AWS_PROFILE")).then(local_credentials)
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(store::http_client())
        .timeout_config(CallLimits::default().timeouts())
}

/// Who signs in to the MSK cluster with these brokers.
///
/// # Errors
/// When the cluster's region is not known.
#[cfg(feature = "kafka")]
pub(crate) async fn iam(brokers: &str) -> anyhow::Result<kafka::iam::Iam> {
    let mut loader = loader();
    if let Some(region) = kafka::iam::region_of(brokers) {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let config = loader.load().await;
    let region = config.region().context(
        "--iam needs the cluster's region, and the brokers' names do not have it: set AWS_REGION to that region",
    )?;
    let credentials = config.credentials_provider().context("--iam needs AWS credentials")?;
    Ok(kafka::iam::Iam::new(region.to_string(), credentials, Arc::new(SystemClock)))
}

/// Adds what the user can do about an error of a table, where that is known.
pub(crate) fn advise(error: StoreError) -> anyhow::Error {
    // A part of the SDK's message, and the advice. The SDK has no types for the last two.
    let known = [
        (
            "ResourceNotFoundException",
            "there is no such table; --stack names the stack whose tables to read, AWS_REGION its region",
        ),
        ("no credentials found in chain", "give AWS credentials, or --endpoint-url for a local DynamoDB"),
        ("Missing Region", "set AWS_REGION to the stack's region, or give --endpoint-url for a local DynamoDB"),
    ];
    let message = error.to_string();
    match known.iter().find(|(part, _)| message.contains(part)) {
        Some((_, advice)) => anyhow!(error).context(*advice),
        None => error.into(),
    }
}
