//! `read-board`: the read API and the board's page. It only reads the tables.
//!
//! Start reading at [`router`]. The Lambda function serves its routes behind a function URL, `hot board` on 127.0.0.1. For a
//! request, `query` parses the parameters, `api` reads the tables, `cache` decides how long the answer can be cached, and
//! `answer` builds the response.

mod answer;
mod api;
mod cache;
pub mod clicks;
mod page;
pub mod query;
pub mod settings;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::map_response,
    response::Response,
    routing::get,
};
use hot_products::{
    Clock,
    store::{CountersTable, SnapshotsTable, StoreError},
};

pub use cache::Caching;
pub use settings::BoardSettings;

/// What the routes need.
pub struct Board {
    /// The snapshots.
    pub snapshots: SnapshotsTable,
    /// The minute counters.
    pub counters: CountersTable,
    /// The time, for the lifetimes of answers.
    pub clock: Arc<dyn Clock>,
    /// Who may cache answers.
    pub caching: Caching,
    /// Called with each storage error. The client only learns that there was one.
    pub on_error: fn(&StoreError),
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("caching", &self.caching).finish_non_exhaustive()
    }
}

/// All routes. The page loads the pipeline's status from the path `pipeline`, if one is given.
pub fn router(board: Board, pipeline: Option<&str>) -> Router {
    page::routes(pipeline)
        .route("/hot-products", get(api::newest))
        .route("/hot-products/history", get(api::history))
        .route("/hot-products/minutes", get(api::minutes))
        // The id may have several segments, because some clients and gateways decode a slash in it.
        .route("/products/{*rest}", get(api::clicks))
        .route("/openapi.json", get(api::openapi))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(map_response(no_sniffing))
        .with_state(Arc::new(board))
}

/// Tells browsers not to guess content types.
async fn no_sniffing(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
