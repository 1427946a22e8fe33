use std::{collections::HashMap, fmt::Write, ops::RangeInclusive, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{StoreError, number, read_units, text, write_units};
use crate::{
    ranking::RankedWindow,
    snapshot::{BOARD, MINUTES_BOARD, Snapshot, SnapshotMinutes, attribute},
    time::{Window, bound},
};

/// The snapshots, and the clicks per minute of their top products.
#[derive(Clone, Debug)]
pub struct SnapshotsTable {
    pub(super) client: Client,
    pub(super) table: String,
}

/// The snapshots of a range of windows, or of its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRange {
    /// The snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Whether the read ended early, because it had consumed [`SnapshotRange::MAX_READ_UNITS`].
    pub is_cut: bool,
}

impl SnapshotRange {
    /// Read units after which a read of a range ends. A day of snapshots of 100 products takes about 220; of 1,000 products
    /// with ids of 256 bytes, it would take 10,800. One page of a query reads up to 1 MB, which is 128 units (Amazon DynamoDB
    /// Developer Guide, "Querying tables in DynamoDB"), so a read takes at most as much more.
    pub const MAX_READ_UNITS: f64 = 500.0;
}

/// What a write of a snapshot did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is the window's snapshot now.
    Written {
        /// Write units consumed by the snapshot and its clicks per minute.
        write_units: u64,
    },
    /// The window already has a snapshot that read more clicks, or as many and started no earlier.
    Kept {
        /// That snapshot.
        stored: Box<Snapshot>,
    },
}

/// What a write of one item did.
enum ItemOutcome {
    Written { write_units: u64 },
    Kept { item: Option<HashMap<String, AttributeValue>> },
}

impl SnapshotsTable {
    /// The table named `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// The window's snapshot, if there is one.
    ///
    /// # Errors
    /// If the read failed after all retries, or the item is not a snapshot.
    pub async fn get(&self, window: Window) -> Result<Option<Snapshot>, StoreError> {
        self.get_record(BOARD, window).await
    }

    /// The newest snapshot, if there is one.
    ///
    /// # Errors
    /// If the read failed after all retries, or the item is not a snapshot.
    pub async fn newest(&self) -> Result<Option<Snapshot>, StoreError> {
        self.newest_record(BOARD).await
    }

    /// The clicks per minute of the top products of the window's snapshot, if they are stored.
    ///
    /// # Errors
    /// If the read failed after all retries, or the item has another layout.
    pub async fn minutes(&self, window: Window) -> Result<Option<SnapshotMinutes>, StoreError> {
        self.get_record(MINUTES_BOARD, window).await
    }

    /// The newest clicks per minute, if any are stored.
    ///
    /// # Errors
    /// If the read failed after all retries, or the item has another layout.
    pub async fn newest_minutes(&self) -> Result<Option<SnapshotMinutes>, StoreError> {
        self.newest_record(MINUTES_BOARD).await
    }

    /// The snapshots of `windows`, oldest first: at most `limit` snapshots, with at most the first `products` products of
    /// each, without their clicks per minute and how far each partition has counted. A range that takes more than
    /// [`SnapshotRange::MAX_READ_UNITS`] is cut.
    ///
    /// # Errors
    /// If a read failed after all retries, or an item is not a snapshot.
    pub async fn between(
        &self,
        windows: RangeInclusive<Window>,
        limit: usize,
        products: usize,
    ) -> Result<SnapshotRange, StoreError> {
        let mut projection =
            ["#w", "#f", attribute::GENERATED_AT, attribute::TOTAL_CLICKS, attribute::DISTINCT_PRODUCTS].join(", ");
        for place in 0..products {
            let _infallible = write!(projection, ", {}[{place}]", attribute::PRODUCTS);
        }
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#b = :b AND #w BETWEEN :f AND :l")
            .projection_expression(projection)
            .expression_attribute_names("#b", attribute::BOARD)
            .expression_attribute_names("#w", attribute::WINDOW_END)
            .expression_attribute_names("#f", attribute::FINAL)
            .expression_attribute_values(":b", text(BOARD))
            .expression_attribute_values(":f", text(bound(windows.start().end())))
            .expression_attribute_values(":l", text(bound(windows.end().end())))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .into_paginator()
            .send();
        let (mut snapshots, mut consumed) = (Vec::new(), 0.0);
        while snapshots.len() < limit
            && let Some(page) = pages.next().await
        {
            let page = page.map_err(|error| StoreError::call("Query", &self.table, &error))?;
            consumed += read_units(page.consumed_capacity());
            let has_more = page.last_evaluated_key.is_some();
            for item in page.items.into_iter().flatten().take(limit - snapshots.len()) {
                snapshots.push(self.parse(BOARD, item)?);
            }
            if has_more && snapshots.len() < limit && consumed >= SnapshotRange::MAX_READ_UNITS {
                return Ok(SnapshotRange { snapshots, is_cut: true });
            }
        }
        Ok(SnapshotRange { snapshots, is_cut: false })
    }

