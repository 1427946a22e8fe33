//! A healing schedule: clicks arrive late, partitions stall, notes are lost and repeated, and rankings overlap, fail and do
//! not take place. At the end, each snapshot must be final and equal the group-by.
//!
//! Both functions run in this process, because their clock has to move by hours. A kill drops the invocation's future, and
//! with it the connections and the memory of the instance. The faults are those of the [proxy](super::proxy).
//!
//! A schedule has three parts:
//!
//! 1. Steps of five minutes with faults. Partitions are delivered half a minute and a minute after each boundary, the latter
//!    at the same time as the rankings.
//! 2. Everything is committed without faults, and a few runs heal all windows before they are final.
//! 3. The clock goes on to when all windows must be final. Expired counters are deleted on the way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use count_clicks::{CountClicks, CountSettings};
use futures_util::future::{join, join_all};
use hot_products::{
    Clock, Snapshot, UnixMillis, Window,
    healing::{FINAL_WAIT, Lifetimes, MAX_EXTRA_WINDOWS},
    settings::Settings,
    store::{self, CallLimits, SnapshotsTable},
    time::bound,
};
use hot_products_tests::group_by::{self, Counts};
use local_aws::{
    msk, tables,
    template::{DEFAULT_STACK, TableNames},
};
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rank_products::{RankOutcome, RankProducts, RankSettings, Request};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    dice::{chance, dice},
    proxy::{Proxy, Rates, Running, Setup, Turn},
    report::{Fault, Tally},
    schedule::{Engine, ScheduleResult, parse_minute},
};

const MINUTE: i64 = 60_000;
const STEP: i64 = Window::STEP_MINUTES * MINUTE;
/// 2022-12-27T23:00:00Z: the windows of a schedule end on two days.
const START: i64 = 1_672_182_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// How many steps in a row a partition may make no progress. Then it is delivered without faults, so that a click that is
/// not stale when it arrives is never stale in a delivery.
const LONGEST_STALL: u32 = 3;
/// How many steps in a row may pass without a successful run. The final rankings have 26 minutes.
const LONGEST_WITHOUT_RUN: u32 = 2;
/// The instances of rank-products that go through the proxy.
const RANKINGS: usize = 2;

/// What a schedule decides in advance.
#[derive(Debug)]
struct Plan {
    partitions: usize,
    steps: i64,
    max_event_age: Duration,
    /// The percentages of steps: in which a partition stalls, and in which the run is missed, fails or is one of two.
    stalls: u32,
    missed: u32,
    faulty: u32,
    overlapping: u32,
    /// The percentage of deliveries that are killed.
    kills: u32,
    /// The percentage of deliveries with an older poller that delivers too.
    two_pollers: u32,
    /// The percentage of clicks that arrive late.
    late: u32,
    rates: Rates,
    max_attempts: u32,
}

impl Plan {
    fn draw(seed: u64) -> Self {
        let mut dice = dice(seed, "healing plan");
        let mut faults: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| !matches!(fault, Fault::KillBefore | Fault::KillAfter)).collect();
        faults.shuffle(&mut dice);
        faults.truncate(dice.random_range(1..=faults.len()));
        let rates = Rates { percent: dice.random_range(0..25), rare_percent: dice.random_range(10..45), faults };
        Self {
            partitions: dice.random_range(1..=3),
            steps: dice.random_range(6..=9),
            max_event_age: Duration::from_hours([1, 1, 1, 2, 2, 3][dice.random_range(0..6)]),
            stalls: dice.random_range(10..50),
            missed: dice.random_range(0..40),
            faulty: dice.random_range(10..50),
            overlapping: dice.random_range(10..50),
            kills: dice.random_range(0..40),
            two_pollers: dice.random_range(0..40),
            late: dice.random_range(5..40),
            rates,
            max_attempts: dice.random_range(1..=4),
        }
    }

    /// The oldest that a click may be when it arrives, in minutes, so that it is never stale when it is delivered.
    fn oldest_minutes(&self) -> i64 {
        self.max_event_age.as_secs() as i64 / 60 - (i64::from(LONGEST_STALL) + 3) * Window::STEP_MINUTES
    }
}

