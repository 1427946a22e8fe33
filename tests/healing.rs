//! Snapshots that heal, with the real handlers over a DynamoDB API and a clock that moves by hand: ranking again never
//! loses clicks, and whatever delays counting and ranking, each snapshot ends up equal to the plain group-by.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use count_clicks::{CountClicks, CountError, CountSettings, CountSummary};
use hot_products::{
    Bucket, Clock, ManualClock, Snapshot, UnixMillis, Window,
    healing::{EXTRA_TIME, FINAL_WAIT, Lifetimes, MAX_EXTRA_WINDOWS},
    settings::Settings,
    store::{self, CallLimits, SnapshotsTable},
    time::bound,
};
use hot_products_tests::group_by;
use local_aws::{
    embedded::Embedded,
    msk, tables,
    template::{self, TEMPLATE, TableNames},
};
use proptest::{prelude::*, test_runner::TestRunner};
use rank_products::{RankError, RankOutcome, RankProducts, RankSettings, RankSummary, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};

const MINUTE: i64 = 60_000;
const STEP: i64 = 5 * MINUTE;
/// 2022-12-27T23:00:00Z: windows of a test are on two days.
const START: UnixMillis = UnixMillis(1_672_182_000_000);

/// One DynamoDB for all tests.
static DYNAMODB: LazyLock<(Runtime, Embedded)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let dynamodb = runtime.block_on(Embedded::start(0, None)).expect("DynamoDB starts");
    (runtime, dynamodb)
});

/// What the proxy does with requests that contain a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Pass,
    /// Closes the connection: as if the sender had died before it sent the request.
    Drop(&'static str),
    /// Delivers the request when the rule changes.
    Hold(&'static str),
}

/// A TCP proxy in front of DynamoDB.
struct Proxy {
    address: SocketAddr,
    rule: watch::Sender<Rule>,
    /// How many requests its rules have met.
    met: watch::Receiver<u64>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (rule, rules) = watch::channel(Rule::Pass);
        let (count, met) = watch::channel(0);
        let count = Arc::new(count);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, rules.clone(), count.clone()));
            }
        });
        Self { address, rule, met }
    }

    fn client(&self) -> Client {
        let limits = CallLimits { max_attempts: 1, ..CallLimits::default() };
        let endpoint = format!("http://{}", self.address);
        store::client(tables::local_region(), tables::local_credentials(), Some(endpoint), &limits)
    }

    fn set(&self, rule: Rule) {
        self.rule.send_replace(rule);
    }

    fn met(&self) -> u64 {
        *self.met.borrow()
    }
}

/// Forwards a connection, request by request; answers as they come.
async fn forward(client: TcpStream, mut rules: watch::Receiver<Rule>, met: Arc<watch::Sender<u64>>) {
    let endpoint = DYNAMODB.1.endpoint();
    let server = TcpStream::connect(endpoint.trim_start_matches("http://")).await.expect("DynamoDB listens");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
    let mut bytes = Vec::new();
    while from_client.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        let Some(length) = request_length(&bytes) else { continue };
        let request: Vec<u8> = bytes.drain(..length).collect();
        let text = String::from_utf8_lossy(&request);
        let rule = *rules.borrow_and_update();
        match rule {
            Rule::Drop(mark) if text.contains(mark) => {
                met.send_modify(|met| *met += 1);
                break;
            }
            Rule::Hold(mark) if text.contains(mark) => {
                met.send_modify(|met| *met += 1);
                let _stopped = rules.wait_for(|now| *now != rule).await;
            }
            _ => {}
        }
        if to_server.write_all(&request).await.is_err() {
            break;
        }
    }
    answers.abort();
}

/// The length of the first request in `bytes`, once it is there whole.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.find("\r\n\r\n")? + 4;
    let length = text[..head].lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (bytes.len() >= head + length).then_some(head + length)
}

/// The functions, on tables of their own.
struct Shop {
    count_clicks: CountClicks,
    rank_products: RankProducts,
    /// Another instance, whose requests go through the proxy, as those of `count_clicks` do.
    slow_rank_products: RankProducts,
    snapshots: SnapshotsTable,
    lifetimes: Lifetimes,
    clock: Arc<ManualClock>,
    client: Client,
    tables: TableNames,
    proxy: Proxy,
    /// The start of its time, epoch milliseconds, on a window's end.
    start: i64,
}

