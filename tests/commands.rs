//! The commands of `hot` that need no stack. Their results are compared with an independent group-by.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use hot_products_tests::{
    group_by::{self, Groups},
    process::{HotDynamoDb, hot},
    repository,
};
use serde_json::{Value, json};

fn run(args: &[&str]) -> Output {
    hot(args).stdin(Stdio::null()).output().expect("hot runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("output is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Generates events into a file.
fn generated(folder: &Path, args: &[&str]) -> PathBuf {
    let file = folder.join("events.jsonl");
    let output = run(&[&["generate", "--events", "6000", "--products", "150", "--minutes", "75"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    fs::write(&file, output.stdout).expect("a file can be written");
    file
}

fn lines(file: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(file).expect("the file is there");
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect()
}

fn group(file: &Path) -> Groups {
    group_by::group(lines(file).iter().map(Vec::as_slice))
}

fn replay(file: &Path, args: &[&str]) -> (Vec<Value>, Value, String) {
    let output = run(&[&["replay", file.to_str().expect("a Unicode path"), "--json"], args].concat());
    let text = stdout(&output);
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    let summary = lines.pop().expect("a summary")["summary"].clone();
    (lines, summary, stderr(&output))
}

/// Compares every number of a replay's output with the group-by. There is a window for each five-minute boundary, from the
/// first after the earliest event to the first after the latest.
fn assert_equals_group_by(snapshots: &[Value], groups: &Groups, top: usize) {
    const STEP: i64 = 300_000;
    let (earliest, latest) = groups.span.expect("events");
    let boundary_after = |time: i64| (time.div_euclid(STEP) + 1) * STEP;
    let ends: Vec<_> = (boundary_after(earliest)..=boundary_after(latest)).step_by(STEP as usize).collect();
    assert_eq!(snapshots.len(), ends.len());
    for (number, (snapshot, end)) in snapshots.iter().zip(ends).enumerate() {
        let time = |name: &str| {
            let text = snapshot[name].as_str().expect("a time");
            hot_products::UnixMillis::parse_rfc3339(text).expect("RFC 3339").0
        };
        assert_eq!((time("window_start"), time("window_end")), (end - 3_600_000, end));
        let (clicks, products, mut places) = group_by::hour(&groups.counts, end, top);
        if number == 0 {
            // The first snapshot has no previous one.
            for place in &mut places {
                place.3 = None;
            }
        }
        assert_eq!(snapshot["total_clicks"], clicks);
        assert_eq!(snapshot["distinct_products"], products);
        assert_eq!(snapshot["clicks_per_minute"], json!(group_by::minutes(&groups.counts, end)));
        let found: Vec<_> = snapshot["products"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|product| {
                let id = product["product_id"].as_str().expect("an id").to_owned();
                let whole = |name: &str| product[name].as_u64();
                (whole("rank").expect("a rank"), id, whole("clicks").expect("clicks"), whole("previous_rank"))
            })
            .collect();
        assert_eq!(found, places, "the window up to {end}");
    }
}

#[test]
fn snapshots_are_the_same_for_all_partitions_and_batch_sizes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = generated(folder.path(), &["--disorder", "45s"]);
    let groups = group(&file);
    let mut seen: Option<Vec<Value>> = None;
    for partitions in ["1", "4", "7"] {
        for batch_size in ["100", "10000"] {
            let (snapshots, summary, _) =
                replay(&file, &["--partitions", partitions, "--batch-size", batch_size, "--top", "20"]);
            assert_equals_group_by(&snapshots, &groups, 20);
            assert_eq!(summary["records"], groups.lines);
            assert_eq!((&summary["counted"], &summary["ignored"]), (&groups.clicks.into(), &groups.others.into()));
            let same: Vec<Value> = snapshots
                .into_iter()
                .map(|mut snapshot| {
                    let fields = snapshot.as_object_mut().expect("a snapshot");
                    let counted = fields.remove("counted_through").expect("how far each partition is counted");
                    assert!(
                        counted.as_object().is_some_and(|counted| counted.len() <= partitions.parse().unwrap_or(0))
                    );
                    snapshot
                })
                .collect();
            assert_eq!(*seen.get_or_insert_with(|| same.clone()), same);
        }
    }
}

#[test]
fn broken_lines_are_reported_and_all_other_clicks_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = generated(folder.path(), &["--bad-share", "0.05", "--seed", "5"]);
    let groups = group(&file);
    assert!(groups.broken > 200, "{} are broken", groups.broken);
    let (snapshots, summary, stderr) = replay(&file, &[]);
    assert_equals_group_by(&snapshots, &groups, 10);
    assert_eq!((&summary["counted"], &summary["rejected"]), (&groups.clicks.into(), &groups.broken.into()));

    let mut reported = 0;
    for line in stderr.lines() {
        // hot: 37 records not counted, not_json: first in line 12
        let words: Vec<_> = line.split_whitespace().collect();
        reported += words[1].parse::<u64>().expect("how many");
        let number: usize = words[words.len() - 1].parse().expect("a line");
        let text = &lines(&file)[number - 1];
        assert_eq!(group_by::group([text.as_slice()]).broken, 1, "line {number} is not broken");
    }
    assert_eq!(reported, groups.broken);
}

#[test]
fn a_late_event_is_stale_and_an_event_in_the_far_future_does_not_move_the_clock() {
    let event =
        |minute: i64| format!("{{\"event_time\":{},\"product_id\":\"p\",\"action\":\"click\"}}\n", minute * 60_000);
    let mut command = hot(["replay", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hot");
    // Events are stale after a day, 1,440 minutes.
    let input = [event(1_000), event(100_000_000), event(2_450), event(1_009), event(1_010)].concat();
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("hot reads");
    let output = child.wait_with_output().expect("hot ends");
    let text = stdout(&output);
    let summary: Value = serde_json::from_str(text.lines().last().expect("a summary")).expect("JSON");
    let summary = &summary["summary"];
    assert_eq!((&summary["counted"], &summary["stale"], &summary["rejected"]), (&3.into(), &1.into(), &1.into()));
    let report = stderr(&output);
    assert!(report.contains("1 records not counted, event_time_in_future: first in line 2"), "{report}");
    assert!(report.contains("1 records not counted, stale: first in line 4"), "{report}");
    assert_eq!(text.lines().count(), 292, "291 windows from 16:45 to 16:55 of the next day, and the summary");
}

#[test]
fn the_table_shows_the_totals_and_minutes_shows_the_clicks_of_each_minute() {
    let file = repository("events/clicks.jsonl");
    let groups = group(&file);
    let (snapshots, summary, _) = replay(&file, &[]);
    assert_equals_group_by(&snapshots, &groups, 10);
    assert!(groups.clicks >= 20_000 && summary["counted"] == groups.clicks);

    let text = stdout(&run(&["replay", file.to_str().expect("a path"), "--minutes"]));
    let last = snapshots.last().expect("a snapshot");
    for product in last["products"].as_array().expect("a list") {
        let (id, clicks) = (product["product_id"].as_str().expect("an id"), product["clicks"].to_string());
        let row = text.lines().find(|line| line.contains('█') && line.split_whitespace().any(|word| word == id));
        assert!(row.is_some_and(|row| row.split_whitespace().any(|word| word == clicks)), "{id} {clicks}");
    }
    assert!(text.contains(&format!("{} clicks on {} products", last["total_clicks"], last["distinct_products"])));

    let mut found = group_by::Counts::new();
    for line in text.lines().skip(1).take_while(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let clicks = words.next().and_then(|clicks| clicks.parse().ok()).expect("clicks");
        let end = hot_products::UnixMillis::parse_rfc3339(words.next().expect("a time")).expect("RFC 3339").0;
        let product = words.next().expect("a product").to_owned();
        found.entry(end - 60_000).or_default().insert(product, clicks);
    }
    assert_eq!(found, groups.counts);
}

/// The reader of a shape's events: time, product and action.
type Reader = fn(&Value) -> Option<(i64, String, String)>;

/// A shape of events: the options that say so, how to write an event of the default shape in it, and how to read it.
struct Shape {
    options: &'static [&'static str],
    write: fn(&Value) -> Value,
    read: Reader,
}

fn millis(event: &Value) -> i64 {
    event["event_time"].as_i64().expect("a time")
}

/// The product's number.
fn number(event: &Value) -> u64 {
    event["product_id"].as_str().and_then(|id| id.strip_prefix('p')?.parse().ok()).expect("a product such as p7")
}

const SHAPES: [Shape; 3] = [
    Shape {
        options: &[
            "--event-time-field=payload.ts",
            "--event-time-unit=s",
            "--product-field=payload.item_id",
            "--integer-product-ids",
            "--action-field=payload.behavior",
            "--counted-actions=pv,fav",
        ],
        write: |event| {
            let behavior = if event["action"] == "click" { ["pv", "fav"][(number(event) % 2) as usize] } else { "buy" };
            // Of one product, the id is an integer in some events and a string in others.
            let id = if millis(event) % 3 == 0 { json!(number(event).to_string()) } else { json!(number(event)) };
            json!({
                "source": "web-3",
                "payload": { "user": { "id": "u_1" }, "item_id": id, "behavior": behavior, "ts": millis(event) / 1000 },
                "ts": 7, "item_id": "x",
            })
        },
        read: |event| {
            let event = &event["payload"];
            let product = event["item_id"].as_str().map_or_else(|| event["item_id"].to_string(), str::to_owned);
            let action = if event["behavior"] == "buy" { "other" } else { "click" };
            Some((event["ts"].as_i64()? * 1000, product, action.to_owned()))
        },
    },
    Shape {
        options: &["--event-time-field=@timestamp", "--event-time-unit=rfc3339", "--action-field=none"],
        write: |event| {
            let time = chrono::DateTime::from_timestamp_millis(millis(event)).expect("a time");
            let time = time.with_timezone(&chrono::FixedOffset::east_opt(5_400).expect("an offset"));
            json!({ "@timestamp": time.to_rfc3339(), "product_id": event["product_id"], "action": 7 })
        },
        read: |event| {
            let time = chrono::DateTime::parse_from_rfc3339(event["@timestamp"].as_str()?).ok()?;
            Some((time.timestamp_millis(), event["product_id"].as_str()?.to_owned(), "click".to_owned()))
        },
    },
    Shape {
        options: &["--event-time-field=at", "--event-time-unit=us", "--product-field=item.id"],
        write: |event| {
            let micros = millis(event) * 1000 + 999;
            json!({ "at": micros, "item": { "id": event["product_id"] }, "action": event["action"] })
        },
        read: |event| {
            let product = event["item"]["id"].as_str()?.to_owned();
            Some((event["at"].as_i64()? / 1000, product, event["action"].as_str()?.to_owned()))
        },
    },
];

#[test]
fn events_of_other_shapes_are_counted_as_a_group_by_counts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let usual = generated(folder.path(), &["--disorder", "45s"]);
    let events: Vec<Value> =
        lines(&usual).iter().map(|line| serde_json::from_slice(line).expect("an event is JSON")).collect();
    for Shape { options, write, read } in SHAPES {
        let file = folder.path().join("other.jsonl");
        let mut text: Vec<u8> = events.iter().flat_map(|event| format!("{}\n", write(event)).into_bytes()).collect();
        // Events of the default shape are rejected.
        let first = fs::read(&usual).expect("the file is there");
        let rejected = first.split_inclusive(|byte| *byte == b'\n').take(7).collect::<Vec<_>>().concat();
        text.extend(&rejected);
        fs::write(&file, text).expect("a file can be written");

        let groups = group_by::group_as(lines(&file).iter().map(Vec::as_slice), read);
        assert!(groups.clicks > 4_000 && groups.counts.values().flatten().count() > 1_000, "{}", groups.clicks);
        let (snapshots, summary, stderr) = replay(&file, &[&["--top", "20"][..], options].concat());
        assert_equals_group_by(&snapshots, &groups, 20);
        assert_eq!((&summary["records"], &summary["counted"]), (&6_007.into(), &groups.clicks.into()), "{options:?}");
        assert_eq!((&summary["ignored"], &summary["rejected"]), (&groups.others.into(), &7.into()), "{options:?}");
        assert!(stderr.contains("7 records not counted, missing_"), "{stderr}");
        assert!(stderr.contains("first in line 6001"), "{stderr}");
    }
}

#[test]
fn minutes_shows_every_minute_of_a_file_of_many_hours() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.jsonl");
    // Half an hour apart, so that the first minutes are long over at the end. They must still be shown.
    let event = |number: i64| {
        format!("{{\"event_time\":{},\"product_id\":\"p{number}\",\"action\":\"click\"}}\n", number * 1_800_000)
    };
    fs::write(&file, (0..8).map(event).collect::<String>()).expect("a file can be written");
    let (snapshots, summary, _) = replay(&file, &[]);
    assert_eq!(summary["counted"], 8);
    assert_equals_group_by(&snapshots, &group(&file), 10);
    let text = stdout(&run(&["replay", file.to_str().expect("a path"), "--minutes"]));
    assert_eq!(text.lines().skip(1).take_while(|line| !line.is_empty()).count(), 8, "{text}");
}

#[test]
fn an_empty_file_and_a_file_without_events_are_no_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, records) in [("", 0), ("\n", 1), ("nonsense\nmore", 2)] {
        let file = folder.path().join("events.jsonl");
        fs::write(&file, text).expect("a file can be written");
        let (snapshots, summary, _) = replay(&file, &[]);
        assert!(snapshots.is_empty());
        assert_eq!((&summary["records"], &summary["rejected"]), (&records.into(), &records.into()));
    }
}

