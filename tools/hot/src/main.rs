//! The program `hot`.

mod commands {
    pub(crate) mod board_command;
    pub(crate) mod cost_commands;
    pub(crate) mod demo_command;
    #[cfg(feature = "kafka")]
    pub(crate) mod kafka_commands;
    pub(crate) mod look_commands;
    pub(crate) mod self_commands;
}
mod product;
mod rejected;
mod show;
mod status;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand};
use hot_products::{Minute, Snapshot, UnixMillis, snapshot::MAX_TOP_N, time::bound};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use local_aws::{
    embedded::Embedded,
    tables::{self, Created},
    template::{self, DEFAULT_STACK, TEMPLATE, TableNames},
};
use serde_json::json;
use simulator::{
    generate::{self, Spec},
    replay::{self, Options, Replay},
};
use terminal::{
    shutdown::Stop,
    text::{complain, print, safe},
};

#[cfg(feature = "kafka")]
use crate::commands::kafka_commands;
use crate::commands::{board_command, cost_commands, demo_command, look_commands, self_commands};

/// Hot products on one machine: generate clicks, replay them through the real functions, look at the result.
///
/// Start with:
///
///     hot generate --events 30000 --products 500 --minutes 90 > clicks.jsonl
///     hot replay clicks.jsonl
#[derive(Parser)]
#[command(name = "hot", version, verbatim_doc_comment, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Generate(Generate),
    Replay(ReplayFile),
    Dynamodb(Dynamodb),
    Tables(Tables),
    Top(look_commands::Top),
    Product(look_commands::Product),
    Status(look_commands::Status),
    Rejects(look_commands::Rejects),
    Board(board_command::Board),
    Demo(demo_command::DemoArgs),
    #[cfg(feature = "kafka")]
    Kafka(kafka_commands::Kafka),
    #[cfg(feature = "kafka")]
    Produce(kafka_commands::Produce),
    #[cfg(feature = "kafka")]
    Topic(kafka_commands::Look),
    Cost(cost_commands::Cost),
    Scale(cost_commands::Scale),
    Completions(self_commands::Completions),
    Man(self_commands::Man),
}

/// Print tracking events as JSON lines, the same bytes for the same seed
///
/// Products are Zipf-distributed, p1 the hottest; events are spread evenly over the minutes and come out of order, as
/// producers send them.
#[derive(Args)]
struct Generate {
    /// How many events
    #[arg(long)]
    events: u64,
    /// How many products
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    products: u64,
    /// Over how many minutes of event time
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=5_256_000))]
    minutes: u64,
    /// Which stream of the kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Zipf's exponent: 0 for products that are all alike, above 1 for a few very hot ones
    #[arg(long, default_value_t = 1.0, value_parser = zipf)]
    zipf: f64,
    /// Time of the first event, RFC 3339
    #[arg(long, default_value = "2022-12-27T16:00:00Z", value_parser = time)]
    start: UnixMillis,
    /// How far an event may lie behind the newest before it, such as 30s or 2m
    #[arg(long, default_value = "30s")]
    disorder: humantime::Duration,
    /// Share of events that are no clicks, 0 to 1
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    ignored_share: f64,
    /// Share of lines that are broken, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    bad_share: f64,
    /// Events are JSON lines with and without this; here because all commands have it
    #[arg(long)]
    _json: bool,
}

/// Replay a file of events through the real functions, at the events' own time
///
/// Lines become MSK batches for count-clicks; every five minutes of event time rank-products ranks the last hour. All
/// of it runs in this process, on an embedded DynamoDB. Prints the last window; with --json, every one.
#[derive(Args)]
struct ReplayFile {
    #[expect(clippy::doc_markdown, reason = "the help is plain text")]
    /// JSON lines such as {"event_time": 1672131001234, "product_id": "p1234", "action": "click"}; - for standard input
    file: PathBuf,
    /// Print JSON: a line for each snapshot, in order, then a line with the summary
    #[arg(long, conflicts_with = "minutes")]
    json: bool,
    /// Partitions of the topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Most records in a batch
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one)]
    batch_size: usize,
    /// Products in a snapshot
    #[arg(long, default_value_t = 10, value_parser = top_n)]
    top: usize,
    /// How long after its end a window is ranked
    #[arg(long, default_value = "60s")]
    settle: humantime::Duration,
    /// Print the counts of each minute too: product, clicks, window end
    #[arg(long)]
    minutes: bool,
    /// An event further ahead than this is taken for a mistake and rejected, rather than for a quiet time
    #[arg(long, default_value = "30d")]
    max_gap: humantime::Duration,
}

