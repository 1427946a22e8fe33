//! DynamoDB: the only module that talks to it. One type a table, one method an access that the tables are made for.

mod counters;
mod limits;
mod rejects;
mod snapshots;

use std::{error::Error, iter::successors};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{
        BehaviorVersion, Credentials, Region, SharedHttpClient, StalledStreamProtectionConfig,
        retry::{RetryPartition, TokenBucket},
    },
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, ConsumedCapacity},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use thiserror::Error;

pub use self::{
    counters::{BucketRead, CountersTable},
    limits::CallLimits,
    rejects::{RejectedBatch, RejectedSample, RejectsPage, RejectsTable},
    snapshots::{Put, SnapshotsTable},
};
use crate::settings::{SettingError, Settings};

/// The codes of throttled calls (Amazon DynamoDB Developer Guide, "Error messages and codes").
const THROTTLES: [&str; 3] = ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"];

/// A call to DynamoDB that failed after all retries, or an item that is not of its table's layout.
#[derive(Debug, Error)]
pub enum StoreError {
    /// DynamoDB refused, failed or was not reached.
    #[error("{operation} on table {table} failed: {message}")]
    Call {
        /// The API's name for the call.
        operation: &'static str,
        /// The table.
        table: String,
        /// What DynamoDB answered, or all causes of there being no answer.
        message: String,
        /// Whether DynamoDB throttled the call: nothing was changed, and it may succeed later.
        throttled: bool,
    },
    /// An item does not hold what its table's layout says.
    #[error("table {table}, item {item}: {problem}")]
    Layout {
        /// The table.
        table: String,
        /// The item's key.
        item: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    fn call<E: ProvideErrorMetadata + Error + 'static>(
        operation: &'static str,
        table: &str,
        error: &SdkError<E>,
    ) -> Self {
        let throttled = error.code().is_some_and(|code| THROTTLES.contains(&code));
        Self::Call { operation, table: table.to_owned(), message: explain(error), throttled }
    }

    /// Whether DynamoDB throttled the call: nothing was changed, and it may succeed later.
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Call { throttled: true, .. })
    }

    fn layout(table: &str, item: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Layout { table: table.to_owned(), item: item.into(), problem: problem.into() }
    }
}

/// An SDK error for people: what DynamoDB answered, or all causes of there being no answer.
pub fn explain<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => successors(Some(error as &dyn Error), |&error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": "),
    }
}

/// The HTTP client that all calls share: rustls with ring, for `https` and, to a local DynamoDB, `http`.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// A client for a Lambda function: region and credentials from the variables that Lambda sets, the endpoint from
/// `AWS_ENDPOINT_URL_DYNAMODB` or `AWS_ENDPOINT_URL` where one is set, and its [`CallLimits`].
///
/// Lambda hands credentials to a function by no other way, so the SDK's whole chain of providers stays out of the
/// binary.
///
/// # Errors
/// When a variable is missing or wrong.
pub fn client_from_env<L: Fn(&str) -> Option<String>>(settings: &Settings<L>) -> Result<Client, SettingError> {
    let credentials = Credentials::new(
        settings.required("AWS_ACCESS_KEY_ID", "an access key (Lambda sets it)")?,
        settings.required("AWS_SECRET_ACCESS_KEY", "a secret key (Lambda sets it)")?,
        settings.optional("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
    let region = settings.required("AWS_REGION", "a region such as eu-central-1 (Lambda sets it)")?;
    let endpoint = settings.optional("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| settings.optional("AWS_ENDPOINT_URL"));
    Ok(client(Region::new(region), credentials, endpoint, &CallLimits::read(settings)?))
}

/// A client for `endpoint`, or for the region's own.
pub fn client(region: Region, credentials: Credentials, endpoint: Option<String>, limits: &CallLimits) -> Client {
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(credentials)
        .http_client(http_client())
        .timeout_config(limits.timeouts())
        .retry_config(limits.retries())
        .retry_partition(own_retries())
        // It watches large bodies for stalls; the attempt timeout bounds ours.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(endpoint);
    Client::from_conf(config.build())
}

/// Retries that no budget ends. The SDK's budget is one token bucket a client, which hardly refills within an
/// invocation: under throttling it is empty soon, and then every call fails at its first throttle. What bounds the
/// retries of a function is its time.
fn own_retries() -> RetryPartition {
    RetryPartition::custom("hot-products").token_bucket(TokenBucket::unlimited()).build()
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn unsigned(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn read_units(capacity: Option<&ConsumedCapacity>) -> f64 {
    capacity.and_then(ConsumedCapacity::capacity_units).unwrap_or_default()
}

/// Whole, other than read units: an eventually consistent read is billed half of one.
fn write_units(capacity: Option<&ConsumedCapacity>) -> u64 {
    read_units(capacity).ceil() as u64
}
