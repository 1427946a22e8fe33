//! `hot produce`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use kafka::produce::{self, Produced};
use serde_json::json;
use terminal::text::print;

use crate::arguments::{Input, KafkaArgs, ShapeArgs};

const EXAMPLES: &str = "\
Examples:
  hot produce --brokers 127.0.0.1:9092 --topic clicks clicks.jsonl
  hot produce --brokers b-1.shop.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098 --iam --topic clicks clicks.jsonl
  hot generate --events 200000 --products 5000 --minutes 30 |
    hot produce --brokers 127.0.0.1:9092 --topic clicks --create-partitions 12";

/// Write lines to a topic, each as a record
///
/// Every line becomes the value of a record, even a broken one. The product id of an event becomes the record's key. Fails
/// unless every record is delivered.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic
    #[arg(long)]
    topic: String,
    /// Create the topic with this number of partitions if it does not exist
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    create_partitions: Option<i32>,
    /// The lines; - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Print what was delivered as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub(crate) async fn run(args: &ProduceArgs) -> Result<()> {
    let (cluster, topic) = (args.kafka.cluster().await?, &args.topic);
    let (input, shape) = (Input::open(&args.file)?, args.shape.shape()?);
    let partitions = produce::prepare(&cluster, topic, args.create_partitions).await?;
    let Produced { records, keyed } = produce::produce(&cluster, topic, &shape, input.lines)?;
    print(&if args.json {
        json!({ "topic": topic, "partitions": partitions, "records": records, "keyed": keyed }).to_string()
    } else {
        format!(
            "{records} records delivered to {topic} ({partitions} partitions), {keyed} of them with a product as key"
        )
    })
}
