//! The Lambda function `rank-products`: wires the handler to the runtime.

use std::sync::Arc;

use hot_products::{Clock, SystemClock, settings::Settings, store};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn, tracing};
use rank_products::{RankError, RankProducts, RankSettings, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let settings = Settings::from_env();
    let client = store::client_from_env(&settings)?;
    let function = RankProducts::new(client, RankSettings::read(&settings)?, Arc::new(SystemClock));
    if let Err(error) = function.connect().await {
        // Not the end: a function that starts while DynamoDB is away works when it is back.
        tracing::warn!(%error, "could not open the connection to DynamoDB ahead of the first event");
    }
    let function = &function;
    run(service_fn(async |event: LambdaEvent<Request>| {
        let summary = function.handle(&event.payload).await.map_err(|error| Diagnostic {
            error_type: match &error {
                RankError::Request(_) => "Request",
                RankError::Storage(_) => "Storage",
            }
            .into(),
            error_message: error.to_string(),
        })?;
        #[expect(clippy::print_stdout, reason = "CloudWatch reads metrics from standard output")]
        {
            println!("{}", summary.log_line(&event.context.env_config.function_name, SystemClock.now()));
        }
        Ok::<_, Diagnostic>(summary)
    }))
    .await
}
