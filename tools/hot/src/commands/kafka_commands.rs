//! The commands that talk to Kafka.

use std::{
    fs::File,
    future::Future,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use kafka::{
    Cluster, Setting,
    invoke::Function,
    look::{self, Question},
    produce,
    source::{self, Options},
};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use terminal::text::print;

use crate::at_least_one;

/// Where Kafka is.
#[derive(Args)]
struct Connection {
    /// Some of the cluster's brokers, host:port with commas between them
    #[arg(long)]
    brokers: String,
    /// A setting of librdkafka's, such as security.protocol=ssl; -X @FILE takes a file of them, one a line
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
}

impl Connection {
    fn cluster(&self) -> Cluster {
        Cluster { brokers: self.brokers.clone(), settings: self.settings.clone() }
    }
}

/// Hand a topic's records to a function, as Lambda's event source does
///
/// Consumes with a consumer group and invokes the function with MSK batches, one at a time, through Lambda's Invoke API:
/// `cargo lambda watch` serves one, and so do emulators. Commits a batch when the function has answered; delivers it again,
/// for ever, while the function fails. Prints a line for each delivery on standard error. Stops on Ctrl-C or SIGTERM when
/// the function has answered; on a second one at once.
#[derive(Args)]
pub(crate) struct Kafka {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The consumer group
    #[arg(long, default_value = "hot-products")]
    group: String,
    /// Where a group that has committed nothing begins
    #[arg(long, value_enum, default_value_t = Start::Earliest)]
    start: Start,
    /// The Invoke API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    function: String,
    /// The function's name there
    #[arg(long, value_name = "NAME", default_value = "count-clicks")]
    function_name: String,
    /// Most records in a batch; its payload measures 6 MB at most
    #[arg(long, default_value_t = 10_000, value_parser = batch_size)]
    batch_size: usize,
    /// How long a batch that is not full gathers records
    #[arg(long, default_value = "5s", value_parser = span)]
    window: Duration,
    /// How long the function may take to answer
    #[arg(long, default_value = "90s", value_parser = span)]
    timeout: Duration,
    /// The longest wait between two deliveries of a batch
    #[arg(long, default_value = "30s", value_parser = span)]
    max_backoff: Duration,
    /// Print JSON on standard output: a line at the start, and one at the end with what was delivered
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Start {
    /// With the oldest record
    Earliest,
    /// With the next record to come
    Latest,
}

/// Fill a topic with lines, each of them a record
///
/// Any line becomes a record's value, even a broken one; an event's product id becomes its key.
/// Fails unless every record is delivered. For example:
///
///     hot generate --events 200000 --products 5000 --minutes 30 |
///         hot produce --brokers 127.0.0.1:9092 --topic clicks --create-partitions 12
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Produce {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    #[arg(long)]
    topic: String,
    /// Create the topic with so many partitions, if it is not there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    create_partitions: Option<i32>,
    /// The lines; - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Print what was delivered as JSON, in one line
    #[arg(long)]
    json: bool,
}

/// Look into a cluster: its topics, their partitions, a group's lag, the newest records
///
/// Records show as what the functions make of them, without the user.
#[derive(Args)]
pub(crate) struct Look {
    #[command(flatten)]
    connection: Connection,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Show what this consumer group has committed, and its lag
    #[arg(long)]
    group: Option<String>,
    /// Show the topic's newest N records
    #[arg(long, value_name = "N", default_value_t = 0, requires = "topic", value_parser = clap::value_parser!(u16))]
    tail: u16,
    /// Print JSON, in one line
    #[arg(long)]
    json: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("give a time span such as 500ms, 5s or 2m: {error}"))
}

fn batch_size(text: &str) -> Result<usize, String> {
    at_least_one(text)
        .ok()
        .filter(|number| *number <= 10_000)
        .ok_or_else(|| "give a whole number from 1 to 10000".to_owned())
}

pub(crate) async fn kafka(args: &Kafka) -> Result<()> {
    let function = Function::new(&args.function, &args.function_name, args.timeout)?;
    let options = Options {
        topic: args.topic.clone(),
        group: args.group.clone(),
        start: match args.start {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
        },
        batch_size: args.batch_size,
        window: args.window,
        max_backoff: args.max_backoff,
    };
    if args.json {
        let start = json!({ "topic": options.topic, "group": options.group, "function": function.url().to_string() });
        print(&start.to_string())?;
    }
    let delivered = source::run(&args.connection.cluster(), &function, &options, stop()?).await?;
    if args.json {
        print(&json!({ "summary": delivered }).to_string())?;
    }
    Ok(())
}

/// Ready on the first SIGINT or SIGTERM. A second one ends the process.
fn stop() -> Result<impl Future<Output = ()>> {
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (first, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        either(&mut interrupts, &mut terminations).await;
        drop(first);
        either(&mut interrupts, &mut terminations).await;
        process::exit(130);
    });
    Ok(async {
        // The sender is dropped, and never sends.
        let _dropped = stopped.await;
    })
}

async fn either(interrupts: &mut Signal, terminations: &mut Signal) {
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
}

pub(crate) async fn produce(args: &Produce) -> Result<()> {
    let cluster = args.connection.cluster();
    let input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(BufReader::with_capacity(1 << 16, io::stdin()))
    } else {
        let file = File::open(&args.file).with_context(|| format!("can't open {}", args.file.display()))?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let partitions = produce::prepare(&cluster, &args.topic, args.create_partitions).await?;
    let produced = produce::produce(&cluster, &args.topic, input)?;
    let produce::Produced { records, keyed } = produced;
    let topic = &args.topic;
    print(&if args.json {
        json!({ "topic": topic, "partitions": partitions, "records": records, "keyed": keyed }).to_string()
    } else {
        format!(
            "{records} records delivered to {topic} ({partitions} partitions), {keyed} of them with a product as key"
        )
    })
}

pub(crate) fn topic(args: &Look) -> Result<()> {
    let question = Question { topic: args.topic.as_deref(), group: args.group.as_deref(), tail: args.tail.into() };
    let view = look::look(&args.connection.cluster(), question)?;
    print(&if args.json { serde_json::to_string(&view)? } else { look::show(&view, question.group) })
}
