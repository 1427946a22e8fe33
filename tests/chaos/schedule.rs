//! A schedule: the records, deliveries and faults of one seed, and the check of the counters afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use bytes::Bytes;
use hot_products::{
    Clock, Minute, SystemClock, UnixMillis, Window,
    store::{self, CallLimits, CountersTable},
};
use hot_products_tests::group_by::{Counts, group};
use local_aws::{
    embedded::Embedded,
    tables::{local_credentials, local_region},
    template::{self, DEFAULT_STACK, TEMPLATE},
};
use rand::{RngExt, seq::SliceRandom};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use super::{
    capacity::Ceiling,
    dice::{chance, dice},
    kafka::{Delivery, Group, Kafka, Load, MINUTES},
    lambda::{Ended, Function},
    proxy::{Proxy, Rates, Running, Setup, Turn},
    report::{Fault, Tally},
    versions::{Version, Versions},
};

/// An invocation's time, without what the function keeps for its response.
const AMPLE: Duration = Duration::from_secs(20);
/// The time that the function keeps for its response (`count_clicks::handler::ANSWER_TIME`).
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How many consecutive invocations of a poller may fail after the end of the faults: broken connections and an empty
/// retry budget can fail one or two each.
const MAX_FAILURES_WHEN_CALM: u32 = 25;
/// The percentage of notes that meet a fault: a delivery writes only one.
const RARE: u32 = 30;

/// What a schedule decides in advance.
#[derive(Debug)]
struct Plan {
    load: Load,
    partitions: u32,
    pollers: usize,
    rates: Rates,
    /// The write capacity of the counters table.
    ceiling: Option<Ceiling>,
    /// Whether each invocation has a new instance of the function.
    new_instances: bool,
    /// The percentage of invocations that are killed.
    kills: u32,
    /// The percentage of invocations with a rebalance during the invocation; half as many have one afterwards.
    rebalances: u32,
    /// The percentage of invocations with very little time.
    tight: u32,
    /// DynamoDB is unavailable from the first of these invocations until the second.
    outage: Option<(u64, u64)>,
    /// The faults end before this invocation.
    calm_after: u64,
    attempt_timeout_ms: u64,
    max_attempts: u32,
    write_concurrency: u32,
}

impl Plan {
    fn draw(seed: u64) -> Self {
        let mut dice = dice(seed, "plan");
        let load = match dice.random_range(0..100) {
            0..70 => Load::Light,
            70..81 => Load::Pieces,
            81..88 => Load::Chain,
            _ => Load::Full,
        };
        let requests: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| !matches!(fault, Fault::KillBefore | Fault::KillAfter)).collect();
        let rates = match dice.random_range(0..10) {
            // Only faults of Kafka's side.
            0 => Rates { rare_percent: RARE, ..Rates::default() },
            1..=3 => Rates {
                percent: dice.random_range(5..50),
                rare_percent: RARE,
                faults: vec![requests[dice.random_range(0..requests.len())]],
            },
            _ => {
                let mut faults = requests.clone();
                faults.shuffle(&mut dice);
                faults.truncate(dice.random_range(2..=requests.len()));
                Rates { percent: dice.random_range(5..40), rare_percent: RARE, faults }
            }
        };
        let overflow = matches!(load, Load::Chain | Load::Full);
        // It takes dozens of writes to fill an item, so fewer may fail, and the faults last longer.
        let rates = if overflow { Rates { percent: rates.percent.min(15), ..rates } } else { rates };
        let calm_after = match load {
            Load::Full => dice.random_range(90..130),
            Load::Chain => dice.random_range(35..60),
            Load::Light | Load::Pieces => dice.random_range(12..40),
        };
        let mut now_and_then = |percent, most| if chance(&mut dice, percent) { dice.random_range(10..most) } else { 0 };
        let kills = now_and_then(35, 40);
        // Redeliver what overflow items have counted.
        let rebalances = match load {
            Load::Full => 25,
            Load::Chain => 45,
            Load::Light | Load::Pieces => now_and_then(70, 50),
        };
        let tight = now_and_then(15, 30);
        let outage = chance(&mut dice, 20).then(|| {
            let away = dice.random_range(1..calm_after);
            (away, away + dice.random_range(2..12))
        });
        Self {
            load,
            partitions: if overflow { dice.random_range(1..=2) } else { dice.random_range(1..=4) },
            pollers: dice.random_range(1..=3),
            rates,
            kills,
            rebalances,
            tight,
            outage,
            calm_after,
            // The embedded DynamoDB is slow for an item of 400 KB.
            attempt_timeout_ms: if load == Load::Full {
                1500
            } else if overflow {
                900
            } else {
                350
            },
            max_attempts: if overflow { 4 } else { dice.random_range(1..=5) },
            write_concurrency: [1, 4, 16][dice.random_range(0..3)],
            ceiling: Self::draw_ceiling(seed).filter(|_| !overflow),
            new_instances: load == Load::Full,
        }
    }

    /// Some schedules have a ceiling that is lower than what a batch needs at once.
    fn draw_ceiling(seed: u64) -> Option<Ceiling> {
        let mut dice = dice(seed, "ceiling");
        chance(&mut dice, 30).then(|| Ceiling {
            table: table("bucket"),
            units_per_second: dice.random_range(3..40),
            burst: Duration::from_secs(if chance(&mut dice, 50) { 1 } else { 5 }),
        })
    }
}

