//! `hot board`

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use hot_products::SystemClock;
use local_aws::serve::{listen, serve};
use read_board::{Board, Caching, router};
use serde_json::json;
use terminal::{
    shutdown::Stop,
    text::{complain, print},
};

use crate::{arguments::StackArgs, aws::advise};

const EXAMPLES: &str = "\
Examples:
  hot board
  hot board --stack hot-products-test --port 8081
  hot board --endpoint-url http://127.0.0.1:8000";

/// Serve the board over existing tables: a page, and the read API behind it
///
/// Reads the tables of a stack in AWS, with the usual credentials, or of a local endpoint, and writes nothing. Serves the
/// routes of the function read-board on 127.0.0.1: /hot-products, /hot-products/history, /products/ID/clicks and
/// /openapi.json, which describes them. Stops on Ctrl-C or SIGTERM.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BoardArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Port on 127.0.0.1; 0 for any free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Print the URL, the stack and the endpoint as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &BoardArgs) -> Result<()> {
    let stop = Stop::listen()?;
    let tables = args.stack.tables().await;
    // Report unreadable tables here, and not in a browser.
    tables.snapshots.newest().await.map_err(advise)?;
    let board = Board {
        snapshots: tables.snapshots,
        counters: tables.counters,
        clock: Arc::new(SystemClock),
        caching: Caching::Private,
        on_error: |error| complain(error),
    };
    let listener = listen(args.port).await.context("give another port with --port, or 0 for any")?;
    let (url, stack, endpoint) =
        (format!("http://{}", listener.local_addr()?), &args.stack.stack, &args.stack.endpoint_url);
    print(&if args.json {
        json!({ "url": url, "stack": stack, "endpoint": endpoint }).to_string()
    } else {
        let place = endpoint.as_deref().unwrap_or("AWS");
        format!("Board on {url}, of {stack} in {place}; stop with Ctrl-C")
    })?;
    serve(listener, router(board, None), stop.asked()).await?;
    Ok(())
}
