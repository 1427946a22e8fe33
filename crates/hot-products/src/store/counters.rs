use std::{collections::HashMap, fmt::Write, ops::AddAssign, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        query::builders::QueryFluentBuilder,
        update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    },
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use super::{StoreError, body::KeptBody, number, read_units, text, unsigned, write_units};
use crate::{
    counters::{Bucket, CounterList, ItemKey, Shard, TopicPartition, attribute},
    protocol::{Update, UpdateOutcome},
    time::Minute,
};

/// The minute counters.
#[derive(Clone, Debug)]
pub struct CountersTable {
    pub(super) client: Client,
    pub(super) table: String,
}

/// What reading a bucket, or several, took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BucketRead {
    /// Items read.
    pub items: u64,
    /// Queries, further pages included.
    pub queries: u64,
    /// Read units consumed.
    pub read_units: f64,
}

impl AddAssign for BucketRead {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.queries += other.queries;
        self.read_units += other.read_units;
    }
}

impl CountersTable {
    /// The table named `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Sends `update` to the item at `key`. `product` names its products; the item lives for `retention` after its
    /// minute's end.
    ///
    /// # Errors
    /// When the write failed after all retries. It may have been applied all the same: sending the update again shows
    /// whether it was.
    pub async fn update<'p>(
        &self,
        key: ItemKey<'_>,
        update: &Update,
        product: impl Fn(u32) -> &'p str,
        retention: Duration,
    ) -> Result<UpdateOutcome, StoreError> {
        let Update { counts: add, closes, .. } = update;
        let mut names = HashMap::with_capacity(add.counts.len() + 3);
        let mut values = HashMap::with_capacity(16);
        let mut expression = String::with_capacity(64 + 10 * add.counts.len());
        expression.push_str("SET #o = :l, #c = :n, #e = :e ADD ");
        for (position, (number, clicks)) in add.counts.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            // Equal counts share a value: most products of an update have one click.
            let _infallible = write!(expression, "{comma}#{position} :{clicks}");
            names.insert(format!("#{position}"), format!("{}{}", attribute::COUNTER_PREFIX, product(*number)));
            values.entry(format!(":{clicks}")).or_insert_with(|| unsigned(*clicks));
        }
        names.insert("#o".into(), attribute::LAST_OFFSET.into());
        names.insert("#c".into(), attribute::CLOSED.into());
        names.insert("#e".into(), attribute::EXPIRES_AT.into());
        values.insert(":f".into(), number(add.first));
        values.insert(":l".into(), number(add.last));
        values.insert(":c".into(), AttributeValue::Bool(false));
        values.insert(":n".into(), AttributeValue::Bool(*closes));
        values.insert(":e".into(), number(key.bucket.minute.end().plus(retention).epoch_seconds()));

        let call = self
            .update_item(key.bucket.to_string(), key.sort_key())
            .update_expression(expression)
            .condition_expression("attribute_not_exists(#o) OR (#o < :f AND #c = :c)")
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().await {
            Ok(output) => Ok(UpdateOutcome::Counted { write_units: write_units(output.consumed_capacity()) }),
            Err(error) if is_full(&error) => Ok(UpdateOutcome::Full),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                    let item = failure.item().ok_or_else(|| self.layout(key, "refused an update without its item"))?;
                    let last_offset = self.last_offset(key, item)?;
                    let closed = item.get(attribute::CLOSED).and_then(|closed| closed.as_bool().ok()) == Some(&true);
                    if !closed && last_offset < add.first {
                        // Another program wrote it. Sending the update again would never end.
                        return Err(self.layout(key, "is open and has not counted the update that it refused"));
                    }
                    Ok(UpdateOutcome::Refused { last_offset, closed })
                }
                _ => Err(self.failed(&error)),
            },
        }
    }

    /// Closes the item at `key` for good and returns its final `last_offset`. Closing it again changes nothing.
    ///
    /// # Errors
    /// When the write failed after all retries.
    pub async fn close(&self, key: ItemKey<'_>) -> Result<i64, StoreError> {
        let output = self
            .update_item(key.bucket.to_string(), key.sort_key())
            .update_expression("SET #c = :c")
            .condition_expression("attribute_exists(#o)")
            .expression_attribute_names("#c", attribute::CLOSED)
            .expression_attribute_names("#o", attribute::LAST_OFFSET)
            .expression_attribute_values(":c", AttributeValue::Bool(true))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| self.failed(&error))?;
        let item = output.attributes().ok_or_else(|| self.layout(key, "was closed without an answer"))?;
        self.last_offset(key, item)
    }

    /// Reads a bucket and calls `each` with each counter: the topic partition, the product, and its clicks. As
    /// [`read_pages`](Self::read_pages).
    ///
    /// # Errors
    /// When a read failed after all retries, or a counter is not an integer.
    pub async fn read(
        &self,
        bucket: Bucket,
        mut each: impl FnMut(&TopicPartition, &str, u64),
    ) -> Result<BucketRead, StoreError> {
        self.read_pages(bucket, |counters| counters.for_each(&mut each)).await
    }

    /// Reads a bucket, and calls `each` with the counters of each page.
    ///
    /// Reads are eventually consistent, at half the price: a window is read a minute after its last minute's end, and
    /// twelve times until it has passed.
    ///
    /// # Errors
    /// When a read failed after all retries, or a counter is not an integer.
    pub async fn read_pages(
        &self,
        bucket: Bucket,
        mut each: impl FnMut(&CounterList),
    ) -> Result<BucketRead, StoreError> {
        let mut read = BucketRead::default();
        let mut start = None;
        loop {
            let body = KeptBody::default();
            self.query(bucket.to_string())
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .customize()
                .interceptor(body.clone())
                .send()
                .await
                .map_err(|error| StoreError::call("Query", &self.table, &error))?;
            let page =
                body.page().map_err(|error| StoreError::layout(&self.table, bucket.to_string(), error.to_string()))?;
            read.queries += 1;
            read.items += page.items;
            read.read_units += page.read_units;
            each(&page.counters);
            let Some(source) = page.last_source else { return Ok(read) };
            start = Some(HashMap::from([
                (attribute::BUCKET.to_owned(), text(bucket.to_string())),
                (attribute::SOURCE.to_owned(), text(source)),
            ]));
        }
    }

    /// Reads how far each source is counted in `bucket`, and hands it to `each`: the source, and the last offset of an item
    /// of it. Costs the read units of [`read`](Self::read), but brings no counters.
    ///
    /// # Errors
    /// When a read failed after all retries, or an item has no last offset.
    pub async fn last_offsets(
        &self,
        bucket: Bucket,
        mut each: impl FnMut(TopicPartition, i64),
    ) -> Result<BucketRead, StoreError> {
        let mut read = BucketRead::default();
        let mut pages = self
            .query(bucket.to_string())
            .projection_expression("#s, #o")
            .expression_attribute_names("#s", attribute::SOURCE)
            .expression_attribute_names("#o", attribute::LAST_OFFSET)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| StoreError::call("Query", &self.table, &error))?;
            read.queries += 1;
            read.items += page.items().len() as u64;
            read.read_units += read_units(page.consumed_capacity());
            for item in page.items() {
                let partition = partition_of(item);
                let last_offset = self.last_offset(ItemKey::first(bucket, &partition), item)?;
                each(partition, last_offset);
            }
        }
        Ok(read)
    }

    /// The clicks of `product` in `minute`, from all topic partitions. Reads are eventually consistent, one query for each
    /// group of topic partitions.
    ///
    /// # Errors
    /// When a read failed after all retries, or a counter is not an integer.
    pub async fn clicks(&self, minute: Minute, product: &str) -> Result<u64, StoreError> {
        let name = format!("{}{product}", attribute::COUNTER_PREFIX);
        let mut clicks = 0;
        for bucket in Bucket::of_shard(minute, Shard::of(product)) {
            let mut items = self
                .query(bucket.to_string())
                .projection_expression("#p")
                .expression_attribute_names("#p", &name)
                .into_paginator()
                .items()
                .send();
            while let Some(item) = items.next().await {
                let item = item.map_err(|error| StoreError::call("Query", &self.table, &error))?;
                self.counters_of(&item, |_, counted| clicks += counted)?;
            }
        }
        Ok(clicks)
    }

    fn counters_of(
        &self,
        item: &HashMap<String, AttributeValue>,
        mut each: impl FnMut(&str, u64),
    ) -> Result<(), StoreError> {
        for (name, value) in item {
            let Some(product) = name.strip_prefix(attribute::COUNTER_PREFIX) else { continue };
            let clicks = value.as_n().ok().and_then(|clicks| clicks.parse().ok()).ok_or_else(|| {
                let key = |name| item.get(name).and_then(|key| key.as_s().ok()).map_or("?", String::as_str);
                let item = format!("{} {}", key(attribute::BUCKET), key(attribute::SOURCE));
                StoreError::layout(&self.table, item, format!("counter {name:?} is {value:?}, not an integer"))
            })?;
            each(product, clicks);
        }
        Ok(())
    }

    pub(super) fn update_item(&self, bucket: impl Into<String>, source: impl Into<String>) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key(attribute::BUCKET, text(bucket))
            .key(attribute::SOURCE, text(source))
    }

    /// A query of the items with this partition key.
    pub(super) fn query(&self, bucket: impl Into<String>) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#b = :b")
            .expression_attribute_names("#b", attribute::BUCKET)
            .expression_attribute_values(":b", text(bucket))
    }

    fn last_offset(&self, key: ItemKey<'_>, item: &HashMap<String, AttributeValue>) -> Result<i64, StoreError> {
        item.get(attribute::LAST_OFFSET)
            .and_then(|offset| offset.as_n().ok())
            .and_then(|offset| offset.parse().ok())
            .ok_or_else(|| self.layout(key, "has no last_offset"))
    }

    pub(super) fn failed(&self, error: &SdkError<UpdateItemError>) -> StoreError {
        StoreError::call("UpdateItem", &self.table, error)
    }

    fn layout(&self, key: ItemKey<'_>, problem: &str) -> StoreError {
        StoreError::layout(&self.table, key.to_string(), problem)
    }
}

/// The topic partition of an item, from its sort key.
fn partition_of(item: &HashMap<String, AttributeValue>) -> TopicPartition {
    let key = item.get(attribute::SOURCE).and_then(|key| key.as_s().ok()).map_or("?", String::as_str);
    TopicPartition::of_item(key)
}

/// DynamoDB has no error of its own for an item above 400 KB, only `ValidationException: Item size to update has
/// exceeded the maximum allowed size`.
fn is_full(error: &SdkError<UpdateItemError>) -> bool {
    error.code() == Some("ValidationException")
        && error.message().is_some_and(|message| message.to_ascii_lowercase().contains("item size"))
}
