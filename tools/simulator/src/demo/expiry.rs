//! DynamoDB's TTL in the demo's time. The embedded DynamoDB never deletes expired items, and a demo that runs for hours
//! would fill the memory.

use std::time::Duration;

use anyhow::{Result, anyhow};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use hot_products::{
    Bucket, Minute, UnixMillis,
    counters::attribute::{BUCKET, SOURCE},
    store::explain,
};
use local_aws::embedded::Embedded;

/// Deletes the counters of minutes that ended longer ago than their retention.
#[derive(Debug)]
pub(super) struct Expiry {
    client: Client,
    table: String,
    retention: Duration,
    /// The first minute that is not deleted.
    next: Minute,
}

impl Expiry {
    pub(super) fn new(dynamodb: &Embedded, retention: Duration, first: Minute) -> Self {
        Self { client: dynamodb.client(), table: dynamodb.tables().counters, retention, next: first }
    }

    /// Deletes what has expired at `now`.
    pub(super) async fn delete_until(&mut self, now: UnixMillis) -> Result<()> {
        while self.next.end().plus(self.retention) <= now {
            for bucket in Bucket::of_minute(self.next) {
                self.delete(bucket).await?;
            }
            self.next = Minute::of(self.next.end());
        }
        Ok(())
    }

    async fn delete(&self, bucket: Bucket) -> Result<()> {
        // One page of keys is enough: a bucket has only a few items per topic partition.
        let items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#b = :b")
            .projection_expression("#b, #s")
            .expression_attribute_names("#b", BUCKET)
            .expression_attribute_names("#s", SOURCE)
            .expression_attribute_values(":b", AttributeValue::S(bucket.to_string()))
            .send()
            .await
            .map_err(|error| anyhow!("can't query expired counters: {}", explain(&error)))?
            .items
            .unwrap_or_default();
        for key in items {
            self.client
                .delete_item()
                .table_name(&self.table)
                .set_key(Some(key))
                .send()
                .await
                .map_err(|error| anyhow!("can't delete expired counters: {}", explain(&error)))?;
        }
        Ok(())
    }
}
