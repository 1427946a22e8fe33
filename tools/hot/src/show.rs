//! What the commands print for people. Every id and message from a table is made safe for a terminal.

#[cfg(feature = "kafka")]
pub(crate) mod audit;
pub(crate) mod costs;
pub(crate) mod doctor;
pub(crate) mod product;
pub(crate) mod rejected;
pub(crate) mod status;

use std::fmt::Write;

use comfy_table::{Cell, Color};
use hot_products::{
    RankedProduct, Snapshot, UnixMillis,
    snapshot::{CountedPartition, QUIET_AFTER},
};
use terminal::text::{bar, product_cell, safe, table, title};

/// The most topic partitions that are named as quiet or behind. The page names as many.
const MAX_QUIET: usize = 5;

/// A time range of up to a day, such as a window: `2022-12-27 15:50 – 16:50 UTC`.
pub(crate) fn time_range(from: UnixMillis, to: UnixMillis) -> String {
    format!("{} – {} UTC", from.utc().format("%Y-%m-%d %H:%M"), to.utc().format("%H:%M"))
}

/// A snapshot as a table, with its totals.
pub(crate) fn snapshot(snapshot: &Snapshot) -> String {
    snapshot_top(snapshot, usize::MAX)
}

/// The first `limit` products of a snapshot as a table, with the totals of the whole snapshot.
pub(crate) fn snapshot_top(snapshot: &Snapshot, limit: usize) -> String {
    let title = title(format_args!("Hot products, {}", time_range(snapshot.window.start(), snapshot.window.end())));
    if snapshot.products.is_empty() {
        return format!("{title}\nno clicks\n");
    }
    let products = snapshot.products.get(..limit).unwrap_or(&snapshot.products);
    let mut table = table(["rank", "", "product", "clicks", ""], &[0, 3]);
    let most = snapshot.products.iter().map(|product| product.clicks).max().unwrap_or(1);
    for product in products {
        table.add_row([
            Cell::new(product.rank),
            movement(product),
            Cell::new(product_cell(&product.product_id)),
            Cell::new(product.clicks),
            bar(product.clicks, most),
        ]);
    }
    let shown: u64 = products.iter().map(|product| product.clicks).sum();
    format!(
        "{title}\n{table}\n{} clicks on {} products; these {} have {:.1} % of them\n",
        snapshot.total_clicks,
        snapshot.distinct_products,
        products.len(),
        shown as f64 * 100.0 / snapshot.total_clicks as f64,
    )
}

/// Whether a snapshot may still change, and a line for each topic partition that is quiet or behind.
pub(crate) fn completeness(snapshot: &Snapshot) -> String {
    let quiet: Vec<_> = snapshot.quiet_or_behind(QUIET_AFTER).collect();
    format!("{}\n{}", final_or_not(snapshot.is_final), quiet_partitions(&quiet))
}

/// Whether a snapshot may still change.
pub(crate) fn final_or_not(is_final: bool) -> &'static str {
    if is_final { "Final: no more clicks can join" } else { "May still grow: late clicks can join" }
}

/// A line for each of the first topic partitions that are quiet or behind, and one for the others.
pub(crate) fn quiet_partitions(quiet: &[CountedPartition]) -> String {
    let mut text = String::new();
    for partition in quiet.iter().take(MAX_QUIET) {
        let _infallible = writeln!(text, "{}", quiet_partition(partition));
    }
    if let Some(more) = quiet.len().checked_sub(MAX_QUIET).filter(|more| *more > 0) {
        let _infallible = writeln!(text, "the same for {more} more");
    }
    text
}

/// `clicks-3: nothing counted since 16:23, quiet or behind`
pub(crate) fn quiet_partition(quiet: &CountedPartition) -> String {
    let since = quiet.newest_minute.end();
    format!("{}: nothing counted since {}, quiet or behind", safe(&quiet.source), since.utc().format("%H:%M"))
}

