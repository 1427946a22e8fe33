//! The functions' binaries, run like a developer does: `cargo lambda watch`, `cargo lambda invoke` with the files in `events/`,
//! and `hot dynamodb`. The tests then check the tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Output, Stdio},
};

use base64_simd::STANDARD;
use hot_products::UnixMillis;
use hot_products_tests::{
    binary,
    group_by::{self, Groups},
    process::{HotDynamoDb, Process, cargo_lambda, free_port, hot},
    repository,
};
use serde_json::{Value, json};
use serde_yaml_ng::Value as Yaml;
use tempfile::TempDir;

const WINDOW_END: i64 = 1_672_159_800_000; // 2022-12-27T16:50:00Z

/// All functions and their DynamoDB.
struct Functions {
    port: u16,
    dynamodb: HotDynamoDb,
    watch: Process,
    _log: TempDir,
}

impl Functions {
    /// Starts them with settings besides those in `events/local.env`.
    fn start(settings: &[(&str, &str)]) -> Self {
        let dynamodb = HotDynamoDb::start(&[]);
        let log = tempfile::tempdir().expect("a folder for the log");
        let port = free_port();
        let mut command = cargo_lambda();
        command
            .args(["watch", "--ignore-changes", "--invoke-address", "127.0.0.1", "--env-file", "events/local.env"])
            .args(["--invoke-port", &port.to_string()])
            .args(["--env-var", &format!("AWS_ENDPOINT_URL_DYNAMODB={}", dynamodb.endpoint())])
            .args(settings.iter().flat_map(|(name, value)| ["--env-var".to_owned(), format!("{name}={value}")]));
        let mut watch = Process::start("cargo lambda watch", &command, &log.path().join("log"));
        watch.listens(port);
        Self { port, dynamodb, watch, _log: log }
    }

    fn invoke(&self, function: &str, data: &[&str]) -> Output {
        let port = self.port.to_string();
        let mut command = cargo_lambda();
        command.args(["invoke", function, "--invoke-address", "127.0.0.1", "--invoke-port", &port]).args(data);
        command.output().expect("cargo lambda runs")
    }

