//! `hot tables`

use anyhow::Result;
use clap::Args;
use local_aws::{
    tables::{self, Created},
    template::{self, TEMPLATE},
};
use serde_json::json;
use terminal::text::print;

use crate::arguments::StackArgs;

const EXAMPLES: &str = "\
Examples:
  hot tables --endpoint-url http://127.0.0.1:8000
  hot tables --endpoint-url http://127.0.0.1:4566 --stack hot-products-test --json";

/// Create the tables on a DynamoDB endpoint, such as an emulator
///
/// The tables have the keys and the TTL of the stack's template. Existing tables are left as they are. In AWS, the stack
/// creates its tables itself.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
#[command(mut_arg("endpoint_url", |argument| {
    argument.required(true).help("The DynamoDB endpoint, such as `http://127.0.0.1:8000`")
}))]
pub(crate) struct TablesArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Print JSON: a line for each table, with whether it was created
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &TablesArgs) -> Result<()> {
    let client = args.stack.client().await;
    for table in template::tables(TEMPLATE, &args.stack.stack)? {
        let created = tables::create(&client, &table).await? == Created::New;
        print(&if args.json {
            json!({ "table": table.name, "created": created }).to_string()
        } else {
            format!("{} {}", if created { "created" } else { "existing" }, table.name)
        })?;
    }
    Ok(())
}
