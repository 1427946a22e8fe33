//! The demo's own routes: the pipeline's health, and what can be done to it.

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::Handle;

/// Where the page finds the pipeline's health; what can be done to it stands beside it.
pub const PIPELINE: &str = "/demo/pipeline";

/// The routes: `GET` for the health, [`PIPELINE`]; `POST` for `/demo/redeliver`, `/demo/garbage`, `/demo/pause` and
/// `/demo/resume`, for pages of this very host and for programs.
pub fn routes(demo: Handle) -> Router {
    Router::new()
        .route(PIPELINE, get(pipeline))
        .route("/demo/redeliver", post(async |State(demo): State<Handle>| answer(demo.redeliver().await)))
        .route("/demo/garbage", post(async |State(demo): State<Handle>| answer(demo.garbage().await)))
        .route("/demo/pause", post(async |State(demo): State<Handle>| answer(demo.pause(true).await)))
        .route("/demo/resume", post(async |State(demo): State<Handle>| answer(demo.pause(false).await)))
        .layer(from_fn(no_other_page))
        .with_state(demo)
}

async fn pipeline(State(demo): State<Handle>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(demo.status())).into_response()
}

fn answer(result: anyhow::Result<impl serde::Serialize>) -> Response {
    match result {
        Ok(done) => Json(done).into_response(),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error.to_string()),
    }
}

/// Turns away what another page, open in the same browser, would have done.
async fn no_other_page(request: Request, next: Next) -> Response {
    if request.method() == Method::GET || is_of_this_host(request.headers()) {
        next.run(request).await
    } else {
        refusal(StatusCode::FORBIDDEN, "forbidden", "only the demo's own page may do this")
    }
}

/// Whether the page that sends a request is of the host that it goes to. Browsers tell it with every POST; programs that
/// are no browsers need not.
fn is_of_this_host(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) == Some(host)
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_the_same_host_and_port_may_act() {
        let allowed = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_of_this_host(&headers)
        };
        assert!(allowed(Some("http://127.0.0.1:8080")) && allowed(None));
        for other in ["https://shop.example", "http://127.0.0.1:3000", "http://127.0.0.1", "null", ""] {
            assert!(!allowed(Some(other)), "{other}");
        }
    }
}
