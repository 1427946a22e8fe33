//! The commands of `hot` that read a stack, on tables that the real handlers have filled: what they print equals what was
//! counted, on a terminal and elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::TcpStream,
    ops::ControlFlow,
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use count_clicks::{CountClicks, CountSettings};
use hot_products::{
    Clock, EventShape, ManualClock, Reason, SystemClock, TopicPartition, UnixMillis, Window, rejects::BatchRejects,
    settings::Settings, store::RejectsTable, time::bound,
};
use hot_products_tests::process::{HotDynamoDb, Process, Terminal, free_port, hot, wait_for};
use local_aws::{
    msk, tables,
    template::{self, DEFAULT_STACK, TEMPLATE, TableNames},
};
use rank_products::{RankProducts, RankSettings, Request};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

const MINUTE: i64 = 60_000;

/// 2022-12-27T16:50:00Z.
const PAST: UnixMillis = UnixMillis(1_672_159_800_000);

/// `hot dynamodb`, and the functions that use it.
struct Stack {
    server: HotDynamoDb,
    client: Client,
    clock: Arc<ManualClock>,
    count: CountClicks,
    rank: RankProducts,
    /// The next offset of each partition.
    offsets: HashMap<u32, i64>,
}

impl Stack {
    fn start() -> Self {
        let server = HotDynamoDb::start(&[]);
        let client = tables::client_for(server.endpoint());
        let names = TableNames::of(DEFAULT_STACK);
        let settings = Settings::from([
            ("COUNTERS_TABLE", names.counters.as_str()),
            ("REJECTS_TABLE", &names.rejects),
            ("SNAPSHOTS_TABLE", &names.snapshots),
            ("TOP_N", "3"),
        ]);
        let clock = Arc::new(ManualClock::at(PAST));
        let count_settings = CountSettings::read(&settings).expect("good settings");
        let rank_settings = RankSettings::read(&settings).expect("good settings");
        Self {
            count: CountClicks::new(client.clone(), count_settings, clock.clone()),
            rank: RankProducts::new(client.clone(), rank_settings, clock.clone()),
            server,
            client,
            clock,
            offsets: HashMap::new(),
        }
    }

    /// Delivers a batch of `values` from one partition to count-clicks.
    async fn deliver(&mut self, partition: u32, values: impl IntoIterator<Item = String>) {
        let now = self.clock.now();
        let offset = self.offsets.entry(partition).or_default();
        let records = values.into_iter().map(|value| {
            *offset += 1;
            msk::record(
                msk::Position { topic: "clicks", partition, offset: *offset - 1 },
                now,
                None,
                Some(value.as_bytes()),
            )
        });
        let event = msk::event(HashMap::from([(format!("clicks-{partition}"), records.collect())]));
        let event = serde_json::to_string(&event).expect("an event is JSON");
        let (_, result) = self.count.handle(&event, now.plus(Duration::from_mins(1))).await;
        result.expect("the batch is counted");
    }

    /// Ranks the last window that has ended by the clock.
    async fn rank(&self) {
        self.rank_window(Window::ended_by(self.clock.now())).await;
    }

    /// Ranks a past window.
    async fn rank_window(&self, window: Window) {
        let request = Request { window_end: Some(bound(window.end())), scheduled_time: None };
        self.rank.handle(&request, UnixMillis(i64::MAX)).await.expect("the window is ranked");
    }

    fn hot(&self, args: &[&str]) -> Command {
        hot(args.iter().copied().chain(["--endpoint-url", self.server.endpoint()]))
    }