#[test]
fn the_server_keeps_its_tables_in_a_folder_and_top_fails_without_a_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data = ["--data", data.to_str().expect("a path")];
    let server = HotDynamoDb::start(&data);
    let endpoint = server.endpoint().to_owned();
    let tables = |endpoint: &str, stack: &str| stdout(&run(&["tables", "--endpoint-url", endpoint, "--stack", stack]));
    assert_eq!(tables(&endpoint, "hot-products").matches("existing hot-products-").count(), 3);
    assert_eq!(tables(&endpoint, "other").matches("created other-").count(), 3);
    let output = run(&["top", "--endpoint-url", &endpoint]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no snapshot yet"), "{}", stderr(&output));
    let output = run(&["top", "--endpoint-url", &endpoint, "--stack", "nowhere"]);
    assert!(stderr(&output).contains("nowhere-snapshots"), "{}", stderr(&output));
    server.stop();

    let server = HotDynamoDb::start(&data);
    assert_eq!(tables(server.endpoint(), "other").matches("existing other-").count(), 3);
}

/// An audit that fails before it reaches a broker.
const AUDIT: [&str; 5] = ["audit", "--brokers", "127.0.0.1:1", "--topic", "clicks"];

const MEDIUM: [&str; 7] = ["cost", "--clicks-per-second", "1000", "--partitions", "12", "--products", "20000"];

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&run(args))).expect("JSON in one line")
}

