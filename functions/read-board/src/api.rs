//! The routes: ask the tables, and answer.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use hot_products::{RankedProduct, Snapshot, Window, store::StoreError, time::bound};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Board,
    answer::{ApiError, JSON, not_found, tagged},
    cache, clicks,
    query::{History, MAX_SNAPSHOTS, Minutes, Newest, product_id},
};

/// How large an answer may grow, in bytes, before it is cut: Lambda takes 6 MB.
const MAX_ANSWER: usize = 4 << 20;

/// A snapshot as the API says it.
#[derive(Serialize)]
struct SnapshotBody<'a> {
    window_start: String,
    window_end: String,
    generated_at: String,
    total_clicks: u64,
    distinct_products: u64,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    clicks_per_minute: &'a [u64],
    products: &'a [RankedProduct],
}

impl<'a> SnapshotBody<'a> {
    fn new(snapshot: &'a Snapshot, limit: usize) -> Self {
        Self {
            window_start: bound(snapshot.window.start()),
            window_end: bound(snapshot.window.end()),
            generated_at: snapshot.generated_at.rfc3339(),
            total_clicks: snapshot.total_clicks,
            distinct_products: snapshot.distinct_products,
            clicks_per_minute: &snapshot.clicks_per_minute,
            products: snapshot.products.get(..limit).unwrap_or(&snapshot.products),
        }
    }
}

impl Board {
    fn failed(&self, error: &StoreError) -> ApiError {
        (self.on_error)(error);
        match error {
            StoreError::Call { .. } => ApiError::Unavailable,
            StoreError::Layout { .. } => ApiError::Internal,
        }
    }

    /// An answer of JSON that holds for `lifetime`.
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
    let query = Newest::parse(uri.query().unwrap_or_default())?;
    let (found, missing) = match query.at {
        None => {
            (board.snapshots.newest().await, "there is no snapshot yet; one is written every five minutes".to_owned())
        }
        Some(at) => {
            let window = Window::ended_by(at);
            let end = bound(window.end());
            (
                board.snapshots.get(window).await,
                format!("there is no snapshot of {end}; /hot-products/history lists those there are"),
            )
        }
    };
    let snapshot = found.map_err(|error| board.failed(&error))?.ok_or(ApiError::NotFound(missing))?;
    let lifetime = match query.at {
        None => cache::until_next_snapshot(snapshot.window, board.clock.now()),
        Some(_) => cache::PAST,
    };
    Ok(board.answer(&headers, lifetime, &SnapshotBody::new(&snapshot, query.limit)))
}

/// A part of a history.
#[derive(Serialize)]
struct HistoryBody {
    snapshots: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /hot-products/history`: the snapshots of a range of time.
pub(crate) async fn history(
    State(board): State<Arc<Board>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let now = board.clock.now();
    let query = History::parse(uri.query().unwrap_or_default(), now)?;
    let found = match query.windows() {
        // One more than an answer takes: where to go on from.
        Some(windows) => board.snapshots.between(windows, MAX_SNAPSHOTS + 1, query.limit).await,
        None => Ok(Vec::new()),
    };
    let found = found.map_err(|error| board.failed(&error))?;
    let newest = found.last().map(|snapshot| snapshot.window);
    let mut body = HistoryBody { snapshots: Vec::with_capacity(found.len()), next: None };
    let mut bytes = 0;
    for snapshot in &found {
        let text = to_raw_value(&SnapshotBody::new(snapshot, query.limit)).map_err(|_| ApiError::Internal)?;
        bytes += text.get().len();
        if body.snapshots.len() == MAX_SNAPSHOTS || bytes > MAX_ANSWER {
            body.next = Some(bound(snapshot.window.end()));
            break;
        }
        body.snapshots.push(text);
    }
    let to = (!query.to_now).then_some(query.to);
    // What comes behind the cut does not change what lies before it.
    let cut = body.next.is_some() && to.is_some();
    let lifetime = if cut { cache::PAST } else { cache::until_next_in(newest, to, now) };
    Ok(board.answer(&headers, lifetime, &body))
}

/// `GET /products/{id}/clicks`: a product's clicks in each of the last minutes.
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

/// `GET /openapi.json`: what this is, for programs.
pub(crate) async fn openapi(headers: HeaderMap) -> Response {
    tagged(&headers, JSON, "no-cache", include_str!("openapi.json").as_bytes().to_vec())
}
