//! The Lambda function `read-board`: connects the routes to the runtime.

use std::sync::Arc;

use hot_products::{
    SystemClock, UnixMillis, Window,
    settings::Settings,
    store::{self, CountersTable, SnapshotsTable},
};
use lambda_http::{Error, run, tracing};
use read_board::{Board, BoardSettings, router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let environment = Settings::from_env();
    let settings = BoardSettings::read(&environment)?;
    let client = store::client_from_env(&environment)?;
    let board = Board {
        snapshots: SnapshotsTable::new(client.clone(), settings.snapshots_table),
        counters: CountersTable::new(client, settings.counters_table),
        clock: Arc::new(SystemClock),
        caching: settings.caching,
        on_error: |error| tracing::error!(%error, "a table could not be read"),
    };
    if let Err(error) = board.snapshots.get(Window::ended_by(UnixMillis(0))).await {
        // The function still starts: it works as soon as DynamoDB can be reached.
        tracing::warn!(%error, "could not connect to DynamoDB before the first request");
    }
    run(router(board, None)).await
}
