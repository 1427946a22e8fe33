//! Fault schedules: each click is counted exactly once, whatever fails between Kafka, the function and DynamoDB, and each
//! snapshot ends up right, whatever delays counting and ranking.
//!
//! Most schedules are about counting. Each of them runs the real `count-clicks` binary under a Runtime API. Its batches are redelivered, with other
//! boundaries, from older commits, and to two functions at a time. A proxy between the function and DynamoDB loses, delays,
//! repeats, refuses and throttles requests, and kills the function. At the end, when everything is committed, the counters
//! must equal a group-by of the produced records, every bad record must be among the rejected events, and the late clicks
//! must be noted.
//!
//! One in eight is about [healing]: both functions run in this process, with a clock that moves by hours.
//!
//! With `PREVIOUS`, two [versions] take turns on one stream: this one, and the binaries of the previous release.
//!
//! | variable | meaning |
//! |---|---|
//! | `SEED` | run only this schedule, and print what happens |
//! | `N` | number of schedules: 300, or 50 against `ENGINE_URL`; of 50 or more, a minimum of faults is required |
//! | `FROM` | the first seed, 1 |
//! | `JOBS` | number of concurrent schedules, 12 |
//! | `HEALING_EVERY` | one in this many schedules is about healing, 8 |
//! | `FAIL_FAST` | if set, stop at the first failure |
//! | `ENGINE_URL` | a DynamoDB endpoint, instead of an embedded DynamoDB for each schedule |
//! | `PREVIOUS` | a folder with the functions of the previous release, as `make test-versions` builds them |
//!
//! The test runs the `count-clicks` that `cargo build --workspace` has built; `cargo test --test chaos` does not build it.
//!
//! A seed determines the records, the batch boundaries, the faults of each item's first, second, … request, the kills, the
//! rebalances and the outages. It does not determine the order of concurrent requests and timeouts, which depends on the
//! operating system. So a failure that depends on such a race may need several replays.

#[path = "chaos/capacity.rs"]
mod capacity;
#[path = "chaos/dice.rs"]
mod dice;
#[path = "chaos/healing.rs"]
mod healing;
#[path = "chaos/kafka.rs"]
mod kafka;
#[path = "chaos/lambda.rs"]
mod lambda;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/report.rs"]
mod report;
#[path = "chaos/schedule.rs"]
mod schedule;
#[path = "chaos/versions.rs"]
mod versions;

use std::{env, process::ExitCode, str::FromStr, time::Duration};

use futures_util::{StreamExt, stream};
use hot_products::{Clock, SystemClock};
use local_aws::{
    tables,
    template::{self, DEFAULT_STACK, TEMPLATE},
};
use tokio::{runtime::Builder, time::timeout};

use self::{
    report::Tally,
    schedule::{Engine, ScheduleResult, run},
    versions::Versions,
};

/// After this time a schedule has failed: much longer than any takes on a busy machine.
const STUCK: Duration = Duration::from_mins(5);

/// The fewest schedules that must reach a minimum of faults and refusals.
const ENOUGH: u64 = 50;

/// One in this many schedules is about healing, unless `HEALING_EVERY` is set. It takes a few seconds of computing.
const HEALING_EVERY: u64 = 8;

#[tokio::main]
async fn main() -> ExitCode {
    // The arguments of libtest: a list for tools, and a filter for other tests.
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("chaos: test");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| !argument.starts_with('-') && !"chaos".contains(argument.as_str())) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s");
        return ExitCode::SUCCESS;
    }

    let began = SystemClock.now();
    let replayed: Option<u64> = setting("SEED");
    let engine = engine(began.0).await;
    let default = if matches!(engine, Engine::Embedded) { 300 } else { 50 };
    let first = replayed.or_else(|| setting("FROM")).unwrap_or(1);
    let healing_every = setting("HEALING_EVERY").unwrap_or(HEALING_EVERY);
    let count = if replayed.is_some() { 1 } else { setting("N").unwrap_or(default) };
    println!("\nrunning {count} fault schedules, seeds {first} to {}", first + count - 1);
    let versions = Versions::new(setting("PREVIOUS"));
    if versions.are_two() && !versions.share_tables().await {
        println!("test result: ok. The versions share no tables, and each refuses those of the other.\n");
        return ExitCode::SUCCESS;
    }

    let mut sum = Tally::default();
    let (mut done, mut failed) = (0_u64, Vec::new());
    let mut schedules = stream::iter(first..first + count)
        .map(|seed| {
            let (engine, versions) = (engine.clone(), versions.clone());
            async move {
                let verbose = replayed.is_some();
                let schedule = if seed.is_multiple_of(healing_every) {
                    // The handlers stay on one thread, as in Lambda.
                    tokio::task::spawn_blocking(move || {
                        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
                        runtime.block_on(async { timeout(STUCK, healing::run(seed, &engine, verbose)).await })
                    })
                } else {
                    tokio::spawn(async move { timeout(STUCK, run(seed, &engine, versions, verbose)).await })
                };
                let outcome = match schedule.await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => ScheduleResult { tally: Tally::default(), wrong: vec!["stuck".into()] },
                    Err(panic) => ScheduleResult { tally: Tally::default(), wrong: vec![panic.to_string()] },
                };
                (seed, outcome)
            }
        })
        .buffer_unordered(setting("JOBS").unwrap_or(12));
    while let Some((seed, outcome)) = schedules.next().await {
        done += 1;
        sum.add(&outcome.tally);
        if !outcome.wrong.is_empty() {
            println!("schedule {seed} FAILED, the {done}th to end; replay it with SEED={seed}");
            for wrong in outcome.wrong {
                println!("  {wrong}");
            }
            failed.push(seed);
            if env::var_os("FAIL_FAST").is_some() {
                break;
            }
        } else if done % 100 == 0 && done < count {
            println!("{done} schedules, {} faults, {} miscounts", sum.all_faults(), failed.len());
        }
    }

    println!("\n{:<42} {done:>10}\n{sum}{:<42} {:>10}", "schedules", "miscounts", failed.len());
    // A few schedules may lack some kinds.
    let shortfalls = if done < ENOUGH { Vec::new() } else { sum.shortfalls(done, versions.are_two()) };
    for shortfall in &shortfalls {
        println!("too few {shortfall}");
    }
    let succeeded = failed.is_empty() && shortfalls.is_empty();
    let result = if succeeded { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        done - failed.len() as u64,
        failed.len(),
        SystemClock.now().since(began).as_secs_f64(),
    );
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn engine(run: i64) -> Engine {
    let Some(endpoint) = setting::<String>("ENGINE_URL") else { return Engine::Embedded };
    let client = tables::client_for(&endpoint);
    for table in template::tables(TEMPLATE, DEFAULT_STACK).expect("the template has the tables") {
        tables::create(&client, &table).await.expect("the tables can be created");
    }
    // A topic of this run only, because the tables may contain items of earlier runs.
    Engine::At(endpoint, format!("chaos-{run}"))
}

/// The value of an environment variable that is set and not empty.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}