/// The change of a product's rank since the previous snapshot: `▲2`, `▼1`, `=` or `new`.
fn movement(product: &RankedProduct) -> Cell {
    match product.previous_rank {
        None => Cell::new("new").fg(Color::Yellow),
        Some(before) if before > product.rank => Cell::new(format!("▲{}", before - product.rank)).fg(Color::Green),
        Some(before) if before < product.rank => Cell::new(format!("▼{}", product.rank - before)).fg(Color::Red),
        Some(_) => Cell::new("="),
    }
}

#[cfg(test)]
mod tests {
    use hot_products::{UnixMillis, Window};

    use super::*;

    fn product(rank: u64, id: &str, clicks: u64, previous_rank: Option<u64>) -> RankedProduct {
        RankedProduct { rank, product_id: id.to_owned(), clicks, previous_rank }
    }

    #[test]
    fn a_table_shows_rank_movement_product_clicks_and_bar() {
        let ranked = Snapshot {
            window: Window::ended_by(UnixMillis(1_672_159_800_000)),
            generated_at: UnixMillis(0),
            is_final: false,
            counted_through: std::collections::BTreeMap::new(),
            total_clicks: 100,
            distinct_products: 9,
            clicks_per_minute: Vec::new(),
            products: vec![
                product(1, "p1", 40, Some(3)),
                product(2, "p2", 20, Some(1)),
                product(3, "p3", 10, None),
                product(4, "p4", 10, Some(4)),
            ],
        };
        let table = snapshot(&ranked);
        assert!(table.starts_with("Hot products, 2022-12-27 15:50 – 16:50 UTC\n"), "{table}");
        let rows: Vec<Vec<&str>> =
            table.lines().filter(|line| line.contains('█')).map(|line| line.split_whitespace().collect()).collect();
        let bar = |columns| "█".repeat(columns);
        assert_eq!(rows[0], ["1", "▲2", "p1", "40", &bar(24)]);
        assert_eq!(rows[1], ["2", "▼1", "p2", "20", &bar(12)]);
        assert_eq!(rows[2], ["3", "new", "p3", "10", &bar(6)]);
        assert_eq!(rows[3], ["4", "=", "p4", "10", &bar(6)]);
        assert!(table.ends_with("100 clicks on 9 products; these 4 have 80.0 % of them\n"), "{table}");
        assert!(snapshot_top(&ranked, 1).ends_with("100 clicks on 9 products; these 1 have 40.0 % of them\n"));
    }

    #[test]
    fn a_snapshot_says_whether_it_is_final_and_which_partitions_are_quiet_or_behind() {
        let window = Window::ended_by(UnixMillis(1_672_159_800_000));
        let minute = |number| window.minutes().nth(number).unwrap();
        let mut ranked = Snapshot {
            window,
            generated_at: UnixMillis(0),
            is_final: false,
            counted_through: [("a\u{1b}-3".to_owned(), minute(32)), ("clicks-0".to_owned(), minute(59))].into(),
            total_clicks: 1,
            distinct_products: 1,
            clicks_per_minute: Vec::new(),
            products: Vec::new(),
        };
        let quiet = "a\\u{1b}-3: nothing counted since 16:23, quiet or behind\n";
        assert_eq!(completeness(&ranked), format!("May still grow: late clicks can join\n{quiet}"));
        ranked.is_final = true;
        assert_eq!(completeness(&ranked), format!("Final: no more clicks can join\n{quiet}"));
        ranked.counted_through = (0..8).map(|number| (format!("clicks-{number}"), minute(0))).collect();
        let text = completeness(&ranked);
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            text.ends_with("clicks-4: nothing counted since 15:51, quiet or behind\nthe same for 3 more\n"),
            "{text}"
        );
    }

    #[test]
    fn a_snapshot_without_clicks_says_so() {
        let window = Window::ended_by(UnixMillis(0));
        let empty = Snapshot {
            window,
            generated_at: UnixMillis(0),
            is_final: false,
            counted_through: std::collections::BTreeMap::new(),
            total_clicks: 0,
            distinct_products: 0,
            clicks_per_minute: Vec::new(),
            products: Vec::new(),
        };
        assert!(snapshot(&empty).ends_with("no clicks\n"));
    }
}
