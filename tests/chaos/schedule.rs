//! A schedule: what one seed makes of records, batches and faults, and whether the counters are right afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use bytes::Bytes;
use hot_products::{
    Clock, Minute, SystemClock, UnixMillis,
    store::{self, CallLimits},
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
    dice::{chance, dice},
    kafka::{Kafka, Load, MINUTES},
    lambda::{Ended, Function},
    proxy::{Proxy, Rates, Running, Turn},
    report::{Fault, Tally},
};

/// What a function may use of an invocation's time beyond what it keeps for its answer.
const AMPLE: Duration = Duration::from_secs(20);
/// What it keeps for its answer (`count_clicks::handler::ANSWER_TIME`).
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How many invocations of a poller may fail in a row when the faults are over: a connection that broke before, and
/// retries that are used up, each cost one or two.
const MAX_FAILURES_WHEN_CALM: u32 = 25;

/// What happens in a schedule, as far as it is decided in advance.
#[derive(Debug)]
struct Plan {
    load: Load,
    partitions: u32,
    pollers: usize,
    rates: Rates,
    /// How many of 100 invocations are killed.
    kills: u32,
    /// How many of 100 invocations see a rebalance in their middle, and how many after their end.
    rebalances: u32,
    /// How many of 100 invocations have hardly any time.
    tight: u32,
    /// DynamoDB goes away before this invocation, and comes back before that one.
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
            70..85 => Load::Pieces,
            _ => Load::Overflow,
        };
        let requests: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| !matches!(fault, Fault::KillBefore | Fault::KillAfter)).collect();
        let rates = match dice.random_range(0..10) {
            // Kafka's side alone.
            0 => Rates::default(),
            1..=3 => Rates {
                percent: dice.random_range(5..50),
                faults: vec![requests[dice.random_range(0..requests.len())]],
            },
            _ => {
                let mut faults = requests.clone();
                faults.shuffle(&mut dice);
                faults.truncate(dice.random_range(2..=requests.len()));
                Rates { percent: dice.random_range(5..40), faults }
            }
        };
        let overflow = load == Load::Overflow;
        // An item is filled by dozens of writes, so that fewer may fail and faults last longer there.
        let rates = if overflow { Rates { percent: rates.percent.min(15), ..rates } } else { rates };
        let calm_after = if overflow { dice.random_range(35..60) } else { dice.random_range(12..40) };
        let mut now_and_then = |percent, most| if chance(&mut dice, percent) { dice.random_range(10..most) } else { 0 };
        let kills = now_and_then(35, 40);
        // What an overflow item has counted must be redelivered, or the schedule shows nothing.
        let rebalances = if overflow { 45 } else { now_and_then(70, 50) };
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
            // An item of 400 KB takes the embedded DynamoDB a while.
            attempt_timeout_ms: if overflow { 900 } else { 350 },
            max_attempts: if overflow { 4 } else { dice.random_range(1..=5) },
            write_concurrency: [1, 4, 16][dice.random_range(0..3)],
        }
    }
}

/// Where schedules run.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Each against an embedded DynamoDB of its own.
    Embedded,
    /// All against the DynamoDB at this endpoint, which may hold anything already. The second is this run's name.
    At(String, String),
}

/// What came of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// Its figures.
    pub tally: Tally,
    /// What was not right; nothing, if the product is.
    pub wrong: Vec<String>,
}

struct Schedule {
    seed: u64,
    plan: Plan,
    kafka: Arc<Mutex<Kafka>>,
    /// Moves with every change of `kafka`.
    changed: watch::Sender<u64>,
    proxy: Arc<Proxy>,
    invocations: Mutex<u64>,
    wrong: Mutex<Vec<String>>,
}

