//! Looking into a cluster: topics, partitions, a group's lag, and the newest records.
//!
//! A record shows as what the functions make of it: time, product and action, or why it would be rejected. Its raw text
//! stays where it is, for it names users.

use std::{collections::BTreeMap, fmt::Write, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use comfy_table::{CellAlignment, Table};
use hot_products::{Event, UnixMillis};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataPartition,
};
use serde::Serialize;

use crate::{ANSWER_TIMEOUT, Cluster, Log, create, metadata};
use terminal::text::{STYLE, product_cell, safe};

/// How long to wait for the next record while there must be one.
const RECORD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait before a group's coordinator is asked again, and how often.
const COORDINATOR_WAIT: Duration = Duration::from_millis(250);
const COORDINATOR_TRIES: u32 = 40;

/// A group of no members, to read records with: nothing is ever committed for it.
const READER: &str = "hot-topic";

/// What is shown of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The brokers, by id.
    pub brokers: Vec<Broker>,
    /// The topics, by name.
    pub topics: Vec<Topic>,
    /// The newest records of the topic asked for, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Vec<Record>>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Its address as it tells clients, `host:port`.
    pub address: String,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// How many offsets lie between first and last, over all partitions.
    pub records: i64,
    /// How many of them the group has not committed, where a group was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// The id of its leader, below zero where there is none.
    pub leader: i32,
    /// How many replicas it has.
    pub replicas: usize,
    /// How many of them are in sync.
    pub in_sync: usize,
    /// The first offset that is kept.
    pub first_offset: i64,
    /// The last offset; one less than the first where the partition is empty.
    pub last_offset: i64,
    /// The offset at which the group goes on, if it has committed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
    /// How many offsets the group has not committed, where a group was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// A record, without what it says of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its time in Kafka, RFC 3339, where it has one.
    pub timestamp: Option<String>,
    /// The size of its value, in bytes.
    pub bytes: usize,
    /// What it says.
    #[serde(flatten)]
    pub content: Content,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// An event.
    Event {
        /// When it happened, RFC 3339.
        event_time: String,
        /// To which product.
        product_id: String,
        /// What happened.
        action: String,
    },
    /// No event.
    Broken {
        /// Why it is none.
        rejected: &'static str,
    },
}

/// What to look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// One topic rather than all.
    pub topic: Option<&'a str>,
    /// The consumer group whose commits are shown.
    pub group: Option<&'a str>,
    /// How many of the topic's newest records are shown.
    pub tail: usize,
}

/// Looks into the cluster.
pub fn look(cluster: &Cluster, question: Question<'_>) -> Result<View> {
    let group = question.group.unwrap_or(READER);
    let fixed = [("group.id", group), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")];
    let client: BaseConsumer<Log> = create(&cluster.config(&[], &fixed)?, Log::default())?;
    let metadata = metadata(&client, question.topic)?;
    let mut brokers: Vec<_> = metadata
        .brokers()
        .iter()
        .map(|broker| Broker { id: broker.id(), address: format!("{}:{}", broker.host(), broker.port()) })
        .collect();
    brokers.sort_by_key(|broker| broker.id);
    let mut topics = Vec::new();
    for found in metadata.topics() {
        if question.topic.is_none() && is_internal(found.name()) {
            continue;
        }
        let mut committed = match question.group {
            Some(_) => committed(&client, found.name(), found.partitions().iter().map(MetadataPartition::id))?,
            None => BTreeMap::new(),
        };
        let mut partitions = Vec::new();
        for one in found.partitions() {
            let (first, end) = client
                .fetch_watermarks(found.name(), one.id(), ANSWER_TIMEOUT)
                .with_context(|| format!("can't ask for the offsets of {}-{}", found.name(), one.id()))?;
            let committed = committed.remove(&one.id());
            partitions.push(Partition {
                partition: one.id(),
                leader: one.leader(),
                replicas: one.replicas().len(),
                in_sync: one.isr().len(),
                first_offset: first,
                last_offset: end - 1,
                committed,
                lag: question.group.map(|_| lag(first, end, committed)),
            });
        }
        partitions.sort_by_key(|partition| partition.partition);
        topics.push(Topic {
            name: found.name().to_owned(),
            records: partitions.iter().map(|one| one.last_offset + 1 - one.first_offset).sum(),
            lag: partitions.iter().map(|one| one.lag).sum(),
            partitions,
        });
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let newest = match &topics[..] {
        [topic] if question.tail > 0 => Some(newest(&client, topic, question.tail)?),
        _ => None,
    };
    Ok(View { brokers, topics, newest })
}

/// Kafka's own topics, `__consumer_offsets` for one.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// How many records a group has before it. One that has committed nothing has all; what retention took is behind it.
fn lag(first: i64, end: i64, committed: Option<i64>) -> i64 {
    (end - committed.unwrap_or(first).max(first)).max(0)
}

fn committed(
    client: &BaseConsumer<Log>,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
) -> Result<BTreeMap<i32, i64>> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition);
    }
    let mut tries = 0;
    let list = loop {
        match client.committed_offsets(list.clone(), ANSWER_TIMEOUT) {
            // The group's coordinator moves, or reads what is committed, for a while after a broker starts.
            Err(error) if is_moving(&error) && tries < COORDINATOR_TRIES => tries += 1,
            list => break list.with_context(|| format!("can't ask for the group's offsets of {topic}"))?,
        }
        thread::sleep(COORDINATOR_WAIT);
    };
    let mut committed = BTreeMap::new();
    for one in list.elements() {
        one.error().with_context(|| format!("can't ask for the group's offset of {topic}-{}", one.partition()))?;
        if let Offset::Offset(offset) = one.offset() {
            committed.insert(one.partition(), offset);
        }
    }
    Ok(committed)
}

