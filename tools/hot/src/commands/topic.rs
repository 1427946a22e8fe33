//! `hot topic`

use anyhow::Result;
use clap::Args;
use kafka::inspect::{self, Query};
use terminal::text::print;

use crate::arguments::KafkaArgs;

const EXAMPLES: &str = "\
Examples:
  hot topic --brokers 127.0.0.1:9092
  hot topic --brokers 127.0.0.1:9092 --topic clicks --group hot-products-count-clicks --tail 10";

/// Print a cluster's topics, the lag of a consumer group, and the newest records
///
/// For each topic, shows its partitions with their first and last offsets. Records are shown as the functions read them, without the user id.
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
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &TopicArgs) -> Result<()> {
    let query = Query { topic: args.topic.as_deref(), group: args.group.as_deref(), tail: args.tail.into() };
    let view = inspect::inspect(&args.kafka.cluster(), query)?;
    print(&if args.json { serde_json::to_string(&view)? } else { inspect::table(&view, query.group) })
}
