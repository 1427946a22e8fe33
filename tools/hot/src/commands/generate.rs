//! `hot generate`

use std::{
    io::{self, BufWriter},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use click_generator::Spec;
use hot_products::UnixMillis;

use crate::parse::{duration, number, share, time};

const EXAMPLES: &str = "\
Examples:
  hot generate --events 30000 --products 500 --minutes 90 > clicks.jsonl
  hot generate --events 1000 --products 20 --minutes 10 --bad-share 0.05 --seed 7";

/// Print tracking events as JSON lines
///
/// The popularity of products has a Zipf distribution, with p1 as the hottest product. Events are spread evenly over the
/// minutes and are slightly out of order, as real producers send them. The same options and seed always give the same
/// bytes.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct GenerateArgs {
    /// Number of events
    #[arg(long)]
    events: u64,
    /// Number of products
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    products: u64,
    /// Minutes of event time over which the events are spread
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=5_256_000))]
    minutes: u64,
    /// Seed of the random numbers: another seed gives another stream of the same kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exponent of the Zipf distribution: 0 for equally popular products, above 1 for a few very hot ones
    #[arg(long, default_value_t = 1.0, value_parser = number(0.0..=10.0))]
    zipf: f64,
    /// Time of the first event, RFC 3339
    #[arg(long, default_value = "2022-12-27T16:00:00Z", value_parser = time)]
    start: UnixMillis,
    /// Largest delay of an event behind the newest event before it, such as 30s or 2m
    #[arg(long, default_value = "30s", value_parser = duration::<Duration>)]
    disorder: Duration,
    /// Share of events that are not clicks, 0 to 1
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    ignored_share: f64,
    /// Share of broken lines, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    bad_share: f64,
    /// No effect: the output is always JSON lines. Accepted because all commands have it
    #[arg(long)]
    _json: bool,
}

pub(crate) fn run(args: &GenerateArgs) -> Result<()> {
    let spec = Spec {
        events: args.events,
        products: args.products,
        minutes: args.minutes,
        seed: args.seed,
        zipf: args.zipf,
        start: args.start,
        disorder: args.disorder,
        ignored_share: args.ignored_share,
        bad_share: args.bad_share,
    };
    click_generator::write(&spec, BufWriter::new(io::stdout().lock())).context("can't write the events")
}
