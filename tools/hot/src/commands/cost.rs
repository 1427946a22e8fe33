//! `hot cost`

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use cost_model::{
    bill::{Bill, Catalogue, Measured, Way},
    load::{Estimate, Load},
};
use hot_products::defaults::{BATCH_WINDOW, MAX_EVENT_AGE};
use humantime::format_duration;
use local_aws::template::{self, TEMPLATE};
use serde::Serialize;
use terminal::text::print;

use crate::{
    load::{Key, LoadReport},
    parse::{duration, number},
    show::costs,
};

/// The longest batch window of an event source mapping (AWS Lambda, `MaximumBatchingWindowInSeconds`).
const MAX_WINDOW: Duration = Duration::from_mins(5);

const EXAMPLES: &str = "\
Examples:
  hot cost --clicks-per-second 1000 --partitions 12 --products 20000
  hot cost --clicks-per-second 50 --partitions 3 --products 2000 --keyed-by user --region eu-central-1";

/// Estimate the monthly bill of a load, beside the bills of the alternatives
///
/// Simulates some minutes of the load by the rules of the functions, and takes AWS's list prices, without free tiers,
/// discounts and taxes. The popularity of products has a Zipf distribution. The bill contains neither what apps pay to read
/// snapshots nor the traffic between zones.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CostArgs {
    /// Clicks per second, on average
    #[arg(long, value_name = "R", value_parser = number(0.01..=10_000_000.0))]
    clicks_per_second: f64,
    /// Partitions of the topic
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Number of products
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    products: u32,
    /// The batch window, up to 5m
    #[arg(long, default_value_t = BATCH_WINDOW.into(), value_parser = duration::<humantime::Duration>)]
    window: humantime::Duration,
    /// What the records are keyed by
    #[arg(long, default_value = "product")]
    keyed_by: Key,
    /// Largest delay of an event behind the newest event before it
    #[arg(long, default_value = "2s", value_parser = duration::<Duration>)]
    disorder: Duration,
    /// Share of the clicks that arrive after their window was ranked, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = number(0.0..=1.0))]
    late_share: f64,
    /// How late these are, at most
    #[arg(long, default_value_t = MAX_EVENT_AGE.into(), value_parser = duration::<humantime::Duration>)]
    late_by: humantime::Duration,
    /// Pollers that Lambda runs; without it, as many as prevent full batches
    #[arg(long)]
    pollers: Option<u32>,
    /// The region whose prices to take
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &CostArgs) -> Result<()> {
    let catalogue = Catalogue::read()?;
    let region = catalogue.region(&args.region)?;
    let load = args.load()?;
    let (measured, machine) = Measured::read()?;
    let estimate = Estimate::of(&load);
    let bill = Bill::of(&load, &estimate, &measured, &region.prices, &template::sizes(TEMPLATE)?);
    let unverified: Vec<&str> =
        region.prices.all().into_iter().filter(|(_, price)| !price.verified).map(|(name, _)| name).collect();
    if args.json {
        let report = CostReport {
            region: &args.region,
            currency: &catalogue.currency,
            prices_of: &catalogue.date,
            unverified_prices: &unverified,
            measured_on: &machine,
            ways: Way::ALL.map(Way::name),
            load: LoadReport::of(&load),
            estimate: &estimate,
            bill: &bill,
        };
        return print(&serde_json::to_string(&report)?);
    }
    print(&format!(
        "{} clicks/s on {} products and {} partitions, keyed by {}, batches of {}; {} ({}), {} of {}\n{}",
        args.clicks_per_second,
        costs::whole(args.products.into()),
        args.partitions,
        load.keyed_by.name(),
        args.window,
        region.name,
        args.region,
        catalogue.currency,
        catalogue.date,
        costs::bill(&bill)
    ))?;
    print(&format!(
        "{:.2} write units for 1,000 clicks; {:.2} batches a second of {} clicks and {:.0} updates; {} pollers, {} simulated",
        estimate.write_units_per_1000_clicks,
        estimate.batches_per_second,
        costs::whole(estimate.records_per_batch),
        estimate.updates_per_second / estimate.batches_per_second,
        estimate.pollers,
        estimate.simulated_pollers,
    ))?;
    if !unverified.is_empty() {
        print(&format!("prices from memory, not verified: {}", unverified.join(", ")))?;
    }
    Ok(())
}

impl CostArgs {
    fn load(&self) -> Result<Load> {
        ensure!(
            *self.window <= MAX_WINDOW,
            "the window {} is longer than the {} that Lambda allows",
            self.window,
            format_duration(MAX_WINDOW)
        );
        if let Some(pollers) = self.pollers {
            ensure!(
                (1..=self.partitions).contains(&pollers),
                "{pollers} pollers can't share {} partitions: give a number from 1 to the number of partitions",
                self.partitions
            );
        }
        Ok(Load {
            window: self.window.into(),
            late_share: self.late_share,
            late_by: self.late_by.into(),
            disorder: self.disorder,
            pollers: self.pollers,
            ..Load::new(self.clicks_per_second, self.partitions, self.products, self.keyed_by.into())
        })
    }
}

#[derive(Serialize)]
struct CostReport<'a> {
    region: &'a str,
    currency: &'a str,
    /// The date of the prices.
    prices_of: &'a str,
    unverified_prices: &'a [&'a str],
    /// The machine on which the CPU times were measured.
    measured_on: &'a str,
    ways: [&'static str; 4],
    load: LoadReport,
    estimate: &'a Estimate,
    #[serde(flatten)]
    bill: &'a Bill,
}
