//! An Invoke API in the test's process, so that a test decides what happens to each batch.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// A function: a payload in, its response or its error out.
type Handler = dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync;

/// The Invoke API of one function. Dropping it stops it.
pub struct InvokeApi {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl InvokeApi {
    /// Serves `handler` on a free port.
    pub async fn serve<F>(handler: impl Fn(Bytes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Arc<Handler> = Arc::new(move |payload| Box::pin(handler(payload)));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    let service = service_fn(move |request| respond(Arc::clone(&handler), request));
                    // The client may end while a response is under way.
                    let _closed = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, server }
    }

    /// Its URL, for `--function`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for InvokeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn respond(handler: Arc<Handler>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let payload = request.into_body().collect().await.unwrap().to_bytes();
    let response = Response::builder();
    let (response, body) = match handler(payload).await {
        Ok(body) => (response, body),
        Err(error) => (response.header("X-Amz-Function-Error", "Unhandled"), error),
    };
    Ok(response.body(Full::new(body.into())).unwrap())
}
