//! A real topic, from producers to counters, while the event source and the function are killed at random.

use std::{collections::BTreeSet, fs, io::Write, path::Path, process::Stdio, thread, time::Duration};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use hot_products::{Clock, SystemClock};
use hot_products_tests::{
    group_by,
    parts::{DynamoDbLocal, Functions, Kafka, counted, run},
    process::{Process, free_port, hot, wait_for},
};
use local_aws::template::TableNames;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

const TOPIC: &str = "clicks";
const GROUP: &str = "hot-products";
const STACK: &str = "topic";
const PARTITIONS: u64 = 6;
/// Lines produced; more than 200,000 of them are clicks.
const LINES: u64 = 260_000;
/// How often something is killed.
const KILLS: u32 = 12;

/// Generates the lines into `file` and pipes them into the topic on the way, as a shell does.
fn fill(brokers: &str, file: &Path) {
    // Young enough to be counted, old enough to be no future.
    let start = SystemClock.now().minus(Duration::from_mins(50)).rfc3339();
    let spec =
        ["--products", "3000", "--minutes", "40", "--ignored-share", "0.2", "--bad-share", "0.01", "--seed", "4"];
    let lines =
        hot(["generate", "--events", &LINES.to_string(), "--start", &start]).args(spec).output().unwrap().stdout;
    fs::write(file, &lines).unwrap();
    let partitions = PARTITIONS.to_string();
    let produce = ["produce", "--brokers", brokers, "--topic", TOPIC, "--create-partitions", &partitions];
    let mut produce = hot(produce).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    produce.stdin.take().unwrap().write_all(&lines).unwrap();
    let output = produce.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with(&format!("{LINES} records delivered to clicks (6 partitions)")), "{said}");
}

/// The topic as `hot topic --json` shows it.
fn look(brokers: &str, more: &[&str]) -> Value {
    let said = run(hot(["topic", "--brokers", brokers, "--topic", TOPIC, "--group", GROUP, "--json"]).args(more));
    serde_json::from_str(&said).unwrap()
}

/// `hot kafka`, with batches small enough for many of them, and a group that misses a killed member soon.
fn source(brokers: &str, function: &str, log: &Path) -> Process {
    let mut source = hot(["kafka", "--brokers", brokers, "--topic", TOPIC, "--group", GROUP, "--function", function]);
    source.args(["--batch-size", "4000", "--window", "200ms", "--timeout", "20s", "--max-backoff", "1s"]);
    source.args(["-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=500"]);
    Process::start("hot kafka", &source, log)
}

/// How many batches were delivered, by the log of the sources.
fn delivered(source: &Process) -> usize {
    source.said().lines().filter(|line| line.contains("{\"records\":")).count()
}

/// How many records came to the function that it had counted before, by its answers.
fn repeated(said: &str) -> u64 {
    let answers = said.lines().filter_map(|line| line.find("{\"records\":").map(|start| &line[start..]));
    answers.map(|answer| serde_json::from_str::<Value>(answer).unwrap()["already_counted"].as_u64().unwrap()).sum()
}

/// The offsets that the rejected events' items note, by source: a redelivery that was cut elsewhere notes some twice.
async fn rejected(client: &Client, table: &str) -> BTreeSet<(String, String)> {
    let mut offsets = BTreeSet::new();
    let mut start = None;
    loop {
        let page = client.scan().table_name(table).set_exclusive_start_key(start).send().await.unwrap();
        for item in page.items() {
            let source = item["source"].as_s().unwrap();
            for offset in item["offsets"].as_l().unwrap() {
                let AttributeValue::N(offset) = offset else { panic!("{offset:?} is no offset") };
                offsets.insert((source.clone(), offset.clone()));
            }
        }
        start = page.last_evaluated_key;
        if start.is_none() {
            return offsets;
        }
    }
}

