//! `hot scale`

use anyhow::{Context, Result};
use clap::Args;
use cost_model::{
    bill::Measured,
    load::{Estimate, Load},
    scale::{self, Limit, Reached, Taken},
};
use hot_products::Bucket;
use local_aws::template::{self, StackSizes, TEMPLATE};
use serde::Serialize;
use terminal::text::print;

use crate::{
    load::{Key, LoadReport},
    show::costs,
};

/// The first load shown for each topic: clicks per second and products.
const LOWER: (f64, u32) = (100_000.0, 100_000);
/// The second load. It is halved in the search for the limits.
const UPPER: (f64, u32) = (1_000_000.0, 1_000_000);
/// How often the second load is halved: down to 3,906 clicks per second.
const HALVINGS: i32 = 8;
/// Clicks to simulate for each load: enough for two digits.
const BUDGET: u64 = 500_000;

const EXAMPLES: &str = "\
Examples:
  hot scale
  hot scale --partitions 200 --keyed-by user --json";

/// Show how far one table and two functions scale, against the limits of AWS
///
/// Simulates a minute of 100,000 and of 1,000,000 clicks per second, with some of the pollers, and searches for the load at
/// which each limit is exceeded. Takes about a minute.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ScaleArgs {
    /// Partitions of the topic, one or more numbers
    #[arg(long, value_delimiter = ',', default_value = "200,1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Vec<u32>,
    /// What the records are keyed by, one or both
    #[arg(long, value_delimiter = ',', default_value = "product,user")]
    keyed_by: Vec<Key>,
    /// Memory of rank-products in MB. Its cores grow with it, up to six
    #[arg(long, default_value_t = 10_240, value_parser = clap::value_parser!(u32).range(128..=10_240))]
    rank_memory: u32,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ScaleArgs) -> Result<()> {
    let (measured, machine) = Measured::read()?;
    let functions = StackSizes { rank_memory_mb: args.rank_memory.into(), ..template::sizes(TEMPLATE)? };
    let mut loads = Vec::new();
    let mut topics = Vec::new();
    for &partitions in &args.partitions {
        for &key in &args.keyed_by {
            let simulate = |(clicks_per_second, products): (f64, u32)| {
                let load = Load { budget: BUDGET, ..Load::new(clicks_per_second, partitions, products, key.into()) };
                let estimate = Estimate::of(&load);
                let limits = Taken::all(&estimate, &measured, &functions);
                SimulatedLoad { load, estimate, limits }
            };
            loads.push(simulate(LOWER));
            let (most, products) = UPPER;
            let mut search: Vec<SimulatedLoad> =
                (0..=HALVINGS).rev().map(|halvings| simulate((most / 2_f64.powi(halvings), products))).collect();
            let points: Vec<_> = search.iter().map(|point| (point.load.clicks_per_second, point.limits)).collect();
            let reached = scale::reached(&points);
            if let Some(largest) = search.pop() {
                topics.push((largest.load.clone(), reached));
                loads.push(largest);
            }
        }
    }
    if args.json {
        let report = ScaleReport {
            partition_keys_per_minute: Bucket::PER_MINUTE,
            measured_on: &machine,
            loads: loads.iter().map(SimulatedLoadReport::of).collect(),
            topics: topics.iter().map(TopicReport::of).collect(),
        };
        return print(&serde_json::to_string(&report)?);
    }
    let (topic, first, clicks_per_second) = first_limit(&topics).context("no limit was reached")?;
    let taken: Vec<_> = loads.into_iter().map(|simulated| (simulated.load, simulated.limits)).collect();
    print(&format!(
        "{} partition keys a minute, batches of 30s; simulated: a minute or more of the busiest pollers and some others\n{}",
        Bucket::PER_MINUTE,
        costs::taken(&taken)
    ))?;
    print(&format!("{} products\n{}", costs::whole(UPPER.1.into()), costs::reached(&topics)))?;
    print(&format!(
        "first: {}, from {} clicks/s on {} partitions keyed by {}",
        first.name(),
        costs::rounded(clicks_per_second),
        topic.partitions,
        topic.keyed_by.name()
    ))
}

/// The limit that is reached at the lowest load, with its topic and that load in clicks per second.
fn first_limit(topics: &[(Load, [Reached; 6])]) -> Option<(&Load, Limit, f64)> {
    topics
        .iter()
        .flat_map(|(load, reached)| reached.iter().map(move |limit| (load, limit)))
        .filter_map(|(load, reached)| Some((load, reached.limit, reached.clicks_per_second?)))
        .min_by(|(_, _, a), (_, _, b)| a.total_cmp(b))
}

struct SimulatedLoad {
    load: Load,
    estimate: Estimate,
    limits: [Taken; 6],
}

#[derive(Serialize)]
struct ScaleReport<'a> {
    /// How many partition keys a minute of counters is spread over.
    partition_keys_per_minute: u8,
    /// The machine on which the CPU times were measured.
    measured_on: &'a str,
    loads: Vec<SimulatedLoadReport<'a>>,
    topics: Vec<TopicReport<'a>>,
}

#[derive(Serialize)]
struct SimulatedLoadReport<'a> {
    load: LoadReport,
    estimate: &'a Estimate,
    limits: &'a [Taken],
}

impl<'a> SimulatedLoadReport<'a> {
    fn of(simulated: &'a SimulatedLoad) -> Self {
        Self { load: LoadReport::of(&simulated.load), estimate: &simulated.estimate, limits: &simulated.limits }
    }
}

#[derive(Serialize)]
struct TopicReport<'a> {
    #[serde(flatten)]
    load: LoadReport,
    reached: &'a [Reached],
}

impl<'a> TopicReport<'a> {
    fn of((load, reached): &'a (Load, [Reached; 6])) -> Self {
        let mut load = LoadReport::of(load);
        load.clicks_per_second = None;
        Self { load, reached }
    }
}