/// Serve the embedded DynamoDB, with the tables created
#[derive(Args)]
struct Dynamodb {
    /// Port on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Keep the data in this folder; without it, data are in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print endpoint, data folder and tables as JSON, in one line
    #[arg(long)]
    json: bool,
}

/// Create the tables on a DynamoDB endpoint; existing ones are left as they are
#[derive(Args)]
struct Tables {
    /// The endpoint, such as <http://127.0.0.1:8000>
    #[arg(long, value_name = "URL")]
    endpoint_url: String,
    /// The stack whose tables they are: their names begin with it
    #[arg(long, default_value = DEFAULT_STACK)]
    stack: String,
    /// Print JSON: a line for each table, and whether it was created
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<UnixMillis, String> {
    UnixMillis::parse_rfc3339(text).map_err(|_| "give an RFC 3339 time such as 2022-12-27T16:50:00Z".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "give a number from 0 to 1".to_owned())
}

fn zipf(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|a| (0.0..=10.0).contains(a)).ok_or_else(|| "give a number from 0 to 10".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "give a whole number from 1".to_owned())
}

fn top_n(text: &str) -> Result<usize, String> {
    at_least_one(text)
        .ok()
        .filter(|number| *number <= MAX_TOP_N)
        .ok_or_else(|| format!("give a whole number from 1 to {MAX_TOP_N}"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(args) => generate(&args),
        Command::Replay(args) => replay_file(&args).await,
        Command::Dynamodb(args) => dynamodb(&args).await,
        Command::Tables(args) => create_tables(&args).await,
        Command::Top(args) => look_commands::top(&args).await,
        Command::Product(args) => look_commands::product(&args).await,
        Command::Status(args) => look_commands::status(&args).await,
        Command::Rejects(args) => look_commands::rejects(&args).await,
        Command::Board(args) => board_command::board(&args).await,
        Command::Demo(args) => demo_command::demo(&args).await,
        #[cfg(feature = "kafka")]
        Command::Kafka(args) => kafka_commands::kafka(&args).await,
        #[cfg(feature = "kafka")]
        Command::Produce(args) => kafka_commands::produce(&args).await,
        #[cfg(feature = "kafka")]
        Command::Topic(args) => kafka_commands::topic(&args),
        Command::Cost(args) => cost_commands::cost(&args),
        Command::Scale(args) => cost_commands::scale(&args),
        Command::Completions(args) => self_commands::completions(&args, Cli::command()),
        Command::Man(args) => self_commands::man(&args, Cli::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has read enough, as in `hot generate … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn generate(args: &Generate) -> Result<()> {
    let spec = Spec {
        events: args.events,
        products: args.products,
        minutes: args.minutes,
        seed: args.seed,
        zipf: args.zipf,
        start: args.start,
        disorder: args.disorder.into(),
        ignored_share: args.ignored_share,
        bad_share: args.bad_share,
    };
    generate::write(&spec, BufWriter::new(io::stdout().lock())).context("can't write the events")
}

/// Shows a replay's progress on a terminal, and its snapshots as they come.
struct Watch {
    json: bool,
    bar: ProgressBar,
    unshown_bytes: u64,
    windows: u64,
    last: Option<Snapshot>,
}

impl replay::Progress for Watch {
    fn read(&mut self, bytes: u64, now: Option<UnixMillis>) {
        self.unshown_bytes += bytes;
        if self.unshown_bytes >= 1 << 16 {
            self.bar.inc(std::mem::take(&mut self.unshown_bytes));
            self.bar.set_message(now.map(|now| bound(Minute::of(now).start())).unwrap_or_default());
        }
    }

    fn ranked(&mut self, snapshot: &Snapshot) -> Result<()> {
        if self.json {
            print(&serde_json::to_string(snapshot)?)?;
        }
        self.windows += 1;
        self.last = Some(snapshot.clone());
        self.bar.tick();
        Ok(())
    }
}

async fn replay_file(args: &ReplayFile) -> Result<()> {
    let (input, length): (Box<dyn BufRead>, Option<u64>) = if args.file.as_os_str() == "-" {
        (Box::new(BufReader::new(io::stdin())), None)
    } else {
        let file = File::open(&args.file).with_context(|| format!("can't open {}", args.file.display()))?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            bail!("{} is a folder; give a file of JSON lines, or -", args.file.display());
        }
        (Box::new(BufReader::with_capacity(1 << 16, file)), metadata.is_file().then_some(metadata.len()))
    };
    let options = Options {
        partitions: args.partitions,
        batch_size: args.batch_size,
        top: args.top,
        settle: args.settle.into(),
        max_gap: args.max_gap.into(),
    };

    let dynamodb = Embedded::start(0, None).await?;
    let mut replay = Replay::new(&dynamodb.client(), &TableNames::of(DEFAULT_STACK), options)?;
    let mut watch = Watch { json: args.json, bar: progress_bar(length)?, unshown_bytes: 0, windows: 0, last: None };
    let summary = replay.run(input, &mut watch).await?;
    watch.bar.finish_and_clear();

    if args.json {
        print(&json!({ "summary": summary }).to_string())?;
    } else {
        if args.minutes {
            print(&format!("{:>10}  {:<20}  product", "clicks", "window end"))?;
            replay
                .minutes(|minute, product, clicks| {
                    print(&format!("{clicks:>10}  {}  {}", bound(minute.end()), safe(product)))
                })
                .await?;
            print("")?;
        }
        if let Some(snapshot) = &watch.last {
            print(&show::snapshot(snapshot))?;
        }
        print(&format!(
            "{} records: {} counted, {} ignored, {} stale, {} rejected, {} already counted\n\
             {} windows; {} batches made {} updates of {} write units",
            summary.records,
            summary.counted,
            summary.ignored,
            summary.stale,
            summary.rejected,
            summary.already_counted,
            watch.windows,
            summary.batches,
            summary.updates,
            summary.write_units,
        ))?;
    }
    let mut stderr = io::stderr().lock();
    for kind in replay.not_counted() {
        writeln!(
            stderr,
            "hot: {} records not counted, {}: first in line {}",
            kind.records, kind.reason, kind.first_line
        )?;
    }
    dynamodb.stop().await
}

fn progress_bar(length: Option<u64>) -> Result<ProgressBar> {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    let template = match length {
        Some(_) => "{bar:30} {percent:>3} %  {binary_bytes_per_sec}  at {msg}  {eta} left",
        None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  at {msg}",
    };
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}

async fn dynamodb(args: &Dynamodb) -> Result<()> {
    let stop = Stop::listen()?;
    let dynamodb = Embedded::start(args.port, args.data.as_deref()).await?;
    let tables: Vec<String> = template::tables(TEMPLATE, DEFAULT_STACK)?.into_iter().map(|table| table.name).collect();
    if args.json {
        print(&json!({ "endpoint": dynamodb.endpoint(), "data": args.data, "tables": tables }).to_string())?;
    } else {
        let kept = match &args.data {
            Some(folder) => format!("data in {}", folder.display()),
            None => "data in memory".to_owned(),
        };
        print(&format!("DynamoDB on {}, {kept}; stop with Ctrl-C", dynamodb.endpoint()))?;
        for table in tables {
            print(&format!("table {table}"))?;
        }
    }
    stop.asked().await;
    dynamodb.stop().await
}

async fn create_tables(args: &Tables) -> Result<()> {
    let client = tables::client(Some(&args.endpoint_url)).await;
    for table in template::tables(TEMPLATE, &args.stack)? {
        let created = tables::create(&client, &table).await? == Created::New;
        print(&if args.json {
            json!({ "table": table.name, "created": created }).to_string()
        } else {
            format!("{} {}", if created { "created" } else { "existing" }, table.name)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_is_for_and_has_json() {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        program.clone().debug_assert();
        for command in program.get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says nothing");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {} says nothing", argument.get_id());
            }
            // What these print, other programs read in a format of theirs.
            let others = matches!(name, "completions" | "man");
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(json || others, "{name} has no --json");
        }
    }
}