#[tokio::test]
async fn every_click_of_a_topic_counts_once_whatever_is_killed() {
    let folder = TempDir::new().unwrap();
    let (kafka, dynamodb) = (Kafka::start(), DynamoDbLocal::start());
    let brokers = kafka.brokers();
    run(&mut hot(["tables", "--endpoint-url", &dynamodb.endpoint(), "--stack", STACK]));
    let tables = TableNames::of(STACK);
    let port = free_port();
    let serve = || {
        let endpoint = dynamodb.endpoint();
        Functions::serve(
            port,
            &[
                ("COUNTERS_TABLE", &tables.counters),
                ("REJECTS_TABLE", &tables.rejects),
                ("SNAPSHOTS_TABLE", &tables.snapshots),
                ("AWS_ENDPOINT_URL", &endpoint),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "local"),
                ("AWS_SECRET_ACCESS_KEY", "local"),
            ],
        )
    };
    let mut functions = serve();

    let file = folder.path().join("clicks.jsonl");
    fill(&brokers, &file);
    let lines = fs::read(&file).unwrap();
    let groups = group_by::group(lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end));
    assert!(groups.clicks > 200_000, "{} clicks", groups.clicks);
    let before = look(&brokers, &[]);
    assert_eq!(before["topics"][0]["records"], LINES);
    assert_eq!(before["topics"][0]["lag"], LINES);

    // Two members of one group, so that each kill is a rebalance too.
    let log = |number: usize| folder.path().join(format!("source-{number}"));
    let mut sources = [0, 1].map(|number| source(&brokers, &functions.endpoint(), &log(number)));
    let mut random = ChaCha8Rng::seed_from_u64(20_221_227);
    for kill in 0..KILLS {
        // A kill falls anywhere within a delivery, once there has been one since the last.
        let seen: usize = sources.iter().map(delivered).sum();
        let more = || sources.iter().map(delivered).sum::<usize>() > seen;
        wait_for("a delivery", || (more() || look(&brokers, &[])["topics"][0]["lag"] == 0).then_some(()));
        let lag = &look(&brokers, &[])["topics"][0]["lag"];
        assert!(
            *lag != 0 || kill > KILLS / 2,
            "all was delivered before kill {kill}: produce more, or in smaller batches"
        );
        println!("kill {kill} with a lag of {lag}");
        thread::sleep(Duration::from_millis(random.random_range(0..300)));
        match random.random_range(0..4) {
            0 => {
                functions.kill();
                functions = serve();
            }
            1 => {
                // `cargo lambda watch` neither notices nor starts it again: invocations hang until the server ends.
                functions.kill_function("count-clicks");
                thread::sleep(Duration::from_millis(random.random_range(0..500)));
                functions.kill();
                functions = serve();
            }
            _ => {
                let number = random.random_range(0..sources.len());
                sources[number].kill();
                sources[number] = source(&brokers, &functions.endpoint(), &log(number));
            }
        }
    }
    wait_for("the group to have no lag", || (look(&brokers, &[])["topics"][0]["lag"] == 0).then_some(()));
    let said: String = sources.iter().map(Process::said).collect();
    sources.into_iter().for_each(Process::stop);
    let repeated = repeated(&said);
    println!("{} batches answered, {repeated} records of them counted before", said.matches("{\"records\":").count());
    assert!(repeated > 0, "nothing was delivered twice: the kills prove nothing");

    let counts = counted(&dynamodb.client(), &tables.counters).await;
    assert_eq!(counts, groups.counts, "a click was lost or counted twice");
    let rejected = rejected(&dynamodb.client(), &tables.rejects).await;
    assert_eq!(rejected.len() as u64, groups.broken, "each broken record is noted");

    let after = look(&brokers, &["--tail", "5"]);
    assert_eq!(after["topics"][0]["lag"], 0);
    assert_eq!(after["newest"].as_array().unwrap().len(), 5);
    assert!(!after.to_string().contains("u_"), "no user shows: {after}");
}
