//! The Lambda function `count-clicks`: connects the handler to the runtime.

mod body_slot;

use std::sync::Arc;

use count_clicks::{CountClicks, CountError, CountSettings};
use hot_products::{Clock, SystemClock, clock::deadline, settings::Settings, store};
use lambda_runtime::{
    Diagnostic, Error, LambdaEvent, Runtime, layers::TracingLayer, service_fn, tower::util::MapRequestLayer, tracing,
};
use serde::de::IgnoredAny;

use crate::body_slot::BodySlot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let settings = Settings::from_env();
    let client = store::client_from_env(&settings)?;
    let function = CountClicks::new(client, CountSettings::read(&settings)?, Arc::new(SystemClock));
    if let Err(error) = function.connect().await {
        // Not fatal: a function that starts while DynamoDB is unreachable works as soon as it is reachable.
        tracing::warn!(%error, "could not connect to DynamoDB before the first batch");
    }
    let function = &function;
    let body = &BodySlot::default();
    let handler = service_fn(async |event: LambdaEvent<IgnoredAny>| {
        let deadline = deadline(event.context.deadline, SystemClock.now());
        let (summary, result) = function.handle(body.take(), deadline).await;
        #[expect(clippy::print_stdout, reason = "CloudWatch reads metrics from standard output")]
        {
            let function = &event.context.env_config.function_name;
            println!("{}", summary.log_line(function, SystemClock.now(), result.as_ref().err()));
        }
        result.map(|()| summary).map_err(|error| Diagnostic {
            error_type: match &error {
                CountError::NotAnMskBatch(_) => "NotAnMskBatch",
                CountError::Storage { .. } => "Storage",
                CountError::OutOfTime { .. } => "OutOfTime",
            }
            .into(),
            error_message: error.to_string(),
        })
    });
    let fill = |invocation| body.fill(invocation);
    Runtime::new(handler).layer(TracingLayer::new()).layer(MapRequestLayer::new(fill)).run().await
}