/// The DynamoDB of the schedules.
#[derive(Clone, Debug)]
pub enum Engine {
    /// An embedded DynamoDB for each schedule.
    Embedded,
    /// One DynamoDB at this endpoint, which may contain other items. The second is the name of this run.
    At(String, String),
}

impl Engine {
    /// An embedded DynamoDB if the schedule has its own, the endpoint, and the name of the run.
    pub async fn open(&self) -> (Option<Embedded>, String, String) {
        match self {
            Self::Embedded => {
                let embedded = Embedded::start(0, None).await.expect("an embedded DynamoDB starts");
                let endpoint = embedded.endpoint();
                (Some(embedded), endpoint, "chaos".to_owned())
            }
            Self::At(endpoint, run) => (None, endpoint.clone(), run.clone()),
        }
    }
}

/// The result of a schedule.
#[derive(Debug)]
pub struct ScheduleResult {
    /// Its counters.
    pub tally: Tally,
    /// The errors that were found.
    pub wrong: Vec<String>,
}

struct Schedule {
    seed: u64,
    plan: Plan,
    kafka: Arc<Mutex<Kafka>>,
    /// Changes with every change of `kafka`.
    changed: watch::Sender<u64>,
    proxy: Arc<Proxy>,
    versions: Versions,
    /// The version that got the last batch of each partition.
    last_versions: Mutex<HashMap<usize, Version>>,
    invocations: Mutex<u64>,
    wrong: Mutex<Vec<String>>,
}

