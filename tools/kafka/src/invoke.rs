//! Invoking a function through Lambda's Invoke API, as served by `cargo lambda watch` and by emulators.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Uri, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use thiserror::Error;
use tokio::time;

/// The header that Lambda sets when the function itself failed. The status is 200 nevertheless.
const FUNCTION_ERROR: &str = "x-amz-function-error";

/// The largest response of a function, in bytes (AWS Lambda Developer Guide, "Lambda quotas").
const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024;

/// How much of a response a message quotes, in characters.
const QUOTED: usize = 400;

/// Why an invocation failed. The function may still have done some or all of its work.
#[derive(Debug, Error)]
pub enum InvokeError {
    /// The Invoke API can't be reached.
    #[error("can't reach {url}: {message}")]
    Unreachable {
        /// The function's URL.
        url: Uri,
        /// What went wrong, with all causes.
        message: String,
    },
    /// The Invoke API refused.
    #[error("{url} answered {status}: {body}")]
    Refused {
        /// The function's URL.
        url: Uri,
        /// The HTTP status.
        status: u16,
        /// The beginning of the response.
        body: String,
    },
    /// The function failed.
    #[error("the function failed ({kind}): {body}")]
    Failed {
        /// Lambda's name for the kind of failure, such as `Unhandled`.
        kind: String,
        /// The beginning of the function's error.
        body: String,
    },
    /// The batch can't be serialized.
    #[error("can't serialize the batch: {0}")]
    NoPayload(String),
    /// The function took too long.
    #[error("no response within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
}

/// A function at an Invoke API.
#[derive(Clone, Debug)]
pub struct Function {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    timeout: Duration,
}

impl Function {
    /// The function `name` at the Invoke API `endpoint`, such as `http://127.0.0.1:9000`. An invocation fails if there is
    /// no response within `timeout`.
    ///
    /// # Errors
    /// When `endpoint` is not an `http://` URL.
    pub fn new(endpoint: &str, name: &str, timeout: Duration) -> Result<Self> {
        let endpoint = endpoint.trim_end_matches('/');
        let url: Uri = format!("{endpoint}/2015-03-31/functions/{name}/invocations")
            .parse()
            .with_context(|| format!("{endpoint} with a function {name} is not a URL"))?;
        if url.scheme_str() != Some("http") || url.authority().is_none() {
            bail!("{endpoint} is not an http:// URL; in AWS, the stack's event source mapping does this work");
        }
        Ok(Self { client: Client::builder(TokioExecutor::new()).build_http(), url, timeout })
    }

    /// The function's URL.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Invokes the function with `payload`, and returns the beginning of its response.
    ///
    /// # Errors
    /// When the function can't be reached, failed or timed out.
    pub async fn invoke(&self, payload: Bytes) -> Result<String, InvokeError> {
        time::timeout(self.timeout, self.post(payload)).await.map_err(|_| InvokeError::TimedOut(self.timeout))?
    }

    async fn post(&self, payload: Bytes) -> Result<String, InvokeError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| InvokeError::Unreachable {
            url: self.url.clone(),
            message: causes(error),
        };
        let request = Request::post(self.url.clone())
            .header("content-type", "application/json")
            .body(Full::new(payload))
            .map_err(|error| unreachable(&error))?;
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(|error| unreachable(&*error))?;
        let body = beginning(&String::from_utf8_lossy(&body.to_bytes()));
        if !head.status.is_success() {
            return Err(InvokeError::Refused { url: self.url.clone(), status: head.status.as_u16(), body });
        }
        match head.headers.get(FUNCTION_ERROR) {
            Some(kind) => {
                Err(InvokeError::Failed { kind: String::from_utf8_lossy(kind.as_bytes()).into_owned(), body })
            }
            None => Ok(body),
        }
    }
}

/// The error with all its causes; hyper's `Display` shows only the first.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Serves `response` to one invocation. Returns the invocation's result and the request.
    async fn invoked(response: &'static str) -> (Result<String, InvokeError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut bytes = [0; 4096];
            while !request.ends_with("{}") {
                let read = stream.read(&mut bytes).await.unwrap();
                request += std::str::from_utf8(&bytes[..read]).unwrap();
            }
            stream.write_all(response.as_bytes()).await.unwrap();
            request
        });
        let function = Function::new(&endpoint, "count-clicks", Duration::from_secs(10)).unwrap();
        let result = function.invoke(Bytes::from_static(b"{}")).await;
        (result, server.await.unwrap())
    }

    #[tokio::test]
    async fn an_invocation_names_the_function_and_returns_its_response() {
        let (response, request) = invoked("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"records\":1}").await;
        assert_eq!(response.unwrap(), "{\"records\":1}");
        assert!(request.starts_with("POST /2015-03-31/functions/count-clicks/invocations HTTP/1.1\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_failed_function_is_an_error_although_the_status_is_200() {
        let failed = "HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\ncontent-length: 4\r\n\r\nnope";
        let error = invoked(failed).await.0.unwrap_err();
        assert_eq!(error.to_string(), "the function failed (Unhandled): nope");
    }

    #[tokio::test]
    async fn refusals_unreachable_endpoints_and_timeouts_are_errors() {
        let error = invoked("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await.0.unwrap_err();
        assert!(error.to_string().ends_with("/invocations answered 404: no"), "{error}");
        let nobody = Function::new("http://127.0.0.1:1", "f", Duration::from_secs(10)).unwrap();
        let error = nobody.invoke(Bytes::new()).await.unwrap_err().to_string();
        assert!(error.starts_with("can't reach http://127.0.0.1:1/") && error.contains("refused"), "{error}");
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let function = Function::new(&endpoint, "f", Duration::from_millis(1)).unwrap();
        assert_eq!(function.invoke(Bytes::new()).await.unwrap_err().to_string(), "no response within 1ms");
    }

    #[test]
    fn an_endpoint_must_be_an_http_url() {
        let new = |endpoint| Function::new(endpoint, "f", Duration::from_secs(1));
        assert!(new("http://127.0.0.1:9000").is_ok());
        for wrong in ["127.0.0.1:9000", "https://lambda.eu-central-1.amazonaws.com", "", "http://"] {
            assert!(new(wrong).is_err(), "{wrong}");
        }
    }
}
