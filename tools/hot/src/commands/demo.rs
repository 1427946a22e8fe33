//! `hot demo`

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use hot_products::{
    Clock, SystemClock,
    store::{CountersTable, SnapshotsTable},
};
use local_aws::{
    embedded::Embedded,
    serve::{listen, serve},
};
use read_board::{Board, Caching, router};
use serde_json::json;
use simulator::demo::{self, Demo, DemoOptions};
use terminal::{
    shutdown::Stop,
    text::{complain, print},
};

use crate::{parse::number, progress};

/// How long the shop has been open when the page appears: long enough for twelve snapshots of a full hour.
const PAST: Duration = Duration::from_mins(122);

const EXAMPLES: &str = "\
Examples:
  hot demo
  hot demo --speed 300 --products 200 --clicks-per-second 50";

/// Run a simulated shop, and serve a page that shows its hot products
///
/// Products of the shop come into fashion and go out of it. Their clicks run through count-clicks and rank-products on an
/// embedded DynamoDB, in time that runs faster than real time. The page on 127.0.0.1 shows the hot products as they
/// change, and the state of the pipeline. One button redelivers the last batch, another sends garbage: neither changes a
/// count. Other commands can read the DynamoDB too, with `hot top --endpoint-url URL`. Nothing is kept. Stops on Ctrl-C or
/// SIGTERM.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// How many times faster than real time the shop's time runs, 1 to 600
    #[arg(long, default_value_t = 60.0, value_parser = number(1.0..=600.0))]
    speed: f64,
    /// Port of the page on 127.0.0.1; 0 for any free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Number of products in the shop
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    products: u32,
    /// Clicks in each second of the shop's time, on average, 0.1 to 1000
    #[arg(long, default_value_t = 20.0, value_parser = number(0.1..=1000.0))]
    clicks_per_second: f64,
    /// Seed of the random numbers: another seed gives another shop of the same kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the URL, the DynamoDB endpoint and the speed as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &DemoArgs) -> Result<()> {
    let stop = Stop::listen()?;
    let listener = listen(args.port).await.context("give another port with --port, or 0 for any")?;
    let dynamodb = Embedded::start(0, None).await?;
    let (endpoint, client, tables) = (dynamodb.endpoint(), dynamodb.client(), dynamodb.tables());
    let options = DemoOptions {
        speed: args.speed,
        products: args.products,
        clicks_per_second: args.clicks_per_second,
        seed: args.seed,
        past: PAST,
    };
    let bar = progress::bar(Some(PAST.as_secs() / 60), "the shop's last two hours {bar:30} {percent:>3} %")?;
    let (demo, handle) = Demo::prepare(&dynamodb, options, SystemClock.now(), |_| bar.inc(1)).await?;
    bar.finish_and_clear();

    let board = Board {
        snapshots: SnapshotsTable::new(client.clone(), tables.snapshots),
        counters: CountersTable::new(client, tables.counters),
        clock: handle.clock(),
        // A browser measures lifetimes in real time.
        caching: Caching::Never,
        on_error: |error| complain(error),
    };
    let url = format!("http://{}", listener.local_addr()?);
    print(&if args.json {
        json!({ "url": url, "endpoint": endpoint, "speed": args.speed }).to_string()
    } else {
        format!(
            "Hot products on {url}, {} times faster than real time; stop with Ctrl-C\n\
             DynamoDB on {endpoint}, for example for: hot top --endpoint-url {endpoint}",
            args.speed,
        )
    })?;
    let router = demo::routes(handle).merge(router(board, Some(demo::PIPELINE)));
    tokio::select! {
        served = serve(listener, router, stop.asked()) => served?,
        ran = demo.run(&SystemClock) => ran?,
    }
    dynamodb.stop().await
}
