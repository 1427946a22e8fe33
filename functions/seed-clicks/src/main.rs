//! The Lambda function `seed-clicks`: connects the handler to the runtime.

use std::sync::Arc;

use hot_products::{Clock, SystemClock, clock::deadline, settings::Settings};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn, tracing};
use seed_clicks::{Request, SeedClicks, SeedError, SeedSettings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let function = SeedClicks::new(SeedSettings::read(&Settings::from_env())?, Arc::new(SystemClock))?;
    let function = &function;
    run(service_fn(async |event: LambdaEvent<Request>| {
        let deadline = deadline(event.context.deadline, SystemClock.now());
        function.handle(&event.payload, deadline).await.map_err(|error| Diagnostic {
            error_type: match &error {
                SeedError::Request(_) => "Request",
                SeedError::OutOfTime { .. } => "OutOfTime",
                _ => "Kafka",
            }
            .into(),
            error_message: error.to_string(),
        })
    }))
    .await
}
