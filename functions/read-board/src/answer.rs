//! Builds responses: with an `ETag`, so that a client need not load the same answer again; and errors as JSON.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use crate::query::QueryError;

/// The content type of all data.
pub(crate) const JSON: &str = "application/json";

/// Why a request failed.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// The request is not valid.
    #[error("{0}")]
    BadRequest(#[from] QueryError),
    /// The requested record does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A table can't be read at the moment.
    #[error("the tables can't be read at the moment; try again in a few seconds")]
    Unavailable,
    /// A table holds an item of an unknown layout.
    #[error("a stored item can't be read; the function's log has the details")]
    Internal,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let mut response = error(status, code, &self.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = Json(json!({ "error": { "code": code, "message": message } }));
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// The response for an unknown path.
pub(crate) async fn not_found(uri: Uri) -> Response {
    let path = uri.path();
    error(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing at {path}; /openapi.json lists the routes"))
}

/// The response for a method other than GET and HEAD. The router adds the `Allow` header.
pub(crate) async fn method_not_allowed(method: Method) -> Response {
    let message = format!("{method} is not allowed: the API is read-only, use GET or HEAD");
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
}

/// The answer `body`, or 304 Not Modified if the request names its tag.
pub(crate) fn tagged(request: &HeaderMap, kind: &'static str, cache_control: &str, body: Vec<u8>) -> Response {
    // A hash of the bytes, so that a new version of the format changes the tag too.
    let tag = format!("\"{:032x}\"", xxh3_128(&body));
    let known = matches(request, &tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    };
    for (name, value) in [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, cache_control)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Whether `If-None-Match` names `tag`, which may be marked as weak (RFC 9110, section 13.1.2).
fn matches(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(if_none_match: &str) -> StatusCode {
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, if_none_match.parse().unwrap());
        tagged(&request, JSON, "no-cache", b"{}".to_vec()).status()
    }

    #[test]
    fn an_answer_with_a_known_tag_has_no_body() {
        let response = tagged(&HeaderMap::new(), JSON, "private, max-age=70", b"{}".to_vec());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "private, max-age=70");
        let tag = response.headers()[header::ETAG].to_str().unwrap();
        for known in [tag, &format!("W/{tag}"), &format!("\"x\" , {tag}"), "*"] {
            assert_eq!(status(known), StatusCode::NOT_MODIFIED, "{known}");
        }
        for other in ["\"x\"", "", tag.trim_matches('"')] {
            assert_eq!(status(other), StatusCode::OK, "{other}");
        }
    }
}
