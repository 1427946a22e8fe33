//! Calling a function through Lambda's Invoke API, as `cargo lambda watch` and emulators serve it.

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

/// The header by which Lambda says that the function itself failed; the status is 200 all the same.
const FUNCTION_ERROR: &str = "x-amz-function-error";

/// The longest answer of a function, in bytes (AWS Lambda Developer Guide, "Lambda quotas").
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024;

/// How much of an answer is repeated in a message, in characters.
const SHOWN: usize = 400;

/// Why an invocation failed. Whether the function did any of its work is then unknown.
#[derive(Debug, Error)]
pub enum InvokeError {
    /// Nobody answered.
    #[error("can't reach {url}: {message}")]
    Unreachable {
        /// Where the function was looked for.
        url: Uri,
        /// What went wrong, with all causes.
        message: String,
    },
    /// The Invoke API refused.
    #[error("{url} answered {status}: {body}")]
    Refused {
        /// Where the function was looked for.
        url: Uri,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// The function failed.
    #[error("the function failed ({kind}): {body}")]
    Failed {
        /// Lambda's word for it: `Unhandled`, for example.
        kind: String,
        /// The beginning of the function's error.
        body: String,
    },
    /// The batch makes no payload.
    #[error("the batch makes no JSON: {0}")]
    NoPayload(String),
    /// The function took too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
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
    /// The function `name` at the Invoke API `endpoint`, such as `http://127.0.0.1:9000`. An invocation without an answer
    /// for `timeout` has failed.
    pub fn new(endpoint: &str, name: &str, timeout: Duration) -> Result<Self> {
        let endpoint = endpoint.trim_end_matches('/');
        let url: Uri = format!("{endpoint}/2015-03-31/functions/{name}/invocations")
            .parse()
            .with_context(|| format!("{endpoint} with a function {name} makes no URL"))?;
        if url.scheme_str() != Some("http") || url.authority().is_none() {
            bail!("{endpoint} is no http:// address; in AWS, the event source mapping of the stack does this work");
        }
        Ok(Self { client: Client::builder(TokioExecutor::new()).build_http(), url, timeout })
    }

    /// Where the function is.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Invokes the function with `payload`, waits, and returns the beginning of its answer.
    ///
    /// # Errors
    /// When nobody, or not the function, answered, or it failed.
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
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| unreachable(&*error))?;
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

/// An error with all its causes; hyper's own text has only the first.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
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

    /// Answers one request with `answer`, and returns the request.
    async fn asked(answer: &'static str) -> (Result<String, InvokeError>, String) {
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
            stream.write_all(answer.as_bytes()).await.unwrap();
            request
        });
        let function = Function::new(&endpoint, "count-clicks", Duration::from_secs(10)).unwrap();
        let answer = function.invoke(Bytes::from_static(b"{}")).await;
        (answer, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_function_is_asked_at_its_name_and_its_answer_handed_back() {
        let (answer, request) = asked("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"records\":1}").await;
        assert_eq!(answer.unwrap(), "{\"records\":1}");
        assert!(request.starts_with("POST /2015-03-31/functions/count-clicks/invocations HTTP/1.1\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_function_that_failed_is_a_failure_though_the_status_is_200() {
        let failed = "HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\ncontent-length: 4\r\n\r\nnope";
        let error = asked(failed).await.0.unwrap_err();
        assert_eq!(error.to_string(), "the function failed (Unhandled): nope");
    }

    #[tokio::test]
    async fn a_refusal_and_a_silence_are_failures() {
        let error = asked("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await.0.unwrap_err();
        assert!(error.to_string().ends_with("/invocations answered 404: no"), "{error}");
        let nobody = Function::new("http://127.0.0.1:1", "f", Duration::from_secs(10)).unwrap();
        let error = nobody.invoke(Bytes::new()).await.unwrap_err().to_string();
        assert!(error.starts_with("can't reach http://127.0.0.1:1/") && error.contains("refused"), "{error}");
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let function = Function::new(&endpoint, "f", Duration::from_millis(1)).unwrap();
        assert_eq!(function.invoke(Bytes::new()).await.unwrap_err().to_string(), "no answer within 1ms");
    }

    #[test]
    fn an_endpoint_is_an_http_address() {
        let new = |endpoint| Function::new(endpoint, "f", Duration::from_secs(1));
        assert!(new("http://127.0.0.1:9000").is_ok());
        for wrong in ["127.0.0.1:9000", "https://lambda.eu-central-1.amazonaws.com", "", "http://"] {
            assert!(new(wrong).is_err(), "{wrong}");
        }
    }
}
