//! The version of the counters' layout: one item of the counters table.
//!
//! Two layouts must not share a table: a redelivered record would not find the `last_offset` that says it is counted,
//! and a reader would miss counters. So the first writer marks the table, and programs with another layout refuse it.

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};

use super::{CountersTable, StoreError, number};
use crate::{counters::LAYOUT_VERSION, time::UnixMillis};

/// The partition key of the item; no bucket has it.
const LAYOUT: &str = "layout";
/// The sort key of the item.
const SORT_KEY: &str = "-";
/// The attribute with the version.
const VERSION: &str = "version";
/// The attribute with the time when the table was marked, epoch milliseconds: nothing was counted before.
const SINCE: &str = "since";

impl CountersTable {
    /// Checks the table's layout before the first write, and marks a table that has no layout yet with this program's and with
    /// the time, `now`. Costs half a read unit, and a write unit for a new table. Reads first: a table that is throttled still accepts reads.
    ///
    /// # Errors
    /// If the table has another layout, or a call failed after all retries.
    pub async fn claim_layout(&self, now: UnixMillis) -> Result<(), StoreError> {
        if self.check_layout().await?.is_some() {
            return Ok(());
        }
        let call = self
            .update_item(LAYOUT, SORT_KEY)
            .update_expression("SET #v = :v, #s = if_not_exists(#s, :s)")
            .condition_expression("attribute_not_exists(#v) OR #v = :v")
            .expression_attribute_names("#v", VERSION)
            .expression_attribute_names("#s", SINCE)
            .expression_attribute_values(":s", number(now.0))
            .expression_attribute_values(":v", number(LAYOUT_VERSION))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                    self.accept(failure.item().and_then(|item| item.get(VERSION)))
                }
                _ => Err(self.failed(&error)),
            },
        }
    }

    /// Checks the table's layout before reads, and returns when it was marked. A table that nothing has been written to has
    /// no layout. Costs half a read unit.
    ///
    /// # Errors
    /// If the table has another layout than this program, or the read failed after all retries.
    pub async fn check_layout(&self) -> Result<Option<UnixMillis>, StoreError> {
        let output = self.query(LAYOUT).send().await.map_err(|error| StoreError::call("Query", &self.table, &error))?;
        let Some(item) = output.items().first() else { return Ok(None) };
        self.accept(item.get(VERSION))?;
        let since = item.get(SINCE).and_then(|since| since.as_n().ok()).and_then(|since| since.parse().ok());
        let missing = || StoreError::layout(&self.table, LAYOUT, "has no time since which clicks are counted");
        since.map(|since| Some(UnixMillis(since))).ok_or_else(missing)
    }

    fn accept(&self, version: Option<&AttributeValue>) -> Result<(), StoreError> {
        let found = version.and_then(|version| version.as_n().ok()).map_or("?", String::as_str);
        if found == LAYOUT_VERSION.to_string() {
            return Ok(());
        }
        Err(StoreError::OtherLayout { table: self.table.clone(), found: found.to_owned() })
    }
}
