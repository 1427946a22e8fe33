//! Tables on any DynamoDB endpoint, and clients for it.

use std::env;

use anyhow::{Context, Result, anyhow};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::{
    Client,
    config::Credentials,
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
    },
};
use hot_products::store::{self, CallLimits, StoreError, explain};

use crate::template::TableDefinition;

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// It was there and was left as it is.
    Existing,
}

/// Creates a table, with its TTL.
pub async fn create(client: &Client, table: &TableDefinition) -> Result<Created> {
    let mut call = client.create_table().table_name(&table.name).billing_mode(BillingMode::PayPerRequest);
    for ((name, kind), key_type) in table.keys.iter().zip([KeyType::Hash, KeyType::Range]) {
        call = call
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name(name)
                    .attribute_type(ScalarAttributeType::from(kind.as_str()))
                    .build()?,
            )
            .key_schema(KeySchemaElement::builder().attribute_name(name).key_type(key_type).build()?);
    }
    match call.send().await {
        Ok(_) => {}
        Err(error) if error.as_service_error().is_some_and(CreateTableError::is_resource_in_use_exception) => {
            return Ok(Created::Existing);
        }
        Err(error) => {
            return Err(anyhow!(explain(&error))).with_context(|| format!("can't create the table {}", table.name));
        }
    }
    if let Some(attribute) = &table.ttl_attribute {
        let ttl = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build()?;
        client
            .update_time_to_live()
            .table_name(&table.name)
            .time_to_live_specification(ttl)
            .send()
            .await
            .map_err(|error| anyhow!(explain(&error)))
            .with_context(|| format!("can't set the TTL of the table {}", table.name))?;
    }
    Ok(Created::New)
}

/// A client for `endpoint`, an emulator that asks for no particular credentials, or, without one, for AWS with the
/// usual credentials: environment, profile, SSO, container or instance role.
pub async fn client(endpoint: Option<&str>) -> Client {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(store::http_client())
        .timeout_config(CallLimits::default().timeouts());
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
        if !set("AWS_ACCESS_KEY_ID") && !set("AWS_PROFILE") {
            loader = loader.credentials_provider(local_credentials());
        }
        if !set("AWS_REGION") && !set("AWS_DEFAULT_REGION") && !set("AWS_PROFILE") {
            loader = loader.region(local_region());
        }
    }
    Client::new(&loader.load().await)
}

/// A table that can't be read, with what to do about it.
pub fn advise(error: StoreError) -> anyhow::Error {
    let message = error.to_string();
    let advice = [
        (
            "ResourceNotFoundException",
            "there is no such table; --stack names the stack whose tables to read, AWS_REGION its region",
        ),
        ("no credentials found in chain", "give AWS credentials, or --endpoint-url for a local DynamoDB"),
        ("Missing Region", "set AWS_REGION to the stack's region, or give --endpoint-url for a local DynamoDB"),
    ];
    match advice.iter().find(|(sign, _)| message.contains(sign)) {
        Some((_, advice)) => anyhow!(error).context(*advice),
        None => error.into(),
    }
}

/// Credentials for a DynamoDB that checks none.
pub fn local_credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "local")
}

/// The region of a DynamoDB that is in none.
pub fn local_region() -> Region {
    Region::from_static("us-east-1")
}
