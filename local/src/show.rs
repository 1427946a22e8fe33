//! Printing for people: safe on a terminal, whatever an id holds.

pub mod costs;

use std::fmt::Write;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use console::{Term, truncate_str};
use hot_products::{RankedProduct, Snapshot};

/// Lines above, below and under the header.
pub(crate) const STYLE: TableStyle = {
    let line = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(line).header_separator(line).bottom_border(line)
};
/// How wide the bar of the hottest product is, in columns.
const BAR_COLUMNS: u64 = 24;
/// How wide a product's id may be in a table, in columns.
const ID_COLUMNS: usize = 64;

/// `text` with everything escaped that moves the cursor, colours, hides or turns around what stands beside it.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_control() => safe.extend(c.escape_default()),
            // Marks of direction and embedding, line and paragraph separators, and characters of no width.
            '\u{00ad}'
            | '\u{061c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => {
                let _infallible = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            _ => safe.push(c),
        }
    }
    safe
}

/// A product's id as a table's cell.
pub fn product_cell(id: &str) -> String {
    truncate_str(&safe(id), ID_COLUMNS, "…").into_owned()
}

/// A snapshot as a table, with its totals.
pub fn snapshot(snapshot: &Snapshot) -> String {
    let window = format!(
        "{} – {} UTC",
        snapshot.window.start().utc().format("%Y-%m-%d %H:%M"),
        snapshot.window.end().utc().format("%H:%M")
    );
    if snapshot.products.is_empty() {
        return format!("Hot products, {window}\nno clicks\n");
    }
    let mut table = Table::new();
    table.load_style(STYLE).set_header(["rank", "", "product", "clicks", ""]);
    if let Some(width) = Term::stdout().size_checked().map(|(_, columns)| columns) {
        table.set_width(width);
    }
    for column in [0, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let most = snapshot.products.iter().map(|product| product.clicks).max().unwrap_or(1).max(1);
    for product in &snapshot.products {
        let bar = "█".repeat((product.clicks * BAR_COLUMNS).div_ceil(most) as usize);
        table.add_row([
            product.rank.to_string(),
            movement(product),
            product_cell(&product.product_id),
            product.clicks.to_string(),
            bar,
        ]);
    }
    let shown: u64 = snapshot.products.iter().map(|product| product.clicks).sum();
    format!(
        "Hot products, {window}\n{table}\n{} clicks on {} products; these {} have {:.1} % of them\n",
        snapshot.total_clicks,
        snapshot.distinct_products,
        snapshot.products.len(),
        shown as f64 * 100.0 / snapshot.total_clicks as f64,
    )
}

/// How a product moved since the snapshot before: `▲2`, `▼1`, `=` or `new`.
fn movement(product: &RankedProduct) -> String {
    match product.previous_rank {
        None => "new".to_owned(),
        Some(before) if before > product.rank => format!("▲{}", before - product.rank),
        Some(before) if before < product.rank => format!("▼{}", product.rank - before),
        Some(_) => "=".to_owned(),
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
    fn an_id_can_do_nothing_to_a_terminal() {
        assert_eq!(safe("p1234 é 😀 #:\"'\\"), "p1234 é 😀 #:\"'\\");
        assert_eq!(safe("a\u{1b}[31m\n\t\0\u{9b}b"), "a\\u{1b}[31m\\n\\t\\u{0}\\u{9b}b");
        assert_eq!(safe("\u{202e}abc\u{2066}\u{200b}"), "\\u{202e}abc\\u{2066}\\u{200b}");
        assert!(product_cell(&"x".repeat(256)).ends_with("x…"));
    }

    #[test]
    fn a_table_shows_rank_movement_product_clicks_and_bar() {
        let table = snapshot(&Snapshot {
            window: Window::ended_by(UnixMillis(1_672_159_800_000)),
            generated_at: UnixMillis(0),
            total_clicks: 100,
            distinct_products: 9,
            products: vec![
                product(1, "p1", 40, Some(3)),
                product(2, "p2", 20, Some(1)),
                product(3, "p3", 10, None),
                product(4, "p4", 10, Some(4)),
            ],
        });
        assert!(table.starts_with("Hot products, 2022-12-27 15:50 – 16:50 UTC\n"), "{table}");
        let rows: Vec<Vec<&str>> =
            table.lines().filter(|line| line.contains('█')).map(|line| line.split_whitespace().collect()).collect();
        let bar = |columns| "█".repeat(columns);
        assert_eq!(rows[0], ["1", "▲2", "p1", "40", &bar(24)]);
        assert_eq!(rows[1], ["2", "▼1", "p2", "20", &bar(12)]);
        assert_eq!(rows[2], ["3", "new", "p3", "10", &bar(6)]);
        assert_eq!(rows[3], ["4", "=", "p4", "10", &bar(6)]);
        assert!(table.ends_with("100 clicks on 9 products; these 4 have 80.0 % of them\n"), "{table}");
    }

    #[test]
    fn an_hour_without_a_click_says_so() {
        let window = Window::ended_by(UnixMillis(0));
        let empty = Snapshot {
            window,
            generated_at: UnixMillis(0),
            total_clicks: 0,
            distinct_products: 0,
            products: Vec::new(),
        };
        assert!(snapshot(&empty).ends_with("no clicks\n"));
    }
}
