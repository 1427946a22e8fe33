//! The function `seed-clicks`, on a broker that checks its token as Amazon MSK does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64_simd::STANDARD;
use hot_products::{Clock, SystemClock};
use hot_products_tests::{
    group_by,
    parts::{Functions, IAM, Kafka},
    process::{Process, free_port, hot, wait_for},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{invoke::InvokeApi, records::produce};

const TOPIC: &str = "seeded";
const PARTITIONS: u32 = 4;

/// The function, with its settings for `kafka`, and `changed` instead of some of them.
fn serve(kafka: &Kafka, changed: &[(&str, &str)]) -> Functions {
    let (brokers, certificate) = (kafka.iam_brokers(), kafka.certificate().display().to_string());
    let mut settings =
        BTreeMap::from([("BROKERS", brokers.as_str()), ("TOPIC", TOPIC), ("SSL_CERT_FILE", &certificate)]);
    settings.extend(IAM);
    settings.extend(changed.iter().copied());
    Functions::serve(free_port(), &settings.into_iter().collect::<Vec<_>>())
}

/// A record of a topic: partition, key and value.
type Record = (u64, String, Vec<u8>);

/// All records of `topic`, once there are `count`. Each has its event time as timestamp.
async fn read(kafka: &Kafka, topic: &str, count: usize) -> Vec<Record> {
    let (folder, found) = (TempDir::new().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let records = Arc::clone(&found);
    let function = InvokeApi::serve(move |payload| {
        let event: Value = serde_json::from_slice(&payload).unwrap();
        for record in event["records"].as_object().unwrap().values().flat_map(|records| records.as_array().unwrap()) {
            let text = |name: &str| STANDARD.decode_to_vec(record[name].as_str().unwrap()).unwrap();
            let partition = record["partition"].as_u64().unwrap();
            records.lock().unwrap().push((partition, String::from_utf8(text("key")).unwrap(), text("value")));
        }
        async { Ok("{}".to_owned()) }
    })
    .await;
    let mut source = hot(["kafka", "--brokers", &kafka.brokers(), "--topic", topic, "--group", "seed"]);
    source.args(["--function", &function.endpoint(), "--window", "100ms", "--start", "earliest"]);
    let source = Process::start("hot kafka", &source, &folder.path().join("log"));
    wait_for("all records", || (found.lock().unwrap().len() >= count).then_some(()));
    source.stop();
    found.lock().unwrap().clone()
}

/// The partition of each product.
fn partitions(records: &[Record]) -> BTreeMap<&str, BTreeSet<u64>> {
    let mut partitions: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (partition, key, _) in records {
        partitions.entry(key).or_default().insert(*partition);
    }
    partitions
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_clicks_are_valid_and_recent_and_where_other_producers_write() {
    let kafka = Kafka::with_iam();
    produce(&kafka.brokers(), TOPIC, PARTITIONS, b"");
    let functions = serve(&kafka, &[]);
    let before = SystemClock.now();
    // More than a batch in each partition.
    let answer = functions.invoke("seed-clicks", r#"{"clicks": 12000, "minutes": 5, "products": 40}"#).unwrap();
    let after = SystemClock.now();
    let answer: Value = serde_json::from_str(&answer).unwrap();

    let records = read(&kafka, TOPIC, 12_000).await;
    let mut count: BTreeMap<String, u64> = BTreeMap::new();
    let mut times = Vec::new();
    for (partition, key, value) in &records {
        *count.entry(partition.to_string()).or_default() += 1;
        let event: Value = serde_json::from_slice(value).unwrap();
        let fields: BTreeSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(["event_time", "product_id", "action", "user_id"]), "{event}");
        assert_eq!((&event["product_id"], &event["action"]), (&json!(key), &json!("click")));
        times.push(event["event_time"].as_i64().unwrap());
    }
    assert_eq!((&answer["topic"], &answer["clicks"]), (&json!(TOPIC), &json!(12_000)));
    assert_eq!(answer["partitions"], json!(count));
    let groups = group_by::group(records.iter().map(|(_, _, value)| value.as_slice()));
    assert_eq!((groups.lines, groups.clicks), (12_000, 12_000));
    let (oldest, newest) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
    assert!(oldest >= before.minus(Duration::from_mins(5)).0 && newest <= after.0, "{oldest} to {newest}");
    for (name, time) in [("from", oldest), ("to", newest)] {
        assert_eq!(answer[name], hot_products::UnixMillis(time).rfc3339(), "{name}");
    }

    // Another producer of the same events writes them to the same partitions.
    let lines: Vec<u8> = records.iter().flat_map(|(_, _, value)| [value.as_slice(), b"\n"].concat()).collect();
    produce(&kafka.brokers(), "again", PARTITIONS, &lines);
    let again = read(&kafka, "again", 12_000).await;
    let (ours, others) = (partitions(&records), partitions(&again));
    assert_eq!((ours.len(), ours.values().map(BTreeSet::len).max()), (40, Some(1)));
    assert_eq!(ours, others);

    let error = functions.invoke("seed-clicks", r#"{"clicks": 1000000}"#).unwrap_err();
    assert!(error.contains("`clicks` is 1000000: give a whole number from 1 to 100000"), "{error}");
    let error = functions.invoke("seed-clicks", r#"{"click": 5}"#).unwrap_err();
    assert!(error.contains("unknown field `click`"), "{error}");
}

#[test]
fn a_refused_token_and_a_missing_topic_are_errors_that_say_what_to_check() {
    let kafka = Kafka::with_iam();
    produce(&kafka.brokers(), TOPIC, 1, b"");
    let error = serve(&kafka, &[("AWS_SECRET_ACCESS_KEY", "wrong")]).invoke("seed-clicks", "{}").unwrap_err();
    assert!(error.contains("refused the sign-in") && error.contains("Access denied"), "{error}");
    assert!(error.contains("kafka-cluster:Connect") && error.contains("region"), "{error}");
    let error = serve(&kafka, &[("TOPIC", "missing")]).invoke("seed-clicks", "{}").unwrap_err();
    assert!(error.contains("UnknownTopicOrPartition") && error.contains("kafka-cluster:DescribeTopic"), "{error}");
}
