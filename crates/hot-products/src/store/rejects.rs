use std::{collections::HashMap, ops::ControlFlow, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{StoreError, number, read_units, text, unsigned, write_units};
use crate::{
    counters::TopicPartition,
    rejects::{BatchRejects, RejectedBatch, attribute},
    time::UnixMillis,
};

/// The rejected events.
#[derive(Clone, Debug)]
pub struct RejectsTable {
    client: Client,
    table: String,
}

/// One page of a scan of the rejected events.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectsPage {
    /// The batches found, in no particular order.
    pub batches: Vec<RejectedBatch>,
    /// How many items were read to find them.
    pub scanned: u64,
    /// Read units consumed.
    pub read_units: f64,
}

impl RejectsTable {
    /// The table named `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Stores the rejected records of one topic partition in one batch, to be kept for `retention`, and returns the write
    /// units consumed.
    ///
    /// Storing the same batch again changes nothing. A redelivered batch that was cut elsewhere and begins with the same
    /// rejected record replaces the item only if it holds more of them.
    ///
    /// # Errors
    /// If the write failed after all retries.
    pub async fn put(
        &self,
        source: &TopicPartition,
        rejects: &BatchRejects,
        now: UnixMillis,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        let Some(record) = rejects.record(source, now) else { return Ok(0) };
        let key = format!("{source} {}", record.first_offset);
        let mut item = to_item(record).map_err(|error| StoreError::layout(&self.table, key, error.to_string()))?;
        item.insert(attribute::EXPIRES_AT.to_owned(), number(now.plus(retention).epoch_seconds()));
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#r) OR #r < :r")
            .expression_attribute_names("#r", attribute::REJECTED)
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

    /// Reads the batches rejected at `since` or later, and passes them to `each` page by page, each of at most 1 MB, until
    /// all are read or `each` breaks. Returns whether all were read.
    ///
    /// This scans the whole table, because its key is made for writing. A scan costs half a read unit for each 4 KB,
    /// whatever it finds.
    ///
    /// # Errors
    /// If a read failed after all retries, or an item has another layout.
    pub async fn since(
        &self,
        since: UnixMillis,
        mut each: impl FnMut(RejectsPage) -> ControlFlow<()>,
    ) -> Result<bool, StoreError> {
        let mut start = None;
        loop {
            let page = self
                .client
                .scan()
                .table_name(&self.table)
                .filter_expression("#a >= :s")
                .expression_attribute_names("#a", attribute::REJECTED_AT)
                .expression_attribute_values(":s", text(since.rfc3339()))
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::call("Scan", &self.table, &error))?;
            let scanned = u64::try_from(page.scanned_count()).unwrap_or_default();
            let read_units = read_units(page.consumed_capacity());
            start = page.last_evaluated_key;
            let items = page.items.unwrap_or_default().into_iter();
            let batches = items.map(|item| self.parse(item)).collect::<Result<_, _>>()?;
            let flow = each(RejectsPage { batches, scanned, read_units });
            if start.is_none() || flow.is_break() {
                return Ok(start.is_none());
            }
        }
    }

    fn parse(&self, item: HashMap<String, AttributeValue>) -> Result<RejectedBatch, StoreError> {
        let source = item.get(attribute::SOURCE).and_then(|source| source.as_s().ok()).cloned();
        let first = item.get(attribute::FIRST_OFFSET).and_then(|first| first.as_n().ok()).cloned();
        from_item(item).map_err(|error| {
            let key = format!("{} {}", source.as_deref().unwrap_or("?"), first.as_deref().unwrap_or("?"));
            StoreError::layout(&self.table, key, format!("does not have the layout of the rejected events: {error}"))
        })
    }
}
