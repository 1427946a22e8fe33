//! The size of a snapshot and what writing it costs.

use hot_products::{
    Window,
    counters::attribute,
    snapshot::{MINUTES_BOARD, ProductMinutes},
};

use crate::{
    assumptions::TOP_N,
    load::item::{number_bytes, write_units},
};

/// The size of a snapshot of [`TOP_N`] products of a topic with `partitions`, in bytes, by the rules of
/// [`crate::load::item`].
pub(super) fn snapshot_bytes(partitions: u32) -> usize {
    let time = "2022-12-27T16:50:00Z".len();
    let field = |name: &str, value: usize| name.len() + value;
    let product = |rank: u64| {
        // A map has 3 bytes and one per entry; the list has one per element.
        let id = format!("p{rank}").len();
        let fields =
            [("rank", number_bytes(rank)), ("product_id", id), ("clicks", 4), ("previous_rank", number_bytes(rank))];
        1 + 3 + fields.iter().map(|(name, value)| field(name, *value) + 1).sum::<usize>()
    };
    let products: usize = (1..=TOP_N as u64).map(product).sum();
    field("board", "clicks".len())
        + field("window_end", time)
        + field("window_start", time)
        + field("generated_at", time + ".123".len())
        + field("final", 1)
        + field("counted_through", 3 + partitions as usize * (1 + "clicks-10".len() + time))
        + field("total_clicks", 5)
        + field("distinct_products", 4)
        + field(attribute::EXPIRES_AT, 6)
        + field("products", 3 + products)
}

/// The clicks per minute of a snapshot's products in a shop in which most counts have one or two digits.
fn sample_minutes() -> Vec<ProductMinutes> {
    let counts = || vec![42; Window::MINUTES as usize];
    (1..=TOP_N).map(|rank| ProductMinutes { product_id: format!("p{rank}"), clicks_per_minute: counts() }).collect()
}

/// The size of the item that holds the clicks per minute of `products`, in bytes.
pub fn minutes_bytes(products: &[ProductMinutes]) -> usize {
    let time = "2022-12-27T16:50:00Z".len();
    let field = |name: &str, value: usize| name.len() + value;
    let product = |product: &ProductMinutes| {
        let counts = product.clicks_per_minute.iter().map(|clicks| 1 + number_bytes(*clicks)).sum::<usize>();
        // A map has 3 bytes and one per entry, and so has a list.
        1 + 3 + field("product_id", product.product_id.len()) + 1 + field("clicks_per_minute", 3 + counts) + 1
    };
    field("board", MINUTES_BOARD.len())
        + field("window_end", time)
        + field("window_start", time)
        + field("generated_at", time + ".123".len())
        + field(attribute::EXPIRES_AT, 6)
        + field("products", 3 + products.iter().map(product).sum::<usize>())
}

/// The size of a snapshot's clicks per minute, in bytes.
pub(super) fn sample_minutes_bytes() -> usize {
    minutes_bytes(&sample_minutes())
}

/// The write units of a snapshot's clicks per minute.
pub(super) fn sample_minutes_write_units() -> u64 {
    write_units(0, sample_minutes_bytes())
}

/// The write units of a snapshot of a topic with `partitions`.
pub fn snapshot_write_units(partitions: u32) -> u64 {
    write_units(0, snapshot_bytes(partitions))
}
