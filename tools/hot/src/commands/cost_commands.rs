//! The commands that reckon: what a load costs, and how far it can grow.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use cost_model::{
    bill::{Bill, Catalogue, Measured, Way},
    load::{Estimate, KeyedBy, Load},
    scale::{self, Taken},
};
use hot_products::Shard;
use serde_json::{Value, json};

use local_aws::template::{self, TEMPLATE};
use terminal::text::print;

use crate::show::costs;

/// The longest batch window that Lambda allows.
const LONGEST_WINDOW: Duration = Duration::from_mins(5);

/// The loads of `hot scale` and their products.
const SCALE_LOADS: [(f64, u32); 2] = [(100_000.0, 100_000), (1_000_000.0, 1_000_000)];
/// How often the larger of them is halved in the search for limits: down to 3,906 clicks a second.
const SCALE_HALVINGS: i32 = 8;
/// So many clicks of each load are simulated: enough for two digits.
const SCALE_BUDGET: u64 = 500_000;

/// Reckon a month's bill of a load, beside that of what could be run instead
///
/// Simulates some minutes of the load by the functions' own rules, and takes the prices of AWS's lists: without free
/// tiers, discounts and taxes. Clicks are Zipf-distributed over the products. What apps pay to read snapshots is not
/// in it, nor the network between zones.
#[derive(Args)]
pub(crate) struct Cost {
    /// Clicks a second, on average
    #[arg(long, value_name = "R", value_parser = rate)]
    clicks_per_second: f64,
    /// Partitions of the topic
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Products
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    products: u32,
    /// The batch window, up to 5m
    #[arg(long, default_value = "30s")]
    window: humantime::Duration,
    /// What records are keyed by: a product is always on one partition, or on all of them
    #[arg(long, default_value = "product")]
    keyed_by: Key,
    /// How far an event may lie behind the newest before it
    #[arg(long, default_value = "2s")]
    disorder: humantime::Duration,
    /// Pollers that Lambda runs; without it, as many as keep batches from filling before their window ends
    #[arg(long)]
    pollers: Option<u32>,
    /// The region whose prices to take
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Print JSON, in one line
    #[arg(long)]
    json: bool,
}

/// Show how far one table and two functions go: 100,000 and 1,000,000 clicks a second against the limits of AWS
///
/// Simulates the loads, some of their pollers for a minute, and searches from which load on each limit is exceeded.
/// Takes about a minute.
#[derive(Args)]
pub(crate) struct Scale {
    /// Partitions of the topic, one or more
    #[arg(long, value_delimiter = ',', default_value = "200,1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Vec<u32>,
    /// What records are keyed by, one or both
    #[arg(long, value_delimiter = ',', default_value = "product,user")]
    keyed_by: Vec<Key>,
    /// Partition keys of a minute. The layout has 8; this shows what another one would do
    #[arg(long, default_value_t = Shard::COUNT.into(), value_parser = clap::value_parser!(u16).range(1..=1_024))]
    shards: u16,
    /// Print JSON, in one line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    Product,
    User,
}

impl From<Key> for KeyedBy {
    fn from(key: Key) -> Self {
        match key {
            Key::Product => Self::Product,
            Key::User => Self::User,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.01..=10_000_000.0).contains(rate))
        .ok_or_else(|| "give a number from 0.01 to 10000000".to_owned())
}

pub(crate) fn cost(args: &Cost) -> Result<()> {
    let catalogue = Catalogue::read()?;
    let region = catalogue.region(&args.region)?;
    let window: Duration = args.window.into();
    ensure!(window <= LONGEST_WINDOW, "the window {} is longer than the 5m that Lambda allows", args.window);
    if let Some(pollers) = args.pollers {
        ensure!(
            (1..=args.partitions).contains(&pollers),
            "{pollers} pollers can't share {} partitions: give from 1 to as many as there are partitions",
            args.partitions
        );
    }
    let load = Load {
        window,
        disorder: args.disorder.into(),
        pollers: args.pollers,
        ..Load::new(args.clicks_per_second, args.partitions, args.products, args.keyed_by.into())
    };
    let (measured, machine) = Measured::read()?;
    let estimate = Estimate::of(&load);
    let bill = Bill::of(&load, &estimate, &measured, &region.prices, &template::sizes(TEMPLATE)?);
    let unverified: Vec<&str> =
        region.prices.all().into_iter().filter(|(_, price)| !price.verified).map(|(name, _)| name).collect();
    if args.json {
        let mut report = json!({
            "region": args.region, "currency": catalogue.currency, "prices_of": catalogue.date,
            "unverified_prices": unverified, "measured_on": machine, "ways": Way::ALL.map(Way::name),
            "load": describe(&load), "estimate": estimate,
        });
        merge(&mut report, serde_json::to_value(&bill)?);
        return print(&report.to_string());
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
        print(&format!("from memory, unverified: {}", unverified.join(", ")))?;
    }
    Ok(())
}

