//! A product's clicks per minute, from the counters.

use futures_util::{StreamExt, TryStreamExt, stream};
use hot_products::{
    Minute, ProductId, UnixMillis,
    store::{CountersTable, StoreError},
};
use serde::Serialize;

use crate::query::Minutes;

/// How many minutes are read at a time.
const READ_CONCURRENCY: usize = 32;

/// A product's clicks in each minute of a time range; in JSON, the answer to `GET /products/{id}/clicks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clicks {
    /// The product.
    pub product_id: String,
    /// The start of the first minute.
    pub from: UnixMillis,
    /// The end of the last minute.
    pub to: UnixMillis,
    /// The clicks in all minutes.
    pub total_clicks: u64,
    /// The minutes, in order.
    pub minutes: Vec<MinuteClicks>,
}

/// A product's clicks in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MinuteClicks {
    /// The minute's start.
    pub minute: UnixMillis,
    /// Its clicks.
    pub clicks: u64,
}

/// Reads the clicks of `product`, with two queries a minute.
///
/// # Errors
/// If a read failed after all retries, a counter is not a whole number, or the counters have another layout.
pub async fn read(counters: &CountersTable, product: &ProductId<'_>, minutes: Minutes) -> Result<Clicks, StoreError> {
    counters.check_layout().await?;
    let read = async |minute: Minute| {
        let clicks = counters.clicks(minute, product.as_str()).await?;
        Ok::<_, StoreError>(MinuteClicks { minute: minute.start(), clicks })
    };
    let found: Vec<_> = stream::iter(minutes.all()).map(read).buffered(READ_CONCURRENCY).try_collect().await?;
    Ok(Clicks {
        product_id: product.as_str().to_owned(),
        from: minutes.from(),
        to: minutes.to,
        total_clicks: found.iter().map(|minute| minute.clicks).sum(),
        minutes: found,
    })
}
