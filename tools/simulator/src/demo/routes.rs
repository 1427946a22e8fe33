//! The demo's own routes: the pipeline's health, and its controls.

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

/// The path of the pipeline's health. The controls are beside it.
pub const PIPELINE: &str = "/demo/pipeline";

/// The routes: `GET` [`PIPELINE`] for the health; `POST` to `/demo/redeliver`, `/demo/garbage`, `/demo/pause` and
/// `/demo/resume`. Only programs and the demo's own page may `POST`.
pub fn routes(demo: Handle) -> Router {
    Router::new()
        .route(PIPELINE, get(pipeline))
        .route("/demo/redeliver", post(async |State(demo): State<Handle>| answer(demo.redeliver().await)))
        .route("/demo/garbage", post(async |State(demo): State<Handle>| answer(demo.garbage().await)))
        .route("/demo/pause", post(async |State(demo): State<Handle>| answer(demo.set_paused(true).await)))
        .route("/demo/resume", post(async |State(demo): State<Handle>| answer(demo.set_paused(false).await)))
        .layer(from_fn(refuse_other_pages))
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

/// Refuses what another page, open in the same browser, tries to do.
async fn refuse_other_pages(request: Request, next: Next) -> Response {
    if request.method() == Method::GET || is_same_origin(request.headers()) {
        next.run(request).await
    } else {
        refusal(StatusCode::FORBIDDEN, "forbidden", "only the demo's own page may do this")
    }
}

/// Whether a request comes from a page of the host that it goes to. Browsers send the origin with every `POST`; other
/// programs need not.
fn is_same_origin(headers: &HeaderMap) -> bool {
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
    fn only_a_page_of_the_same_host_and_port_may_post() {
        let allowed = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_same_origin(&headers)
        };
        assert!(allowed(Some("http://127.0.0.1:8080")) && allowed(None));
        for other in ["https://shop.example", "http://127.0.0.1:3000", "http://127.0.0.1", "null", ""] {
            assert!(!allowed(Some(other)), "{other}");
        }
    }
}