fn is_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(error.rdkafka_error_code(), Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator))
}

/// The newest `count` records of a topic by their time in Kafka, oldest first.
fn newest(client: &BaseConsumer<Log>, topic: &Topic, count: usize) -> Result<Vec<Record>> {
    let mut start = TopicPartitionList::new();
    let mut unread = BTreeMap::new();
    for one in &topic.partitions {
        let from = one.first_offset.max((one.last_offset + 1).saturating_sub_unsigned(count as u64));
        if from <= one.last_offset {
            start.add_partition_offset(&topic.name, one.partition, Offset::Offset(from))?;
            unread.insert(one.partition, one.last_offset);
        }
    }
    client.assign(&start)?;
    let mut records = Vec::new();
    while !unread.is_empty() {
        match client.poll(RECORD_TIMEOUT) {
            None => bail!("the brokers sent no records for {}", humantime::format_duration(RECORD_TIMEOUT)),
            Some(Ok(message)) => {
                let partition = message.partition();
                let Some(end) = unread.get(&partition) else { continue };
                if message.offset() >= *end {
                    unread.remove(&partition);
                }
                let timestamp = message.timestamp().to_millis();
                records.push((timestamp, record(&message, timestamp)));
            }
            // The last offsets may be ones without a record: transactions and compaction leave such.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {}
            Some(Err(error)) => bail!("can't read the newest records of {}: {error}", topic.name),
        }
    }
    client.unassign()?;
    records.sort_by(|(a, one), (b, other)| {
        a.cmp(b).then(one.partition.cmp(&other.partition)).then(one.offset.cmp(&other.offset))
    });
    let surplus = records.len().saturating_sub(count);
    Ok(records.into_iter().skip(surplus).map(|(_, record)| record).collect())
}

fn record(message: &impl Message, timestamp: Option<i64>) -> Record {
    let value = message.payload();
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: timestamp.map(|time| UnixMillis(time).to_string()),
        bytes: value.map_or(0, <[u8]>::len),
        content: content(value),
    }
}

fn content(value: Option<&[u8]>) -> Content {
    match value.map(Event::parse) {
        None => Content::Broken { rejected: hot_products::Reason::NoValue.name() },
        Some(Err(reason)) => Content::Broken { rejected: reason.name() },
        Some(Ok(event)) => Content::Event {
            event_time: event.event_time.to_string(),
            product_id: event.product_id.as_str().to_owned(),
            action: event.action.into_owned(),
        },
    }
}

