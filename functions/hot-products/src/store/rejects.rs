use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};

use super::{StoreError, number, text, unsigned, write_units};
use crate::{counters::Source, rejects::Rejects, time::UnixMillis};

/// The rejected events.
#[derive(Clone, Debug)]
pub struct RejectsTable {
    client: Client,
    table: String,
}

impl RejectsTable {
    /// The table named `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Notes the rejected records of one source in one batch, to be kept for `retention`, and returns the write units
    /// consumed.
    ///
    /// The same batch again changes nothing. A batch that was cut elsewhere and begins with the same rejected record
    /// takes the item over only if it holds more of them.
    ///
    /// # Errors
    /// When the write failed after all retries.
    pub async fn put(
        &self,
        source: &Source,
        rejects: &Rejects,
        now: UnixMillis,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        let by_reason =
            rejects.by_reason.iter().map(|(reason, count)| (reason.name().to_owned(), unsigned(*count))).collect();
        let samples = rejects.samples.iter().map(|sample| {
            AttributeValue::M(HashMap::from([
                ("offset".into(), number(sample.offset)),
                ("reason".into(), text(sample.reason.name())),
                ("value".into(), text(&sample.value)),
            ]))
        });
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("source", text(source.as_str()))
            .item("first_offset", number(rejects.first_offset()))
            .item("rejected", unsigned(rejects.count()))
            .item("reasons", AttributeValue::M(by_reason))
            .item("offsets", AttributeValue::L(rejects.offsets.iter().copied().map(number).collect()))
            .item("samples", AttributeValue::L(samples.collect()))
            .item("rejected_at", text(now.rfc3339()))
            .item("expires_at", number(now.plus(retention).epoch_seconds()))
            .condition_expression("attribute_not_exists(#r) OR #r < :r")
            .expression_attribute_names("#r", "rejected")
            .expression_attribute_values(":r", unsigned(rejects.count()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match result {
            Ok(output) => Ok(write_units(output.consumed_capacity())),
            Err(error) if error.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) => {
                Ok(0)
            }
            Err(error) => Err(StoreError::call("PutItem", &self.table, &error)),
        }
    }
}