/// Runs the schedule `seed` with one or two versions of the functions.
pub async fn run(seed: u64, engine: &Engine, versions: Versions, verbose: bool) -> ScheduleResult {
    let (embedded, endpoint, run) = engine.open().await;
    let plan = Plan::draw(seed);
    // Whole minutes, neither too old nor too far ahead during the schedule.
    let now = SystemClock.now();
    let base = Minute::of(now.minus(Duration::from_hours(1))).start();
    let topic = format!("{run}-{seed}");
    let group = Group { load: plan.load, partitions: plan.partitions, pollers: plan.pollers };
    let kafka = Kafka::produce(seed, topic.clone(), base, group);
    let names = (0..MINUTES)
        .map(|minute| (minute_of(base, minute).to_string(), format!("minute {minute}")))
        .chain([(topic, "source".into())]);
    let kafka = Arc::new(Mutex::new(kafka));
    let changed = watch::Sender::new(0);
    let rebalance = {
        let (kafka, changed) = (Arc::clone(&kafka), changed.clone());
        Box::new(move |poller: usize| {
            let mut kafka = kafka.lock().expect("no panic");
            let moved = kafka.rebalance(poller);
            if let Some(moved) = moved.filter(|_| verbose) {
                println!("  poller {poller}: during its invocation, {moved}");
            }
            changed.send_modify(|changes| *changes += 1);
        })
    };
    let proxy = Proxy::new(Setup {
        seed,
        verbose,
        engine: endpoint.clone(),
        rates: plan.rates.clone(),
        ceiling: plan.ceiling.clone(),
        pollers: plan.pollers,
        names: names.collect(),
        rebalance,
    });
    proxy.log(|| format!("seed {seed}: {plan:#?}"));
    let schedule = Arc::new(Schedule {
        seed,
        plan,
        kafka,
        changed,
        proxy,
        versions,
        last_versions: Mutex::default(),
        invocations: Mutex::default(),
        wrong: Mutex::default(),
    });

    let pollers: Vec<_> =
        (0..schedule.plan.pollers).map(|poller| tokio::spawn(Arc::clone(&schedule).poll(poller))).collect();
    for poller in pollers {
        poller.await.expect("a poller does not panic");
    }
    schedule.proxy.finish().await;
    schedule.compare(&endpoint, base).await;
    if let Some(embedded) = embedded {
        // In other tables, other schedules have clicks of the same minutes.
        if schedule.versions.are_two() && !schedule.gave_up() {
            schedule.compare_rankings(&endpoint).await;
        }
        embedded.stop().await.expect("the embedded DynamoDB stops");
    }
    let mut tally = schedule.proxy.tally.lock().expect("no panic").clone();
    let kafka = schedule.kafka.lock().expect("no panic");
    tally.rebalances = kafka.moves;
    tally.records = kafka.sources.iter().map(|source| source.log.len() as u64).sum();
    let wrong = std::mem::take(&mut *schedule.wrong.lock().expect("no panic"));
    ScheduleResult { tally, wrong }
}

impl Schedule {
    /// A poller with its own function: delivers until everything is committed.
    async fn poll(self: Arc<Self>, poller: usize) {
        let (address, line) = self.proxy.open(poller);
        let settings = self.settings(&format!("http://{address}"));
        // An instance of each version.
        let mut functions: [Option<Function>; Version::ALL.len()] = Default::default();
        let mut failures_when_calm = 0;
        let mut changed = self.changed.subscribe();
        for number in 0.. {
            let batch = loop {
                changed.mark_unchanged();
                {
                    let mut kafka = self.kafka.lock().expect("no panic");
                    if kafka.is_done() || self.gave_up() {
                        break None;
                    }
                    if let Some(batch) = kafka.poll(poller) {
                        self.proxy.log(|| format!("poller {poller}: batch {number}: {}", kafka.describe(&batch)));
                        break Some(batch);
                    }
                }
                changed.changed().await.expect("the sender is ours");
            };
            let Some(batch) = batch else { break };
            self.begin_invocation();
            let calm = self.proxy.is_calm();
            if calm {
                // Otherwise invocations fail faster than DynamoDB becomes available.
                self.proxy.back().await;
            }
            let mut dice = dice(self.seed, format_args!("invocation {number} of poller {poller}"));
            let time = if !calm && chance(&mut dice, self.plan.tight) {
                Duration::from_millis(dice.random_range(1..200))
            } else {
                AMPLE
            };
            let turn_at = match dice.random_range(0..3) {
                0 => 0,
                1 => dice.random_range(0..8),
                _ => dice.random_range(0..30),
            };
            let turn = if calm {
                None
            } else if chance(&mut dice, self.plan.kills) {
                Some(Turn::Kill(if chance(&mut dice, 50) { Fault::KillBefore } else { Fault::KillAfter }))
            } else {
                chance(&mut dice, self.plan.rebalances).then_some(Turn::Rebalance)
            };
            let rebalance_after = !calm && chance(&mut dice, self.plan.rebalances / 2);
            let (kill, killed) = oneshot::channel();
            *self.proxy.running[poller].lock().expect("no panic") =
                Running { turn: turn.map(|turn| (turn_at, turn)), kill: Some(kill), ..Running::default() };
            let version = self.version(&batch, poller, number);
            let function = &mut functions[version as usize];
            if self.plan.new_instances
                && let Some(mut old) = function.take()
            {
                old.kill().await;
            }
            if function.as_mut().is_none_or(Function::is_gone) {
                self.count(|tally| tally.processes += 1);
                let binary = self.versions.binary(version, "count-clicks");
                *function = Some(Function::start(&binary, &settings, self.proxy.verbose).await);
            }
            let function = function.as_mut().expect("it was just started");
            let ended = function.invoke(Bytes::copy_from_slice(&batch.event), ANSWER_TIME + time, killed).await;

            self.proxy.log(|| format!("poller {poller}: batch {number} ended: {ended:?}"));
            let succeeded = self.judge(&ended, batch.records);
            self.count(|tally| {
                tally.batches += 1;
                tally.redelivered += batch.redelivered;
            });
            let mut kafka = self.kafka.lock().expect("no panic");
            kafka.ended(&batch, succeeded);
            if rebalance_after && let Some(moved) = kafka.rebalance(poller) {
                self.proxy.log(|| format!("poller {poller}: after its invocation, {moved}"));
            }
            drop(kafka);
            if succeeded || !calm {
                failures_when_calm = 0;
            } else {
                failures_when_calm += 1;
            }
            if failures_when_calm > MAX_FAILURES_WHEN_CALM {
                self.wrong(format!(
                    "blocked: {failures_when_calm} consecutive invocations failed without a fault: {ended:?}"
                ));
            }
            self.changed.send_modify(|changes| *changes += 1);
        }
        for mut function in functions.into_iter().flatten() {
            function.kill().await;
        }
        line.abort();
    }

