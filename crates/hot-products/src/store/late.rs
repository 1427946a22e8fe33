//! The notes of late clicks: one item of the counters table a day (UTC), with one attribute for each five minutes.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::{CountersTable, StoreError, days, number, unsigned, write_units};
use crate::{counters::attribute, healing::LateClicks, time::Window};

/// What the partition key of a day's item starts with; no bucket's key does.
const PREFIX: &str = "late#";
/// The sort key of a day's item.
const SORT_KEY: &str = "-";

impl CountersTable {
    /// Notes `late` clicks, to be kept for `retention` after their day, and returns the write units consumed: one call a
    /// day of event time, of one to four units. The notes of a batch that is redelivered are added again.
    ///
    /// # Errors
    /// If a write failed after all retries.
    pub async fn note_late(&self, late: &LateClicks, retention: Duration) -> Result<u64, StoreError> {
        let mut by_day: HashMap<String, Vec<(Window, u64)>> = HashMap::new();
        for (first, clicks) in late.by_first_window() {
            by_day.entry(days::day(first)).or_default().push((first, clicks));
        }
        let mut units = 0;
        for (day, clicks) in by_day {
            let Some((window, _)) = clicks.first() else { continue };
            let expires_at = days::end(*window).plus(retention).epoch_seconds();
            let mut call = self
                .update_item(format!("{PREFIX}{day}"), SORT_KEY)
                .expression_attribute_names("#e", attribute::EXPIRES_AT)
                .expression_attribute_values(":e", number(expires_at))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let mut added = Vec::with_capacity(clicks.len());
            for (place, (first, clicks)) in clicks.iter().enumerate() {
                added.push(format!("#{place} :{place}"));
                call = call
                    .expression_attribute_names(format!("#{place}"), days::time(*first))
                    .expression_attribute_values(format!(":{place}"), unsigned(*clicks));
            }
            let call = call.update_expression(format!("SET #e = :e ADD {}", added.join(", ")));
            let output = call.send().await.map_err(|error| self.failed(&error))?;
            units += write_units(output.consumed_capacity());
        }
        Ok(units)
    }

    /// The late clicks that are noted for the windows from `first` to `last`, inclusive: one query a day.
    ///
    /// # Errors
    /// If a read failed after all retries, or a note is not a number.
    pub async fn late_clicks(&self, first: Window, last: Window) -> Result<LateClicks, StoreError> {
        let mut late = LateClicks::default();
        for day in days::between(first.first_overlapping(), last) {
            let key = format!("{PREFIX}{day}");
            let output = self
                .query(key.as_str())
                .consistent_read(true)
                .send()
                .await
                .map_err(|error| StoreError::call("Query", &self.table, &error))?;
            for (name, value) in output.items().iter().flatten() {
                let Some(window) = days::window(&day, name) else { continue };
                let clicks = value.as_n().ok().and_then(|clicks| clicks.parse().ok()).ok_or_else(|| {
                    StoreError::layout(&self.table, key.as_str(), format!("note {name:?} is not a number"))
                })?;
                late.add_to(window, clicks);
            }
        }
        Ok(late)
    }
}
