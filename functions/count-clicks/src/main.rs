//! The Lambda function `count-clicks`: wires the handler to the runtime.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use count_clicks::{CountClicks, CountError, CountSettings};
use hot_products::{Clock, SystemClock, clock::deadline, settings::Settings, store};
use lambda_runtime::{
    Diagnostic, Error, LambdaEvent, LambdaInvocation, Runtime, layers::TracingLayer, service_fn,
    tower::util::MapRequestLayer, tracing,
};
use serde::de::IgnoredAny;

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
    // The runtime would read and copy a batch of megabytes before the handler reads it once more: the batch goes past it.
    let batch = &Mutex::new(Bytes::new());
    let put_aside = |mut invocation: LambdaInvocation| {
        let body = mem::replace(&mut invocation.body, Bytes::from_static(b"null"));
        *batch.lock().unwrap_or_else(PoisonError::into_inner) = body;
        invocation
    };
    let handler = service_fn(async |event: LambdaEvent<IgnoredAny>| {
        let deadline = deadline(event.context.deadline, SystemClock.now());
        let body = mem::take(&mut *batch.lock().unwrap_or_else(PoisonError::into_inner));
        let (summary, result) = function.handle(body, deadline).await;
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
    Runtime::new(handler).layer(TracingLayer::new()).layer(MapRequestLayer::new(put_aside)).run().await
}