/// The runs of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranking {
    /// One, without faults.
    Calm,
    Missed,
    /// Two at the same time, with faults.
    AtOnce,
    /// One with faults, which is repeated if it fails.
    Faulty,
    /// One whose snapshots reach DynamoDB after those of a later run.
    WritesLast,
}

impl Ranking {
    fn draw(plan: &Plan, must_run: bool, dice: &mut ChaCha8Rng) -> Self {
        if must_run {
            Self::Calm
        } else if chance(dice, plan.missed) {
            Self::Missed
        } else if chance(dice, plan.overlapping) {
            if chance(dice, 50) { Self::AtOnce } else { Self::WritesLast }
        } else if chance(dice, plan.faulty) {
            Self::Faulty
        } else {
            Self::Calm
        }
    }
}

/// A clock that is set, and that moves by a millisecond whenever it is read, so that no two rankings begin at once.
#[derive(Debug)]
struct StepClock(AtomicI64);

impl Clock for StepClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

type Item = HashMap<String, AttributeValue>;

/// A topic partition and its pollers.
struct Partition {
    number: usize,
    values: Vec<Vec<u8>>,
    committed: usize,
    /// Steps without progress.
    stuck: u32,
    /// The poller that has the partition, and one that has lost it.
    pollers: [Poller; 2],
}

/// A poller with its instance of count-clicks.
struct Poller {
    /// Its number at the proxy.
    number: usize,
    client: Client,
    /// `None` after it was killed.
    function: Option<CountClicks>,
}

struct Schedule {
    seed: u64,
    plan: Plan,
    topic: String,
    /// The start of its time, on a window's end.
    start: i64,
    clock: Arc<StepClock>,
    tables: TableNames,
    settings: Settings,
    lifetimes: Lifetimes,
    proxy: Arc<Proxy>,
    /// Past the proxy.
    client: Client,
    snapshots: SnapshotsTable,
    tally: Tally,
    wrong: Vec<String>,
    /// The clicks of each window's first snapshot.
    first: BTreeMap<Window, u64>,
    /// The clicks of each window's newest snapshot.
    newest: BTreeMap<Window, u64>,
    /// The counter items, once everything is counted. Those that have expired are deleted.
    items: Vec<Item>,
}

/// Runs the healing schedule `seed`.
pub async fn run(seed: u64, engine: &Engine, verbose: bool) -> ScheduleResult {
    let (embedded, endpoint, run) = engine.open().await;
    let plan = Plan::draw(seed);
    let topic = format!("{run}-{seed}");
    // Days of its own: other schedules may use the same tables.
    let start = START + 10 * DAY * (xxh3_64_with_seed(topic.as_bytes(), 0) % 50_000) as i64;
    let proxy = Proxy::new(Setup {
        seed,
        verbose,
        engine: endpoint.clone(),
        rates: plan.rates.clone(),
        ceiling: None,
        pollers: 2 * plan.partitions + RANKINGS,
        names: HashMap::new(),
        rebalance: Box::new(|_| {}),
    });
    proxy.log(|| format!("seed {seed}: {plan:#?}"));
    let tables = TableNames::of(DEFAULT_STACK);
    let hours = plan.max_event_age.as_secs() / 3600;
    let (age, retention) = (format!("{hours}h"), format!("{}h", hours + 2));
    let settings: Settings = [
        ("COUNTERS_TABLE", tables.counters.as_str()),
        ("REJECTS_TABLE", &tables.rejects),
        ("SNAPSHOTS_TABLE", &tables.snapshots),
        ("MAX_EVENT_AGE", &age),
        ("RETENTION", &retention),
    ]
    .into_iter()
    .collect();
    let client = tables::client_for(&endpoint);
    let (addresses, lines): (Vec<_>, Vec<JoinHandle<()>>) =
        (0..2 * plan.partitions + RANKINGS).map(|poller| proxy.open(poller)).unzip();
    let through_proxy = |poller: usize, max_attempts: u32| {
        let limits = CallLimits {
            connect_timeout: Duration::from_millis(200),
            attempt_timeout: Duration::from_millis(500),
            operation_timeout: Duration::from_millis(1500),
            max_attempts,
            max_backoff: Duration::from_millis(20),
        };
        let endpoint = format!("http://{}", addresses[poller]);
        store::client(tables::local_region(), tables::local_credentials(), Some(endpoint), &limits)
    };
    let poller = |number: usize| Poller { number, client: through_proxy(number, plan.max_attempts), function: None };
    let partitions = (0..plan.partitions)
        .map(|number| Partition {
            number,
            values: Vec::new(),
            committed: 0,
            stuck: 0,
            pollers: [poller(2 * number), poller(2 * number + 1)],
        })
        .collect();
    let rank = RankSettings::read(&settings).expect("good settings");
    // A ranking has a thousand requests.
    let rankings = (0..RANKINGS).map(|number| through_proxy(2 * plan.partitions + number, 4)).collect();
    let mut schedule = Schedule {
        seed,
        topic,
        start,
        clock: Arc::new(StepClock(AtomicI64::new(start))),
        snapshots: SnapshotsTable::new(client.clone(), tables.snapshots.clone()),
        tables,
        settings,
        lifetimes: rank.lifetimes,
        proxy,
        client,
        tally: Tally::default(),
        wrong: Vec::new(),
        first: BTreeMap::new(),
        newest: BTreeMap::new(),
        items: Vec::new(),
        plan,
    };
    schedule.run(partitions, rankings).await;
    for line in lines {
        line.abort();
    }
    let mut tally = schedule.proxy.tally.lock().expect("no panic").clone();
    tally.add(&schedule.tally);
    if let Some(embedded) = embedded {
        drop(schedule.client);
        drop(embedded);
    }
    ScheduleResult { tally, wrong: schedule.wrong }
}

