//! `hot kafka`

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use hot_products::defaults::BATCH_SIZE;
use kafka::{
    invoke::Function,
    source::{self, SourceOptions, StartOffset},
};
use serde_json::json;
use terminal::{shutdown::Stop, text::print};

use crate::{
    arguments::KafkaArgs,
    parse::{duration, whole},
};

const EXAMPLES: &str = "\
Examples:
  hot kafka --brokers 127.0.0.1:9092 --topic clicks
  hot kafka --brokers b-1.example:9096 -X @kafka.conf --topic clicks --window 30s";

/// Deliver a topic's records to a function, as Lambda's event source does
///
/// Consumes the topic with a consumer group, and invokes the function with MSK batches, one at a time, through Lambda's
/// Invoke API. `cargo lambda watch` serves that API, and so do emulators of AWS. A batch is committed when the function has
/// succeeded, and redelivered without limit while it fails. Each delivery is one line on standard error.
///
/// Ctrl-C or SIGTERM stops it when the running invocation has ended; a second signal stops it at once.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The consumer group
    #[arg(long, default_value = "hot-products")]
    group: String,
    /// Where a group without committed offsets starts
    #[arg(long, value_enum, default_value_t = Start::Earliest)]
    start: Start,
    /// URL of the Invoke API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    function: String,
    /// Name of the function at the Invoke API
    #[arg(long, value_name = "NAME", default_value = "count-clicks")]
    function_name: String,
    /// Largest number of records in a batch; its payload is at most 6 MB
    #[arg(long, default_value_t = BATCH_SIZE, value_parser = whole(1..=BATCH_SIZE))]
    batch_size: usize,
    /// How long to collect records for a batch that is not full
    #[arg(long, default_value = "5s", value_parser = duration::<Duration>)]
    window: Duration,
    /// How long to wait for the function's answer
    #[arg(long, default_value = "90s", value_parser = duration::<Duration>)]
    timeout: Duration,
    /// Longest wait between two deliveries of a batch that fails
    #[arg(long, default_value = "30s", value_parser = duration::<Duration>)]
    max_backoff: Duration,
    /// Print JSON on standard output: a line at the start, and a line with what was delivered at the end
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Start {
    /// At the oldest record
    Earliest,
    /// After the newest record; the first assignment commits that place, so that a restart skips nothing
    Latest,
}

pub(crate) async fn run(args: &SourceArgs) -> Result<()> {
    let stop = Stop::listen()?;
    let function = Function::new(&args.function, &args.function_name, args.timeout)?;
    let options = SourceOptions {
        topic: args.topic.clone(),
        group: args.group.clone(),
        start: match args.start {
            Start::Earliest => StartOffset::Earliest,
            Start::Latest => StartOffset::Latest,
        },
        batch_size: args.batch_size,
        window: args.window,
        max_backoff: args.max_backoff,
    };
    if args.json {
        let start = json!({ "topic": options.topic, "group": options.group, "function": function.url().to_string() });
        print(&start.to_string())?;
    }
    let delivered = source::run(&args.kafka.cluster().await?, &function, &options, stop.asked()).await?;
    if args.json {
        print(&json!({ "summary": delivered }).to_string())?;
    }
    Ok(())
}