#[test]
fn the_lines_of_a_bill_add_up_to_the_totals_in_the_table() {
    let bill = json(&[&MEDIUM[..], &["--json"]].concat());
    let amount = |row: &Value, way: usize| row[way].as_f64().expect("an amount");
    for way in 0..4 {
        let sum = |lines: &str| -> f64 {
            bill[lines].as_array().expect("lines").iter().map(|line| amount(&line["amounts"], way)).sum()
        };
        assert!((sum("lines") - amount(&bill["total"], way)).abs() < 1e-6);
        assert!((sum("lines") + sum("msk") - amount(&bill["total_with_msk"], way)).abs() < 1e-6);
        assert!((amount(&bill["factor"], way) * amount(&bill["total"], 0) - amount(&bill["total"], way)).abs() < 1e-6);
    }
    // One write unit per click: 1,000 per second for 730 hours at 0.625 per million.
    assert!((amount(&bill["lines"][0]["amounts"], 1) - 1_642.5).abs() < 1e-6, "{}", bill["lines"][0]);
    let table = stdout(&run(&MEDIUM));
    let total = table.lines().find(|line| line.starts_with(" total ")).expect("a total");
    let shown: Vec<f64> =
        total.split_whitespace().skip(1).map(|word| word.replace(',', "").parse().expect("an amount")).collect();
    assert!((0..4).all(|way| (shown[way] - amount(&bill["total"], way)).abs() < 0.51), "{total}");

    let window = json(&[&MEDIUM[..], &["--json", "--window", "5s", "--keyed-by", "user"]].concat());
    assert!(
        amount(&window["total"], 0) > amount(&bill["total"], 0),
        "small batches, and all products on all partitions, cost more"
    );
    let elsewhere = json(&[&MEDIUM[..], &["--json", "--region", "eu-central-1"]].concat());
    assert!(amount(&elsewhere["total"], 1) > amount(&bill["total"], 1));
    assert_eq!(elsewhere["estimate"], bill["estimate"], "only prices differ");
}

