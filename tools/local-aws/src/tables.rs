//! Creating the tables on any DynamoDB endpoint.

use anyhow::{Context, Result, anyhow};
use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region},
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
    },
};
use hot_products::store::{self, CallLimits, explain};

use crate::template::TableDefinition;

/// What [`create`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The table is new.
    New,
    /// The table existed, and was left unchanged.
    Existing,
}

/// Creates the table and sets its TTL, unless the table exists.
///
/// # Errors
/// When DynamoDB can't be reached or refuses.
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

/// A client for the DynamoDB at `endpoint`, such as `http://127.0.0.1:8000`, that checks no credentials.
pub fn client_for(endpoint: &str) -> Client {
    store::client(local_region(), local_credentials(), Some(endpoint.to_owned()), &CallLimits::default())
}

/// Credentials for a DynamoDB that does not check any.
pub fn local_credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "local")
}

/// The region for a DynamoDB outside AWS.
pub fn local_region() -> Region {
    Region::from_static("us-east-1")
}
