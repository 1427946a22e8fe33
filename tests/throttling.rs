//! Progress under a ceiling: three pollers share a table with few write units per second. Each delivery must count clicks
//! that were not counted before, and refused writes must not use up the units.
//!
//! Each partition has one large batch, which Lambda redelivers until an invocation succeeds. The real `count-clicks` runs
//! with its default settings, except for the invocation's time. A first run without a ceiling measures the units that the
//! load needs.
//!
//! | variable | meaning |
//! |---|---|
//! | `CEILINGS` | write units per second, `2,5,10` by default; one run for each, concurrently |
//! | `BURST` | how many seconds unused units are kept, 1 by default |
//! | `MINUTES` | the number of minutes with clicks, 5 by default; each needs eight items per partition |
//! | `SECONDS` | the time limit; by default 1.3 times the time for the units at the ceiling, plus 30 s |
//!
//! It runs the `count-clicks` that `cargo build --workspace` has built.

// The fault schedules use the rest of these modules.
#[allow(dead_code)]
#[path = "chaos/capacity.rs"]
mod capacity;
#[allow(dead_code)]
#[path = "chaos/dice.rs"]
mod dice;
#[allow(dead_code)]
#[path = "chaos/lambda.rs"]
mod lambda;
#[allow(dead_code)]
#[path = "chaos/proxy.rs"]
mod proxy;
#[allow(dead_code)]
#[path = "chaos/report.rs"]
mod report;