impl Schedule {
    async fn run(&mut self, mut partitions: Vec<Partition>, rankings: Vec<Client>) {
        let mut without_run = 0;
        for step in 0..self.plan.steps {
            self.produce(step, &mut partitions);
            let mut dice = dice(self.seed, format_args!("step {step}"));
            self.set(step * STEP + MINUTE / 2);
            let (early, due): (Vec<&mut Partition>, Vec<_>) =
                partitions.iter_mut().partition(|_| chance(&mut dice, 50));
            let tallies = join_all(early.into_iter().map(|partition| self.count(step, partition))).await;
            self.set(step * STEP + MINUTE);
            let must_run = without_run >= LONGEST_WITHOUT_RUN;
            let ranking = Ranking::draw(&self.plan, must_run, &mut dice);
            let (due, after): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|_| ranking != Ranking::WritesLast || chance(&mut dice, 50));
            let counting = join_all(due.into_iter().map(|partition| self.count(step, partition)));
            let ((mut ranked, mut runs), mut counted) = join(self.rank(step, &rankings, ranking), counting).await;
            counted.extend(join_all(after.into_iter().map(|partition| self.count(step, partition))).await);
            if ranking == Ranking::WritesLast {
                ranked.push(self.rank_calmly(step, &mut runs).await);
            }
            for tally in tallies.into_iter().chain(counted).chain([runs]) {
                self.tally.add(&tally);
            }
            without_run = if ranked.is_empty() { without_run + 1 } else { 0 };
            // A request is not on its way for five minutes.
            self.proxy.flush().await;
            for outcome in ranked {
                self.first.entry(outcome.snapshot.window).or_insert(outcome.snapshot.total_clicks);
            }
            self.compare_with_before().await;
        }
        self.proxy.calm();