    /// The version that gets `batch`, the invocation `number` of `poller`.
    fn version(&self, batch: &Delivery, poller: usize, number: u64) -> Version {
        let version = self.versions.of(self.seed, poller, number);
        if self.versions.are_two() {
            self.proxy.log(|| format!("poller {poller}: batch {number} goes to {version}"));
            let mut last = self.last_versions.lock().expect("no panic");
            let before: Vec<_> = batch.partitions().filter_map(|partition| last.insert(partition, version)).collect();
            self.count(|tally| {
                let batches = if version == Version::Present { &mut tally.by_present } else { &mut tally.by_previous };
                *batches += 1;
                tally.handovers += u64::from(before.into_iter().any(|before| before != version));
            });
        }
        version
    }

    fn settings(&self, endpoint: &str) -> Vec<(&'static str, String)> {
        let tables = [("COUNTERS_TABLE", table("bucket")), ("REJECTS_TABLE", table("first_offset"))];
        let attempt = self.plan.attempt_timeout_ms;
        tables
            .into_iter()
            .chain([
                ("AWS_ENDPOINT_URL_DYNAMODB", endpoint.to_owned()),
                ("DYNAMODB_CONNECT_TIMEOUT", "200ms".into()),
                ("DYNAMODB_ATTEMPT_TIMEOUT", format!("{attempt}ms")),
                ("DYNAMODB_OPERATION_TIMEOUT", format!("{}ms", 3 * attempt)),
                ("DYNAMODB_MAX_ATTEMPTS", self.plan.max_attempts.to_string()),
                ("DYNAMODB_MAX_BACKOFF", "20ms".into()),
                ("WRITE_CONCURRENCY", self.plan.write_concurrency.to_string()),
            ])
            .collect()
    }

    fn begin_invocation(&self) {
        let mut invocations = self.invocations.lock().expect("no panic");
        if let Some((away, back)) = self.plan.outage {
            // The outage ends with the faults at the latest.
            let back = back.min(self.plan.calm_after);
            if away < back && (*invocations == away || *invocations == back) {
                self.proxy.log(|| {
                    format!(
                        "DynamoDB {}",
                        if *invocations == away { "becomes unavailable" } else { "is available again" }
                    )
                });
                self.proxy.away(*invocations == away);
                self.count(|tally| tally.outages += u64::from(*invocations == away));
            }
        }
        if *invocations == self.plan.calm_after {
            self.proxy.log(|| "no more faults".into());
            self.proxy.calm();
        }
        *invocations += 1;
    }