/// Runs the schedule `seed`.
pub async fn run(seed: u64, engine: &Engine, verbose: bool) -> Outcome {
    let (embedded, endpoint, run) = match engine {
        Engine::Embedded => {
            let embedded = Embedded::start(0, None).await.expect("an embedded DynamoDB starts");
            let endpoint = embedded.endpoint();
            (Some(embedded), endpoint, "chaos".to_owned())
        }
        Engine::At(endpoint, run) => (None, endpoint.clone(), run.clone()),
    };
    let plan = Plan::draw(seed);
    // Whole minutes, well between too old and too far ahead for as long as a schedule may take.
    let now = SystemClock.now();
    let base = Minute::of(now.minus(Duration::from_hours(1))).start();
    let topic = format!("{run}-{seed}");
    let kafka = Kafka::produce(seed, topic.clone(), base, plan.load, plan.partitions, plan.pollers);
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
                println!("  poller {poller}: in the middle of its invocation, {moved}");
            }
            changed.send_modify(|changes| *changes += 1);
        })
    };
    let proxy = Proxy::new(seed, verbose, &endpoint, plan.rates.clone(), plan.pollers, names.collect(), rebalance);
    proxy.say(|| format!("seed {seed}: {plan:#?}"));
    let schedule =
        Schedule { seed, plan, kafka, changed, proxy, invocations: Mutex::default(), wrong: Mutex::default() };
    let schedule = Arc::new(schedule);

    let pollers: Vec<_> =
        (0..schedule.plan.pollers).map(|poller| tokio::spawn(Arc::clone(&schedule).poll(poller))).collect();
    for poller in pollers {
        poller.await.expect("a poller does not panic");
    }
    schedule.proxy.finish().await;
    schedule.compare(&endpoint, base).await;
    if let Some(embedded) = embedded {
        embedded.stop().await.expect("the embedded DynamoDB stops");
    }
    let mut tally = schedule.proxy.tally.lock().expect("no panic").clone();
    let kafka = schedule.kafka.lock().expect("no panic");
    tally.rebalances = kafka.moves;
    tally.records = kafka.sources.iter().map(|source| source.log.len() as u64).sum();
    let wrong = std::mem::take(&mut *schedule.wrong.lock().expect("no panic"));
    Outcome { tally, wrong }
}

