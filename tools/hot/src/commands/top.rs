//! `hot top`

use std::pin::pin;

use anyhow::{Context, Result};
use clap::Args;
use console::Term;
use hot_products::{Clock, Snapshot, SystemClock, UnixMillis, Window, schedule, store::SnapshotsTable, time::bound};
use terminal::{
    shutdown::Stop,
    text::{complain, print, safe},
};

use crate::{
    arguments::StackArgs,
    aws::advise,
    parse::time,
    show,
    status::{NO_SNAPSHOT, freshness},
};

/// Lines of the `--watch` view besides the products, with room for wrapped lines.
const FRAME_LINES: usize = 11;

const EXAMPLES: &str = "\
Examples:
  hot top
  hot top --stack hot-products-test --watch
  hot top --at 2022-12-27T16:50:00Z --endpoint-url http://127.0.0.1:8000 --json";

/// Print the hot products: the newest, those of a past window, or each new snapshot
///
/// Reads the snapshots of a stack in AWS, with the usual credentials, or of a local endpoint. Each snapshot is one query.
/// Exits with 1 if there is no snapshot.
///
/// Says whether the snapshot is final or may still grow, and which topic partitions counted nothing in the last five
/// minutes of its window or longer. They had no clicks, or are behind: the tables can't tell, but `hot topic --group` and
/// the lag metric can.
///
/// With --watch, reads again when the next snapshot is due, and every 5 seconds while it is overdue. On a terminal the
/// newest snapshot replaces the one before; elsewhere each new snapshot is printed once. Ctrl-C ends it, with exit code 0.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Print the last window that had ended at this time, RFC 3339
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    at: Option<UnixMillis>,
    /// Print each new snapshot
    #[arg(long, conflicts_with = "at")]
    watch: bool,
    /// Print JSON, a line for each snapshot
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &TopArgs) -> Result<()> {
    let table = args.stack.tables().await.snapshots;
    let output = Output::choose(args);
    if args.watch {
        return watch(&table, output).await;
    }
    let snapshot = match args.at {
        None => table.newest().await.map_err(advise)?.context(NO_SNAPSHOT)?,
        Some(at) => {
            let window = Window::ended_by(at);
            let snapshot = table.get(window).await.map_err(advise)?;
            snapshot.with_context(|| format!("there is no snapshot of {}", bound(window.end())))?
        }
    };
    output.snapshot(&snapshot)
}

/// How snapshots are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Json,
    /// A table for each snapshot.
    Tables,
    /// The newest snapshot, and how fresh it is, on a cleared screen.
    Screen,
}

impl Output {
    fn choose(args: &TopArgs) -> Self {
        match args {
            TopArgs { json: true, .. } => Self::Json,
            TopArgs { watch: true, .. } if Term::stdout().is_term() => Self::Screen,
            _ => Self::Tables,
        }
    }

    /// Prints a snapshot; on a screen, [`redraw`] does.
    fn snapshot(self, snapshot: &Snapshot) -> Result<()> {
        match self {
            Self::Json => print(&serde_json::to_string(snapshot)?),
            Self::Tables => print(&format!("{}{}", show::snapshot(snapshot), show::completeness(snapshot))),
            Self::Screen => Ok(()),
        }
    }
}

/// Prints each new snapshot until it is asked to stop.
async fn watch(table: &SnapshotsTable, output: Output) -> Result<()> {
    let mut stop = pin!(Stop::listen()?.asked());
    let mut shown: Option<Snapshot> = None;
    let mut last_problem: Option<String> = None;
    let mut first = true;
    loop {
        let found = tokio::select! {
            found = table.newest() => found,
            () = &mut stop => return Ok(()),
        };
        let mut wait = schedule::RETRY;
        let problem = match found {
            Ok(Some(newest)) => {
                wait = schedule::until_next(newest.window, SystemClock.now());
                if shown.as_ref() != Some(&newest) {
                    output.snapshot(&newest)?;
                }
                shown = Some(newest);
                None
            }
            Ok(None) => Some(NO_SNAPSHOT.to_owned()),
            // A mistake in the arguments or the environment does not go away by waiting.
            Err(error) if first => return Err(advise(error)),
            Err(error) => Some(error.to_string()),
        };
        if output == Output::Screen {
            redraw(shown.as_ref(), problem.as_deref())?;
        } else if let Some(problem) = problem.as_ref().filter(|problem| last_problem.as_ref() != Some(problem)) {
            complain(problem);
        }
        (last_problem, first) = (problem, false);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// Clears the screen and shows as many products as fit, and how fresh they are.
fn redraw(snapshot: Option<&Snapshot>, problem: Option<&str>) -> Result<()> {
    let now = SystemClock.now();
    let mut text = String::new();
    if let Some(snapshot) = snapshot {
        let rows = Term::stdout().size_checked().map_or(usize::MAX, |(rows, _)| usize::from(rows));
        let completeness = show::completeness(snapshot);
        let others = FRAME_LINES + completeness.lines().count();
        text = show::snapshot_top(snapshot, rows.saturating_sub(others).max(1));
        text.push_str(&completeness);
        text.push_str(&show::status::freshness_line(&freshness(snapshot, now), now));
    }
    if let Some(problem) = problem {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&safe(problem));
    }
    let terminal = Term::buffered_stdout();
    terminal.clear_screen()?;
    terminal.write_line(&text)?;
    terminal.flush()?;
    Ok(())
}
