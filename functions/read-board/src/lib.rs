//! `read-board`: the read API over the tables, and the board's page; read-only.
//!
//! [`router`] makes one [`axum::Router`] of it all. The Lambda function serves it behind a function URL, `hot board` on
//! 127.0.0.1. A request meets, in this order: [`query`], which parses what is asked for; [`api`], which asks the tables;
//! [`cache`], which says how long the answer holds; [`answer`], which tags and sends it, or what is wrong with it.

pub mod answer;
pub mod api;
pub mod cache;
pub mod clicks;
pub mod page;
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

/// What the routes read, and how.
pub struct Board {
    /// The snapshots.
    pub snapshots: SnapshotsTable,
    /// The minute counters.
    pub counters: CountersTable,
    /// The time; lifetimes in caches are measured by it.
    pub clock: Arc<dyn Clock>,
    /// Who may keep answers.
    pub caching: Caching,
    /// Told of each failure of storage. Whoever asked only learns that there was one.
    pub on_error: fn(&StoreError),
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("caching", &self.caching).finish_non_exhaustive()
    }
}

/// All routes. The page asks for the pipeline's health at the path `pipeline`, where one is given.
pub fn router(board: Board, pipeline: Option<&str>) -> Router {
    page::routes(pipeline)
        .route("/hot-products", get(api::newest))
        .route("/hot-products/history", get(api::history))
        // The id may be of many segments, for there are callers and gateways that decode a slash in it.
        .route("/products/{*rest}", get(api::clicks))
        .route("/openapi.json", get(api::openapi))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(map_response(no_sniffing))
        .with_state(Arc::new(board))
}

/// No answer is anything but what its type says.
async fn no_sniffing(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
