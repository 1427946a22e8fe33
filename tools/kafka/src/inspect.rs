//! Inspecting a cluster: its topics, their partitions, a group's lag, and the newest records.
//!
//! A record is shown as the functions see it: time, product and action, or why it would be rejected. Its raw text names
//! users. Only [`original`] shows it, for one record that the caller asks for.

mod original;
mod read;
mod table;

use hot_products::EventShape;
use serde::Serialize;

pub use self::{
    original::{Bytes, OriginalHeader, OriginalRecord, original, original_text},
    read::inspect,
    table::table,
};

/// What to inspect.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Only this topic.
    pub topic: Option<&'a str>,
    /// The consumer group whose commits and lag to show.
    pub group: Option<&'a str>,
    /// How many of the topic's newest records to show.
    pub tail: usize,
    /// How events are written.
    pub shape: &'a EventShape,
}

/// A cluster's brokers and topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// The brokers, by id.
    pub brokers: Vec<BrokerView>,
    /// The topics, by name.
    pub topics: Vec<TopicView>,
    /// The newest records of the requested topic, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Vec<RecordView>>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokerView {
    /// Its id.
    pub id: i32,
    /// Its advertised address, `host:port`.
    pub address: String,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionView>,
    /// How many offsets its partitions have from the first to the last.
    pub records: i64,
    /// How many of them the group has not committed, if a group was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// The id of its leader, negative if there is none.
    pub leader: i32,
    /// How many replicas it has.
    pub replicas: usize,
    /// How many of them are in sync.
    pub in_sync: usize,
    /// The first offset that the brokers still have.
    pub first_offset: i64,
    /// The last offset; one less than the first if the partition is empty.
    pub last_offset: i64,
    /// The offset that the group reads next, if it has committed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
    /// How many offsets the group has not committed, if a group was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// A record, without user data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordView {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in Kafka, RFC 3339, if it has one.
    pub timestamp: Option<String>,
    /// The size of its value, in bytes.
    pub bytes: usize,
    /// What the functions read from its value.
    #[serde(flatten)]
    pub content: RecordContent,
}

/// What the functions read from a record's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RecordContent {
    /// An event.
    Event {
        /// The event time, RFC 3339.
        event_time: String,
        /// The product.
        product_id: String,
        /// The action, if events say it.
        #[serde(skip_serializing_if = "Option::is_none")]
        action: Option<String>,
    },
    /// Not an event.
    Rejected {
        /// Why it would be rejected.
        rejected: &'static str,
    },
}