#[test]
fn a_load_exceeds_a_limit_if_it_is_above_the_load_at_which_the_limit_is_reached() {
    let report = json(&["scale", "--partitions", "200", "--keyed-by", "user", "--json"]);
    let limit = |limits: &Value, name: &str| {
        limits.as_array().expect("limits").iter().find(|limit| limit["limit"] == name).expect("the limit").clone()
    };
    for load in report["loads"].as_array().expect("loads") {
        let key = limit(&load["limits"], "hottest_key");
        assert_eq!(key["most"], 1_000.0);
        let exceeded = key["taken"].as_f64().expect("a number") > 1_000.0;
        let reached = limit(&report["topics"][0]["reached"], "hottest_key");
        let from = reached["clicks_per_second"].as_f64().expect("a load");
        assert_eq!(exceeded, load["load"]["clicks_per_second"].as_f64().expect("a load") > from);
    }
}

/// The row whose first cell is `first`, of the page's table of bills.
fn bill_row(page: &str, first: &str) -> Option<Vec<String>> {
    let page = fs::read_to_string(repository(page)).expect("the page");
    let row = page.lines().find(|line| line.starts_with(&format!("| {first} |")))?;
    Some(row.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect())
}

#[test]
fn the_documented_bills_are_what_the_command_prints() {
    let mut in_the_readme = 0;
    for (size, clicks, partitions, products) in
        [("small", "50", "3", "2000"), ("medium", "1000", "12", "20000"), ("large", "10000", "12", "100000")]
    {
        for keyed_by in ["product", "user"] {
            let table = stdout(&run(&[
                "cost",
                "--clicks-per-second",
                clicks,
                "--partitions",
                partitions,
                "--products",
                products,
                "--keyed-by",
                keyed_by,
            ]));
            let total = table.lines().find(|line| line.starts_with(" total ")).expect("a total");
            let shown: Vec<&str> = total.split_whitespace().skip(1).collect();
            let first = format!("{size}, by {keyed_by}");
            let row = bill_row("docs/cost.md", &first).expect("the row");
            assert_eq!(row[2..], shown, "{first}");
            if let Some(row) = bill_row("README.md", &first) {
                assert_eq!(row[2..], shown, "{first}, in the README");
                in_the_readme += 1;
            }
        }
    }
    assert!(in_the_readme >= 3, "the README has a bill of each size");
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    for (args, code, message) in [
        (&["replay", "/nowhere/events.jsonl"][..], 1, "can't open /nowhere/events.jsonl"),
        (&["replay", "/"], 1, "/ is a folder"),
        (&["replay", "-", "--top", "0"], 2, "give a whole number from 1 to 1000"),
        (&["replay", "-", "--settle", "soon"], 2, "--settle"),
        (&["replay", "-", "--json", "--minutes"], 2, "cannot be used with"),
        (&["replay", "-", "--event-time-unit", "ns"], 2, "give ms, s, us or rfc3339"),
        (&["replay", "-", "--action-field", "payload..type"], 2, "give the name of a field"),
        (
            &["replay", "-", "--event-time-field", "a", "--product-field", "a.id"],
            1,
            "the product id can't be in a.id if the event time is in a: give fields of which none is in another",
        ),
        (&[&AUDIT[..], &["--product-field", "action"]].concat(), 1, "the action can't be in action if the product id"),
        (&["generate", "--events", "1", "--products", "0", "--minutes", "1"], 2, "--products"),
        (&["generate", "--events", "1", "--products", "1", "--minutes", "1", "--zipf=-1"], 2, "--zipf"),
        (&["top", "--at", "yesterday"], 2, "RFC 3339"),
        (&["tables", "--endpoint-url", "http://127.0.0.1:1"], 1, "can't create the table"),
        (&[&MEDIUM[..], &["--region", "mars-north-1"]].concat(), 1, "there are those of eu-central-1, us-east-1"),
        (&[&MEDIUM[..], &["--window", "6m"]].concat(), 1, "longer than the 5m"),
        (&[&MEDIUM[..], &["--pollers", "13"]].concat(), 1, "13 pollers can't share 12 partitions"),
        (&[&MEDIUM[..], &["--keyed-by", "colour"]].concat(), 2, "possible values: product, user"),
        (&["cost", "--clicks-per-second", "0", "--partitions", "1", "--products", "1"], 2, "--clicks-per-second"),
        (&["cost", "--clicks-per-second", "NaN", "--partitions", "1", "--products", "1"], 2, "from 0.01 to 10000000"),
        (&["cost", "--clicks-per-second", "1"], 2, "--partitions"),
        (&["scale", "--shards", "8"], 2, "unexpected argument '--shards'"),
        (&["scale", "--partitions", "0"], 2, "--partitions"),
        (&["topic", "--brokers", "b:1", "--topic", "clicks", "--partition", "1"], 2, "--offset"),
        (&["topic", "--brokers", "b:1", "--topic", "clicks", "--partition", "1", "--offset=-2"], 2, "0.."),
        (&["audit", "--brokers", "b:1"], 2, "--topic"),
        (
            &[&AUDIT[..], &["--from", "2022-12-27T16:00:00Z", "--to", "2022-12-27T16:00:59Z"]].concat(),
            1,
            "do not contain a full minute",
        ),
        (&[&AUDIT[..], &["--to", "9022-12-27T16:00:00Z"]].concat(), 1, "in the future"),
        (&[&AUDIT[..], &["--minutes", "5", "--from", "2022-12-27T16:00:00Z"]].concat(), 2, "cannot be used with"),
        (&[&AUDIT[..], &["--retention", "25h"]].concat(), 1, "must exceed MAX_EVENT_AGE"),
        (&[&AUDIT[..], &["--max-lag", "25h"]].concat(), 1, "--max-lag must not exceed"),
        (&[], 2, "Usage"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{args:?}: {}", stderr(&output));
    }
    for command in ["generate", "replay", "dynamodb", "tables", "top", "doctor", "board", "demo", "cost", "scale"] {
        let help = stdout(&run(&[command, "--help"]));
        assert!(help.contains("Usage") && help.contains(&format!("  hot {command}")), "{help}");
    }
}

#[test]
fn without_the_aws_cli_the_doctor_says_what_to_install() {
    let args = ["doctor", "--endpoint-url", "http://127.0.0.1:1"];
    let output = hot(args).env("PATH", "/nowhere").stdin(Stdio::null()).output().expect("hot runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(stderr(&output).contains("`aws` is not on the path: install it, https://"), "{}", stderr(&output));
}

#[test]
fn help_teaches_the_first_steps_and_lists_the_commands_that_need_kafka() {
    let help = stdout(&run(&["--help"]));
    for text in ["hot demo\n", "hot replay clicks.jsonl\n", "hot top --watch\n"] {
        assert!(help.contains(text), "{help}");
    }
    // `cargo test` builds them. Tests of the crate `hot` show what a build without them says.
    for command in ["audit", "kafka", "produce", "topic"] {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(command)), "{help}");
        let output = run(&[command]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("--brokers"), "{}", stderr(&output));
    }
    assert!(!help.contains("not in this build"), "{help}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut command = hot(["generate", "--events", "1000000", "--products", "5", "--minutes", "5"]);
    let mut hot = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hot runs");
    drop(hot.stdout.take());
    let output = hot.wait_with_output().expect("hot ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let server = HotDynamoDb::start(&[]);
    let port = server.endpoint().rsplit(':').next().expect("a port");
    let output = run(&["dynamodb", "--port", port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("can't listen on port {port}")), "{}", stderr(&output));
}