use std::{collections::HashMap, env, fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use hot_products::{Clock, Minute, SystemClock, UnixMillis};
use hot_products_tests::{
    binary,
    group_by::{Counts, group},
    parts,
};
use local_aws::{
    embedded::Embedded,
    msk,
    template::{DEFAULT_STACK, TableNames},
};
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use self::{
    capacity::Ceiling,
    lambda::{Ended, Function},
    proxy::{Proxy, Rates, Running, Setup},
    report::Tally,
};

const TOPIC: &str = "clicks";
const POLLERS: usize = 3;
/// The time of an invocation: shorter than the function's minute in AWS, so that a batch needs several deliveries.
const INVOCATION: Duration = Duration::from_secs(20);
/// The pause before a failed batch is redelivered.
const PAUSE: Duration = Duration::from_millis(500);
/// The most units that a run under a ceiling may use, in percent of those of a run without one.
const MAX_UNITS_PERCENT: u64 = 130;
/// A ceiling that throttles nothing; the run only counts its units.
const UNLIMITED: u32 = 1_000_000_000;

/// The result of a run.
struct Report {
    units_per_second: u32,
    time: Duration,
    deliveries: u64,
    /// Failed deliveries without an applied update.
    without_progress: u64,
    succeeded: usize,
    tally: Tally,
    is_right: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { units_per_second, time, deliveries, without_progress, succeeded, tally, is_right } = self;
        write!(
            f,
            "{units_per_second} units per second, {:.0} s: {} units used, of these {} for refused writes; {} updates \
             applied, {} refused, {} throttled; {deliveries} deliveries, {without_progress} without progress; \
             {succeeded} of {POLLERS} batches done, counts {}",
            time.as_secs_f64(),
            tally.units,
            tally.refused_units,
            tally.applied,
            tally.refused,
            tally.throttled,
            if *is_right { "right" } else { "incomplete" },
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_makes_progress_under_any_ceiling() {
    let minutes = setting("MINUTES").unwrap_or(5);
    let free = run(UNLIMITED, minutes, Duration::from_mins(5)).await;
    println!("without a ceiling, {free}");
    assert!(free.is_right && free.succeeded == POLLERS && free.tally.throttled == 0, "{free}");

    let ceilings: String = setting("CEILINGS").unwrap_or_else(|| "2,5,10".into());
    let ceilings = ceilings.split(',').map(|units| units.trim().parse::<u32>().expect("CEILINGS are numbers"));
    let runs = ceilings.map(|units| {
        let needed = free.tally.units * MAX_UNITS_PERCENT / 100 / u64::from(units);
        run(units, minutes, Duration::from_secs(setting("SECONDS").unwrap_or(needed + 30)))
    });
    let reports = join_all(runs).await;
    for report in &reports {
        println!("{report}");
    }
    for report in &reports {
        assert!(report.tally.throttled > 0, "the ceiling throttles: {report}");
        assert_eq!(report.without_progress, 0, "each delivery makes progress: {report}");
        assert!(report.is_right && report.succeeded == POLLERS, "all is counted: {report}");
        assert!(report.tally.units * 100 <= free.tally.units * MAX_UNITS_PERCENT, "refused writes are few: {report}");
    }
}

/// Delivers the batches until all have succeeded, or until `most` has passed.
async fn run(units_per_second: u32, minutes: i64, most: Duration) -> Report {
    let dynamodb = Embedded::start(0, None).await.expect("an embedded DynamoDB starts");
    let tables = TableNames::of(DEFAULT_STACK);
    let proxy = Proxy::new(Setup {
        seed: 0,
        verbose: false,
        engine: dynamodb.endpoint(),
        rates: Rates::default(),
        ceiling: Some(Ceiling {
            table: tables.counters.clone(),
            units_per_second,
            burst: Duration::from_secs(setting("BURST").unwrap_or(1)),
        }),
        pollers: POLLERS,
        names: HashMap::new(),
        rebalance: Box::new(|_| {}),
    });
    let base = Minute::of(SystemClock.now().minus(Duration::from_hours(1))).start();
    let began = SystemClock.now();
    let pollers = (0..POLLERS).map(|poller| {
        let proxy = Arc::clone(&proxy);
        let settings = [("COUNTERS_TABLE", tables.counters.clone()), ("REJECTS_TABLE", tables.rejects.clone())];
        tokio::spawn(async move {
            let (mut deliveries, mut without_progress) = (0, 0);
            let batch = event(base, poller, minutes);
            let done =
                timeout(most, deliver(&proxy, poller, &settings, &batch, (&mut deliveries, &mut without_progress)));
            let succeeded = done.await.is_ok();
            (deliveries, without_progress, succeeded)
        })
    });
    let pollers = join_all(pollers).await.into_iter().map(|poller| poller.expect("a poller does not panic"));
    let time = SystemClock.now().since(began);
    let mut report = Report {
        units_per_second,
        time,
        deliveries: 0,
        without_progress: 0,
        succeeded: 0,
        tally: Tally::default(),
        is_right: false,
    };
    for (deliveries, without_progress, succeeded) in pollers {
        report.deliveries += deliveries;
        report.without_progress += without_progress;
        report.succeeded += usize::from(succeeded);
    }
    report.tally = proxy.tally.lock().expect("no panic").clone();
    report.is_right = parts::counted(&dynamodb.client(), &tables.counters).await == expected(base, minutes);
    report
}

/// Delivers `batch` until an invocation succeeds. Counts the deliveries, and those that failed without progress.
async fn deliver(
    proxy: &Arc<Proxy>,
    poller: usize,
    settings: &[(&'static str, String)],
    batch: &Bytes,
    (deliveries, without_progress): (&mut u64, &mut u64),
) {
    let (address, line) = proxy.open(poller);
    let mut settings = settings.to_vec();
    settings.push(("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{address}")));
    let mut function = Function::start(&binary("count-clicks"), &settings, false).await;
    loop {
        let (kill, killed) = oneshot::channel();
        *proxy.running[poller].lock().expect("no panic") = Running { kill: Some(kill), ..Running::default() };
        let ended = function.invoke(batch.clone(), INVOCATION, killed).await;
        let succeeded = matches!(ended, Ended::Response(_));
        let applied = proxy.running[poller].lock().expect("no panic").applied;
        *deliveries += 1;
        *without_progress += u64::from(!succeeded && applied == 0);
        if succeeded {
            break;
        }
        if function.is_gone() {
            function = Function::start(&binary("count-clicks"), &settings, false).await;
        }
        sleep(PAUSE).await;
    }
    function.kill().await;
    line.abort();
}

/// The values of a partition's records: clicks on 100 products in each minute, so that every shard has some.
fn values(base: UnixMillis, partition: usize, minutes: i64) -> Vec<Vec<u8>> {
    let click = |(minute, product): (i64, i64)| {
        let time = base.0 + minute * 60_000 + product;
        let product = format!("p{partition}-{product}");
        json!({"event_time": time, "product_id": product, "action": "click"}).to_string().into_bytes()
    };
    (0..minutes).flat_map(|minute| (0..100).map(move |product| (minute, product))).map(click).collect()
}

fn event(base: UnixMillis, partition: usize, minutes: i64) -> Bytes {
    let values = values(base, partition, minutes);
    let record = |(offset, value): (i64, &Vec<u8>)| {
        let position = msk::Position { topic: TOPIC, partition: partition as u32, offset };
        msk::record(position, base, None, Some(value))
    };
    let records = (0..).zip(&values).map(record).collect();
    let event = msk::event(HashMap::from([(format!("{TOPIC}-{partition}"), records)]));
    serde_json::to_vec(&event).expect("an event is JSON").into()
}

fn expected(base: UnixMillis, minutes: i64) -> Counts {
    let values: Vec<_> = (0..POLLERS).flat_map(|partition| values(base, partition, minutes)).collect();
    group(values.iter().map(Vec::as_slice)).counts
}

/// The value of an environment variable that is set and not empty.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}