    /// Whether the invocation succeeded. Checks its summary.
    fn judge(&self, ended: &Ended, records: u64) -> bool {
        match ended {
            Ended::Response(summary) => {
                let summary: Value = serde_json::from_slice(summary).unwrap_or_default();
                let figure = |name: &str| summary[name].as_u64().unwrap_or_default();
                let sum: u64 =
                    ["counted", "ignored", "stale", "rejected", "already_counted"].into_iter().map(figure).sum();
                if figure("records") != records || sum != records {
                    self.wrong(format!("wrong summary for {records} records: {summary}"));
                }
                true
            }
            Ended::Error(error) => {
                let out_of_time = error.windows(9).any(|text| text == b"OutOfTime");
                self.count(|tally| {
                    tally.failed += 1;
                    tally.out_of_time += u64::from(out_of_time);
                });
                false
            }
            Ended::Killed | Ended::TimedOut => {
                self.count(|tally| tally.killed += 1);
                false
            }
            Ended::Died(status) => {
                self.wrong(format!("the function exited: {status}"));
                false
            }
        }
    }

    /// Compares the tables with a group-by of the produced records.
    async fn compare(&self, endpoint: &str, base: UnixMillis) {
        let client =
            store::client(local_region(), local_credentials(), Some(endpoint.to_owned()), &CallLimits::default());
        let names: Vec<String> = {
            let kafka = self.kafka.lock().expect("no panic");
            kafka.sources.iter().map(|source| kafka.name(source)).collect()
        };
        let mut found = self.counters(&client, base, &names).await;
        let mut clicks = 0;
        for (number, name) in names.iter().enumerate() {
            let rejected = rejected(&client, name).await;
            let kafka = self.kafka.lock().expect("no panic");
            let log = &kafka.sources[number].log;
            let groups = group(log.iter().map(|(_, value)| value.as_deref().unwrap_or_default()));
            let broken: BTreeSet<i64> = groups.broken_at.iter().map(|line| log[*line as usize].0).collect();
            clicks += groups.clicks;
            self.count(|tally| {
                tally.clicks += groups.clicks;
                tally.rejected += groups.broken;
            });
            let differences = differences(&groups.counts, &found.remove(name).unwrap_or_default(), base);
            if !differences.is_empty() {
                self.count(|tally| tally.wrong_counters += differences.len() as u64);
                let more = differences.len().saturating_sub(5);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                self.wrong(format!(
                    "miscount in partition {number}: {}{more}",
                    differences[..differences.len().min(5)].join("; ")
                ));
            }
            if rejected != broken {
                let missing: Vec<_> = broken.difference(&rejected).collect();
                let surplus: Vec<_> = rejected.difference(&broken).collect();
                self.wrong(format!(
                    "rejects of partition {number}: offsets {missing:?} are missing, {surplus:?} are wrong"
                ));
            }
        }
        // All clicks are an hour old when they are counted. Other schedules may note clicks of the same minutes.
        let noted = noted(&client, base).await;
        if noted < clicks {
            self.wrong(format!("{noted} late clicks are noted, of {clicks}"));
        }
    }

    /// Compares the snapshots of both versions with a group-by of the produced records.
    async fn compare_rankings(&self, endpoint: &str) {
        let counts = {
            let kafka = self.kafka.lock().expect("no panic");
            let records = kafka.sources.iter().flat_map(|source| &source.log);
            group(records.map(|(_, value)| value.as_deref().unwrap_or_default())).counts
        };
        match self.versions.compare_rankings(self.seed, endpoint, &counts).await {
            Ok(windows) => self.count(|tally| tally.shared_windows += windows),
            Err(difference) => self.wrong(difference),
        }
    }

    /// The counters of the schedule's partitions, for its minutes and the adjacent ones.
    async fn counters(&self, client: &Client, base: UnixMillis, names: &[String]) -> HashMap<String, Counts> {
        let mut found: HashMap<String, Counts> = HashMap::new();
        let topic = names[0].rsplit_once('-').expect("a topic and a partition").0;
        for (minute, shard) in (-1..=MINUTES).flat_map(|minute| (0..8).map(move |shard| (minute, shard))) {
            let minute = minute_of(base, minute);
            let mut pages = client
                .query()
                .table_name(table("bucket"))
                .key_condition_expression("#b = :b AND begins_with(#s, :s)")
                .expression_attribute_names("#b", "bucket")
                .expression_attribute_names("#s", "source")
                .expression_attribute_values(":b", AttributeValue::S(format!("{minute}#{shard}")))
                .expression_attribute_values(":s", AttributeValue::S(format!("{topic}-")))
                .consistent_read(true)
                .into_paginator()
                .items()
                .send();
            while let Some(item) = pages.next().await {
                let item = item.expect("the counters can be read");
                let key = item["source"].as_s().expect("a text");
                let (name, overflow) = key.split_once('+').map_or((key.as_str(), 0), |(name, _)| (name, 1));
                self.count(|tally| {
                    tally.items += 1;
                    tally.overflow_items += overflow;
                    tally.closed_items += u64::from(item["closed"].as_bool().is_ok_and(|closed| *closed));
                });
                let counts = found.entry(name.to_owned()).or_default().entry(minute.start().0).or_default();
                for (name, value) in &item {
                    if let Some(product) = name.strip_prefix('#') {
                        let clicks: u64 = value.as_n().expect("a number").parse().expect("a whole number");
                        *counts.entry(product.to_owned()).or_default() += clicks;
                    }
                }
            }
        }
        found
    }

