//! The view as text for people.

use std::fmt::Write;

use comfy_table::Table;
use terminal::text::{self, product_cell, safe};

use super::{ClusterView, RecordContent, RecordView, TopicView};

/// The view as tables; `group` is the consumer group of the lag.
pub fn table(view: &ClusterView, group: Option<&str>) -> String {
    let mut text = String::new();
    for broker in &view.brokers {
        let _infallible = writeln!(text, "broker {} at {}", broker.id, safe(&broker.address));
    }
    for topic in &view.topics {
        let lag = match (group, topic.lag) {
            (Some(group), Some(lag)) => format!("; group {} has a lag of {lag}", safe(group)),
            _ => String::new(),
        };
        let (name, partitions, records) = (safe(&topic.name), topic.partitions.len(), topic.records);
        let _infallible = writeln!(text, "\ntopic {name}: {partitions} partitions, {records} records{lag}");
        let _infallible = writeln!(text, "{}", partition_table(topic, group));
    }
    if view.topics.is_empty() {
        text.push_str("\nno topics\n");
    }
    if let Some(newest) = &view.newest {
        let _infallible = writeln!(text, "\nthe newest {} records", newest.len());
        let _infallible = writeln!(text, "{}", record_table(newest));
    }
    text
}

fn partition_table(topic: &TopicView, group: Option<&str>) -> Table {
    let mut table = if group.is_some() {
        let header = ["partition", "first", "last", "leader", "in sync", "committed", "lag"];
        text::table(header, &[0, 1, 2, 3, 4, 5, 6])
    } else {
        text::table(["partition", "first", "last", "leader", "in sync"], &[0, 1, 2, 3, 4])
    };
    for one in &topic.partitions {
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
        table.add_row(row);
    }
    table
}

fn record_table(records: &[RecordView]) -> Table {
    let mut table = text::table(["partition", "offset", "written", "event time", "product", "action"], &[0, 1]);
    for record in records {
        let (event_time, product, action) = match &record.content {
            RecordContent::Event { event_time, product_id, action } => {
                let action = action.as_deref().map_or_else(|| "–".to_owned(), product_cell);
                (event_time.clone(), product_cell(product_id), action)
            }
            RecordContent::Rejected { rejected } => {
                (String::new(), String::new(), format!("rejected: {rejected}, {} bytes", record.bytes))
            }
        };
        let timestamp = record.timestamp.clone().unwrap_or_default();
        table.add_row([
            record.partition.to_string(),
            record.offset.to_string(),
            timestamp,
            event_time,
            product,
            action,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use hot_products::EventShape;

    use super::*;
    use crate::inspect::{
        PartitionView,
        read::{content, lag},
    };

    #[test]
    fn a_record_is_shown_without_its_user() {
        let value = br#"{"event_time":1672131001234,"product_id":"p1\u001b[2J","action":"click","user_id":"u_1"}"#;
        let content = content(Some(value), &EventShape::default());
        let record = RecordView { partition: 0, offset: 7, timestamp: None, bytes: 9, content };
        let view = ClusterView { brokers: Vec::new(), topics: Vec::new(), newest: Some(vec![record]) };
        let shown = table(&view, None);
        assert!(shown.contains("p1\\u{1b}[2J") && !shown.contains("u_1") && !shown.contains('\u{1b}'), "{shown}");
        let json = serde_json::to_string(&view).unwrap();
        assert!(json.contains(r#""event_time":"2022-12-27T08:50:01"#) && !json.contains("u_1"), "{json}");
    }

    #[test]
    fn a_topic_is_shown_with_its_partitions_and_the_groups_lag() {
        let partition = |partition, first_offset, last_offset, committed| PartitionView {
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
        let topic = TopicView { name: "clicks".to_owned(), partitions, records: 100, lag: Some(50) };
        let view = ClusterView { brokers: Vec::new(), topics: vec![topic], newest: None };
        let shown = table(&view, Some("g"));
        assert!(shown.contains("topic clicks: 2 partitions, 100 records; group g has a lag of 50"), "{shown}");
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["0", "10", "109", "1", "2", "of", "3", "60", "50"]), "{shown}");
        assert!(rows.contains(&vec!["1", "0", "–", "1", "2", "of", "3", "–", "0"]), "{shown}");
    }
}
