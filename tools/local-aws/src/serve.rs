//! Serves a router on 127.0.0.1, as a function URL does in AWS.

use std::{future::Future, io};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// A listener on `port` of 127.0.0.1, 0 for any free port.
///
/// # Errors
/// When the port is taken.
pub async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("can't listen on port {port} of 127.0.0.1"))
}

/// Serves `router` until `stop` is ready and the requests in progress have ended.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router.layer(from_fn(refuse_other_hosts))).with_graceful_shutdown(stop).await
}

/// Refuses requests for another host. Otherwise a page from elsewhere, open in a browser on this machine, could make its
/// own name resolve to 127.0.0.1 and read the responses (DNS rebinding).
async fn refuse_other_hosts(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    if matches!(name, None | Some("127.0.0.1" | "localhost")) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "this server answers to 127.0.0.1 and localhost only\n").into_response()
    }
}
