//! Where a group starts, and single records of a topic.

use std::{
    io::Write,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use base64_simd::STANDARD;
use hot_products_tests::{
    parts::{Kafka, run},
    process::{Process, hot, wait_for},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::invoke::InvokeApi;

const GROUP: &str = "records";

/// Writes `lines` to a topic, which is created if it is missing.
pub fn produce(brokers: &str, topic: &str, partitions: u32, lines: &[u8]) {
    let args = ["produce", "--brokers", brokers, "--topic", topic, "--create-partitions", &partitions.to_string()];
    let mut produce = hot(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    produce.stdin.take().unwrap().write_all(lines).unwrap();
    assert!(produce.wait_with_output().unwrap().status.success());
}

/// `hot kafka --start latest`, with a group that notices a killed member soon.
fn source(brokers: &str, topic: &str, function: &str, log: &Path) -> Process {
    let mut source = hot(["kafka", "--brokers", brokers, "--topic", topic, "--group", GROUP, "--function", function]);
    source.args(["--start", "latest", "--window", "100ms", "--max-backoff", "250ms"]);
    source.args(["-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=500"]);
    Process::start("hot kafka", &source, log)
}

/// The values of a payload's records, as text.
fn values(payload: &[u8]) -> Vec<String> {
    let event: Value = serde_json::from_slice(payload).unwrap();
    let records = event["records"].as_object().unwrap().values().flat_map(|records| records.as_array().unwrap());
    records
        .map(|record| {
            let value = STANDARD.decode_to_vec(record["value"].as_str().unwrap()).unwrap();
            String::from_utf8(value).unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_starts_at_the_end_skips_nothing_if_it_restarts_before_its_first_commit() {
    let folder = TempDir::new().unwrap();
    let kafka = Kafka::start();
    let brokers = kafka.brokers();
    let (fails, delivered) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let function = {
        let (fails, delivered) = (Arc::clone(&fails), Arc::clone(&delivered));
        InvokeApi::serve(move |payload| {
            let result = if fails.load(Ordering::Relaxed) {
                Err("not now".to_owned())
            } else {
                delivered.lock().unwrap().extend(values(&payload));
                Ok(r#"{"records":1}"#.to_owned())
            };
            async { result }
        })
        .await
    };
    produce(&brokers, "late", 3, b"before\n");
    let assigned = |source: &Process| source.said().matches("partitions assigned: 0, 1, 2").count();
    let start = |name: &str, topic: &str| source(&brokers, topic, &function.endpoint(), &folder.path().join(name));

    // The first member is killed with nothing delivered, and the second after a delivery that failed.
    let mut first = start("first", "late");
    wait_for("the first assignment", || (assigned(&first) > 0).then_some(()));
    first.kill();
    produce(&brokers, "late", 3, b"while it was down\n");
    let mut second = start("second", "late");
    wait_for("a delivery of the record that was written while no member ran", || {
        second.said().contains("the function failed").then_some(())
    });
    second.kill();
    produce(&brokers, "late", 3, b"while the second was down\n");
    fails.store(false, Ordering::Relaxed);
    let third = start("third", "late");
    wait_for("the third assignment", || (assigned(&third) > 0).then_some(()));
    produce(&brokers, "late", 3, b"at last\n");
    wait_for("the last record", || delivered.lock().unwrap().iter().any(|value| value == "at last").then_some(()));
    third.stop();
    let mut delivered = delivered.lock().unwrap().clone();
    delivered.sort_unstable();
    assert_eq!(delivered, ["at last", "while it was down", "while the second was down"]);
}

#[test]
fn one_record_is_shown_as_it_was_written() {
    let kafka = Kafka::start();
    let brokers = kafka.brokers();
    let event = br#"{"event_time":1672131001234,"product_id":"p1","action":"click","user_id":"u_1"}"#;
    produce(&brokers, "shown", 1, &[&event[..], b"\n\xff\x00 no text\n"].concat());
    let show = |more: &[&str]| {
        let mut command = hot(["topic", "--brokers", &brokers, "--topic", "shown"]);
        command.args(more);
        command
    };
    let json = run(&mut show(&["--partition", "0", "--offset", "0", "--json"]));
    let record: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(record["value"]["text"].as_str().unwrap().as_bytes(), event);
    assert_eq!(record["key"]["text"], "p1");
    assert_eq!((&record["partition"], &record["offset"]), (&0.into(), &0.into()));
    assert_eq!((&record["timestamp_by"], &record["read_as"]["action"]), (&"producer".into(), &"click".into()));
    let text = run(&mut show(&["--partition", "0", "--offset", "1"]));
    assert!(text.contains("rejected: not_json") && text.contains("in Base64: /wAgbm8gdGV4dA=="), "{text}");
    for (partition, offset, message) in [
        ("1", "0", "shown has no partition 1: it has 1, from 0 to 0"),
        ("0", "2", "shown-0 has no record at offset 2 yet: it has the offsets from 0 to 1"),
    ] {
        let output = show(&["--partition", partition, "--offset", offset]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(message), "{error}");
    }
}