pub(crate) fn scale(args: &Scale) -> Result<()> {
    let (measured, machine) = Measured::read()?;
    let functions = template::sizes(TEMPLATE)?;
    let mut loads = Vec::new();
    let mut topics = Vec::new();
    for &partitions in &args.partitions {
        for &key in &args.keyed_by {
            let estimated = |clicks_per_second, products| {
                let load = Load {
                    shards: args.shards,
                    budget: SCALE_BUDGET,
                    ..Load::new(clicks_per_second, partitions, products, key.into())
                };
                let estimate = Estimate::of(&load);
                let taken = Taken::all(&estimate, &measured, &functions);
                (load, estimate, taken)
            };
            let [(some, fewer), (many, products)] = SCALE_LOADS;
            loads.push(estimated(some, fewer));
            let search = (0..=SCALE_HALVINGS).rev().map(|halvings| estimated(many / 2_f64.powi(halvings), products));
            let mut search: Vec<_> = search.collect();
            let reached = scale::reached(
                &search.iter().map(|(load, _, taken)| (load.clicks_per_second, *taken)).collect::<Vec<_>>(),
            );
            if let Some(largest) = search.pop() {
                topics.push((largest.0.clone(), reached));
                loads.push(largest);
            }
        }
    }
    if args.json {
        let loads: Vec<Value> = loads
            .iter()
            .map(|(load, estimate, limits)| json!({"load": describe(load), "estimate": estimate, "limits": limits}))
            .collect();
        let topics: Vec<Value> = topics
            .iter()
            .map(|(load, reached)| {
                let mut topic = describe(load);
                merge(&mut topic, json!({"clicks_per_second": null, "reached": reached}));
                topic
            })
            .collect();
        let report = json!({"shards": args.shards, "measured_on": machine, "loads": loads, "topics": topics});
        return print(&report.to_string());
    }
    let least = topics
        .iter()
        .flat_map(|(load, reached)| reached.iter().map(move |limit| (load, limit)))
        .filter_map(|(load, limit)| limit.clicks_per_second.map(|clicks| (load, limit.limit, clicks)))
        .min_by(|(_, _, a), (_, _, b)| a.total_cmp(b))
        .context("no limit was reached")?;
    let taken: Vec<_> = loads.into_iter().map(|(load, _, taken)| (load, taken)).collect();
    print(&format!(
        "{} partition keys a minute, batches of 30s; simulated: a minute or more of the busiest pollers and some others\n{}",
        args.shards,
        costs::taken(&taken)
    ))?;
    print(&format!("{} products\n{}", costs::whole(SCALE_LOADS[1].1.into()), costs::reached(&topics)))?;
    print(&format!(
        "first: {}, from {} clicks/s on {} partitions keyed by {}",
        least.1.name(),
        costs::rounded(least.2),
        least.0.partitions,
        least.0.keyed_by.name()
    ))
}

fn describe(load: &Load) -> Value {
    json!({
        "clicks_per_second": load.clicks_per_second,
        "partitions": load.partitions,
        "products": load.products,
        "keyed_by": load.keyed_by.name(),
        "window_seconds": load.window.as_secs_f64(),
        "disorder_seconds": load.disorder.as_secs_f64(),
    })
}

fn merge(report: &mut Value, more: Value) {
    if let (Some(report), Value::Object(more)) = (report.as_object_mut(), more) {
        report.extend(more);
    }
}