    fn gave_up(&self) -> bool {
        !self.wrong.lock().expect("no panic").is_empty()
    }

    fn wrong(&self, what: String) {
        self.proxy.log(|| format!("WRONG: {what}"));
        self.wrong.lock().expect("no panic").push(what);
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.proxy.tally.lock().expect("no panic"));
    }
}

/// The late clicks that are noted for the minutes of a schedule.
async fn noted(client: &Client, base: UnixMillis) -> u64 {
    let first = Window::first_after(base);
    let last = Window::first_after(minute_of(base, MINUTES - 1).start());
    let late = CountersTable::new(client.clone(), table("bucket")).late_clicks(first, last).await;
    let late = late.expect("the notes can be read");
    late.by_first_window().filter(|(window, _)| (first..=last).contains(window)).map(|(_, clicks)| clicks).sum()
}

/// The offsets in the rejected events of a partition.
async fn rejected(client: &Client, source: &str) -> BTreeSet<i64> {
    let mut offsets = BTreeSet::new();
    let mut pages = client
        .query()
        .table_name(table("first_offset"))
        .key_condition_expression("#s = :s")
        .expression_attribute_names("#s", "source")
        .expression_attribute_values(":s", AttributeValue::S(source.to_owned()))
        .consistent_read(true)
        .into_paginator()
        .items()
        .send();
    while let Some(item) = pages.next().await {
        let item = item.expect("the rejected events can be read");
        let listed = item["offsets"].as_m().expect("a map").values().flat_map(|list| list.as_l().expect("a list"));
        offsets.extend(listed.map(|offset| offset.as_n().expect("a number").parse::<i64>().expect("an offset")));
    }
    offsets
}

/// The name of the table with the key attribute `key`.
fn table(key: &str) -> String {
    let tables = template::tables(TEMPLATE, DEFAULT_STACK).expect("the template has the tables");
    let table = tables.into_iter().find(|table| table.keys.iter().any(|(name, _)| name == key));
    table.expect("the template has the table").name
}

fn minute_of(base: UnixMillis, minute: i64) -> Minute {
    Minute::of(UnixMillis(base.0 + minute * 60_000))
}

/// The start of the minute of a bucket such as `2022-12-27T16:50Z#3`, epoch milliseconds.
pub fn parse_minute(bucket: &str) -> i64 {
    let (minute, _) = bucket.split_once("Z#").expect("a minute and a shard");
    UnixMillis::parse_rfc3339(&format!("{minute}:00Z")).expect("a minute is a time").0
}

/// The differences by minute and product.
fn differences(expected: &Counts, found: &Counts, base: UnixMillis) -> Vec<String> {
    let none = BTreeMap::new();
    let minutes: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let mut differences = Vec::new();
    for minute in minutes {
        let expected = expected.get(minute).unwrap_or(&none);
        let found = found.get(minute).unwrap_or(&none);
        for product in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            let clicks = |counts: &BTreeMap<String, u64>| counts.get(product).copied().unwrap_or_default();
            if clicks(expected) != clicks(found) {
                let minute = (minute - base.0) / 60_000;
                let product = product.trim_start_matches('0');
                let (expected, found) = (clicks(expected), clicks(found));
                differences.push(format!("minute {minute}, {product:?}: {found} instead of {expected}"));
            }
        }
    }
    differences
}
