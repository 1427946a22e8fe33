//! `hot product`

use anyhow::Result;
use clap::{Args, builder::RangedU64ValueParser};
use hot_products::{Clock, Minute, ProductId, SystemClock, UnixMillis};
use read_board::{clicks, query::Minutes};
use terminal::text::print;

use crate::{arguments::StackArgs, aws::advise, parse::time, show};

/// A day. The read API takes fewer, because anybody may ask it.
const MAX_MINUTES: u64 = 1440;

const EXAMPLES: &str = "\
Examples:
  hot product p1234
  hot product p1234 --minutes 240 --at 2022-12-27T16:50:00Z
  hot product p1234 --endpoint-url http://127.0.0.1:8000 --json";

/// Print a product's clicks in each of the last minutes
///
/// Shows the last full minutes before now, or before --at, summed over all topic partitions. Clicks that arrive late are
/// missing until they are counted. Counters expire (after a day or so; the parameter Retention of the stack): older minutes
/// show no clicks.
///
/// Makes two queries for each minute. A query costs half a read unit for each 4 KB of one eighth of that minute's counters.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProductArgs {
    /// The product id, as in the click events
    #[arg(value_name = "ID", value_parser = product_id)]
    id: ProductId<'static>,
    #[command(flatten)]
    stack: StackArgs,
    /// Number of minutes, up to a day
    #[arg(long, default_value_t = 60, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_MINUTES))]
    minutes: usize,
    /// Show the minutes before this time, RFC 3339; without it, before now
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    at: Option<UnixMillis>,
    /// Print one line of JSON, the same as the read API's
    #[arg(long)]
    json: bool,
}

fn product_id(text: &str) -> Result<ProductId<'static>, String> {
    ProductId::parse(text.to_owned().into()).map_err(|_| format!("give an id of 1 to {} bytes", ProductId::MAX_BYTES))
}

pub(crate) async fn run(args: &ProductArgs) -> Result<()> {
    let counters = args.stack.tables().await.counters;
    let end = args.at.unwrap_or_else(|| SystemClock.now());
    let minutes = Minutes { minutes: args.minutes, to: Minute::of(end).start() };
    let clicks = clicks::read(&counters, &args.id, minutes).await.map_err(advise)?;
    print(&if args.json { serde_json::to_string(&clicks)? } else { show::product::clicks(&clicks) })
}
