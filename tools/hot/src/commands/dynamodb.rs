//! `hot dynamodb`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use local_aws::{
    embedded::Embedded,
    template::{self, DEFAULT_STACK, TEMPLATE},
};
use serde_json::json;
use terminal::{shutdown::Stop, text::print};

const EXAMPLES: &str = "\
Examples:
  hot dynamodb --data target/dynamodb
  hot top --endpoint-url http://127.0.0.1:8000";

/// Serve the embedded DynamoDB, with the tables created
///
/// Takes any credentials and region. Stops on Ctrl-C or SIGTERM.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DynamodbArgs {
    /// Port on 127.0.0.1; 0 for any free port
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Keep the data in this folder; without it, the data are in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print the endpoint, the data folder and the tables as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &DynamodbArgs) -> Result<()> {
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