impl Schedule {
    /// A poller with a function of its own: delivers until all is committed.
    async fn poll(self: Arc<Self>, poller: usize) {
        let (address, line) = self.proxy.open(poller);
        let settings = self.settings(&format!("http://{address}"));
        let mut function: Option<Function> = None;
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
                        self.proxy.say(|| format!("poller {poller}: batch {number}: {}", kafka.describe(&batch)));
                        break Some(batch);
                    }
                }
                changed.changed().await.expect("the sender is ours");
            };
            let Some(batch) = batch else { break };
            self.begin_invocation();
            let calm = self.proxy.is_calm();
            if calm {
                // Invocations that are refused a connection fail faster than a moment's refusal ends.
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
                Running { turn: turn.map(|turn| (turn_at, turn)), kill: Some(kill), requests: 0 };
            if function.as_mut().is_none_or(Function::is_gone) {
                self.count(|tally| tally.processes += 1);
                function = Some(Function::start(&settings, self.proxy.verbose).await);
            }
            let function = function.as_mut().expect("it was just started");
            let ended = function.invoke(Bytes::copy_from_slice(&batch.event), ANSWER_TIME + time, killed).await;

            self.proxy.say(|| format!("poller {poller}: batch {number} ended: {ended:?}"));
            let succeeded = self.judge(&ended, batch.records);
            self.count(|tally| {
                tally.batches += 1;
                tally.redelivered += batch.redelivered;
            });
            let mut kafka = self.kafka.lock().expect("no panic");
            kafka.ended(&batch, succeeded);
            if rebalance_after && let Some(moved) = kafka.rebalance(poller) {
                self.proxy.say(|| format!("poller {poller}: after its invocation, {moved}"));
            }
            drop(kafka);
            if succeeded || !calm {
                failures_when_calm = 0;
            } else {
                failures_when_calm += 1;
            }
            if failures_when_calm > MAX_FAILURES_WHEN_CALM {
                self.wrong(format!(
                    "blocked: {failures_when_calm} invocations failed in a row without a fault: {ended:?}"
                ));
            }
            self.changed.send_modify(|changes| *changes += 1);
        }
        if let Some(mut function) = function {
            function.kill().await;
        }
        line.abort();
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
            // The end of all faults ends the outage as well.
            let back = back.min(self.plan.calm_after);
            if away < back && (*invocations == away || *invocations == back) {
                self.proxy.say(|| format!("DynamoDB {}", if *invocations == away { "goes away" } else { "is back" }));
                self.proxy.away(*invocations == away);
                self.count(|tally| tally.outages += u64::from(*invocations == away));
            }
        }
        if *invocations == self.plan.calm_after {
            self.proxy.say(|| "no more faults".into());
            self.proxy.calm();
        }
        *invocations += 1;
    }

    /// Whether the invocation of a batch with so many records succeeded.
    fn judge(&self, ended: &Ended, records: u64) -> bool {
        match ended {
            Ended::Response(summary) => {
                let summary: Value = serde_json::from_slice(summary).unwrap_or_default();
                let figure = |name: &str| summary[name].as_u64().unwrap_or_default();
                let sum: u64 =
                    ["counted", "ignored", "stale", "rejected", "already_counted"].into_iter().map(figure).sum();
                if figure("records") != records || sum != records {
                    self.wrong(format!("of {records} records, an invocation that succeeded says {summary}"));
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
                self.wrong(format!("the function ended by itself: {status}"));
                false
            }
        }
    }

    /// Holds what the tables say against a group-by of what was produced.
    async fn compare(&self, endpoint: &str, base: UnixMillis) {
        let client =
            store::client(local_region(), local_credentials(), Some(endpoint.to_owned()), &CallLimits::default());
        let names: Vec<String> = {
            let kafka = self.kafka.lock().expect("no panic");
            kafka.sources.iter().map(|source| kafka.name(source)).collect()
        };
        let mut found = self.counters(&client, base, &names).await;
        for (number, name) in names.iter().enumerate() {
            let rejected = rejected(&client, name).await;
            let kafka = self.kafka.lock().expect("no panic");
            let log = &kafka.sources[number].log;
            let groups = group(log.iter().map(|(_, value)| value.as_deref().unwrap_or_default()));
            let broken: BTreeSet<i64> = groups.broken_at.iter().map(|line| log[*line as usize].0).collect();
            self.count(|tally| {
                tally.clicks += groups.clicks;
                tally.rejected += groups.broken;
            });
            let differences = differences(&groups.counts, &found.remove(name).unwrap_or_default(), base);
            if !differences.is_empty() {
                let more = differences.len().saturating_sub(5);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                self.wrong(format!(
                    "miscount in source {number}: {}{more}",
                    differences[..differences.len().min(5)].join("; ")
                ));
            }
            if rejected != broken {
                let missing: Vec<_> = broken.difference(&rejected).collect();
                let surplus: Vec<_> = rejected.difference(&broken).collect();
                self.wrong(format!(
                    "rejects of source {number}: offsets {missing:?} are not noted, {surplus:?} wrongly"
                ));
            }
        }
    }

    /// The counters of the schedule's sources, its minutes and those beside them, through DynamoDB's API.
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
        self.proxy.say(|| format!("WRONG: {what}"));
        self.wrong.lock().expect("no panic").push(what);
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.proxy.tally.lock().expect("no panic"));
    }
}

/// The offsets that the rejected events of a source name.
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
        let listed = item["offsets"].as_l().expect("a list");
        offsets.extend(listed.iter().map(|offset| offset.as_n().expect("a number").parse::<i64>().expect("an offset")));
    }
    offsets
}

/// The name of the table that has `key` as one of its keys.
fn table(key: &str) -> String {
    let tables = template::tables(TEMPLATE, DEFAULT_STACK).expect("the template has the tables");
    let table = tables.into_iter().find(|table| table.keys.iter().any(|(name, _)| name == key));
    table.expect("the template has the table").name
}

fn minute_of(base: UnixMillis, minute: i64) -> Minute {
    Minute::of(UnixMillis(base.0 + minute * 60_000))
}

/// Each product of each minute whose clicks are not as expected.
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
                differences.push(format!("minute {minute}, {product:?}: {found} for {expected}"));
            }
        }
    }
    differences
}