    fn run(&self, args: &[&str]) -> Output {
        run(self.hot(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = stdout(&self.run(&[args, &["--json"]].concat()));
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().expect("hot runs")
}

/// The output of a command that has succeeded. It is not a terminal, so it has no colours.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    let text = String::from_utf8(output.stdout.clone()).expect("output is text");
    assert!(!text.contains('\u{1b}'), "{text}");
    text
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn click(time: UnixMillis, product: &str) -> String {
    json!({ "event_time": time.0, "product_id": product, "action": "click", "user_id": "u_1" }).to_string()
}

/// `count` clicks on `product`, `back` minutes before `end`.
fn clicks(end: UnixMillis, back: i64, product: &str, count: usize) -> Vec<String> {
    vec![click(UnixMillis(end.0 - back * MINUTE), product); count]
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn product_shows_the_clicks_that_were_counted_in_each_minute() {
    let mut stack = Stack::start();
    let id = "p \u{1b}[31m/é";
    let expected: BTreeMap<i64, usize> = [(60, 3), (31, 1), (30, 16), (1, 8)].into();
    for (back, count) in &expected {
        // From two topic partitions, one of which has clicks on another product too.
        stack.deliver(0, clicks(PAST, *back, id, count / 2)).await;
        stack.deliver(1, clicks(PAST, *back, id, count - count / 2).into_iter().chain([click(PAST, "p2")])).await;
    }
    let at = ["--at", "2022-12-27T16:50:59Z"];
    let found = stack.json(&[&["product", id][..], &at].concat());
    assert_eq!(found["product_id"], id);
    assert_eq!((&found["from"], &found["to"]), (&"2022-12-27T15:50:00Z".into(), &"2022-12-27T16:50:00Z".into()));
    assert_eq!(found["total_clicks"], 28);
    let minutes: Vec<Value> = (1..=60)
        .rev()
        .map(|back| {
            let minute = bound(UnixMillis(PAST.0 - back * MINUTE));
            json!({ "minute": minute, "clicks": expected.get(&back).unwrap_or(&0) })
        })
        .collect();
    assert_eq!(found["minutes"], Value::from(minutes));

    let text = stdout(&stack.run(&[&["product", id][..], &at].concat()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], r"Clicks on p \u{1b}[31m/é, 2022-12-27 15:50 – 16:50 UTC");
    let sparkline: Vec<char> = lines[1].chars().collect();
    assert_eq!((sparkline.len(), sparkline[0], sparkline[29], sparkline[30], sparkline[59]), (60, '▂', '▁', '█', '▄'));
    assert!(lines.iter().any(|line| words(line) == ["16:20", "16", &"█".repeat(24)]), "{text}");
    assert!(lines.iter().any(|line| words(line) == ["16:21", "0"]), "{text}");
    assert!(text.contains("28 clicks in 1h; at most 16 in a minute\n"), "{text}");

    assert_eq!(stack.json(&[&["product", id, "--minutes", "1"][..], &at].concat())["total_clicks"], 8);
    let day = stdout(&stack.run(&[&["product", id, "--minutes", "1440"][..], &at].concat()));
    assert!(day.contains("  20 minutes a column\n") && day.contains("28 clicks in 1day;"), "{day}");
    let nothing = stdout(&stack.run(&["product", "p9"]));
    assert!(nothing.ends_with("no clicks in 1h\n\n"), "{nothing}");
}

#[tokio::test]
async fn watch_shows_each_snapshot_once_and_uses_colours_only_on_a_terminal() {
    let mut stack = Stack::start();
    let folder = tempfile::tempdir().expect("a folder");
    let watch = |name: &str, args: &[&str]| {
        Process::start(name, &stack.hot(&[&["top", "--watch"], args].concat()), &folder.path().join(name))
    };
    // They start before the first snapshot.
    let (people, mut programs) = (watch("people", &[]), watch("programs", &["--json"]));
    wait_for("both to wait for a snapshot", || {
        let waiting = |process: &Process| process.said().contains("there is no snapshot yet");
        (waiting(&people) && waiting(&programs)).then_some(())
    });
    let snapshots = |process: &Process| -> Vec<Value> {
        process.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };

    let values = [clicks(PAST, 9, "p1", 3), clicks(PAST, 9, "p2", 2), clicks(PAST, 9, "p3", 1)].concat();
    stack.deliver(0, values).await;
    stack.rank().await;
    let first = stack.json(&["top"]);
    assert_eq!((&first["total_clicks"], &first["distinct_products"]), (&6.into(), &3.into()));
    wait_for("both to see the first", || {
        (people.said().contains("6 clicks on 3 products") && snapshots(&programs) == [first.clone()]).then_some(())
    });
    let terminal = Terminal::start(&stack.hot(&["top", "--watch"]));
    wait_for("a terminal to show the first", || terminal.said().contains("6 clicks on 3 products").then_some(()));

    stack.clock.set(UnixMillis(PAST.0 + 5 * MINUTE));
    stack.deliver(0, [clicks(PAST, 2, "p2", 4), clicks(PAST, 2, "p4", 2)].concat()).await;
    stack.rank().await;
    let second = stack.json(&["top"]);
    assert_eq!(second["total_clicks"], 12);
    wait_for("all to see the second", || {
        let seen = people.said().contains("12 clicks on 4 products") && snapshots(&programs).len() == 2;
        (seen && terminal.said().contains("12 clicks on 4 products")).then_some(())
    });
    assert_eq!(snapshots(&programs), [first.clone(), second]);
    assert_eq!(stack.json(&["top", "--at", "2022-12-27T16:54:59Z"]), first);

    let said = people.said();
    assert_eq!(said.matches("Hot products, ").count(), 2, "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    let rows: Vec<Vec<&str>> = said.lines().skip_while(|line| !line.contains("15:55")).map(words).collect();
    assert!(rows.contains(&vec!["1", "▲1", "p2", "6", &"█".repeat(24)]), "{said}");
    assert!(rows.contains(&vec!["2", "▼1", "p1", "3", &"█".repeat(12)]), "{said}");
    assert!(rows.contains(&vec!["3", "new", "p4", "2", &"█".repeat(8)]), "{said}");

    terminal.interrupt();
    let (status, said) = terminal.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.matches("\u{1b}[2J").count() >= 2, "{said:?}");
    assert!(said.contains("Overdue") && said.contains("the next was due at 2022-12-27T16:56:10Z"), "{said:?}");
    people.stop();
    programs.kill();

    // Without --watch, on a terminal: with and without colours.
    let (status, coloured) = Terminal::start(&stack.hot(&["top"])).end();
    assert!(status.success() && coloured.contains("\u{1b}[") && !coloured.contains("\u{1b}[2J"), "{coloured:?}");
    for args in [&["top"][..], &["status"], &["product", "p1"], &["rejects"]] {
        let mut command = stack.hot(args);
        command.env("NO_COLOR", "1");
        let (_, plain) = Terminal::start(&command).end();
        // The progress of a scan moves the cursor; that is not a colour.
        assert!(!plain.replace("\u{1b}[2K", "").replace("\u{1b}[1A", "").contains('\u{1b}'), "{args:?}: {plain:?}");
        assert!(plain.contains("─────") || plain.contains("no clicks") || plain.contains("0 records"), "{plain:?}");
    }
    let mut forced = stack.hot(&["top"]);
    forced.env("CLICOLOR_FORCE", "1");
    assert!(String::from_utf8_lossy(&run(forced).stdout).contains("\u{1b}["));
}

#[tokio::test]
async fn status_shows_fresh_or_overdue_and_how_far_each_source_is_counted() {
    let mut stack = Stack::start();
    let output = stack.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("No snapshot yet\n"), "{output:?}");
    assert!(stderr(&output).contains("there is no snapshot yet"), "{}", stderr(&output));

    // The last snapshot is an hour old.
    let now = SystemClock.now();
    stack.clock.set(UnixMillis(now.0 - 60 * MINUTE));
    stack.rank().await;
    let output = stack.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&status["fresh"], &status["newest"]["overdue"]), (&false.into(), &true.into()));
    assert!(stderr(&output).contains("is overdue"), "{}", stderr(&output));

    stack.clock.set(now);
    let minute = |back: i64| bound(UnixMillis((now.0 - back * MINUTE).div_euclid(MINUTE) * MINUTE));
    stack.deliver(0, clicks(now, 3, "p1", 2).into_iter().chain(clicks(now, 2, "p2", 1))).await;
    stack.deliver(1, clicks(now, 4, "p1", 1).into_iter().chain(["nonsense".to_owned(), "[]".to_owned()])).await;
    stack.deliver(7, clicks(now, 30, "p1", 1)).await;
    stack.rank().await;
    let newest = Window::ended_by(now);
    let status = stack.json(&["status"]);
    assert_eq!((&status["fresh"], &status["newest"]["overdue"]), (&true.into(), &false.into()));
    assert_eq!(status["newest"]["window_end"], bound(newest.end()));
    assert_eq!(status["newest"]["next_due"], bound(newest.next().end().plus(Duration::from_secs(70))));
    let sources = json!([
        { "source": "clicks-0", "last_offset": 2, "newest_minute": minute(2) },
        { "source": "clicks-1", "last_offset": 0, "newest_minute": minute(4) },
    ]);
    let mut found = status["sources"].clone();
    for source in found.as_array_mut().expect("a list") {
        let behind = source.as_object_mut().expect("a source").remove("behind_seconds");
        assert!(behind.is_some_and(|behind| behind.as_u64().is_some_and(|behind| behind >= 60)));
    }
    assert_eq!(found, sources);
    assert_eq!(status["rejected"]["by_reason"], json!({ "not_json": 1, "not_an_object": 1 }));
    assert_eq!((&status["rejected"]["records"], &status["rejected"]["complete"]), (&2.into(), &true.into()));
    let windows = status["windows"].as_array().expect("a list");
    assert_eq!((windows.len(), &windows[0]["window_end"]), (6, &bound(newest.end()).into()));
    assert_eq!(windows[0]["total_clicks"], stack.json(&["top"])["total_clicks"]);
    assert_eq!(windows[1], json!({ "window_end": bound(newest.previous().end()) }));
    assert_eq!(stack.json(&["status", "--minutes", "40"])["sources"][2]["source"], "clicks-7");

    let text = stdout(&stack.run(&["status"]));
    assert!(text.starts_with("Fresh: the newest snapshot, of "), "{text}");
    let rows: Vec<Vec<&str>> = text.lines().map(words).collect();
    assert!(rows.iter().any(|row| row.starts_with(&["clicks-0", "2", &minute(2)])), "{text}");
    assert!(rows.iter().any(|row| row.contains(&"snapshot") && row.starts_with(&[&bound(newest.previous().end())])));
    assert!(text.contains("2 records: 1 not_an_object, 1 not_json\n"), "{text}");

    // Without a readable table of rejected events, the rest is shown all the same.
    for table in template::tables(TEMPLATE, "half").expect("a template") {
        if table.name != TableNames::of("half").rejects {
            tables::create(&stack.client, &table).await.expect("a table");
        }
    }
    let output = stack.run(&["status", "--stack", "half", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(status["rejected"]["error"].as_str().is_some_and(|error| error.contains("half-rejected-events")));
}

#[tokio::test]
async fn status_fails_for_a_partition_that_is_quiet_or_behind_for_longer_than_asked() {
    let mut stack = Stack::start();
    let now = SystemClock.now();
    stack.clock.set(now);
    stack.rank().await;
    let output = stack.run(&["status", "--max-behind", "10m"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("name no topic partition with counted clicks"), "{}", stderr(&output));

    let newest = Window::ended_by(now);
    let end = newest.end();
    stack.deliver(0, clicks(end, 1, "p1", 2)).await;
    stack.deliver(7, clicks(end, 30, "p1", 1)).await;
    // Known from the snapshot of the hour before. The other one has had no clicks for more than two hours.
    stack.deliver(5, clicks(end, 70, "p1", 1)).await;
    stack.deliver(6, clicks(end, 130, "p1", 1)).await;
    for window in [Window::ended_by(newest.start()), newest] {
        stack.rank_window(window).await;
    }
    let since = |back: i64| UnixMillis(end.0 - back * MINUTE).utc().format("%H:%M").to_string();
    let behind_7 = format!("clicks-7: nothing counted since {}, quiet or behind", since(29));
    let behind_5 = format!("clicks-5: nothing counted since {}, quiet or behind", since(69));
    for (longest, behind) in [
        ("10m", format!("more than 10m before the newest window's end: {behind_5}; {behind_7}\n")),
        ("28m", format!("more than 28m before the newest window's end: {behind_5}; {behind_7}\n")),
        // Exactly as long ago is not longer.
        ("29m", format!("more than 29m before the newest window's end: {behind_5}\n")),
    ] {
        for json in [&[][..], &["--json"]] {
            let output = stack.run(&[&["status", "--max-behind", longest], json].concat());
            assert_eq!(output.status.code(), Some(1), "{longest}");
            assert!(stderr(&output).ends_with(&behind), "{longest}: {}", stderr(&output));
            assert!(!output.stdout.is_empty(), "the status is printed all the same");
        }
    }
    assert!(stack.run(&["status"]).status.success(), "only if it is asked");

    // The one that has been silent for an hour clicks again.
    stack.deliver(5, clicks(end, 2, "p2", 3)).await;
    stack.rank_window(newest).await;
    let text = stdout(&stack.run(&["status", "--max-behind", "29m"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1..3], ["May still grow: late clicks can join", &behind_7], "{text}");
    assert!(!text.contains("clicks-5: nothing") && !text.contains("clicks-0: nothing"), "{text}");
    assert_eq!(stack.run(&["status", "--max-behind", "28m"]).status.code(), Some(1));

    let status = stack.json(&["status"]);
    let counted = |source: &str, back: i64| {
        let minute = bound(UnixMillis(end.0 - back * MINUTE));
        json!({ "source": source, "newest_minute": minute, "quiet_seconds": (back - 1) * 60 })
    };
    let expected = json!([counted("clicks-0", 1), counted("clicks-5", 2), counted("clicks-7", 30)]);
    assert_eq!(status["counted_through"], expected);
    assert_eq!((&status["newest"]["final"], &status["windows"][0]["final"]), (&false.into(), &false.into()));
}

#[tokio::test]
async fn top_says_whether_a_snapshot_is_final_and_which_partitions_are_quiet_or_behind() {
    let mut stack = Stack::start();
    let window = Window::ended_by(PAST);
    stack.deliver(3, clicks(PAST, 28, "p1", 2)).await;
    stack.deliver(0, clicks(PAST, 6, "p1", 1)).await;
    stack.rank().await;
    let text = stdout(&stack.run(&["top"]));
    let end = "May still grow: late clicks can join\nclicks-3: nothing counted since 16:23, quiet or behind\n\n";
    assert!(text.ends_with(end), "{text}");
    let top = stack.json(&["top"]);
    assert_eq!(top["final"], false);
    let counted = json!({ "clicks-0": "2022-12-27T16:44:00Z", "clicks-3": "2022-12-27T16:22:00Z" });
    assert_eq!(top["counted_through"], counted);

    // A day and the margin later no click can join it.
    for (after, is_final) in [(24 * 60 + 9, false), (24 * 60 + 10, true)] {
        stack.clock.set(UnixMillis(PAST.0 + after * MINUTE));
        stack.rank_window(window).await;
        let at = ["top", "--at", "2022-12-27T16:50:00Z"];
        assert_eq!(stack.json(&at)["final"], is_final, "after {after} minutes");
        let line =
            if is_final { "\nFinal: no more clicks can join\n" } else { "\nMay still grow: late clicks can join\n" };
        let text = stdout(&stack.run(&at));
        assert!(text.contains(line) && text.contains("clicks-3: nothing counted since 16:23"), "{text}");
    }
}

#[tokio::test]
async fn rejects_are_listed_by_source_and_reason_with_samples_that_are_safe_on_a_terminal() {
    let mut stack = Stack::start();
    let now = SystemClock.now();
    stack.clock.set(now);
    let text = stdout(&stack.run(&["rejects"]));
    assert!(text.contains("0 records in 0 batches"), "{text}");

    let hostile = r#"{"user_id":"u_4711","event_time":"x","product_id":"[31m"}"#.replace('[', "\u{1b}[");
    let escaped = hostile.replace('\u{1b}', "\\u001b\\u009b\\u202e");
    let values = [vec!["a\u{9b}\u{202e}b".to_owned()], clicks(now, 1, "p1", 2), vec![hostile; 3], vec![escaped]];
    stack.deliver(0, values.concat()).await;
    stack.deliver(1, vec!["nonsense".to_owned(); 4]).await;
    stack.deliver(1, vec!["nonsense".to_owned(); 5]).await;
    // Redelivered in batches that are cut elsewhere.
    for (offset, records) in [(2, 5), (0, 4), (4, 2)] {
        stack.offsets.insert(1, offset);
        stack.deliver(1, vec!["nonsense".to_owned(); records]).await;
    }
    let text = stdout(&stack.run(&["rejects", "--since", "1h"]));
    let rows: Vec<Vec<&str>> = text.lines().map(words).collect();
    for row in [
        ["clicks-0", "not_json", "4", "1", "0,", "3,", "4,", "…"],
        ["clicks-1", "not_json", "9", "3", "0,", "1,", "2,", "…"],
    ] {
        assert!(rows.iter().any(|found| found.starts_with(&row)), "{row:?}: {text}");
    }
    assert!(text.contains("14 records in 4 batches; 4 items read with"), "{text}");
    let shown = r#"json_object of 75 bytes: event_time "x", product_id "\u{1b}\u{9b}\u{202e}[31m", user_id (string)"#;
    assert!(text.contains(shown) && text.contains("text of 8 bytes, hash "), "{text}");
    assert!(
        !text.contains("4711") && !text.contains("nonsense") && !text.contains('\u{9b}') && !text.contains('\u{202e}'),
        "{text}"
    );

    let lines = stdout(&stack.run(&["rejects", "--json"]));
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let summary = lines.pop().expect("a summary")["summary"].clone();
    assert_eq!((&summary["records"], &summary["batches"], &summary["scanned"]), (&14.into(), &4.into(), &4.into()));
    assert_eq!(summary["by_source_and_reason"][2]["first_offsets"], json!([0, 1, 2]));
    let status = stack.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(
        status["rejected"]["by_reason"],
        json!({ "mistyped_event_time": 1, "not_json": 13 }),
        "each record once"
    );
    lines.sort_by_key(|line| (line["source"].to_string(), line["first_offset"].as_i64()));
    let offsets = json!({ "not_json": [0, 3, 4, 5], "mistyped_event_time": [6] });
    assert_eq!((&lines[0]["offsets"], &lines[0]["rejected"]), (&offsets, &5.into()));
    assert_eq!(lines[1]["offsets"], json!({ "not_json": [0, 1, 2, 3] }));
    assert_eq!(lines[2]["offsets"], json!({ "not_json": [2, 3, 4, 5, 6] }));
    let hash = format!("{:016x}", xxh3_64(b"nonsense"));
    let sample = json!({ "offset": 4, "reason": "not_json", "content": "text", "bytes": 8, "hash": hash });
    assert_eq!((&lines[3]["first_offset"], &lines[3]["samples"][0]), (&4.into(), &sample));

    let later = bound(now.plus(Duration::from_mins(1)));
    let none = stdout(&stack.run(&["rejects", "--since", &later]));
    assert!(none.contains("0 records in 0 batches; 4 items read"), "{none}");

    // More than one page: all pages are read, unless the caller stops.
    let table = RejectsTable::new(stack.client.clone(), TableNames::of(DEFAULT_STACK).rejects);
    let (mut rejects, shape) = (BatchRejects::default(), EventShape::default());
    for offset in 0..5 {
        rejects.push(offset, Reason::NotJson, Some(&[b'x'; 1024]), &shape);
    }
    for offset in 5..1_000 {
        rejects.push(offset, Reason::NotJson, None, &shape);
    }
    for number in 0..300 {
        let source = TopicPartition::new(&format!("many-{number}"), None);
        table.put(&source, &rejects, now, Duration::from_hours(1)).await.expect("the rejects are stored");
    }
    let (mut pages, mut found) = (0, 0);
    let all = table.since(now, |page| {
        pages += 1;
        found += page.batches.len();
        ControlFlow::Continue(())
    });
    assert!(all.await.expect("the table is read") && pages > 1 && found == 304, "{found} in {pages} pages");
    assert!(!table.since(now, |_| ControlFlow::Break(())).await.expect("the table is read"));
    let text = stdout(&stack.run(&["rejects", "--json"]));
    assert_eq!(text.lines().count(), 305);
}

#[test]
fn errors_of_tables_and_arguments_say_what_to_do() {
    let server = HotDynamoDb::start(&[]);
    let nowhere = ["--stack", "nowhere", "--endpoint-url", server.endpoint()];
    for command in [&["top"][..], &["top", "--watch"], &["product", "p1"], &["status"], &["rejects"]] {
        let output = run(hot(command.iter().copied().chain(nowhere)));
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let message = stderr(&output);
        assert!(message.contains("there is no such table; --stack names") && message.contains("nowhere-"), "{message}");

        let message = stderr(&run(hot(command)));
        assert!(message.contains("give AWS credentials, or --endpoint-url"), "{command:?}: {message}");
        let mut command = hot(command);
        command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        let message = stderr(&run(command));
        assert!(message.contains("set AWS_REGION"), "{message}");
    }
    for (args, message) in [
        (&["product", ""][..], "give an id of 1 to 256 bytes"),
        (&["product", "p1", "--minutes", "0"], "--minutes"),
        (&["product", "p1", "--minutes", "1441"], "--minutes"),
        (&["product", "p1", "--at", "noon"], "RFC 3339"),
        (&["status", "--minutes", "0"], "--minutes"),
        (&["status", "--max-behind", "2h"], "give a duration from 1m to 1h"),
        (&["rejects", "--since", "yesterday"], "give a time such as"),
        (&["top", "--watch", "--at", "2022-12-27T16:50:00Z"], "cannot be used with"),
        (&["completions", "tcsh"], "possible values: bash"),
    ] {
        let output = run(hot(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(message), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn tables_and_servers_print_json_for_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let command = hot(["dynamodb", "--port", "0", "--json"]);
    let server = Process::start("hot dynamodb --json", &command, &folder.path().join("log"));
    let start: Value = wait_for("the server's line", || serde_json::from_str(&server.said()).ok());
    let names = TableNames::of(DEFAULT_STACK);
    let mut found: Vec<&str> = start["tables"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, [&names.counters, &names.rejects, &names.snapshots]);
    assert_eq!(start["data"], Value::Null);
    let endpoint = start["endpoint"].as_str().expect("an endpoint");
    for created in [true, false] {
        let text = stdout(&run(hot(["tables", "--json", "--stack", "other", "--endpoint-url", endpoint])));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line["created"] == created), "{text}");
        assert!(lines.iter().any(|line| line["table"] == "other-snapshots"), "{text}");
    }
    let board = hot(["board", "--port", "0", "--json", "--endpoint-url", endpoint]);
    let board = Process::start("hot board --json", &board, &folder.path().join("board"));
    let start: Value = wait_for("the board's line", || serde_json::from_str(&board.said()).ok());
    assert!(start["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{start}");
    assert_eq!((&start["stack"], &start["endpoint"]), (&DEFAULT_STACK.into(), &endpoint.into()));
    board.stop();
    server.stop();
    let generate = ["generate", "--events", "9", "--products", "2", "--minutes", "3"];
    assert_eq!(stdout(&run(hot(generate))), stdout(&run(hot(generate.iter().chain(&["--json"])))));
}

#[test]
fn a_second_signal_ends_at_once_a_command_that_has_not_stopped_after_the_first() {
    let port = free_port();
    // Two hours of a shop with a thousand clicks per second: it simulates them before it looks at signals.
    let busy = ["demo", "--port", &port.to_string(), "--clicks-per-second", "1000", "--products", "100000"];
    let terminal = Terminal::start(&hot(busy));
    let runs = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait_for("hot demo to listen", || runs().then_some(()));
    terminal.interrupt();
    thread::sleep(Duration::from_millis(500));
    assert!(runs(), "the first signal has ended it: {}", terminal.said());
    // More than once: the system delivers two signals as one if the first was not handled yet.
    wait_for("hot demo to end", || {
        terminal.interrupt();
        (!runs()).then_some(())
    });
    let (status, said) = terminal.end();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(!said.contains("Hot products on"), "it ended by itself: {said}");
}

/// The commands in `hot --help`.
fn commands() -> Vec<String> {
    let help = stdout(&run(hot(["--help"])));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<String> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| words(line)[0].to_owned())
        .collect();
    assert!(commands.contains(&"rejects".to_owned()), "{help}");
    commands.into_iter().filter(|command| command != "help").collect()
}

#[test]
fn a_shell_completes_every_command_and_option() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&run(hot(["completions", shell])));
        for word in commands().iter().map(String::as_str).chain(["watch", "since", "endpoint-url"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
        if shell == "bash" {
            let file = folder.path().join("hot");
            fs::write(&file, &script).expect("a file can be written");
            // The completion of `hot rejects --si`.
            let tab = "source \"$1\" && COMP_WORDS=(hot rejects --si) COMP_CWORD=2 && _hot hot --si rejects && \
                       echo \"${COMPREPLY[@]}\"";
            let completed = Command::new("bash").args(["-c", tab, "bash"]).arg(&file).output().expect("bash runs");
            assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "--since", "{completed:?}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_hot_and_for_each_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    let written = stdout(&run(hot(["man", "--dir", pages.to_str().expect("a path")])));
    let mut names: Vec<String> = commands().iter().map(|command| format!("hot-{command}.1")).collect();
    names.insert(0, "hot.1".to_owned());
    let all = stdout(&run(hot(["man"])));
    assert_eq!(written.lines().count(), names.len());
    for name in names {
        let page = fs::read_to_string(pages.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let title = format!(".TH {} 1 ", name.trim_end_matches(".1"));
        assert!(page.contains(&title), "{name}: {page}");
        for section in [".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH OPTIONS\n"] {
            assert!(page.contains(section), "{name} has no {section}");
        }
        assert!(all.contains(page.trim_end()), "{name} is missing where all are printed");
    }
}
