use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};

use serde::Serialize;

use super::{StoreError, number, read_units, text, unsigned, write_units};
use crate::{counters::Source, rejects::Rejects, time::UnixMillis};

/// The rejected events.
#[derive(Clone, Debug)]
pub struct RejectsTable {
    client: Client,
    table: String,
}

/// The rejected records of one source in one batch, as stored. Reasons are texts here: who reads may be older or newer than
/// who wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedBatch {
    /// The source.
    pub source: String,
    /// The lowest offset of a rejected record.
    pub first_offset: i64,
    /// When they were rejected.
    pub rejected_at: UnixMillis,
    /// How many records were rejected.
    pub rejected: u64,
    /// How many of them for each reason.
    pub reasons: BTreeMap<String, u64>,
    /// Their offsets, in the order of the batch; the first [`MAX_OFFSETS`](crate::rejects::MAX_OFFSETS).
    pub offsets: Vec<i64>,
    /// The first few values.
    pub samples: Vec<RejectedSample>,
}

/// A rejected record's value, as far as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedSample {
    /// The record's offset.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: String,
    /// The value's start as text, without the user's id.
    pub value: String,
}

/// A part of what a scan of the rejected events finds.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectsPage {
    /// The batches found, in no particular order.
    pub batches: Vec<RejectedBatch>,
    /// How many items were read for them.
    pub scanned: u64,
    /// Read units consumed.
    pub read_units: f64,
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
        let Some(first_offset) = rejects.first_offset() else { return Ok(0) };
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
            .item("first_offset", number(first_offset))
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

    /// Reads the batches rejected at `since` or later, and hands them on page by page, of at most 1 MB each, until all are
    /// read or `each` breaks off. Whether all were read is the answer.
    ///
    /// The table's key is for writing: there is no other way than to scan it, at half a read unit for each 4 KB, whatever is
    /// found.
    ///
    /// # Errors
    /// When a read failed after all retries, or an item is not of the table's layout.
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
                .expression_attribute_names("#a", "rejected_at")
                .expression_attribute_values(":s", text(since.rfc3339()))
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::call("Scan", &self.table, &error))?;
            let found = RejectsPage {
                batches: page.items().iter().map(|item| self.parse(item)).collect::<Result<_, _>>()?,
                scanned: u64::try_from(page.scanned_count()).unwrap_or_default(),
                read_units: read_units(page.consumed_capacity()),
            };
            let going_on = each(found).is_continue();
            start = page.last_evaluated_key;
            if start.is_none() || !going_on {
                return Ok(start.is_none());
            }
        }
    }

    fn parse(&self, item: &HashMap<String, AttributeValue>) -> Result<RejectedBatch, StoreError> {
        let read = || {
            Some(RejectedBatch {
                source: item.get("source")?.as_s().ok()?.clone(),
                first_offset: offset(item.get("first_offset")?)?,
                rejected_at: UnixMillis::parse_rfc3339(item.get("rejected_at")?.as_s().ok()?).ok()?,
                rejected: whole(item.get("rejected")?)?,
                reasons: item
                    .get("reasons")?
                    .as_m()
                    .ok()?
                    .iter()
                    .map(|(reason, count)| Some((reason.clone(), whole(count)?)))
                    .collect::<Option<_>>()?,
                offsets: item.get("offsets")?.as_l().ok()?.iter().map(offset).collect::<Option<_>>()?,
                samples: item
                    .get("samples")?
                    .as_l()
                    .ok()?
                    .iter()
                    .map(|sample| {
                        let sample = sample.as_m().ok()?;
                        Some(RejectedSample {
                            offset: offset(sample.get("offset")?)?,
                            reason: sample.get("reason")?.as_s().ok()?.clone(),
                            value: sample.get("value")?.as_s().ok()?.clone(),
                        })
                    })
                    .collect::<Option<_>>()?,
            })
        };
        read().ok_or_else(|| {
            let source = item.get("source").and_then(|source| source.as_s().ok()).map_or("?", String::as_str);
            let first = item.get("first_offset").and_then(|first| first.as_n().ok()).map_or("?", String::as_str);
            StoreError::layout(&self.table, format!("{source} {first}"), "is not of the rejected events' layout")
        })
    }
}

fn offset(value: &AttributeValue) -> Option<i64> {
    value.as_n().ok()?.parse().ok()
}

fn whole(value: &AttributeValue) -> Option<u64> {
    value.as_n().ok()?.parse().ok()
}
