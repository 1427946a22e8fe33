//! Printing for people: safe on a terminal, whatever an id holds.

pub mod costs;

use std::{
    fmt::{Display, Write},
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use console::{Term, colors_enabled, style, truncate_str};
use hot_products::{RankedProduct, Snapshot, UnixMillis};

/// Lines above, below and under the header.
pub(crate) const STYLE: TableStyle = {
    let line = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(line).header_separator(line).bottom_border(line)
};
/// How wide the bar of the hottest product is, in columns.
const BAR_COLUMNS: u128 = 24;
/// How wide a product's id may be in a table, in columns.
const ID_COLUMNS: usize = 64;
/// How wide a table of products is besides the ids, in columns.
const OTHER_COLUMNS: usize = 54;

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
    truncate_str(&safe(id), id_columns(), "…").into_owned()
}

/// How wide a product's id may be: on a narrow terminal, what the other columns leave.
fn id_columns() -> usize {
    let columns = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    columns.map_or(ID_COLUMNS, |columns| columns.saturating_sub(OTHER_COLUMNS).clamp(12, ID_COLUMNS))
}

/// A table with these columns, of which those named in `numbers` hold numbers. In colour where standard output is a terminal
/// that shows it, and neither `NO_COLOR` nor `CLICOLOR=0` is set; or where `CLICOLOR_FORCE` is.
pub(crate) fn table<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if colors_enabled() {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table
}

/// A bar for `part`, a whole column where `most` has all of them.
pub(crate) fn bar(part: u64, most: u64) -> Cell {
    let columns = (u128::from(part) * BAR_COLUMNS).div_ceil(u128::from(most.max(1)));
    Cell::new("█".repeat(columns as usize)).fg(Color::Cyan)
}

/// `text` as what matters most.
pub(crate) fn title(text: impl Display) -> String {
    style(text).bold().to_string()
}

/// `text` as good news or as bad.
pub(crate) fn verdict(good: bool, text: impl Display) -> String {
    if good { style(text).green() } else { style(text).red().bold() }.to_string()
}

/// Counts as a line of bars: nothing is a dot, and the highest count a full block.
pub(crate) fn sparkline(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u128::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let bar = |count: &u64| match *count {
        0 => '·',
        count => BARS[((u128::from(count) * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(bar).collect()
}

/// A window, or another span of up to a day: `2022-12-27 15:50 – 16:50 UTC`.
pub(crate) fn span(from: UnixMillis, to: UnixMillis) -> String {
    format!("{} – {} UTC", from.utc().format("%Y-%m-%d %H:%M"), to.utc().format("%H:%M"))
}

/// A time span for people, in whole seconds, from an hour on in minutes, from a day on in hours: `1m 20s`.
pub(crate) fn seconds(span: Duration) -> String {
    let unit = match span.as_secs() {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    humantime::format_duration(Duration::from_secs(span.as_secs() / unit * unit)).to_string()
}

/// A snapshot as a table, with its totals.
pub fn snapshot(snapshot: &Snapshot) -> String {
    snapshot_top(snapshot, usize::MAX)
}

/// A snapshot's first `limit` products as a table, with the totals of the snapshot.
pub fn snapshot_top(snapshot: &Snapshot, limit: usize) -> String {
    let title = title(format_args!("Hot products, {}", span(snapshot.window.start(), snapshot.window.end())));
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

/// How a product moved since the snapshot before: `▲2`, `▼1`, `=` or `new`.
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
    fn an_id_can_do_nothing_to_a_terminal() {
        assert_eq!(safe("p1234 é 😀 #:\"'\\"), "p1234 é 😀 #:\"'\\");
        assert_eq!(safe("a\u{1b}[31m\n\t\0\u{9b}b"), "a\\u{1b}[31m\\n\\t\\u{0}\\u{9b}b");
        assert_eq!(safe("\u{202e}abc\u{2066}\u{200b}"), "\\u{202e}abc\\u{2066}\\u{200b}");
        assert!(product_cell(&"x".repeat(256)).ends_with("x…"));
    }

    #[test]
    fn a_table_shows_rank_movement_product_clicks_and_bar() {
        let ranked = Snapshot {
            window: Window::ended_by(UnixMillis(1_672_159_800_000)),
            generated_at: UnixMillis(0),
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
    fn a_long_time_is_not_told_to_the_second() {
        let texts = [0, 80, 3599, 3725, 90_061].map(|span| seconds(Duration::from_secs(span)));
        assert_eq!(texts, ["0s", "1m 20s", "59m 59s", "1h 2m", "1day 1h"]);
    }

    #[test]
    fn a_sparkline_has_a_column_for_each_count() {
        assert_eq!(sparkline(&[0, 1, 8, 16, 15]), "·▁▄██");
        assert_eq!(sparkline(&[0, 0]), "··");
        assert_eq!(sparkline(&[u64::MAX, u64::MAX / 2, 1]), "█▄▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn an_hour_without_a_click_says_so() {
        let window = Window::ended_by(UnixMillis(0));
        let empty = Snapshot {
            window,
            generated_at: UnixMillis(0),
            total_clicks: 0,
            distinct_products: 0,
            clicks_per_minute: Vec::new(),
            products: Vec::new(),
        };
        assert!(snapshot(&empty).ends_with("no clicks\n"));
    }
}
