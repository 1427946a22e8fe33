use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure},
};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{StoreError, number, read_units, text, unsigned, write_units};
use crate::{
    click::Reason,
    counters::TopicPartition,
    rejects::{BatchRejects, RejectedBatch, RejectedSample, attribute},
    time::UnixMillis,
};

/// How often an item is written anew because another invocation changed it in between. Two invocations write the same item
/// only when Lambda delivers a batch again before the first delivery has ended.
const MAX_ATTEMPTS: usize = 20;

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
    /// How many items were found that have another version's layout.
    pub unreadable: u64,
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

    /// Notes the rejected records of one topic partition in one batch, to be kept for `retention`, and returns the write
    /// units consumed.
    ///
    /// Afterwards every one of their offsets is in an item, whatever was there. Noting the same batch again changes nothing.
    /// If a batch with other members begins with the same rejected record, the item lists the records of both. What it
    /// can't take goes to an item of its own: the rest of a full item, or of an item that another version wrote.
    ///
    /// # Errors
    /// If a write failed after all retries, or the item changes all the time. It is safe to repeat.
    pub async fn put(
        &self,
        source: &TopicPartition,
        rejects: &BatchRejects,
        now: UnixMillis,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        let mut open = rejects.offsets.clone();
        let mut write_units = 0;
        while let Some((&first_offset, _)) = open.first_key_value() {
            let empty = RejectedBatch::empty(source, first_offset, now);
            let (units, rest) = self.add(empty, &open, &rejects.samples, retention).await?;
            write_units += units;
            open = rest;
        }
        Ok(write_units)
    }

    /// Adds the records `open` to the item with the key of `empty`. Returns the write units consumed and the records that
    /// the item can't take. It always has the first, whose offset is its key.
    async fn add(
        &self,
        empty: RejectedBatch,
        open: &BTreeMap<i64, Reason>,
        samples: &[RejectedSample],
        retention: Duration,
    ) -> Result<(u64, BTreeMap<i64, Reason>), StoreError> {
        let key = format!("{} {}", empty.source, empty.first_offset);
        let now = empty.rejected_at;
        let mut stored = empty.clone();
        for _ in 0..MAX_ATTEMPTS {
            let mut batch = stored.clone();
            let rest = batch.add(open, samples, now);
            if batch.rejected == stored.rejected {
                return Ok((0, rest));
            }
            let mut item = to_item(&batch).map_err(|error| StoreError::layout(&self.table, &key, error.to_string()))?;
            item.insert(attribute::EXPIRES_AT.to_owned(), number(batch.rejected_at.plus(retention).epoch_seconds()));
            let call = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(item))
                .expression_attribute_names("#r", attribute::REJECTED)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let call = match stored.rejected {
                0 => call.condition_expression("attribute_not_exists(#r)"),
                // An item only grows, so with as many records it is unchanged.
                known => call.condition_expression("#r = :r").expression_attribute_values(":r", unsigned(known)),
            };
            let error = match call.send().await {
                Ok(output) => return Ok((write_units(output.consumed_capacity()), rest)),
                Err(error) => error,
            };
            let Some(PutItemError::ConditionalCheckFailedException(failure)) = error.as_service_error() else {
                return Err(StoreError::call("PutItem", &self.table, &error));
            };
            stored = match failure.item().map(|item| from_item::<RejectedBatch>(item.clone())) {
                Some(Ok(stored)) => stored,
                // Another version wrote it. Its key is the first of the records, so that one is noted.
                Some(Err(_)) => {
                    return Ok((0, open.iter().skip(1).map(|(&offset, &reason)| (offset, reason)).collect()));
                }
                // It has expired in between.
                None => empty.clone(),
            };
        }
        Err(StoreError::layout(&self.table, key, format!("has changed during each of {MAX_ATTEMPTS} writes")))
    }

    /// Reads the batches rejected at `since` or later, and passes them to `each` page by page, each of at most 1 MB, until
    /// all are read or `each` breaks. Returns whether all were read.
    ///
    /// This scans the whole table, because its key is made for writing. A scan costs half a read unit for each 4 KB,
    /// whatever it finds.
    ///
    /// # Errors
    /// If a read failed after all retries.
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
            let (mut batches, mut unreadable) = (Vec::new(), 0);
            for item in page.items.unwrap_or_default() {
                match from_item(item) {
                    Ok(batch) => batches.push(batch),
                    Err(_) => unreadable += 1,
                }
            }
            let flow = each(RejectsPage { batches, unreadable, scanned, read_units });
            if start.is_none() || flow.is_break() {
                return Ok(start.is_none());
            }
        }
    }
}