        let values: Vec<Vec<u8>> = partitions
            .iter()
            .flat_map(|partition| &partition.values)
            .filter(|value| self.is_valid(value))
            .cloned()
            .collect();
        let counts = group_by::group(values.iter().map(Vec::as_slice)).counts;
        let step = self.heal(&mut partitions, &counts).await;
        self.end(step, &counts).await;
        self.tally.records = partitions.iter().map(|partition| partition.values.len() as u64).sum();
    }

    fn set(&self, since_start: i64) {
        self.clock.0.store(self.start + since_start, Ordering::Relaxed);
    }

    fn window(&self, step: i64) -> Window {
        Window::ended_by(UnixMillis(self.start + step * STEP))
    }

    /// The clicks that arrive in a step. A few are stale when they arrive.
    fn produce(&mut self, step: i64, partitions: &mut [Partition]) {
        for partition in partitions {
            let mut dice = dice(self.seed, format_args!("clicks of step {step} for partition {}", partition.number));
            let now = self.start + step * STEP;
            for _ in 0..dice.random_range(0..4) {
                let ago = if chance(&mut dice, 4) {
                    self.plan.max_event_age.as_secs() as i64 / 60 + dice.random_range(1..30)
                } else if chance(&mut dice, self.plan.late) {
                    dice.random_range(0..self.plan.oldest_minutes())
                } else {
                    dice.random_range(0..5)
                };
                self.tally.hours_late += u64::from(ago >= 60);
                let product = format!("p{}", dice.random_range(0..8));
                let time = now - ago * MINUTE + dice.random_range(0..MINUTE / 2);
                let arrived = json!({
                    "event_time": time, "product_id": product, "action": "click", "user_id": "u_1", "arrived": now,
                });
                partition.values.push(arrived.to_string().into_bytes());
            }
        }
    }

    /// Whether a click was not stale when it arrived.
    fn is_valid(&self, value: &[u8]) -> bool {
        let value: serde_json::Value = serde_json::from_slice(value).expect("the schedule's own JSON");
        let age = value["arrived"].as_i64().zip(value["event_time"].as_i64()).map(|(arrived, time)| arrived - time);
        age.is_some_and(|age| age < self.plan.max_event_age.as_millis() as i64)
    }

    /// Delivers what a partition has in this step, or nothing.
    async fn count(&self, step: i64, partition: &mut Partition) -> Tally {
        let mut tally = Tally::default();
        let number = partition.number;
        let mut dice = dice(self.seed, format_args!("deliveries of step {step} for partition {number}"));
        if partition.committed == partition.values.len() {
            return tally;
        }
        if partition.stuck >= LONGEST_STALL {
            self.count_calmly(partition, &mut tally).await;
        } else if chance(&mut dice, self.plan.stalls) {
            tally.stalls += 1;
        } else {
            for _ in 0..2 {
                if partition.committed < partition.values.len() {
                    Box::pin(self.deliver_once(partition, &mut dice, &mut tally)).await;
                }
            }
        }
        partition.stuck = if partition.committed == partition.values.len() { 0 } else { partition.stuck + 1 };
        tally
    }

    /// A delivery of the partition's poller, perhaps beside one of the poller that has lost the partition.
    async fn deliver_once(&self, partition: &mut Partition, dice: &mut ChaCha8Rng, tally: &mut Tally) {
        let Partition { number, values, committed, pollers: [owner, other], .. } = partition;
        let whole = *committed..values.len();
        let cut = |dice: &mut ChaCha8Rng, from: usize| {
            if chance(dice, 60) { whole.end } else { dice.random_range(from + 1..=whole.end) }
        };
        let batch = whole.start..cut(dice, whole.start);
        let older = chance(dice, self.plan.two_pollers).then(|| {
            let from = dice.random_range(0..=whole.start);
            from..cut(dice, from)
        });
        let kill = |dice: &mut ChaCha8Rng| {
            let fault = if chance(dice, 50) { Fault::KillBefore } else { Fault::KillAfter };
            chance(dice, self.plan.kills).then(|| (dice.random_range(0..6), Turn::Kill(fault)))
        };
        let (turn, other_turn) = (kill(dice), kill(dice));
        let delivery = self.deliver(*number, owner, &values[batch.clone()], batch.start, turn);
        let succeeded = if let Some(older) = older {
            tally.two_pollers += 1;
            let beside = self.deliver(*number, other, &values[older.clone()], older.start, other_turn);
            let ((succeeded, mine), (_, others)) = Box::pin(join(delivery, beside)).await;
            tally.add(&mine);
            tally.add(&others);
            succeeded
        } else {
            let (succeeded, mine) = delivery.await;
            tally.add(&mine);
            succeeded
        };
        if succeeded {
            *committed = batch.end;
        }
    }

    /// Invokes a poller's function. Returns whether it succeeded.
    async fn deliver(
        &self,
        partition: usize,
        poller: &mut Poller,
        values: &[Vec<u8>],
        from: usize,
        turn: Option<(u32, Turn)>,
    ) -> (bool, Tally) {
        let mut tally = Tally { batches: 1, ..Tally::default() };
        let event = self.event(partition, from, values);
        let (kill, killed) = oneshot::channel();
        *self.proxy.running[poller.number].lock().expect("no panic") =
            Running { turn, kill: Some(kill), ..Running::default() };
        let function = poller.function.take().unwrap_or_else(|| {
            tally.processes += 1;
            self.count_clicks(poller.client.clone())
        });
        let deadline = self.clock.now().plus(Duration::from_secs(20));
        let succeeded = tokio::select! {
            biased;
            (_, result) = function.handle(&event, deadline) => {
                tally.failed += u64::from(result.is_err());
                poller.function = Some(function);
                result.is_ok()
            }
            Ok(()) = killed => {
                tally.killed += 1;
                false
            }
        };
        (succeeded, tally)
    }

    fn event(&self, partition: usize, from: usize, values: &[Vec<u8>]) -> String {
        let now = self.clock.now();
        let record = |(offset, value): (usize, &Vec<u8>)| {
            let position = msk::Position { topic: &self.topic, partition: partition as u32, offset: offset as i64 };
            msk::record(position, now, None, Some(value))
        };
        let records = (from..).zip(values).map(record).collect();
        let event = msk::event(HashMap::from([(format!("{}-{partition}", self.topic), records)]));
        serde_json::to_string(&event).expect("an event is JSON")
    }

    fn count_clicks(&self, client: Client) -> CountClicks {
        CountClicks::new(client, CountSettings::read(&self.settings).expect("good settings"), self.clock.clone())
    }

    fn rank_products(&self, client: Client) -> RankProducts {
        RankProducts::new(client, RankSettings::read(&self.settings).expect("good settings"), self.clock.clone())
    }

    /// Delivers everything, past the proxy.
    async fn count_calmly(&self, partition: &mut Partition, tally: &mut Tally) {
        let event = self.event(partition.number, partition.committed, &partition.values[partition.committed..]);
        let deadline = self.clock.now().plus(Duration::from_mins(1));
        let (_, result) = self.count_clicks(self.client.clone()).handle(&event, deadline).await;
        result.expect("without faults, a delivery succeeds");
        tally.batches += 1;
        partition.committed = partition.values.len();
    }

    /// The runs of a step. Returns the successful ones.
    async fn rank(&self, step: i64, clients: &[Client], ranking: Ranking) -> (Vec<RankOutcome>, Tally) {
        let mut tally = Tally::default();
        let mut dice = dice(self.seed, format_args!("rankings of step {step}"));
        let number = 2 * self.plan.partitions;
        let mut outcomes = Vec::new();
        match ranking {
            Ranking::Calm => outcomes.push(self.rank_calmly(step, &mut tally).await),
            Ranking::Missed => tally.runs_missed += 1,
            Ranking::AtOnce => {
                tally.runs_overlapping += 1;
                let run =
                    |(place, client): (usize, &Client)| self.rank_once(step, number + place, client.clone(), false);
                for (outcome, more) in join_all((0..).zip(clients).map(run)).await {
                    outcomes.extend(outcome);
                    tally.add(&more);
                }
            }
            Ranking::WritesLast => {
                tally.runs_overlapping += 1;
                tally.add(&self.rank_once(step, number, clients[0].clone(), true).await.1);
            }
            Ranking::Faulty => {
                // Lambda tries again.
                for _ in 0..dice.random_range(1..=3) {
                    let (outcome, more) = self.rank_once(step, number, clients[0].clone(), false).await;
                    tally.add(&more);
                    if outcome.is_some() {
                        outcomes.extend(outcome);
                        break;
                    }
                }
            }
        }
        (outcomes, tally)
    }

    fn request(&self, step: i64) -> Request {
        let scheduled = UnixMillis(self.start + step * STEP + MINUTE);
        Request { scheduled_time: Some(scheduled.rfc3339()), window_end: None }
    }

    /// A run through the proxy. `None` if it failed or was killed.
    async fn rank_once(
        &self,
        step: i64,
        poller: usize,
        client: Client,
        holds_snapshots: bool,
    ) -> (Option<RankOutcome>, Tally) {
        let mut tally = Tally { runs: 1, ..Tally::default() };
        let (kill, killed) = oneshot::channel();
        *self.proxy.running[poller].lock().expect("no panic") =
            Running { kill: Some(kill), holds_snapshots, ..Running::default() };
        let function = self.rank_products(client);
        let (request, deadline) = (self.request(step), self.clock.now().plus(Duration::from_mins(1)));
        let outcome = tokio::select! {
            biased;
            result = function.handle(&request, deadline) => result.ok(),
            Ok(()) = killed => None,
        };
        tally.runs_failed += u64::from(outcome.is_none());
        (outcome, tally)
    }

    /// A run past the proxy.
    async fn rank_calmly(&self, step: i64, tally: &mut Tally) -> RankOutcome {
        tally.runs += 1;
        let function = self.rank_products(self.client.clone());
        let deadline = self.clock.now().plus(Duration::from_mins(1));
        function.handle(&self.request(step), deadline).await.expect("without faults, a run succeeds")
    }

    /// Commits everything, and ranks until all windows have their clicks. Returns the step after.
    async fn heal(&mut self, partitions: &mut [Partition], counts: &Counts) -> i64 {
        let mut step = self.plan.steps;
        self.set(step * STEP + MINUTE / 2);
        let mut tally = Tally::default();
        for partition in partitions.iter_mut() {
            self.count_calmly(partition, &mut tally).await;
        }
        self.proxy.flush().await;
        self.items = self.read_items().await;
        let found = counts_of(&self.items);
        self.tally.clicks += counts.values().flat_map(BTreeMap::values).sum::<u64>();
        if found != *counts {
            let minutes = counts.keys().chain(found.keys());
            let wrong = minutes.filter(|minute| counts.get(minute) != found.get(minute)).count() as u64;
            self.tally.wrong_counters += wrong;
            self.wrong(format!("{wrong} minutes have wrong counters: {found:?} instead of {counts:?}"));
        }

        let windows: Vec<Window> = self.windows(counts, step).collect();
        // A click in a window is more than a percent of its clicks, so every window is worth a run.
        let most = windows.len().div_ceil(MAX_EXTRA_WINDOWS) as i64 + 1;
        let mut differences = Vec::new();
        for _ in 0..most {
            self.set(step * STEP + MINUTE);
            self.rank_calmly(step, &mut tally).await;
            step += 1;
            differences = self.differences(&windows, counts).await;
            if differences.is_empty() {
                break;
            }
        }
        self.tally.add(&tally);
        if !differences.is_empty() {
            self.wrong(format!("{} windows did not heal: {}", differences.len(), differences[0]));
        }
        let total = |window: Window| group_by::hour(counts, window.end().0, 1).0;
        let healed = self.first.iter().filter(|(window, clicks)| **clicks < total(**window)).count() as u64;
        self.tally.healed += healed;
        self.compare_with_before().await;
        step
    }

    /// Goes on until all windows must be final, and compares them.
    async fn end(&mut self, mut step: i64, counts: &Counts) {
        let windows: Vec<Window> = self.windows(counts, step - 1).collect();
        let mut tally = Tally::default();
        let mut open = windows.clone();
        while let Some(first) = open.first() {
            let due = self.lifetimes.final_from(*first).plus(FINAL_WAIT);
            let needed = (due.0 - self.start - MINUTE + STEP - 1).div_euclid(STEP);
            step = step.max(needed);
            self.set(step * STEP + MINUTE);
            if self.lifetimes.expires_from(*first) <= self.clock.now() {
                break;
            }
            self.tally.expired += self.expire().await;
            self.rank_calmly(step, &mut tally).await;
            step += 1;
            let mut still_open = Vec::new();
            for window in open {
                if !self.snapshot(window).await.is_some_and(|snapshot| snapshot.is_final) {
                    still_open.push(window);
                }
            }
            open = still_open;
        }
        self.tally.add(&tally);
        self.tally.finals += (windows.len() - open.len()) as u64;
        let differences = self.differences(&windows, counts).await;
        self.tally.wrong_finals += (differences.len() + open.len()) as u64;
        if let Some(window) = open.first() {
            self.wrong(format!("{} windows are not final: {} first", open.len(), bound(window.end())));
        }
        if let Some(difference) = differences.first() {
            self.wrong(format!("{} windows are wrong at the end: {difference}", differences.len()));
        }
        self.compare_with_before().await;
    }

    /// The windows that should be final at the end: from the first that was ranked or has a click, to the one that is due in
    /// `step`.
    fn windows(&self, counts: &Counts, step: i64) -> impl Iterator<Item = Window> + use<> {
        let first_click = counts.keys().next().map(|minute| Window::first_after(UnixMillis(*minute)));
        let first = self.first.keys().next().copied().into_iter().chain(first_click).min();
        first.unwrap_or(self.window(step)).until(self.window(step))
    }

    async fn snapshot(&self, window: Window) -> Option<Snapshot> {
        self.snapshots.get(window).await.expect("the snapshots can be read")
    }

    /// How the snapshots of `windows` differ from the group-by.
    async fn differences(&self, windows: &[Window], counts: &Counts) -> Vec<String> {
        let mut differences = Vec::new();
        for window in windows {
            let (clicks, products, places) = group_by::hour(counts, window.end().0, 100);
            let places: Vec<_> = places.into_iter().map(|(rank, product, clicks, _)| (rank, product, clicks)).collect();
            let wanted = (clicks, products, places, group_by::minutes(counts, window.end().0));
            let found = self.snapshot(*window).await.map(|snapshot| {
                let Snapshot { total_clicks, distinct_products, products, clicks_per_minute, .. } = snapshot;
                let places = products.into_iter().map(|place| (place.rank, place.product_id, place.clicks));
                (total_clicks, distinct_products, places.collect::<Vec<_>>(), clicks_per_minute)
            });
            if found.as_ref() != Some(&wanted) {
                let found = found.map_or("no snapshot".to_owned(), |found| format!("{:?}", found.2));
                differences.push(format!("{}: {found} instead of {:?}", bound(window.end()), wanted.2));
            }
        }
        differences
    }

    /// Finds snapshots that have fewer clicks than before.
    async fn compare_with_before(&mut self) {
        let Some(first) = self.first.keys().next().copied() else { return };
        let last = Window::ended_by(UnixMillis(self.clock.0.load(Ordering::Relaxed)));
        let windows = first.first_overlapping()..=last;
        let found = self.snapshots.between(windows, 1_000, 0).await.expect("the snapshots can be read");
        for snapshot in found.snapshots {
            let before = self.newest.insert(snapshot.window, snapshot.total_clicks);
            if before.is_some_and(|before| before > snapshot.total_clicks) {
                let window = bound(snapshot.window.end());
                self.wrong(format!("{window}: {} clicks after {before:?}", snapshot.total_clicks));
            }
        }
    }

    /// Reads the counter items of this topic.
    async fn read_items(&self) -> Vec<Item> {
        let pages = self.client.scan().table_name(&self.tables.counters).consistent_read(true);
        let items: Result<Vec<_>, _> = pages.into_paginator().items().send().collect().await;
        let prefix = format!("{}-", self.topic);
        let is_of_topic = |item: &Item| {
            item.get("source").and_then(|source| source.as_s().ok()).is_some_and(|source| source.starts_with(&prefix))
        };
        items.expect("the counters can be read").into_iter().filter(is_of_topic).collect()
    }

    /// Deletes the counters that have expired, as TTL does. Returns how many items those were.
    async fn expire(&mut self) -> u64 {
        let now = UnixMillis(self.clock.0.load(Ordering::Relaxed)).epoch_seconds();
        let expires_at = |item: &Item| item["expires_at"].as_n().expect("a number").parse::<i64>().expect("a time");
        let expired: Vec<_> = self.items.extract_if(.., |item| expires_at(item) <= now).collect();
        for item in &expired {
            let delete = self.client.delete_item().table_name(&self.tables.counters);
            let delete = delete.key("bucket", item["bucket"].clone()).key("source", item["source"].clone());
            delete.send().await.expect("an item can be deleted");
        }
        expired.len() as u64
    }

    fn wrong(&mut self, what: String) {
        self.proxy.log(|| format!("WRONG: {what}"));
        self.wrong.push(what);
    }
}

/// The counters in `items`.
fn counts_of(items: &[Item]) -> Counts {
    let mut counts = Counts::new();
    for item in items {
        let minute = parse_minute(item["bucket"].as_s().expect("a text"));
        for (name, value) in item {
            if let Some(product) = name.strip_prefix('#') {
                let clicks: u64 = value.as_n().expect("a number").parse().expect("a whole number");
                *counts.entry(minute).or_default().entry(product.to_owned()).or_default() += clicks;
            }
        }
    }
    counts
}
