//! `hot topic`

use anyhow::Result;
use clap::Args;
use kafka::inspect::{self, Query};
use terminal::text::print;

use crate::arguments::{KafkaArgs, ShapeArgs};

const EXAMPLES: &str = "\
Examples:
  hot topic --brokers 127.0.0.1:9092
  hot topic --brokers 127.0.0.1:9092 --topic clicks --group hot-products-count-clicks --tail 10
  hot topic --brokers 127.0.0.1:9092 --topic clicks --partition 3 --offset 102";

/// Print a cluster's topics, the lag of a consumer group, the newest records, or one original record
///
/// For each topic, shows its partitions with their first and last offsets. The newest records are shown as the functions
/// read them, without the user id.
///
/// With --partition and --offset, shows one record as its producer wrote it: timestamp, headers, key and value. It contains
/// the user id and whatever else the producer sent. No other command shows that; who may read the topic may see it. Bytes
/// that are not text are in Base64.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TopicArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Show only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Show the committed offsets and the lag of this consumer group
    #[arg(long)]
    group: Option<String>,
    /// Show the newest N records of the topic
    #[arg(long, value_name = "N", default_value_t = 0, requires = "topic", value_parser = clap::value_parser!(u16))]
    tail: u16,
    /// Partition of the record to show as it was written
    #[arg(long, value_name = "P", requires_all = ["topic", "offset"], value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Offset of the record to show as it was written; `hot rejects` lists those of rejected records
    #[arg(long, value_name = "O", requires = "partition", conflicts_with_all = ["group", "tail"])]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub(crate) async fn run(args: &TopicArgs) -> Result<()> {
    let (cluster, shape) = (args.kafka.cluster().await?, args.shape.shape()?);
    if let (Some(topic), Some(partition), Some(offset)) = (&args.topic, args.partition, args.offset) {
        let record = inspect::original(&cluster, topic, partition, offset, &shape)?;
        return print(&if args.json { serde_json::to_string(&record)? } else { inspect::original_text(&record) });
    }
    let (topic, group) = (args.topic.as_deref(), args.group.as_deref());
    let query = Query { topic, group, tail: args.tail.into(), shape: &shape };
    let view = inspect::inspect(&cluster, query)?;
    print(&if args.json { serde_json::to_string(&view)? } else { inspect::table(&view, query.group) })
}