impl Shop {
    fn new(changes: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stack = format!("shop-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let names = TableNames::of(&stack);
        let (runtime, embedded) = &*DYNAMODB;
        let client = embedded.client();
        for table in template::tables(TEMPLATE, &stack).expect("a template") {
            runtime.block_on(tables::create(&client, &table)).expect("a table");
        }
        let tables = [
            ("COUNTERS_TABLE", names.counters.as_str()),
            ("REJECTS_TABLE", &names.rejects),
            ("SNAPSHOTS_TABLE", &names.snapshots),
        ];
        let settings: Settings = tables.iter().chain(changes).copied().collect();
        let clock = Arc::new(ManualClock::at(START));
        let proxy = runtime.block_on(Proxy::start());
        let count = CountSettings::read(&settings).expect("good settings");
        let rank = RankSettings::read(&settings).expect("good settings");
        Self {
            count_clicks: CountClicks::new(proxy.client(), count, clock.clone()),
            rank_products: RankProducts::new(client.clone(), rank.clone(), clock.clone()),
            slow_rank_products: RankProducts::new(proxy.client(), rank.clone(), clock.clone()),
            snapshots: SnapshotsTable::new(client.clone(), names.snapshots.clone()),
            lifetimes: rank.lifetimes,
            clock,
            client,
            tables: names,
            proxy,
            start: START.0,
        }
    }

    fn set(&self, since_start: i64) {
        self.clock.set(UnixMillis(self.start + since_start));
    }

    fn click(&self, since_start: i64, product: &str) -> Vec<u8> {
        let time = self.start + since_start;
        let event = serde_json::json!({"event_time": time, "product_id": product, "action": "click", "user_id": "u_1"});
        event.to_string().into_bytes()
    }

    async fn deliver(&self, partition: u32, from: usize, values: &[Vec<u8>]) -> (CountSummary, Result<(), CountError>) {
        let now = self.clock.now();
        let record = |(offset, value): (usize, &Vec<u8>)| {
            let position = msk::Position { topic: "clicks", partition, offset: offset as i64 };
            msk::record(position, now, None, Some(value))
        };
        let records = (from..).zip(values).map(record).collect();
        let event = msk::event(HashMap::from([(format!("clicks-{partition}"), records)]));
        let event = serde_json::to_string(&event).expect("an event is JSON");
        self.count_clicks.handle(&event, now.plus(Duration::from_mins(1))).await
    }

    /// Delivers, and everything goes right.
    fn count(&self, partition: u32, from: usize, values: &[Vec<u8>]) -> CountSummary {
        let (summary, result) = DYNAMODB.0.block_on(self.deliver(partition, from, values));
        result.expect("storage works");
        assert_eq!(summary.counted + summary.already_counted, values.len() as u64, "{summary:?}");
        summary
    }

    /// The scheduled run at the present time.
    async fn run(&self, instance: &RankProducts) -> Result<RankOutcome, RankError> {
        let request = Request { scheduled_time: Some(self.clock.now().rfc3339()), window_end: None };
        instance.handle(&request, self.clock.now().plus(Duration::from_mins(1))).await
    }

    fn rank(&self) -> RankOutcome {
        DYNAMODB.0.block_on(self.run(&self.rank_products)).expect("storage works")
    }

    fn rank_past(&self, window: Window) -> Result<RankOutcome, RankError> {
        let request = Request { scheduled_time: None, window_end: Some(bound(window.end())) };
        DYNAMODB.0.block_on(self.rank_products.handle(&request, UnixMillis(i64::MAX)))
    }

    fn window(&self, since_start: i64) -> Window {
        Window::ended_by(UnixMillis(self.start + since_start))
    }

    fn snapshot(&self, window: Window) -> Option<Snapshot> {
        DYNAMODB.0.block_on(self.snapshots.get(window)).expect("a snapshot")
    }

    /// Deletes the counters of `window` that have expired, as TTL does. Returns how many items those were.
    fn expire(&self, window: Window) -> usize {
        let now = self.clock.now().epoch_seconds();
        let mut deleted = 0;
        for bucket in window.minutes().flat_map(Bucket::of_minute) {
            let query = self
                .client
                .query()
                .table_name(&self.tables.counters)
                .key_condition_expression("#b = :b")
                .expression_attribute_names("#b", "bucket")
                .expression_attribute_values(":b", AttributeValue::S(bucket.to_string()));
            for item in DYNAMODB.0.block_on(query.send()).expect("a query").items() {
                let expires_at: i64 = item["expires_at"].as_n().expect("a number").parse().expect("a time");
                if expires_at <= now {
                    let delete = self.client.delete_item().table_name(&self.tables.counters);
                    let delete = delete.key("bucket", item["bucket"].clone()).key("source", item["source"].clone());
                    DYNAMODB.0.block_on(delete.send()).expect("a delete");
                    deleted += 1;
                }
            }
        }
        deleted
    }
}

/// How `snapshot` differs from the plain group-by of `values`, without the movement.
fn difference(snapshot: Option<&Snapshot>, window: Window, values: &[&[u8]]) -> Option<String> {
    let counts = group_by::group(values.iter().copied()).counts;
    let (clicks, products, places) = group_by::hour(&counts, window.end().0, 100);
    let Some(snapshot) = snapshot else { return Some(format!("{}: no snapshot", bound(window.end()))) };
    let ranked: Vec<_> =
        snapshot.products.iter().map(|place| (place.rank, place.product_id.as_str(), place.clicks)).collect();
    let expected: Vec<_> = places.iter().map(|(rank, product, clicks, _)| (*rank, product.as_str(), *clicks)).collect();
    let is_equal = (snapshot.total_clicks, snapshot.distinct_products, &ranked) == (clicks, products, &expected)
        && snapshot.clicks_per_minute == group_by::minutes(&counts, window.end().0);
    (!is_equal).then(|| format!("{}: {ranked:?} of {}, not {expected:?}", bound(window.end()), snapshot.total_clicks))
}

/// 700 clicks in the hour up to the start, five minutes apart.
fn hour_of_clicks(shop: &Shop) -> Vec<Vec<u8>> {
    (0..700).map(|number| shop.click(-(1 + number % 12) * STEP, &format!("p{}", number % 7))).collect()
}

#[test]
fn a_window_whose_counters_expired_is_refused_and_its_snapshot_stays() {
    let shop = Shop::new(&[]);
    let window = shop.window(0);
    shop.count(0, 0, &hour_of_clicks(&shop));
    shop.set(MINUTE);
    assert!(shop.rank().summary.written);
    let good = shop.snapshot(window).expect("the snapshot");
    assert_eq!(good.total_clicks, 700);

    // Partly expired, then all.
    let minute = Duration::from_mins(1);
    let expires = shop.lifetimes.expires_from(window);
    let mut deleted = 0;
    for now in [expires, expires.plus(9 * minute), expires.plus(60 * minute), expires.plus(13 * 24 * 60 * minute)] {
        shop.clock.set(now);
        deleted += shop.expire(window);
        let error = shop.rank_past(window).expect_err("counters are missing");
        assert!(matches!(error, RankError::Expired { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("may have expired since") && message.contains(&bound(window.end())), "{message}");
        assert_eq!(shop.snapshot(window).as_ref(), Some(&good));
    }
    assert!(deleted >= 12, "only {deleted} items expired");
}

#[test]
fn a_window_can_be_ranked_again_until_its_first_counter_expires() {
    let shop = Shop::new(&[]);
    let window = shop.window(0);
    shop.count(0, 0, &hour_of_clicks(&shop));
    shop.set(MINUTE);
    shop.rank();
    shop.clock.set(shop.lifetimes.expires_from(window).minus(Duration::from_millis(1)));
    assert_eq!(shop.expire(window), 0);
    let again = shop.rank_past(window).expect("all counters are there");
    assert!(again.summary.written && again.snapshot.is_final);
    assert_eq!(again.snapshot.total_clicks, 700);
}

#[test]
fn a_window_whose_counters_expire_while_they_are_read_is_not_written() {
    let shop = Shop::new(&[]);
    let window = shop.window(0);
    shop.count(0, 0, &hour_of_clicks(&shop));
    let expires = shop.lifetimes.expires_from(window);
    shop.clock.set(expires.minus(Duration::from_millis(1)));
    let error = DYNAMODB.0.block_on(async {
        shop.proxy.set(Rule::Hold("Z#7"));
        let expire = async {
            shop.proxy.met.clone().wait_for(|met| *met > 0).await.expect("the proxy lives");
            shop.clock.set(expires);
            shop.proxy.set(Rule::Pass);
        };
        let request = Request { window_end: Some(bound(window.end())), scheduled_time: None };
        let ranking = shop.slow_rank_products.handle(&request, UnixMillis(i64::MAX));
        tokio::join!(ranking, expire).0.expect_err("its counters may have expired")
    });
    assert!(matches!(error, RankError::Expired { .. }), "{error}");
    assert_eq!(shop.snapshot(window), None);
}

#[test]
fn of_two_rankings_the_one_that_read_fewer_clicks_does_not_replace_the_other() {
    let shop = Shop::new(&[]);
    let window = shop.window(0);
    let values = hour_of_clicks(&shop);
    shop.count(0, 0, &values[..100]);
    shop.set(MINUTE);
    let (fewer, more) = DYNAMODB.0.block_on(async {
        shop.proxy.set(Rule::Hold("PutItem"));
        let slow = shop.run(&shop.slow_rank_products);
        let fast = async {
            shop.proxy.met.clone().wait_for(|met| *met > 0).await.expect("the proxy lives");
            // Counted past the proxy's rule, for it only holds snapshots.
            shop.deliver(0, 100, &values[100..200]).await.1.expect("storage works");
            let more = shop.run(&shop.rank_products).await.expect("storage works");
            shop.set(MINUTE + 10_000);
            shop.proxy.set(Rule::Pass);
            more
        };
        let (slow, fast) = tokio::join!(slow, fast);
        (slow.expect("storage works"), fast)
    });
    assert!(more.summary.written && !fewer.summary.written);
    assert_eq!(shop.snapshot(window).expect("a snapshot").total_clicks, 200);

    // The record stays that of the ranking whose snapshot stays, so the next run does not rank the window again.
    shop.set(STEP + MINUTE);
    assert!(!shop.rank().summary.also_ranked.contains(&bound(window.end())));
}

#[test]
fn of_two_rankings_with_as_many_clicks_the_one_that_started_later_stays() {
    let shop = Shop::new(&[]);
    let window = shop.window(0);
    shop.count(0, 0, &hour_of_clicks(&shop)[..100]);
    shop.set(MINUTE);
    let (slow, fast) = DYNAMODB.0.block_on(async {
        // The reads of the last shard: were `generated_at` taken after them, the first would seem the newer one.
        shop.proxy.set(Rule::Hold("Z#7"));
        let fast = async {
            shop.proxy.met.clone().wait_for(|met| *met > 0).await.expect("the proxy lives");
            shop.set(MINUTE + 1_000);
            let fast = shop.run(&shop.rank_products).await.expect("storage works");
            shop.set(MINUTE + 2_000);
            shop.proxy.set(Rule::Pass);
            fast
        };
        let (slow, fast) = tokio::join!(shop.run(&shop.slow_rank_products), fast);
        (slow.expect("storage works"), fast)
    });
    assert!(fast.summary.written && !slow.summary.written);
    let generated_at = shop.snapshot(window).expect("a snapshot").generated_at;
    assert_eq!(generated_at, UnixMillis(shop.start + MINUTE + 1_000), "when it began, not when it wrote");
}

#[test]
fn a_previous_snapshot_that_cannot_be_read_only_loses_the_movement() {
    let shop = Shop::new(&[]);
    let window = shop.window(STEP);
    let values = hour_of_clicks(&shop);
    shop.count(0, 0, &values);
    let broken = shop
        .client
        .put_item()
        .table_name(&shop.tables.snapshots)
        .item("board", AttributeValue::S("clicks".to_owned()))
        .item("window_end", AttributeValue::S(bound(window.previous().end())))
        .item("products", AttributeValue::S("not a list".to_owned()));
    DYNAMODB.0.block_on(broken.send()).expect("a put");
    shop.set(STEP + MINUTE);
    let ranked = shop.rank();
    assert!(ranked.summary.written);
    let snapshot = shop.snapshot(window).expect("a snapshot");
    let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
    assert_eq!(difference(Some(&snapshot), window, &values), None);
    assert!(!snapshot.products.is_empty() && snapshot.products.iter().all(|place| place.previous_rank.is_none()));
}

#[test]
fn snapshots_of_a_stall_of_twenty_minutes_heal_within_a_run_and_are_final_a_day_later() {
    let shop = Shop::new(&[]);
    let minute_of_clicks = |minute: i64| -> Vec<Vec<u8>> {
        (0..20).map(|number| shop.click(minute * MINUTE, &format!("p{}", (minute + number).rem_euclid(9)))).collect()
    };
    let mut values: Vec<_> = (-60..0).flat_map(minute_of_clicks).collect();
    shop.count(0, 0, &values);
    shop.set(MINUTE);
    shop.rank();
    // Nothing is counted for twenty minutes, and four windows are ranked.
    let mut stalled = Vec::new();
    for step in 1..=4 {
        stalled.extend((5 * (step - 1)..5 * step).flat_map(minute_of_clicks));
        shop.set(step * STEP + MINUTE);
        assert_eq!(shop.rank().summary.also_ranked, Vec::<String>::new());
    }
    let from = values.len();
    values.extend(stalled);
    let all: Vec<_> = values.iter().map(Vec::as_slice).collect();
    let affected = || shop.window(STEP).until(shop.window(4 * STEP));
    for window in affected() {
        assert!(difference(shop.snapshot(window).as_ref(), window, &all).is_some(), "it must miss minutes");
    }
    let summary = shop.count(0, from, &values[from..]);
    assert_eq!(summary.late, 400);

    shop.set(5 * STEP + MINUTE);
    let healed = shop.rank().summary.also_ranked;
    assert_eq!(healed, affected().map(|window| bound(window.end())).collect::<Vec<_>>());
    for window in affected() {
        let snapshot = shop.snapshot(window).expect("a snapshot");
        assert_eq!(difference(Some(&snapshot), window, &all), None);
        assert!(!snapshot.is_final);
    }
    shop.set(6 * STEP + MINUTE);
    assert_eq!(shop.rank().summary.also_ranked, Vec::<String>::new(), "there is nothing left to heal");

    let last = shop.window(5 * STEP);
    shop.clock.set(shop.lifetimes.final_from(last).plus(FINAL_WAIT));
    assert!(shop.rank().summary.finals >= 6);
    for window in shop.window(0).until(last) {
        let snapshot = shop.snapshot(window).expect("a snapshot");
        assert_eq!(difference(Some(&snapshot), window, &all), None);
        assert!(snapshot.is_final);
    }
}

#[test]
fn windows_before_the_first_run_of_a_new_stack_are_ranked() {
    let shop = Shop::new(&[]);
    // None of the clicks is late, and the first two runs are missed.
    let values = [shop.click(-MINUTE, "p1"), shop.click(4 * MINUTE, "p1")];
    shop.set(0);
    shop.count(0, 0, &values[..1]);
    shop.set(5 * MINUTE);
    shop.count(0, 1, &values[1..]);
    shop.set(11 * MINUTE);
    let run = shop.rank();
    assert_eq!(run.summary.also_ranked, [bound(shop.window(0).end()), bound(shop.window(5 * MINUTE).end())]);
    let clicks = [0, 5 * MINUTE].map(|end| shop.snapshot(shop.window(end)).map(|snapshot| snapshot.total_clicks));
    assert_eq!(clicks, [Some(1), Some(2)]);
    // The window before was due before anything was counted.
    assert_eq!(shop.snapshot(shop.window(-5 * MINUTE)), None);
}

#[test]
fn windows_that_were_missed_in_an_outage_of_more_than_a_day_are_ranked() {
    let shop = Shop::new(&[("MAX_EVENT_AGE", "1h"), ("RETENTION", "3h")]);
    shop.set(MINUTE);
    assert_eq!(shop.rank().summary.also_ranked, Vec::<String>::new(), "nothing is missed in a new stack");

    // Nothing is ranked for twelve days: the records of the rankings before have expired. All clicks are counted at once, so
    // no note names a window.
    let outage = 12 * 24 * 12;
    let mut values: Vec<Vec<u8>> = Vec::new();
    for step in outage - 40..=outage {
        shop.set(step * STEP);
        let clicks = vec![shop.click(step * STEP - 2 * MINUTE, &format!("p{}", step % 5)); 3];
        assert_eq!(shop.count(0, values.len(), &clicks).late, 0);
        values.extend(clicks);
    }
    let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
    let back = outage * STEP + MINUTE;
    shop.set(back);
    let oldest = shop.lifetimes.oldest_complete(shop.clock.now());
    let missed: Vec<Window> = oldest.until(shop.window(back).previous()).collect();
    assert!(missed.len() > 2 * MAX_EXTRA_WINDOWS - 2, "{}", missed.len());
    // A run that has no time for them says so.
    let request = Request { scheduled_time: Some(shop.clock.now().rfc3339()), window_end: None };
    let late = DYNAMODB.0.block_on(shop.rank_products.handle(&request, shop.clock.now().plus(EXTRA_TIME / 2)));
    let RankSummary { also_ranked, postponed, .. } = late.expect("storage works").summary;
    assert_eq!((also_ranked, postponed), (Vec::new(), MAX_EXTRA_WINDOWS as u64));

    let runs = missed.len().div_ceil(MAX_EXTRA_WINDOWS) as i64;
    for run in 0..runs {
        shop.set(back + run * MINUTE);
        assert!(!shop.rank().summary.also_ranked.is_empty(), "run {run} of {runs}");
    }
    for window in missed {
        assert_eq!(difference(shop.snapshot(window).as_ref(), window, &values), None);
    }
    shop.set(back + runs * MINUTE);
    assert_eq!(shop.rank().summary.also_ranked, Vec::<String>::new(), "there is nothing left to rank");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Success,
    /// And once more from the start, cut elsewhere: its notes are added again.
    Twice,
    /// Nothing is delivered.
    Stall,
    /// All is counted, then the invocation dies before its note.
    DiesBeforeItsNote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranking {
    Once,
    Twice,
    Missed,
    /// Two, and the one that read first writes last.
    Overlap,
}

/// Five minutes: per partition what is delivered and the clicks that were sent (minutes ago, product), then the ranking.
type Step = (Vec<(Delivery, Vec<(i64, u8)>)>, Ranking);

const PARTITIONS: usize = 2;
/// The most steps in a row in which a partition stalls or its invocations die: with clicks of up to 30 minutes before,
/// all are counted within their hour.
const LONGEST_STALL: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let delivery = prop_oneof![
        2 => Just(Delivery::Success),
        1 => Just(Delivery::Twice),
        3 => Just(Delivery::Stall),
        2 => Just(Delivery::DiesBeforeItsNote),
    ];
    let ranking = prop_oneof![
        3 => Just(Ranking::Once),
        1 => Just(Ranking::Twice),
        2 => Just(Ranking::Missed),
        2 => Just(Ranking::Overlap),
    ];
    let clicks = prop::collection::vec((prop_oneof![0..5_i64, 0..30_i64], 0..6_u8), 0..4);
    prop::collection::vec((prop::collection::vec((delivery, clicks), PARTITIONS), ranking), 12)
}

/// A partition, as far as it was written and committed.
#[derive(Default)]
struct Partition {
    values: Vec<Vec<u8>>,
    committed: usize,
    stalled: usize,
}

impl Partition {
    async fn step(&mut self, shop: &Shop, number: u32, delivery: Delivery) -> u64 {
        let delivery = if self.stalled >= LONGEST_STALL { Delivery::Success } else { delivery };
        let from = self.committed;
        if delivery == Delivery::Stall || from == self.values.len() {
            self.stalled += usize::from(from < self.values.len());
            return 0;
        }
        if delivery == Delivery::DiesBeforeItsNote {
            let met = shop.proxy.met();
            shop.proxy.set(Rule::Drop("late#"));
            let (summary, result) = shop.deliver(number, from, &self.values[from..]).await;
            shop.proxy.set(Rule::Pass);
            assert_eq!(summary.counted + summary.already_counted, (self.values.len() - from) as u64);
            assert_eq!(result.is_err(), summary.late > 0, "{result:?}");
            assert_eq!(shop.proxy.met() > met, summary.late > 0);
            if result.is_err() {
                self.stalled += 1;
                return 1;
            }
        } else {
            shop.deliver(number, from, &self.values[from..]).await.1.expect("storage works");
            if delivery == Delivery::Twice {
                let from = from / 2;
                shop.deliver(number, from, &self.values[from..]).await.1.expect("storage works");
            }
        }
        (self.committed, self.stalled) = (self.values.len(), 0);
        0
    }
}

/// Runs the steps, then without faults until all windows of their time must be final. Returns how many notes were lost in
/// a crash.
fn simulate(steps: &[Step]) -> Result<u64, TestCaseError> {
    let shop = Shop::new(&[("MAX_EVENT_AGE", "1h"), ("RETENTION", "3h")]);
    let mut partitions: Vec<Partition> = (0..PARTITIONS).map(|_| Partition::default()).collect();
    let mut lost_notes = 0;
    shop.set(MINUTE);
    shop.rank();
    for (number, (deliveries, ranking)) in (1..).zip(steps) {
        let now = number * STEP + MINUTE;
        shop.set(now);
        for (partition, (_, clicks)) in partitions.iter_mut().zip(deliveries) {
            let click = |(ago, product): &(i64, u8)| shop.click(now - MINUTE - ago * MINUTE, &format!("p{product}"));
            partition.values.extend(clicks.iter().map(click));
        }
        DYNAMODB.0.block_on(async {
            let slow = async {
                match ranking {
                    Ranking::Overlap => drop(shop.run(&shop.slow_rank_products).await.expect("storage works")),
                    Ranking::Once | Ranking::Twice => drop(shop.run(&shop.rank_products).await.expect("storage works")),
                    Ranking::Missed => {}
                }
            };
            if *ranking == Ranking::Overlap {
                // It has read, and waits to write its snapshot while clicks are counted and another run ranks.
                shop.proxy.set(Rule::Hold("clicks#minutes"));
                let met = shop.proxy.met();
                let others = async {
                    shop.proxy.met.clone().wait_for(|now| *now > met).await.expect("the proxy lives");
                    shop.set(now + 1_000);
                    for (place, (partition, (delivery, _))) in (0..).zip(partitions.iter_mut().zip(deliveries)) {
                        // The proxy has one rule at a time: the held ranking goes on after a crash.
                        lost_notes += partition.step(&shop, place, *delivery).await;
                    }
                    shop.run(&shop.rank_products).await.expect("storage works");
                    shop.proxy.set(Rule::Pass);
                };
                tokio::join!(slow, others);
            } else {
                slow.await;
                for (place, (partition, (delivery, _))) in (0..).zip(partitions.iter_mut().zip(deliveries)) {
                    lost_notes += partition.step(&shop, place, *delivery).await;
                }
                if *ranking == Ranking::Twice {
                    shop.run(&shop.rank_products).await.expect("storage works");
                }
            }
        });
    }
    for (number, partition) in (0..).zip(&mut partitions) {
        DYNAMODB.0.block_on(partition.step(&shop, number, Delivery::Success));
    }
    let values: Vec<&[u8]> = partitions.iter().flat_map(|partition| &partition.values).map(Vec::as_slice).collect();

    // All is noted. A click in a window is more than a percent of its clicks, so every window heals.
    let last_step = steps.len() as i64;
    let windows = last_step as usize + 1;
    let runs = windows.div_ceil(MAX_EXTRA_WINDOWS) as i64 + 1;
    for step in last_step + 1..=last_step + runs {
        shop.set(step * STEP + MINUTE);
        shop.rank();
    }
    for window in shop.window(0).until(shop.window((last_step + runs) * STEP)) {
        prop_assert_eq!(difference(shop.snapshot(window).as_ref(), window, &values), None, "after the healing");
    }
    // And now and then a run, until the windows must be final.
    let last = shop.window(last_step * STEP);
    let end = shop.lifetimes.final_from(last).plus(FINAL_WAIT);
    let mut step = last_step + runs;
    while UnixMillis(shop.start + step * STEP + MINUTE) <= end {
        step += 4;
        shop.set(step * STEP + MINUTE);
        shop.rank();
    }
    for window in shop.window(0).until(last) {
        let snapshot = shop.snapshot(window);
        prop_assert_eq!(difference(snapshot.as_ref(), window, &values), None, "finally");
        prop_assert!(snapshot.is_some_and(|snapshot| snapshot.is_final), "{} is not final", bound(window.end()));
    }
    Ok(lost_notes)
}

#[test]
fn whatever_delays_counting_and_ranking_every_snapshot_ends_equal_to_the_group_by() {
    let config =
        ProptestConfig { cases: 6, failure_persistence: None, max_shrink_iters: 20, ..ProptestConfig::default() };
    let lost = AtomicI64::new(0);
    let result = TestRunner::new(config).run(&steps(), |steps| {
        lost.fetch_add(simulate(&steps)? as i64, Ordering::Relaxed);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(lost.into_inner() > 0, "no note was lost in a crash");
}
