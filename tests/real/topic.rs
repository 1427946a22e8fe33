//! A real topic, from the producer to the counters, with random kills of the event source and the function.

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
/// The number of lines; more than 200,000 of them are clicks.
const LINES: u64 = 260_000;
/// The number of kills.
const KILLS: u32 = 12;

/// Generates the lines, and writes them to `file` and to the topic.
fn fill(brokers: &str, file: &Path) {
    // Neither stale nor in the future.
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

/// The output of `hot topic --json`.
fn look(brokers: &str, more: &[&str]) -> Value {
    let said = run(hot(["topic", "--brokers", brokers, "--topic", TOPIC, "--group", GROUP, "--json"]).args(more));
    serde_json::from_str(&said).unwrap()
}

/// `hot kafka` with small batches, and a group that notices a killed member soon.
fn source(brokers: &str, function: &str, log: &Path) -> Process {
    let mut source = hot(["kafka", "--brokers", brokers, "--topic", TOPIC, "--group", GROUP, "--function", function]);
    source.args(["--batch-size", "4000", "--window", "200ms", "--timeout", "20s", "--max-backoff", "1s"]);
    source.args(["-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=500"]);
    Process::start("hot kafka", &source, log)
}

/// The number of delivered batches in the logs of the event sources.
fn delivered(source: &Process) -> usize {
    source.said().lines().filter(|line| line.contains("{\"records\":")).count()
}

/// The function's responses that are complete: a kill can cut off the last line of a process, and the next process then
/// goes on in that line.
fn answers(said: &str) -> impl Iterator<Item = Value> {
    said.lines()
        .filter_map(|line| line.find("{\"records\":").map(|start| &line[start..]))
        .filter_map(|answer| serde_json::Deserializer::from_str(answer).into_iter().next()?.ok())
}

/// The offsets of the rejected events by source. Redeliveries with other boundaries may store some twice.
async fn rejected(client: &Client, table: &str) -> BTreeSet<(String, String)> {
    let mut offsets = BTreeSet::new();
    let mut start = None;
    loop {
        let page = client.scan().table_name(table).set_exclusive_start_key(start).send().await.unwrap();
        for item in page.items() {
            let source = item["source"].as_s().unwrap();
            for offset in item["offsets"].as_m().unwrap().values().flat_map(|list| list.as_l().unwrap()) {
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
async fn every_click_of_a_topic_counts_once_despite_kills() {
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

    // Two members of one group, so that each kill also causes a rebalance.
    let log = |number: usize| folder.path().join(format!("source-{number}"));
    let mut sources = [0, 1].map(|number| source(&brokers, &functions.endpoint(), &log(number)));
    let mut random = ChaCha8Rng::seed_from_u64(20_221_227);
    for kill in 0..KILLS {
        // Kill at a random time, after at least one delivery since the last kill.
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
                // `cargo lambda watch` does not notice it and does not restart the function: invocations hang until the server
                // ends.
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
    sources.into_iter().for_each(Process::stop);
    let said: Vec<String> = (0..2).map(|number| fs::read_to_string(log(number)).unwrap()).collect();
    let answers: Vec<Value> = said.iter().flat_map(|said| answers(said)).collect();
    let lines = said.iter().map(|said| said.matches("{\"records\":").count()).sum::<usize>();
    assert!(answers.len() + KILLS as usize >= lines, "{lines} answers, of which {} can be read", answers.len());
    let repeated: u64 = answers.iter().map(|answer| answer["already_counted"].as_u64().unwrap()).sum();
    println!("{lines} batches answered, {repeated} records of them counted before");
    assert!(repeated > 0, "no record was redelivered, so the kills had no effect");

    let counts = counted(&dynamodb.client(), &tables.counters).await;
    assert_eq!(counts, groups.counts, "a click was lost or counted twice");
    let (endpoint, stack) = (dynamodb.endpoint(), ["--stack", STACK]);
    let mut audit =
        hot(["audit", "--brokers", &brokers, "--topic", TOPIC, "--group", GROUP, "--endpoint-url", &endpoint]);
    let audit: Value = serde_json::from_str(&run(audit.args(stack).arg("--json"))).unwrap();
    assert_eq!((&audit["records"], &audit["clicks"]), (&LINES.into(), &groups.clicks.into()), "{audit}");
    let rejected = rejected(&dynamodb.client(), &tables.rejects).await;
    assert_eq!(rejected.len() as u64, groups.broken, "each broken record is stored");

    let after = look(&brokers, &["--tail", "5"]);
    assert_eq!(after["topics"][0]["lag"], 0);
    assert_eq!(after["newest"].as_array().unwrap().len(), 5);
    assert!(!after.to_string().contains("u_"), "no user id is shown: {after}");
}
