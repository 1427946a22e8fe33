//! The Lambda function `count-clicks`: wires the handler to the runtime.

use std::sync::Arc;

use count_clicks::{CountClicks, CountError, CountSettings};
use hot_products::{Clock, SystemClock, UnixMillis, settings::Settings, store};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn, tracing};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let settings = Settings::from_env();
    let client = store::client_from_env(&settings)?;
    let function = CountClicks::new(client, CountSettings::read(&settings)?, Arc::new(SystemClock));
    if let Err(error) = function.connect().await {
        // Not the end: a function that starts while DynamoDB is away works when it is back.
        tracing::warn!(%error, "could not open the connection to DynamoDB ahead of the first batch");
    }
    let function = &function;
    run(service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let deadline = UnixMillis(event.context.deadline.try_into().unwrap_or(i64::MAX));
        let (summary, result) = function.handle(event.payload.get(), deadline).await;
        #[expect(clippy::print_stdout, reason = "CloudWatch reads metrics from standard output")]
        {
            println!("{}", summary.log_line(SystemClock.now(), result.as_ref().err()));
        }
        result.map(|()| summary).map_err(|error| Diagnostic {
            error_type: match &error {
                CountError::NoBatch(_) => "NoBatch",
                CountError::Storage { .. } => "Storage",
                CountError::OutOfTime { .. } => "OutOfTime",
            }
            .into(),
            error_message: error.to_string(),
        })
    }))
    .await
}