/// The view for people.
pub fn show(view: &View, group: Option<&str>) -> String {
    let mut text = String::new();
    for broker in &view.brokers {
        let _infallible = writeln!(text, "broker {} at {}", broker.id, safe(&broker.address));
    }
    for topic in &view.topics {
        let _infallible = writeln!(
            text,
            "\ntopic {}: {} partitions, {} records{}",
            safe(&topic.name),
            topic.partitions.len(),
            topic.records,
            match (group, topic.lag) {
                (Some(group), Some(lag)) => format!("; group {} has {lag} before it", safe(group)),
                _ => String::new(),
            }
        );
        let mut header = vec!["partition", "first", "last", "leader", "in sync"];
        if group.is_some() {
            header.extend(["committed", "lag"]);
        }
        let columns = header.len();
        let rows = topic.partitions.iter().map(|one| {
            let mut row = vec![
                one.partition.to_string(),
                one.first_offset.to_string(),
                if one.last_offset < one.first_offset { "–".to_owned() } else { one.last_offset.to_string() },
                if one.leader < 0 { "none".to_owned() } else { one.leader.to_string() },
                format!("{} of {}", one.in_sync, one.replicas),
            ];
            if group.is_some() {
                row.push(one.committed.map_or("–".to_owned(), |offset| offset.to_string()));
                row.push(one.lag.unwrap_or_default().to_string());
            }
            row
        });
        let _infallible = writeln!(text, "{}", table(header, rows, 0..columns));
    }
    if view.topics.is_empty() {
        text.push_str("\nno topics\n");
    }
    if let Some(newest) = &view.newest {
        let _infallible = writeln!(text, "\nthe newest {} records", newest.len());
        let rows = newest.iter().map(|record| {
            let (event_time, product, action) = match &record.content {
                Content::Event { event_time, product_id, action } => {
                    (event_time.clone(), product_cell(product_id), product_cell(action))
                }
                Content::Broken { rejected } => {
                    (String::new(), String::new(), format!("rejected: {rejected}, {} bytes", record.bytes))
                }
            };
            let timestamp = record.timestamp.clone().unwrap_or_default();
            vec![record.partition.to_string(), record.offset.to_string(), timestamp, event_time, product, action]
        });
        let header = vec!["partition", "offset", "written", "event time", "product", "action"];
        let _infallible = writeln!(text, "{}", table(header, rows, 0..2));
    }
    text
}

fn table(header: Vec<&str>, rows: impl Iterator<Item = Vec<String>>, numbers: impl Iterator<Item = usize>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    for number in numbers {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.add_rows(rows);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_what_is_still_there_and_not_committed() {
        assert_eq!(lag(0, 100, None), 100);
        assert_eq!(lag(0, 100, Some(40)), 60);
        assert_eq!(lag(0, 100, Some(100)), 0);
        assert_eq!(lag(50, 100, Some(10)), 50, "retention took 10 to 49");
        assert_eq!(lag(0, 0, Some(100)), 0, "the topic was created anew");
    }

    #[test]
    fn a_record_shows_without_its_user() {
        let value = br#"{"event_time":1672131001234,"product_id":"p1\u001b[2J","action":"click","user_id":"u_1"}"#;
        let record = Record { partition: 0, offset: 7, timestamp: None, bytes: 9, content: content(Some(value)) };
        let view = View { brokers: Vec::new(), topics: Vec::new(), newest: Some(vec![record]) };
        let shown = show(&view, None);
        assert!(shown.contains("p1\\u{1b}[2J") && !shown.contains("u_1") && !shown.contains('\u{1b}'), "{shown}");
        let json = serde_json::to_string(&view).unwrap();
        assert!(json.contains(r#""event_time":"2022-12-27T08:50:01"#) && !json.contains("u_1"), "{json}");
        assert_eq!(content(Some(b"{")), Content::Broken { rejected: "not_json" });
        assert_eq!(content(None), Content::Broken { rejected: "no_value" });
    }

    #[test]
    fn a_topic_shows_its_partitions_and_the_groups_lag() {
        let partition = |partition, first_offset, last_offset, committed| Partition {
            partition,
            leader: 1,
            replicas: 3,
            in_sync: 2,
            first_offset,
            last_offset,
            committed,
            lag: Some(lag(first_offset, last_offset + 1, committed)),
        };
        let partitions = vec![partition(0, 10, 109, Some(60)), partition(1, 0, -1, None)];
        let topic = Topic { name: "clicks".to_owned(), partitions, records: 100, lag: Some(50) };
        let view = View { brokers: Vec::new(), topics: vec![topic], newest: None };
        let shown = show(&view, Some("g"));
        assert!(shown.contains("topic clicks: 2 partitions, 100 records; group g has 50 before it"), "{shown}");
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["0", "10", "109", "1", "2", "of", "3", "60", "50"]), "{shown}");
        assert!(rows.contains(&vec!["1", "0", "–", "1", "2", "of", "3", "–", "0"]), "{shown}");
    }
}