    /// Writes a snapshot and the clicks per minute of its top products, to be kept for `retention` after the window's end,
    /// unless the window has a snapshot that read more clicks, or as many and started no earlier. Counters only grow, so
    /// more clicks are nearer to the truth, whichever ranking writes last.
    ///
    /// The clicks per minute are written first, on the same condition, so that a reader who sees a snapshot finds them. If a
    /// newer run has written only its clicks per minute and failed, they stay until that run is repeated.
    ///
    /// A write unit is billed for each KB (Amazon DynamoDB Developer Guide, "Item sizes and formats"). At 1,000 clicks a second:
    ///
    /// | products, bytes of an id | snapshot | clicks per minute | write units |
    /// |---|---|---|---|
    /// | 100, 5 | 5.6 KB | 26.2 KB | 33 |
    /// | 100, 256 | 30.2 KB | 50.7 KB | 82 |
    /// | 1,000, 256 | 298.4 KB | 50.7 KB | 350 |
    ///
    /// # Errors
    /// If a write failed after all retries. It is safe to repeat.
    pub async fn put(&self, ranked: &RankedWindow, retention: Duration) -> Result<PutOutcome, StoreError> {
        let RankedWindow { snapshot, minutes } = ranked;
        let window = snapshot.window;
        let of_minutes = match self.put_record(MINUTES_BOARD, window, minutes, retention).await? {
            ItemOutcome::Written { write_units } => write_units,
            ItemOutcome::Kept { .. } => 0,
        };
        match self.put_record(BOARD, window, snapshot, retention).await? {
            ItemOutcome::Written { write_units } => Ok(PutOutcome::Written { write_units: of_minutes + write_units }),
            ItemOutcome::Kept { item } => {
                let item = item.ok_or_else(|| {
                    let key = format!("{BOARD} {}", bound(window.end()));
                    StoreError::layout(&self.table, key, "refused a snapshot without returning its item")
                })?;
                Ok(PutOutcome::Kept { stored: Box::new(self.parse(BOARD, item)?) })
            }
        }
    }

    async fn get_record<T: DeserializeOwned>(&self, board: &str, window: Window) -> Result<Option<T>, StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(attribute::BOARD, text(board))
            .key(attribute::WINDOW_END, text(bound(window.end())))
            .send()
            .await
            .map_err(|error| StoreError::call("GetItem", &self.table, &error))?;
        output.item.map(|item| self.parse(board, item)).transpose()
    }

    async fn newest_record<T: DeserializeOwned>(&self, board: &str) -> Result<Option<T>, StoreError> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#b = :b")
            .expression_attribute_names("#b", attribute::BOARD)
            .expression_attribute_values(":b", text(board))
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(|error| StoreError::call("Query", &self.table, &error))?;
        output.items.unwrap_or_default().pop().map(|item| self.parse(board, item)).transpose()
    }

    /// Writes an item of `window`, unless the one there read more clicks, or as many and started no earlier.
    async fn put_record(
        &self,
        board: &str,
        window: Window,
        record: &impl Serialize,
        retention: Duration,
    ) -> Result<ItemOutcome, StoreError> {
        let mut item = to_item(record).map_err(|error| self.layout(board, window, &error))?;
        let mut values = HashMap::new();
        for (name, attribute) in [(":g", attribute::GENERATED_AT), (":t", attribute::TOTAL_CLICKS)] {
            values.extend(item.get(attribute).map(|value| (name.to_owned(), value.clone())));
        }
        item.insert(attribute::BOARD.to_owned(), text(board));
        item.insert(attribute::EXPIRES_AT.to_owned(), number(window.end().plus(retention).epoch_seconds()));
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#t) OR #t < :t OR (#t = :t AND #g < :g)")
            .expression_attribute_names("#g", attribute::GENERATED_AT)
            .expression_attribute_names("#t", attribute::TOTAL_CLICKS)
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match result {
            Ok(output) => Ok(ItemOutcome::Written { write_units: write_units(output.consumed_capacity()) }),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failure)) => {
                    Ok(ItemOutcome::Kept { item: failure.item.clone() })
                }
                _ => Err(StoreError::call("PutItem", &self.table, &error)),
            },
        }
    }

    fn parse<T: DeserializeOwned>(&self, board: &str, item: HashMap<String, AttributeValue>) -> Result<T, StoreError> {
        let end = item.get(attribute::WINDOW_END).and_then(|end| end.as_s().ok()).cloned();
        from_item(item).map_err(|error| {
            let key = format!("{board} {}", end.as_deref().unwrap_or("?"));
            StoreError::layout(&self.table, key, format!("does not have the layout of the snapshots: {error}"))
        })
    }

    fn layout(&self, board: &str, window: Window, error: &serde_dynamo::Error) -> StoreError {
        StoreError::layout(&self.table, format!("{board} {}", bound(window.end())), error.to_string())
    }
}
