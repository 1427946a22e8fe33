use std::{collections::HashMap, fmt::Write, ops::RangeInclusive, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};

use super::{StoreError, number, text, unsigned, write_units};
use crate::{
    snapshot::{BOARD, RankedProduct, Snapshot},
    time::{UnixMillis, Window, bound},
};

/// The snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotsTable {
    client: Client,
    table: String,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Put {
    /// It is the window's snapshot now.
    Written {
        /// Write units consumed.
        write_units: u64,
    },
    /// The window has one that is as new or newer.
    Kept,
}

impl SnapshotsTable {
    /// The table named `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// The window's snapshot, if there is one.
    ///
    /// # Errors
    /// When the read failed after all retries, or the item is no snapshot.
    pub async fn get(&self, window: Window) -> Result<Option<Snapshot>, StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("board", text(BOARD))
            .key("window_end", text(bound(window.end())))
            .send()
            .await
            .map_err(|error| StoreError::call("GetItem", &self.table, &error))?;
        output.item.map(|item| self.parse(&item)).transpose()
    }

    /// The newest snapshot, if there is any.
    ///
    /// # Errors
    /// When the read failed after all retries, or the item is no snapshot.
    pub async fn newest(&self) -> Result<Option<Snapshot>, StoreError> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#b = :b")
            .expression_attribute_names("#b", "board")
            .expression_attribute_values(":b", text(BOARD))
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(|error| StoreError::call("Query", &self.table, &error))?;
        output.items().first().map(|item| self.parse(item)).transpose()
    }

    /// The snapshots of `windows`, oldest first: at most `limit` of them, and of each at most the first `products`
    /// products.
    ///
    /// # Errors
    /// When a read failed after all retries, or an item is no snapshot.
    pub async fn between(
        &self,
        windows: RangeInclusive<Window>,
        limit: usize,
        products: usize,
    ) -> Result<Vec<Snapshot>, StoreError> {
        let mut projection = "window_end, generated_at, total_clicks, distinct_products".to_owned();
        for place in 0..products {
            let _infallible = write!(projection, ", products[{place}]");
        }
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#b = :b AND window_end BETWEEN :f AND :l")
            .projection_expression(projection)
            .expression_attribute_names("#b", "board")
            .expression_attribute_values(":b", text(BOARD))
            .expression_attribute_values(":f", text(bound(windows.start().end())))
            .expression_attribute_values(":l", text(bound(windows.end().end())))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .into_paginator()
            .items()
            .send();
        let mut snapshots = Vec::new();
        while snapshots.len() < limit
            && let Some(item) = items.next().await
        {
            let item = item.map_err(|error| StoreError::call("Query", &self.table, &error))?;
            snapshots.push(self.parse(&item)?);
        }
        Ok(snapshots)
    }

    /// Writes `snapshot`, to live for `retention` after its window's end, unless its window has one that is as new or
    /// newer.
    ///
    /// # Errors
    /// When the write failed after all retries.
    pub async fn put(&self, snapshot: &Snapshot, retention: Duration) -> Result<Put, StoreError> {
        let generated_at = text(snapshot.generated_at.rfc3339());
        let products = snapshot.products.iter().map(|product| {
            let mut fields = HashMap::from([
                ("rank".into(), unsigned(product.rank)),
                ("product_id".into(), text(&product.product_id)),
                ("clicks".into(), unsigned(product.clicks)),
            ]);
            fields.extend(product.previous_rank.map(|rank| ("previous_rank".into(), unsigned(rank))));
            AttributeValue::M(fields)
        });
        let minutes = snapshot.clicks_per_minute.iter().copied().map(unsigned);
        let expires_at = snapshot.window.end().plus(retention).epoch_seconds();
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("board", text(BOARD))
            .item("window_end", text(bound(snapshot.window.end())))
            .item("window_start", text(bound(snapshot.window.start())))
            .item("generated_at", generated_at.clone())
            .item("total_clicks", unsigned(snapshot.total_clicks))
            .item("distinct_products", unsigned(snapshot.distinct_products))
            .item("clicks_per_minute", AttributeValue::L(minutes.collect()))
            .item("products", AttributeValue::L(products.collect()))
            .item("expires_at", number(expires_at))
            .condition_expression("attribute_not_exists(#g) OR #g < :g")
            .expression_attribute_names("#g", "generated_at")
            .expression_attribute_values(":g", generated_at)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match result {
            Ok(output) => Ok(Put::Written { write_units: write_units(output.consumed_capacity()) }),
            Err(error) if error.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) => {
                Ok(Put::Kept)
            }
            Err(error) => Err(StoreError::call("PutItem", &self.table, &error)),
        }
    }

    fn parse(&self, item: &HashMap<String, AttributeValue>) -> Result<Snapshot, StoreError> {
        let read = || {
            let products = match item.get("products") {
                Some(products) => products.as_l().ok()?.as_slice(),
                // A query for the first products leaves out a list that has none.
                None => &[],
            };
            let minutes = match item.get("clicks_per_minute") {
                Some(minutes) => minutes.as_l().ok()?.as_slice(),
                None => &[],
            };
            Some(Snapshot {
                window: Window::ended_by(time(item, "window_end")?),
                generated_at: time(item, "generated_at")?,
                total_clicks: whole(item, "total_clicks")?,
                distinct_products: whole(item, "distinct_products")?,
                clicks_per_minute: minutes
                    .iter()
                    .map(|clicks| clicks.as_n().ok()?.parse().ok())
                    .collect::<Option<_>>()?,
                products: products
                    .iter()
                    .map(|product| {
                        let product = product.as_m().ok()?;
                        Some(RankedProduct {
                            rank: whole(product, "rank")?,
                            product_id: product.get("product_id")?.as_s().ok()?.clone(),
                            clicks: whole(product, "clicks")?,
                            previous_rank: whole(product, "previous_rank"),
                        })
                    })
                    .collect::<Option<_>>()?,
            })
        };
        read().ok_or_else(|| {
            let key = item.get("window_end").and_then(|end| end.as_s().ok()).map_or("?", String::as_str);
            StoreError::layout(&self.table, format!("{BOARD} {key}"), "is not of the snapshots' layout")
        })
    }
}

fn time(item: &HashMap<String, AttributeValue>, name: &str) -> Option<UnixMillis> {
    UnixMillis::parse_rfc3339(item.get(name)?.as_s().ok()?).ok()
}

fn whole(item: &HashMap<String, AttributeValue>, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}
