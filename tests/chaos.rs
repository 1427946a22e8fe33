//! Fault schedules: whatever fails between Kafka, the function and DynamoDB, each click is counted exactly once.
//!
//! Each schedule runs the real `count-clicks` binary under a Runtime API, feeds it from sources whose batches come
//! again, cut elsewhere, from older commits and to two functions at a time, and puts a proxy between it and DynamoDB
//! that loses, delays, repeats and refuses requests, and kills the function. When all is committed, the counters in
//! the tables must equal a group-by of what was produced, and every bad record must be noted.
//!
//! | variable | meaning |
//! |---|---|
//! | `SEED` | run this schedule only, and tell all that happens |
//! | `N` | how many schedules to run: 300, or 50 against `ENGINE_URL` |
//! | `FROM` | the first seed, 1 |
//! | `JOBS` | how many run at a time, 12 |
//! | `ENGINE_URL` | the DynamoDB to run against, instead of an embedded one for each schedule |
//!
//! It runs the `count-clicks` that `cargo build --workspace` has built: `cargo test --test chaos` does not build it anew.
//!
//! A seed decides the records, the batches' cuts, the faults of each item's first, second, … request, the kills, the
//! rebalances and the outages. It does not decide how the operating system schedules the processes: which of two
//! requests sent at the same time arrives first, and what a timeout meets. So a replay is the same schedule, and where
//! the failure hangs on such a race it may take a few.

#[path = "chaos/dice.rs"]
mod dice;
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

use std::{env, process::ExitCode, str::FromStr, time::Duration};

use futures_util::{StreamExt, stream};
use hot_products::{Clock, SystemClock};
use local_aws::{
    tables,
    template::{self, DEFAULT_STACK, TEMPLATE},
};
use tokio::time::timeout;

use self::{
    report::Tally,
    schedule::{Engine, Outcome, run},
};

/// When a schedule counts as stuck: far more than any takes on a busy machine.
const STUCK: Duration = Duration::from_mins(5);

#[tokio::main]
async fn main() -> ExitCode {
    // What libtest would make of its arguments: a list for tools, and a filter that means other tests.
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
    let count = if replayed.is_some() { 1 } else { setting("N").unwrap_or(default) };
    println!("\nrunning {count} fault schedules, seeds {first} to {}", first + count - 1);

    let mut sum = Tally::default();
    let (mut done, mut failed) = (0_u64, Vec::new());
    let mut schedules = stream::iter(first..first + count)
        .map(|seed| {
            let engine = engine.clone();
            async move {
                let schedule =
                    tokio::spawn(async move { timeout(STUCK, run(seed, &engine, replayed.is_some())).await });
                let outcome = match schedule.await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Outcome { tally: Tally::default(), wrong: vec!["stuck".into()] },
                    Err(panic) => Outcome { tally: Tally::default(), wrong: vec![panic.to_string()] },
                };
                (seed, outcome)
            }
        })
        .buffer_unordered(setting("JOBS").unwrap_or(12));
    while let Some((seed, outcome)) = schedules.next().await {
        done += 1;
        sum.add(&outcome.tally);
        if !outcome.wrong.is_empty() {
            println!("schedule {seed} FAILED, the {done}th to end; replay it by SEED={seed}");
            for wrong in outcome.wrong {
                println!("  {wrong}");
            }
            failed.push(seed);
        } else if done % 100 == 0 && done < count {
            println!("{done} schedules, {} faults, {} miscounts", sum.all_faults(), failed.len());
        }
    }

    println!("\n{:<42} {done:>10}\n{sum}{:<42} {:>10}", "schedules", "miscounts", failed.len());
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        done - failed.len() as u64,
        failed.len(),
        SystemClock.now().since(began).as_secs_f64(),
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn engine(run: i64) -> Engine {
    let Some(endpoint) = setting::<String>("ENGINE_URL") else { return Engine::Embedded };
    let client = tables::client_for(&endpoint);
    for table in template::tables(TEMPLATE, DEFAULT_STACK).expect("the template has the tables") {
        tables::create(&client, &table).await.expect("the tables can be created");
    }
    // Sources of this run only: what an earlier one counted is not in its way.
    Engine::At(endpoint, format!("chaos-{run}"))
}

/// A variable that is set, and not to the empty text.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}