    /// The response of `function` to a file in `events/`.
    fn answer(&self, function: &str, event: &str) -> Value {
        let output = self.invoke(function, &["--data-file", &format!("events/{event}")]);
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|_| {
            panic!("{function} responds to {event} with {text:?}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// The metrics that CloudWatch extracts from the functions' logs.
    fn metrics(&self) -> BTreeSet<Metric> {
        let mut metrics = BTreeSet::new();
        for line in self.watch.said().lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            for set in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
                assert_eq!(set["Dimensions"], json!([["function"]]), "one dimension, the function");
                for metric in set["Metrics"].as_array().expect("metrics") {
                    let name = metric["Name"].as_str().expect("a name");
                    assert!(line[name].is_u64(), "{name} has a value: {line}");
                    metrics.insert((text(&set["Namespace"]), text(&metric["Name"]), text(&line["function"])));
                }
            }
        }
        metrics
    }

    fn top(&self) -> Value {
        let output = hot(["top", "--json", "--endpoint-url", self.dynamodb.endpoint()]).output().expect("hot runs");
        serde_json::from_slice(&output.stdout).expect("a snapshot")
    }
}

/// A metric of the product: namespace, name and function.
type Metric = (String, String, String);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

/// The metrics of the product that the template's alarms and dashboard use.
fn watched() -> BTreeSet<Metric> {
    let template = fs::read_to_string(repository("infra/template.yaml")).expect("the template exists");
    let mut watched = BTreeSet::new();
    watched_in(&serde_yaml_ng::from_str(&template).expect("the template is YAML"), &mut watched);
    watched
}

fn watched_in(yaml: &Yaml, watched: &mut BTreeSet<Metric>) {
    match yaml {
        Yaml::Sequence(items) => items.iter().for_each(|item| watched_in(item, watched)),
        Yaml::Mapping(map) => {
            if map.get("Namespace").and_then(Yaml::as_str) == Some("HotProducts") {
                let [dimension] = map["Dimensions"].as_sequence().expect("dimensions").as_slice() else {
                    panic!("one dimension: {map:?}")
                };
                assert_eq!(dimension["Name"], Yaml::from("function"));
                let Yaml::Tagged(of) = &dimension["Value"] else { panic!("a !Ref: {dimension:?}") };
                let name = map["MetricName"].as_str().expect("a name").to_owned();
                watched.insert(("HotProducts".into(), name, of_resource(of.value.as_str().expect("a resource"))));
            }
            map.values().for_each(|value| watched_in(value, watched));
        }
        Yaml::Tagged(tagged) => watched_in(&tagged.value, watched),
        Yaml::String(body) if body.starts_with("{\"widgets\"") => {
            // What is not a string, or nothing without some parts of the stack.
            let body = body.replace("${MaxOffsetLag}", "0").replace("${SourceAlarms}", "").replace("${BoardAlarm}", "");
            let body: Value = serde_json::from_str(&body).expect("a dashboard is JSON");
            for widget in body["widgets"].as_array().expect("widgets") {
                for metric in widget["properties"]["metrics"].as_array().into_iter().flatten() {
                    if metric[0] == "HotProducts" {
                        assert_eq!(metric[2], "function");
                        let of = text(&metric[3]).replace("${", "").replace('}', "");
                        watched.insert((text(&metric[0]), text(&metric[1]), of_resource(&of)));
                    }
                }
            }
        }
        _ => {}
    }
}

/// The name in `cargo lambda watch` of the function with this resource name.
fn of_resource(resource: &str) -> String {
    match resource {
        "CountClicksFunction" => "count-clicks".into(),
        "RankProductsFunction" => "rank-products".into(),
        other => panic!("{other} is not a function with metrics"),
    }
}

/// A file in `events/`.
fn sample(event: &str) -> Value {
    let text = fs::read_to_string(repository("events").join(event)).expect("the sample exists");
    serde_json::from_str(&text).expect("the sample is JSON")
}

/// The values of an event's records by source and offset.
fn values(event: &str) -> BTreeMap<(String, i64), Vec<u8>> {
    let event = sample(event);
    let mut values = BTreeMap::new();
    for (source, records) in event["records"].as_object().expect("records by source") {
        for record in records.as_array().expect("a list") {
            if let (Some(offset), Some(value)) = (record["offset"].as_i64(), record["value"].as_str()) {
                let value = STANDARD.decode_to_vec(value).unwrap_or_default();
                values.insert((source.clone(), offset), value);
            }
        }
    }
    values
}

fn group(values: &BTreeMap<(String, i64), Vec<u8>>) -> Groups {
    group_by::group(values.values().map(Vec::as_slice))
}

fn snapshot(groups: &Groups) -> Value {
    let (clicks, products, places) = group_by::hour(&groups.counts, WINDOW_END, 100);
    let products_json: Vec<_> = places
        .into_iter()
        .map(|(rank, id, clicks, _)| json!({"rank": rank, "product_id": id, "clicks": clicks}))
        .collect();
    json!({
        "window_start": "2022-12-27T15:50:00Z",
        "window_end": "2022-12-27T16:50:00Z",
        "total_clicks": clicks,
        "distinct_products": products,
        "clicks_per_minute": group_by::minutes(&groups.counts, WINDOW_END),
        "products": products_json,
    })
}

#[test]
fn the_samples_go_through_the_functions_to_the_board() {
    let functions = Functions::start(&[]);

    let first = values("msk-batch.json");
    let expected = group(&first);
    let answer = functions.answer("count-clicks", "msk-batch.json");
    assert_eq!(answer["records"], expected.lines);
    assert_eq!(answer["counted"], expected.clicks);
    assert_eq!(answer["ignored"], expected.others);
    assert_eq!((&answer["rejected"], &answer["stale"], &answer["already_counted"]), (&json!(0), &json!(0), &json!(0)));
    assert!(answer["updates"].as_u64() > Some(0) && answer["write_units"].as_u64() >= answer["updates"].as_u64());
    assert_eq!(answer["newest_event_time"], 1_672_159_799_000_i64);
    assert!(answer["lag_ms"].as_u64() > Some(0));

    let answer = functions.answer("rank-products", "schedule.json");
    assert_eq!(
        (&answer["written"], &answer["queries"], &answer["total_clicks"]),
        (&json!(true), &json!(480), &json!(expected.clicks))
    );
    let mut top = functions.top();
    let fields = top.as_object_mut().expect("a snapshot");
    let generated_at = fields.remove("generated_at").expect("generated_at");
    assert!(fields.remove("final").is_some_and(|is_final| is_final.is_boolean()));
    assert!(fields.remove("counted_through").is_some_and(|counted| counted.get("clicks-0").is_some()));
    assert!(generated_at.as_str().is_some_and(|time| UnixMillis::parse_rfc3339(time).is_ok()), "{generated_at}");
    assert_eq!(top, snapshot(&expected));

    // As through a function URL.
    let answer = functions.answer("read-board", "read-board.json");
    assert_eq!((&answer["statusCode"], &answer["isBase64Encoded"]), (&json!(200), &json!(false)));
    assert_eq!(answer["headers"]["content-type"], "application/json");
    assert!(answer["headers"]["cache-control"].as_str().is_some_and(|text| text.starts_with("private, max-age=")));
    let clicks: Value = serde_json::from_str(answer["body"].as_str().expect("a text")).expect("JSON");
    let id = "caffè ☕ \"doppio\" #1";
    assert_eq!((&clicks["product_id"], &clicks["to"]), (&json!(id), &json!("2022-12-27T16:50:00Z")));
    let counted: u64 = expected.counts.range(WINDOW_END - 3_600_000..WINDOW_END).filter_map(|(_, of)| of.get(id)).sum();
    assert!(counted > 0 && clicks["total_clicks"] == counted, "{clicks}");
    assert_eq!(clicks["minutes"].as_array().map(Vec::len), Some(60));
    let mut page = sample("read-board.json");
    for (path, status, body) in [
        ("/", 200, "<body data-pipeline=\"\" data-step=\"300\""),
        ("/hot-products", 200, "\"window_end\":\"2022-12-27T16:50:00Z\""),
        ("/hot-products/minutes", 200, "\"clicks_per_minute\":["),
        ("/hot-products/", 404, "not_found"),
    ] {
        page["rawPath"] = path.into();
        page["rawQueryString"] = "".into();
        let output = functions.invoke("read-board", &["--data-ascii", &page.to_string()]);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer");
        assert_eq!(answer["statusCode"], status, "{path}");
        assert!(answer["body"].as_str().is_some_and(|text| text.contains(body)), "{path}: {answer}");
    }

    // A redelivery of the whole batch changes no count.
    let answer = functions.answer("count-clicks", "msk-batch.json");
    assert_eq!((&answer["counted"], &answer["already_counted"]), (&json!(0), &json!(expected.clicks)));

    // A redelivery of some records, with new ones.
    let mut all = first.clone();
    let second = values("msk-redelivered.json");
    assert!(second.keys().any(|key| first.contains_key(key)) && second.keys().any(|key| !first.contains_key(key)));
    all.extend(second.clone());
    let new = group(&all).clicks - expected.clicks;
    let answer = functions.answer("count-clicks", "msk-redelivered.json");
    assert_eq!(answer["counted"], new);
    assert_eq!(answer["already_counted"], group(&second).clicks - new);

    // The same topic partition of a Kafka that is not MSK, in the shape that Lambda documents: what identifies a click is the
    // topic partition with its offset, not the cluster.
    all.extend(values("self-managed-batch.json"));
    let answer = functions.answer("count-clicks", "self-managed-batch.json");
    assert_eq!((&answer["records"], &answer["counted"], &answer["already_counted"]), (&json!(2), &json!(1), &json!(1)));

    // A batch with bad records: the good ones are counted.
    let bad = values("msk-rejects.json");
    all.extend(bad);
    let answer = functions.answer("count-clicks", "msk-rejects.json");
    assert_eq!((&answer["records"], &answer["counted"], &answer["rejected"]), (&json!(19), &json!(3), &json!(16)));

    let answer = functions.answer("rank-products", "backfill.json");
    assert_eq!(answer["written"], true);
    // To the group-by, one of the rejects is a valid event in the year 2100, outside the hour.
    assert_eq!(functions.top()["total_clicks"], snapshot(&group(&all))["total_clicks"]);
    let products = functions.top()["products"].as_array().expect("a list").clone();
    for (product, expected) in products.iter().zip(snapshot(&group(&all))["products"].as_array().expect("a list")) {
        assert_eq!((&product["product_id"], &product["clicks"]), (&expected["product_id"], &expected["clicks"]));
    }

    let output = functions.invoke("rank-products", &["--data-ascii", r#"{"window_end":"soon"}"#]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("`window_end` is \"soon\": give an RFC 3339 time"), "{message}");

    let output = functions.invoke("count-clicks", &["--data-ascii", r#"{"Records":[]}"#]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("the event is not an MSK batch"), "{message}");

    let missing: Vec<_> = watched().difference(&functions.metrics()).cloned().collect();
    assert_eq!(missing, [], "an alarm or the dashboard uses a metric that no function logs");
}

#[test]
fn a_topic_of_another_shape_goes_through_the_functions_to_the_board() {
    let functions = Functions::start(&[
        ("EVENT_TIME_FIELD", "payload.ts"),
        ("EVENT_TIME_UNIT", "s"),
        ("PRODUCT_FIELD", "payload.item_id"),
        ("INTEGER_PRODUCT_IDS", "true"),
        ("ACTION_FIELD", "payload.behavior"),
        ("COUNTED_ACTIONS", "pv"),
    ]);
    let mut event = sample("msk-batch.json");
    let records = event["records"]["clicks-0"].as_array_mut().expect("records");
    let (first, start) = (records[0].clone(), WINDOW_END / 1000 - 1800);
    let mut values: Vec<Value> = (0..90)
        .map(|number| {
            let behavior = if number % 9 == 0 { "buy" } else { "pv" };
            let payload =
                json!({"item_id": number % 7, "behavior": behavior, "ts": start + number * 20, "user": "u_1"});
            json!({"meta": {"ts": 1}, "payload": payload})
        })
        .collect();
    values.push(json!({"payload": {"item_id": 7.5, "behavior": "pv", "ts": start}}));
    values.push(json!({"payload": {"item_id": 3, "behavior": "pv"}}));
    *records = (1_000..)
        .zip(&values)
        .map(|(offset, value)| {
            let mut record = first.clone();
            record["offset"] = offset.into();
            record["value"] = STANDARD.encode_to_string(value.to_string()).into();
            record
        })
        .collect();
    let all = event["records"].as_object_mut().expect("records by source");
    all.retain(|source, _| source == "clicks-0");

    let lines: Vec<Vec<u8>> = values.iter().map(|value| value.to_string().into_bytes()).collect();
    let expected = group_by::group_as(lines.iter().map(Vec::as_slice), |event| {
        let event = &event["payload"];
        let action = if event["behavior"] == "pv" { "click" } else { "other" };
        Some((event["ts"].as_i64()? * 1000, event["item_id"].as_i64()?.to_string(), action.to_owned()))
    });
    assert_eq!((expected.clicks, expected.others, expected.broken), (80, 10, 2));

    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), event.to_string()).expect("the file is writable");
    let output = functions.invoke("count-clicks", &["--data-file", file.path().to_str().expect("a Unicode path")]);
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!((&answer["counted"], &answer["ignored"], &answer["rejected"]), (&json!(80), &json!(10), &json!(2)));
    assert_eq!(answer["rejected_by_reason"], json!({"mistyped_product_id": 1, "missing_event_time": 1}));
    assert_eq!(functions.answer("rank-products", "schedule.json")["total_clicks"], expected.clicks);
    let top = functions.top();
    assert_eq!(top["products"], snapshot(&expected)["products"]);
    assert_eq!(top["clicks_per_minute"], snapshot(&expected)["clicks_per_minute"]);

    let rejects = hot(["rejects", "--since", "1h", "--endpoint-url", functions.dynamodb.endpoint()]).output();
    let rejects = String::from_utf8(rejects.expect("hot runs").stdout).expect("text");
    assert!(rejects.contains("payload.item_id 7.5") && !rejects.contains("u_1"), "{rejects}");
}

/// The output of the function `name`, started with only these environment variables.
fn start(name: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(binary(name))
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the function starts");
    assert!(!output.status.success(), "{name} must not start");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_function_does_not_start_with_a_wrong_setting_and_names_it() {
    let environment = [
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("COUNTERS_TABLE", "c"),
        ("REJECTS_TABLE", "r"),
        ("SNAPSHOTS_TABLE", "s"),
    ];
    let with = |name, value| [environment.as_slice(), &[(name, value)]].concat();
    for function in ["count-clicks", "rank-products"] {
        let message = start(function, &with("MAX_EVENT_AGE", "25h"));
        assert!(message.contains("RETENTION") && message.contains("must exceed MAX_EVENT_AGE"), "{message}");
    }
    let message = start("count-clicks", &with("SOURCE_EPOCH", "first"));
    assert!(message.contains("SOURCE_EPOCH") && message.contains("whole number from 1"), "{message}");
    for (name, value, problem) in [
        ("EVENT_TIME_FIELD", "payload.", "give the name of a field"),
        ("EVENT_TIME_UNIT", "minutes", "give ms, s, us or rfc3339"),
        (
            "PRODUCT_FIELD",
            "event_time.id",
            "the product id can't be in event_time.id if the event time is in event_time",
        ),
        ("INTEGER_PRODUCT_IDS", "yes", "give true or false"),
        ("ACTION_FIELD", "product_id", "the action can't be in product_id if the product id is in product_id"),
    ] {
        let message = start("count-clicks", &with(name, value));
        assert!(message.contains(&format!("{name} is")) && message.contains(problem), "{message}");
    }
    let message = start("rank-products", &with("TOP_N", "many"));
    assert!(message.contains("TOP_N") && message.contains("from 1 to 1000"), "{message}");
    let message = start("rank-products", &environment[..4]);
    assert!(message.contains("SNAPSHOTS_TABLE is not set"), "{message}");
    let message = start("read-board", &with("BOARD_ACCESS", "NONE"));
    assert!(message.contains("BOARD_ACCESS") && message.contains("give iam or public"), "{message}");
    let message = start("seed-clicks", &environment);
    assert!(message.contains("BROKERS is not set: set it to the brokers' addresses for IAM"), "{message}");
    let message = start("seed-clicks", &with("BROKERS", "b-1.shop"));
    assert!(message.contains("BROKERS is \"b-1.shop\": give addresses as host:port"), "{message}");
    let message = start("count-clicks", &environment[1..]);
    assert!(message.contains("AWS_REGION is not set"), "{message}");
}

#[test]
fn functions_do_not_depend_on_tools() {
    for (function, has_tables) in
        [("count-clicks", true), ("rank-products", true), ("read-board", true), ("seed-clicks", false)]
    {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--package", function, "--edges", "normal", "--prefix", "none"])
            .current_dir(repository(""))
            .output()
            .expect("cargo runs");
        let tree = String::from_utf8(output.stdout).expect("a tree is text");
        assert!(tree.starts_with(function), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(tree.contains("aws-sdk-dynamodb v"), has_tables, "{function}");
        // What only seed-clicks has.
        let of_seed = ["click-generator v", "kafka-protocol v", "msk-iam v", "rand v"];
        for name in of_seed {
            assert_eq!(tree.lines().any(|line| line.starts_with(name)), !has_tables, "{function} and {name}");
        }
        let tools = ["cost-model v", "hot v", "kafka v", "local-aws v", "simulator v", "terminal v"];
        let libraries_of_tools =
            ["aws-config", "clap", "comfy-table", "console", "dynoxide-rs", "indicatif", "rdkafka", "rusqlite"];
        // A function has one TLS stack: rustls on ring.
        let other_tls = ["aws-lc", "native-tls", "openssl-sys"];
        for other in tools.iter().chain(&libraries_of_tools).chain(&other_tls) {
            assert!(!tree.lines().any(|line| line.starts_with(other)), "{function} depends on {other}");
        }
    }
}
