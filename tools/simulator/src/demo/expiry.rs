//! DynamoDB's TTL in the demo's time: the embedded one knows only ours, and a demo that runs for hours would fill the
//! memory.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, anyhow};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use hot_products::{
    Bucket, Minute, Shard, UnixMillis,
    counters::attribute::{BUCKET, SOURCE},
    store::explain,
};

/// Deletes the counters of minutes that are over for longer than their retention.
#[derive(Debug)]
pub(super) struct Expiry {
    client: Client,
    table: String,
    retention: Duration,
    /// The first minute that is not deleted.
    next: Minute,
}

impl Expiry {
    pub(super) fn new(client: Client, table: String, retention: Duration, first: Minute) -> Self {
        Self { client, table, retention, next: first }
    }

    /// Deletes what has expired at `now`.
    pub(super) async fn delete_until(&mut self, now: UnixMillis) -> Result<()> {
        while self.next.end().plus(self.retention) <= now {
            for shard in Shard::all() {
                self.delete(Bucket { minute: self.next, shard }).await?;
            }
            self.next = Minute::of(self.next.end());
        }
        Ok(())
    }

    async fn delete(&self, bucket: Bucket) -> Result<()> {
        // A page of keys holds more items than a minute has sources.
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
            .map_err(|error| anyhow!("can't look for expired counters: {}", explain(&error)))?
            .items
            .unwrap_or_default();
        for item in items {
            let key: HashMap<_, _> = item.into_iter().collect();
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
