//! DynamoDB: the only module that calls it. One type per table, one method per access pattern.

mod body;
mod counters;
mod days;
mod late;
mod layout;
mod limits;
mod page;
mod rankings;
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
    rejects::{RejectsPage, RejectsTable},
    snapshots::{PutOutcome, SnapshotRange, SnapshotsTable},
};
use crate::{
    counters::LAYOUT_VERSION,
    settings::{AwsAccess, SettingError, Settings},
};

/// The codes of throttled calls (Amazon DynamoDB Developer Guide, "Error messages and codes").
const THROTTLES: [&str; 3] = ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"];

/// A call to DynamoDB that failed after all retries, or an item that does not have its table's layout.
#[derive(Debug, Error)]
pub enum StoreError {
    /// DynamoDB refused the call, failed or could not be reached.
    #[error("{operation} on table {table} failed: {message}")]
    Call {
        /// The API's name for the call.
        operation: &'static str,
        /// The table.
        table: String,
        /// DynamoDB's answer, or the causes when there was none.
        message: String,
        /// Whether DynamoDB throttled the call: nothing was changed, and it may succeed later.
        throttled: bool,
    },
    /// The counters were written with another layout.
    #[error(
        "table {table} has counters of layout {found}, and this program has layout {LAYOUT_VERSION}. Two layouts can't share a \
         table: use the version of the program that wrote it, or new tables"
    )]
    OtherLayout {
        /// The table.
        table: String,
        /// The table's layout version.
        found: String,
    },
    /// An item does not have its table's layout.
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

/// An SDK error as a message: DynamoDB's answer, or the causes when there was none.
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

/// The HTTP client for all calls: rustls with ring. It also takes `http`, for a local DynamoDB.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// A client for a Lambda function. Region and credentials come from the variables that Lambda sets, the endpoint from
/// `AWS_ENDPOINT_URL_DYNAMODB` or `AWS_ENDPOINT_URL` if one is set; [`CallLimits`] are settings too.
///
/// Lambda passes credentials in these variables only, so the binary does not need the SDK's chain of providers.
///
/// # Errors
/// When a variable is missing or wrong.
pub fn client_from_env(settings: &Settings) -> Result<Client, SettingError> {
    let AwsAccess { access_key_id, secret_access_key, session_token, region } = settings.aws_access()?;
    let credentials = Credentials::new(access_key_id, secret_access_key, session_token, None, "environment");
    let endpoint = settings.optional("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| settings.optional("AWS_ENDPOINT_URL"));
    Ok(client(Region::new(region), credentials, endpoint.map(str::to_owned), &CallLimits::read(settings)?))
}

/// A client for `endpoint`, or for the endpoint of the region.
pub fn client(region: Region, credentials: Credentials, endpoint: Option<String>, limits: &CallLimits) -> Client {
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(credentials)
        .http_client(http_client())
        .timeout_config(limits.timeouts())
        .retry_config(limits.retries())
        .retry_partition(own_retries())
        // Made for large bodies. Ours are small, and the attempt timeout limits them.
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

/// Write units are whole. Read units are not: an eventually consistent read costs half of one.
fn write_units(capacity: Option<&ConsumedCapacity>) -> u64 {
    read_units(capacity).ceil() as u64
}
