//! The command that shows it all at work.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use hot_products::{
    Clock, SystemClock,
    store::{CountersTable, SnapshotsTable},
};
use indicatif::{ProgressBar, ProgressStyle};
use local_aws::{
    embedded::Embedded,
    serve::{listen, serve},
    template::{DEFAULT_STACK, TableNames},
};
use read_board::{Board, Caching, router};
use serde_json::json;

use simulator::demo::{self, Demo, Options};
use terminal::{
    shutdown::Stop,
    text::{complain, print},
};

/// How long the shop has been open when the page appears: twelve snapshots of a full hour.
const PAST: Duration = Duration::from_mins(122);

/// Show it all at work: a shop's clicks, the real functions, and a page to watch them
///
/// Makes up a shop whose products come into fashion and go out of it, and runs its clicks through count-clicks and
/// rank-products on an embedded DynamoDB, in time that runs faster than ours. The page on 127.0.0.1 shows the hot
/// products as they change, and how the pipeline is: a button delivers the last batch again, one sends garbage, and
/// neither moves a count. The DynamoDB is there for other commands too: `hot top --endpoint-url URL`. Nothing is kept.
/// Stops on Ctrl-C or SIGTERM.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// How many times as fast as ours the demo's time runs, 1 to 600
    #[arg(long, default_value_t = 60.0, value_parser = speed)]
    speed: f64,
    /// Port of the page on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// How many products the shop has
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    products: u32,
    /// Clicks a second of the demo's time, on average, 0.1 to 1000
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    clicks_per_second: f64,
    /// Which stream of the kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print where it is served as JSON, in one line
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|speed| (1.0..=600.0).contains(speed)).ok_or_else(|| "give a number from 1 to 600".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.1..=1000.0).contains(rate));
    rate.ok_or_else(|| "give a number from 0.1 to 1000".into())
}

pub(crate) async fn demo(args: &DemoArgs) -> Result<()> {
    let stop = Stop::listen()?;
    let listener = listen(args.port).await.context("give another port with --port, or 0 for any")?;
    let dynamodb = Embedded::start(0, None).await?;
    let (endpoint, client, tables) = (dynamodb.endpoint(), dynamodb.client(), TableNames::of(DEFAULT_STACK));
    let options = Options {
        speed: args.speed,
        products: args.products,
        clicks_per_second: args.clicks_per_second,
        seed: args.seed,
        past: PAST,
    };
    let bar = ProgressBar::new(PAST.as_secs() / 60);
    bar.set_style(ProgressStyle::with_template("the shop's last two hours {bar:30} {percent:>3} %")?);
    let (demo, handle) =
        Demo::prepare(&client, endpoint.clone(), &tables, options, SystemClock.now(), |_| bar.inc(1)).await?;
    bar.finish_and_clear();

    let board = Board {
        snapshots: SnapshotsTable::new(client.clone(), tables.snapshots),
        counters: CountersTable::new(client, tables.counters),
        clock: handle.clock(),
        // A browser measures lifetimes by its own clock.
        caching: Caching::Never,
        on_error: |error| complain(&error.to_string()),
    };
    let url = format!("http://{}", listener.local_addr()?);
    print(&if args.json {
        json!({ "url": url, "endpoint": endpoint, "speed": args.speed }).to_string()
    } else {
        format!(
            "Hot products on {url}, {} times as fast as life; stop with Ctrl-C\n\
             DynamoDB on {endpoint}, as for: hot top --endpoint-url {endpoint}",
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
