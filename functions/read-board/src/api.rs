//! The handlers of the routes: read the tables and answer.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use hot_products::{
    Window, schedule,
    snapshot::{MAX_MINUTES_PRODUCTS, MAX_TOP_N},
    store::{SnapshotRange, StoreError},
    time::bound,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Board,
    answer::{ApiError, JSON, not_found, tagged},
    cache, clicks,
    query::{HistoryQuery, MAX_SNAPSHOTS, Minutes, SnapshotQuery, product_id},
};

/// How large a history may get before it is cut, in bytes as [`payload_bytes`] counts them. Lambda limits the response of a
/// function to 6 MB (AWS Lambda Developer Guide, "Lambda quotas"); the rest is for headers.
const MAX_PAYLOAD: usize = 5_500_000;

impl Board {
    fn failed(&self, error: &StoreError) -> ApiError {
        (self.on_error)(error);
        match error {
            StoreError::Call { .. } => ApiError::Unavailable,
            StoreError::Layout { .. } | StoreError::OtherLayout { .. } => ApiError::Internal,
        }
    }

    /// How long the answer to `query` can be cached, if it is of `window`.
    fn lifetime(&self, query: &SnapshotQuery, window: Window) -> Duration {
        match query.at {
            None => schedule::until_next(window, self.clock.now()),
            Some(_) => cache::PAST,
        }
    }

    /// An answer in JSON that can be cached for `lifetime`.
    fn answer(&self, request: &HeaderMap, lifetime: Duration, body: &impl Serialize) -> Response {
        match serde_json::to_vec(body) {
            Ok(body) => tagged(request, JSON, &self.caching.control(lifetime), body),
            Err(_) => ApiError::Internal.into_response(),
        }
    }
}

/// `GET /hot-products`: the newest snapshot, or a past one.
pub(crate) async fn newest(
    State(board): State<Arc<Board>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = SnapshotQuery::parse(uri.query().unwrap_or_default(), 1..=MAX_TOP_N)?;
    let found = match query.window() {
        None => board.snapshots.newest().await,
        Some(window) => board.snapshots.get(window).await,
    };
    let found = found.map_err(|error| board.failed(&error))?;
    let mut snapshot = found.ok_or_else(|| missing("snapshot", query.window()))?;
    snapshot.products.truncate(query.limit);
    Ok(board.answer(&headers, board.lifetime(&query, snapshot.window), &snapshot))
}

/// `GET /hot-products/minutes`: the clicks per minute of the top products of the newest snapshot, or of a past one.
pub(crate) async fn minutes(
    State(board): State<Arc<Board>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = SnapshotQuery::parse(uri.query().unwrap_or_default(), 1..=MAX_MINUTES_PRODUCTS)?;
    let found = match query.window() {
        None => board.snapshots.newest_minutes().await,
        Some(window) => board.snapshots.minutes(window).await,
    };
    let found = found.map_err(|error| board.failed(&error))?;
    let mut minutes = found.ok_or_else(|| missing("record of clicks per minute", query.window()))?;
    minutes.products.truncate(query.limit);
    Ok(board.answer(&headers, board.lifetime(&query, minutes.window), &minutes))
}

/// There is no `record` of `window`, or none at all.
fn missing(record: &str, window: Option<Window>) -> ApiError {
    ApiError::NotFound(match window {
        None => format!("there is no {record} yet; one is written every five minutes"),
        Some(window) => {
            let end = bound(window.end());
            format!("there is no {record} of the window that ended at {end}; /hot-products/history lists the snapshots")
        }
    })
}

/// How much `json` and a comma add to the function's response, in bytes. `lambda_http` returns a body of the type
/// `application/json` as a string in JSON, in which every quote and backslash takes two bytes.
fn payload_bytes(json: &RawValue) -> serde_json::Result<usize> {
    // The two quotes around the string make up for the comma.
    Ok(serde_json::to_string(json.get())?.len())
}

/// A part of a history.
#[derive(Serialize)]
struct HistoryBody {
    snapshots: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /hot-products/history`: the snapshots of a time range.
pub(crate) async fn history(
    State(board): State<Arc<Board>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let now = board.clock.now();
    let query = HistoryQuery::parse(uri.query().unwrap_or_default(), now)?;
    let found = match query.windows() {
        // One more than fits an answer: where the next answer begins.
        Some(windows) => board.snapshots.between(windows, MAX_SNAPSHOTS + 1, query.limit).await,
        None => Ok(SnapshotRange { snapshots: Vec::new(), is_cut: false }),
    };
    let SnapshotRange { snapshots: found, is_cut } = found.map_err(|error| board.failed(&error))?;
    let newest = found.last().map(|snapshot| snapshot.window);
    let mut body = HistoryBody { snapshots: Vec::with_capacity(found.len()), next: None };
    let mut bytes = 0;
    for snapshot in &found {
        let text = to_raw_value(snapshot).map_err(|_| ApiError::Internal)?;
        bytes += payload_bytes(&text).map_err(|_| ApiError::Internal)?;
        if body.snapshots.len() == MAX_SNAPSHOTS || bytes > MAX_PAYLOAD {
            body.next = Some(bound(snapshot.window.end()));
            break;
        }
        body.snapshots.push(text);
    }
    if is_cut && body.next.is_none() {
        body.next = found.last().map(|snapshot| bound(snapshot.window.next().end()));
    }
    let to = (!query.to_now).then_some(query.to);
    // New snapshots come after the cut and do not change what is before it.
    let cut = body.next.is_some() && to.is_some();
    let lifetime = if cut { cache::PAST } else { cache::until_next_in(newest, to, now) };
    Ok(board.answer(&headers, lifetime, &body))
}

/// `GET /products/{id}/clicks`: a product's clicks in each of the last minutes, read from the counters.
pub(crate) async fn clicks(
    State(board): State<Arc<Board>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let rest = uri.path().strip_prefix("/products/").unwrap_or_default();
    let Some(product) = product_id(rest) else { return Ok(not_found(uri).await) };
    let product = product?;
    let now = board.clock.now();
    let query = Minutes::parse(uri.query().unwrap_or_default(), now)?;
    let body = clicks::read(&board.counters, &product, query).await.map_err(|error| board.failed(&error))?;
    Ok(board.answer(&headers, cache::until_next_minute(now), &body))
}

/// `GET /openapi.json`: the description of the API.
pub(crate) async fn openapi(headers: HeaderMap) -> Response {
    tagged(&headers, JSON, "no-cache", include_str!("openapi.json").as_bytes().to_vec())
}
