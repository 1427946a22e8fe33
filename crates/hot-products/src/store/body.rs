//! The body of a successful answer, without the SDK's types made of it.
//!
//! The SDK makes a map of owned names and values of each item. For a ranking, which reads millions of counters, that is
//! most of the work. So a query for counters keeps the body, and [`page`](super::page) parses it. Everything else stays the
//! SDK's: signing, timeouts, retries, and errors with their types.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
    operation::query::QueryOutput,
};
use aws_smithy_runtime_api::client::{
    interceptors::context::{Error, Output},
    orchestrator::OrchestratorError,
    ser_de::{DeserializeResponse, SharedResponseDeserializer},
};

use super::page::{Page, PageError};

/// Keeps the body of a query's successful answer, whose output is then empty. Clones share the body.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptBody(Arc<Mutex<Option<HttpResponse>>>);

impl KeptBody {
    /// The page that a successful query has returned.
    pub(super) fn page(&self) -> Result<Page, PageError> {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Page::parse(answer.as_ref().and_then(|answer| answer.body().bytes()).ok_or(PageError::Missing)?)
    }
}

impl Intercept for KeptBody {
    fn name(&self) -> &'static str {
        "KeptBody"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The SDK goes on with its own deserializer for errors, which it has types for.
        if context.response().status().is_success() {
            config.interceptor_state().store_put(SharedResponseDeserializer::new(self.clone()));
        }
        Ok(())
    }
}

impl DeserializeResponse for KeptBody {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        if !response.status().is_success() {
            // The body of an earlier, successful attempt broke off. The SDK tries again after an error in an answer.
            return Err(OrchestratorError::response("an error followed an incomplete answer".into()));
        }
        // A loaded body shares its bytes with its clones.
        let body = response.body().try_clone().ok_or_else(|| OrchestratorError::other("the body was not loaded"))?;
        let answer = HttpResponse::new(response.status(), body);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(Output::erase(QueryOutput::builder().build()))
    }
}
