//! The records of rankings: one item of the snapshots table a day (UTC), with one attribute for each window.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_attribute_value, to_attribute_value};

use super::{SnapshotsTable, StoreError, days, number, text, unsigned, write_units};
use crate::{
    healing::{RankingRecord, RankingRecords},
    snapshot::{RANKINGS_BOARD, attribute},
    time::Window,
};

/// A [`RankingRecord`] as stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    noted: u64,
    clicks: u64,
    #[serde(rename = "final")]
    is_final: bool,
}

impl SnapshotsTable {
    /// Stores what the newest ranking of `window` knew, to be kept for `retention` after its day, and returns the write
    /// units consumed.
    ///
    /// A record of a ranking that read more clicks, or as many and knew more notes, stays: two rankings of a window may
    /// write their records in another order than their snapshots.
    ///
    /// # Errors
    /// If the write failed after all retries.
    pub async fn record_ranking(
        &self,
        window: Window,
        record: RankingRecord,
        retention: Duration,
    ) -> Result<u64, StoreError> {
        let day = days::day(window);
        let RankingRecord { noted, clicks, is_final } = record;
        let stored: AttributeValue = to_attribute_value(Stored { noted, clicks, is_final })
            .map_err(|error| StoreError::layout(&self.table, format!("{RANKINGS_BOARD} {day}"), error.to_string()))?;
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(attribute::BOARD, text(RANKINGS_BOARD))
            .key(attribute::WINDOW_END, text(day))
            .update_expression("SET #w = :r, #e = :e")
            .condition_expression("attribute_not_exists(#w) OR #w.#c < :c OR (#w.#c = :c AND #w.#n <= :n)")
            .expression_attribute_names("#c", "clicks")
            .expression_attribute_names("#n", "noted")
            .expression_attribute_values(":c", unsigned(clicks))
            .expression_attribute_values(":n", unsigned(noted))
            .expression_attribute_names("#w", days::time(window))
            .expression_attribute_names("#e", attribute::EXPIRES_AT)
            .expression_attribute_values(":r", stored)
            .expression_attribute_values(":e", number(days::end(window).plus(retention).epoch_seconds()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match result {
            Ok(output) => Ok(write_units(output.consumed_capacity())),
            Err(error)
                if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
            {
                Ok(0)
            }
            Err(error) => Err(StoreError::call("UpdateItem", &self.table, &error)),
        }
    }

    /// The records of the windows from `first` to `last`, inclusive: one read a day.
    ///
    /// # Errors
    /// If a read failed after all retries, or a record has another layout.
    pub async fn rankings(&self, first: Window, last: Window) -> Result<RankingRecords, StoreError> {
        let mut records = RankingRecords::new();
        for day in days::between(first, last) {
            let output = self
                .client
                .get_item()
                .table_name(&self.table)
                .key(attribute::BOARD, text(RANKINGS_BOARD))
                .key(attribute::WINDOW_END, text(day.as_str()))
                .consistent_read(true)
                .send()
                .await
                .map_err(|error| StoreError::call("GetItem", &self.table, &error))?;
            let item: HashMap<String, AttributeValue> = output.item.unwrap_or_default();
            for (name, value) in item {
                let Some(window) = days::window(&day, &name).filter(|window| (first..=last).contains(window)) else {
                    continue;
                };
                let Stored { noted, clicks, is_final } = from_attribute_value(value).map_err(|error| {
                    StoreError::layout(&self.table, format!("{RANKINGS_BOARD} {day}"), format!("{name}: {error}"))
                })?;
                records.insert(window, RankingRecord { noted, clicks, is_final });
            }
        }
        Ok(records)
    }
}
