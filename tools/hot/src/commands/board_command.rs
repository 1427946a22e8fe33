//! The command that serves the board.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use hot_products::{
    SystemClock,
    store::{CountersTable, SnapshotsTable},
};
use local_aws::{
    serve::{listen, serve},
    tables,
    template::{DEFAULT_STACK, TableNames},
};
use read_board::{Caching, router};
use serde_json::json;

use terminal::{
    shutdown::Stop,
    text::{complain, print},
};

/// Serve the board over existing tables: a page, and the read API it uses
///
/// Reads the tables of a stack in AWS, with the usual credentials, or of a local endpoint, and writes nothing. Answers
/// on 127.0.0.1 with the routes of the function read-board: /hot-products, /hot-products/history, /products/ID/clicks and
/// /openapi.json, which describes them. Stops on Ctrl-C or SIGTERM.
#[derive(Args)]
pub(crate) struct Board {
    /// The endpoint, such as <http://127.0.0.1:8000>; without it, AWS
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The stack whose tables they are: their names begin with it
    #[arg(long, default_value = DEFAULT_STACK)]
    stack: String,
    /// Port on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Print where it is served as JSON, in one line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn board(args: &Board) -> Result<()> {
    let stop = Stop::listen()?;
    let client = tables::client(args.endpoint_url.as_deref()).await;
    let names = TableNames::of(&args.stack);
    let snapshots = SnapshotsTable::new(client.clone(), names.snapshots);
    // Now, not in somebody's browser, is the time to say that the tables can't be read.
    snapshots.newest().await.map_err(tables::advise)?;
    let board = read_board::Board {
        snapshots,
        counters: CountersTable::new(client, names.counters),
        clock: Arc::new(SystemClock),
        caching: Caching::Private,
        on_error: |error| complain(&error.to_string()),
    };
    let listener = listen(args.port).await?;
    let (url, stack) = (format!("http://{}", listener.local_addr()?), &args.stack);
    print(&if args.json {
        json!({ "url": url, "stack": stack, "endpoint": args.endpoint_url }).to_string()
    } else {
        let place = args.endpoint_url.as_deref().unwrap_or("AWS");
        format!("Board on {url}, of {stack} in {place}; stop with Ctrl-C")
    })?;
    serve(listener, router(board, None), stop.asked()).await?;
    Ok(())
}
