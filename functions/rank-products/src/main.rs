//! The Lambda function `rank-products`: connects the handler to the runtime.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use hot_products::{Clock, SystemClock, clock::deadline, settings::Settings, store};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn, tracing};
use rank_products::{RankError, RankOutcome, RankProducts, RankSettings, Request};
use tokio::runtime::Builder;

fn main() -> Result<(), Error> {
    // A function with more memory has more cores, up to six.
    let cores = available_parallelism().map_or(1, NonZero::get);
    let mut runtime = if cores > 1 { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    runtime.worker_threads(cores).enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let settings = Settings::from_env();
    let client = store::client_from_env(&settings)?;
    let function = RankProducts::new(client, RankSettings::read(&settings)?, Arc::new(SystemClock));
    if let Err(error) = function.connect().await {
        // The function still starts: it works as soon as DynamoDB can be reached.
        tracing::warn!(%error, "could not connect to DynamoDB before the first event");
    }
    let function = &function;
    run(service_fn(async |event: LambdaEvent<Request>| {
        let deadline = deadline(event.context.deadline, SystemClock.now());
        let ranked = function.handle(&event.payload, deadline).await;
        let RankOutcome { summary, .. } = ranked.map_err(|error| Diagnostic {
            error_type: match &error {
                RankError::Request(_) => "Request",
                RankError::Expired { .. } => "Expired",
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
