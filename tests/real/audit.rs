//! `hot audit` over a real topic and the tables that count-clicks and rank-products have made of it.

use std::{fs, process::Output, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use count_clicks::{CountClicks, CountSettings};
use hot_products::{Clock, SystemClock, UnixMillis, Window, settings::Settings};
use hot_products_tests::{
    group_by,
    parts::{DynamoDbLocal, Kafka, run},
    process::{Process, hot, wait_for},
};
use local_aws::template::TableNames;
use rank_products::{RankProducts, RankSettings, Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{invoke::InvokeApi, records::produce};

const TOPIC: &str = "audited";
const STACK: &str = "audit";

/// A stack whose functions run in this process.
struct Stack {
    kafka: Kafka,
    dynamodb: DynamoDbLocal,
    client: Client,
    tables: TableNames,
    range: [String; 2],
}

impl Stack {
    /// The output of `hot audit` with `more` arguments.
    fn audit(&self, more: &[&str]) -> Output {
        let (brokers, endpoint) = (self.kafka.brokers(), self.dynamodb.endpoint());
        let [from, to] = &self.range;
        let mut audit = hot(["audit", "--brokers", &brokers, "--topic", TOPIC, "--stack", STACK]);
        audit.args(["--endpoint-url", &endpoint, "--from", from, "--to", to]).args(more).output().unwrap()
    }

    /// The report of an audit that must exit with `code`.
    fn report(&self, code: i32, more: &[&str]) -> Value {
        let output = self.audit(&[&["--json"], more].concat());
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{said}{failed}");
        serde_json::from_str(&said).unwrap()
    }

    /// Delivers the topic to `count-clicks` until nothing is left.
    async fn count(&self, folder: &TempDir) {
        let settings =
            Settings::from([("COUNTERS_TABLE", &self.tables.counters), ("REJECTS_TABLE", &self.tables.rejects)]);
        let settings = CountSettings::read(&settings).unwrap();
        let count_clicks = Arc::new(CountClicks::new(self.client.clone(), settings, Arc::new(SystemClock)));
        let function = InvokeApi::serve(move |payload| {
            let count_clicks = Arc::clone(&count_clicks);
            let handle = move || {
                let deadline = SystemClock.now().plus(Duration::from_mins(1));
                // The function runs on one thread, as in Lambda.
                let (summary, result) = Handle::current().block_on(count_clicks.handle(payload, deadline));
                result.map(|()| serde_json::to_string(&summary).unwrap()).map_err(|error| error.to_string())
            };
            async { spawn_blocking(handle).await.unwrap() }
        })
        .await;
        let brokers = self.kafka.brokers();
        let mut source = hot(["kafka", "--brokers", &brokers, "--topic", TOPIC, "--group", "g", "--window", "100ms"]);
        source.args(["--function", &function.endpoint()]);
        let source = Process::start("hot kafka", &source, &folder.path().join("source"));
        wait_for("the group to have no lag", || {
            let said = run(&mut hot(["topic", "--brokers", &brokers, "--topic", TOPIC, "--group", "g", "--json"]));
            let topic: Value = serde_json::from_str(&said).unwrap();
            (topic["topics"][0]["lag"] == 0).then_some(())
        });
        source.stop();
    }

    /// Ranks the windows that are within the audited minutes. Returns their ends.
    async fn rank(&self, first: Window, last: Window) {
        let settings =
            Settings::from([("COUNTERS_TABLE", &self.tables.counters), ("SNAPSHOTS_TABLE", &self.tables.snapshots)]);
        let settings = RankSettings::read(&settings).unwrap();
        let rank_products = RankProducts::new(self.client.clone(), settings, Arc::new(SystemClock));
        for window in first.until(last) {
            let request = Request { window_end: Some(window.end().to_string()), scheduled_time: None };
            assert!(rank_products.handle(&request, UnixMillis(i64::MAX)).await.unwrap().summary.written);
        }
    }

    /// Adds `clicks` to a number of an item. A `#` in the path is a product's counter.
    async fn add(&self, table: &str, key: [(&str, &AttributeValue); 2], attribute: &str, clicks: i64) {
        let mut call = self.client.update_item().table_name(table).update_expression("ADD #a :c");
        for (name, value) in key {
            call = call.key(name, value.clone());
        }
        let call = call.expression_attribute_names("#a", attribute);
        call.expression_attribute_values(":c", AttributeValue::N(clicks.to_string())).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_what_differs_from_the_topic_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (kafka, dynamodb) = (Kafka::start(), DynamoDbLocal::start());
    run(&mut hot(["tables", "--endpoint-url", &dynamodb.endpoint(), "--stack", STACK]));
    let now = SystemClock.now();
    // Four windows. The events begin before the audited minutes, and end in them.
    let last = Window::ended_by(now);
    let first = last.previous().previous().previous();
    let start = first.start().minus(Duration::from_mins(20)).rfc3339();
    let spec = ["--products", "300", "--minutes", "80", "--ignored-share", "0.2", "--bad-share", "0.01"];
    let mut lines = hot(["generate", "--events", "20000", "--start", &start]).args(spec).output().unwrap().stdout;
    let click = |time: UnixMillis, product: &str| {
        json!({"event_time": time.0, "product_id": product, "action": "click", "user_id": "u_1"}).to_string() + "\n"
    };
    let far_ahead = click(now.plus(Duration::from_mins(40)), "ahead");
    let stale = click(now.minus(Duration::from_hours(25)), "stale");
    lines.extend_from_slice([far_ahead, stale].concat().as_bytes());
    produce(&kafka.brokers(), TOPIC, 3, &lines);
    let client = dynamodb.client();
    let range = [first.start().to_string(), last.end().to_string()];
    let stack = Stack { kafka, dynamodb, client, tables: TableNames::of(STACK), range };
    stack.count(&folder).await;
    assert!(fs::read_to_string(folder.path().join("source")).unwrap().contains("\"counted\""));
    stack.rank(first, last).await;

    // Equal.
    let groups = group_by::group(lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()));
    let expected: u64 =
        groups.counts.range(first.start().0..last.end().0).flat_map(|(_, products)| products.values()).sum();
    for how in [&["--group", "g"][..], &["--max-lag", "1s"]] {
        let report = stack.report(0, how);
        assert_eq!((&report["records"], &report["clicks"]), (&groups.lines.into(), &expected.into()), "{report}");
        assert_eq!((&report["uncertain_clicks"], &report["windows"]), (&0.into(), &4.into()), "{report}");
        assert!(report["counters"].as_u64().unwrap() > 1_000, "{report}");
        let reasons: Vec<_> = report["unchecked"].as_array().unwrap().iter().map(|note| &note["reason"]).collect();
        assert_eq!(reasons, ["not_final"], "{report}");
    }
    let said = String::from_utf8(stack.audit(&["--group", "g"]).stdout).unwrap();
    assert!(said.contains("All that was compared is equal") && said.contains("4 snapshots (0 final)"), "{said}");

    // A counter that was changed by hand, up and down.
    let items = stack.client.scan().table_name(&stack.tables.counters).send().await.unwrap().items.unwrap();
    let minute = |bucket: &str| UnixMillis::parse_rfc3339(&bucket.split('#').next()?.replace('Z', ":00Z")).ok();
    let (item, minute) = items
        .iter()
        .find_map(|item| Some((item, minute(item["bucket"].as_s().ok()?).filter(|time| *time >= first.start())?)))
        .unwrap();
    let counter = item.keys().find(|name| name.starts_with('#')).unwrap();
    let key = [("bucket", &item["bucket"]), ("source", &item["source"])];
    for change in [3, -1] {
        stack.add(&stack.tables.counters, key, counter, change).await;
        let report = stack.report(1, &["--group", "g"]);
        assert_eq!(report["counter_differences"]["count"], 1, "{report}");
        let difference = &report["counter_differences"]["first"][0];
        assert_eq!(difference["minute"], minute.to_string());
        assert_eq!(difference["source"], *item["source"].as_s().unwrap());
        assert_eq!(difference["product_id"], counter[1..]);
        let figure = |name: &str| difference[name].as_i64().unwrap();
        assert_eq!(figure("counted") - figure("expected"), change, "{report}");
        assert_eq!(report["snapshot_differences"]["count"], 0);
        let output = stack.audit(&["--group", "g"]);
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&counter[1..]) && said.contains("1 counters differ"), "{said}");
        assert!(failed.contains("the tables differ from the topic in 1 figure"), "{failed}");
        stack.add(&stack.tables.counters, key, counter, -change).await;
    }

    // A snapshot.
    let (board, end) = (AttributeValue::S("clicks".into()), AttributeValue::S(last.end().to_string()));
    let key = [("board", &board), ("window_end", &end)];
    stack.add(&stack.tables.snapshots, key, "total_clicks", -1).await;
    let report = stack.report(1, &["--group", "g"]);
    assert_eq!(
        (&report["counter_differences"]["count"], &report["snapshot_differences"]["count"]),
        (&0.into(), &1.into())
    );
    let difference = &report["snapshot_differences"]["first"][0];
    assert_eq!(
        (&difference["window_end"], &difference["figure"]),
        (&last.end().to_string().into(), &"total_clicks".into())
    );
    stack.add(&stack.tables.snapshots, key, "total_clicks", 1).await;

    // Clicks that wait in Kafka may be counted or not. Counted after the ranking, they are late.
    let waiting = click(first.start(), "waiting").repeat(5);
    produce(&stack.kafka.brokers(), TOPIC, 3, waiting.as_bytes());
    let report = stack.report(0, &["--group", "g"]);
    assert_eq!((&report["clicks"], &report["uncertain_clicks"]), (&expected.into(), &5.into()), "{report}");
    stack.count(&folder).await;
    let report = stack.report(0, &["--group", "g"]);
    assert_eq!((&report["clicks"], &report["uncertain_clicks"]), (&(expected + 5).into(), &0.into()), "{report}");
    let notes = report["unchecked"].to_string();
    assert!(notes.contains("5 clicks were counted after the ranking"), "{notes}");

    // Kafka has deleted records of a partition: its minutes can't be compared, and the windows neither.
    stack.kafka.delete_records(TOPIC, 0, 1_000);
    let report = stack.report(0, &["--group", "g"]);
    let reasons: Vec<_> = report["unchecked"].as_array().unwrap().iter().map(|note| &note["reason"]).collect();
    assert_eq!(reasons, ["records_deleted", "window_without_records"], "{report}");
    assert_eq!(report["windows"], 0);
}
