//! A product's clicks, minute by minute, for people.

use comfy_table::Cell;
use read_board::clicks::Clicks;

use terminal::text::{bar, safe, seconds, sparkline, table, title};

use crate::show::span;

/// How wide a sparkline is at most, in columns.
const SPARKLINE_COLUMNS: usize = 72;

/// The clicks for people: a sparkline, a row a minute, and the total.
pub(crate) fn show(clicks: &Clicks) -> String {
    let counts: Vec<u64> = clicks.minutes.iter().map(|minute| minute.clicks).collect();
    let title = title(format_args!("Clicks on {}, {}", safe(&clicks.product_id), span(clicks.from, clicks.to)));
    let (columns, minutes_a_column) = columns(&counts);
    let scale = match minutes_a_column {
        1 => String::new(),
        minutes => format!("  {minutes} minutes a column"),
    };
    let Some(most) = counts.iter().copied().max().filter(|most| *most > 0) else {
        return format!("{title}\nno clicks in {}\n", seconds(clicks.to.since(clicks.from)));
    };
    let mut rows = table(["minute", "clicks", ""], &[1]);
    for minute in &clicks.minutes {
        let start = minute.minute.utc().format("%H:%M");
        rows.add_row([Cell::new(start), Cell::new(minute.clicks), bar(minute.clicks, most)]);
    }
    format!(
        "{title}\n{}{scale}\n{rows}\n{} clicks in {}; at most {most} in a minute\n",
        sparkline(&columns),
        clicks.total_clicks,
        seconds(clicks.to.since(clicks.from)),
    )
}

/// Counts summed into as many columns as a sparkline may have, and how many minutes a column holds.
fn columns(counts: &[u64]) -> (Vec<u64>, usize) {
    let minutes = counts.len().div_ceil(SPARKLINE_COLUMNS).max(1);
    (counts.chunks(minutes).map(|chunk| chunk.iter().sum()).collect(), minutes)
}

#[cfg(test)]
mod tests {
    use hot_products::{Minute, UnixMillis};
    use read_board::clicks::MinuteClicks;

    use super::*;

    #[test]
    fn a_sparkline_sums_minutes_where_they_are_too_many() {
        assert_eq!(columns(&[1, 2, 3]), (vec![1, 2, 3], 1));
        assert_eq!(columns(&[]), (vec![], 1));
        let (day, minutes) = columns(&[1; 1440]);
        assert_eq!((day.len(), minutes, day[0]), (72, 20, 20));
    }

    #[test]
    fn a_product_without_clicks_has_no_table() {
        let minute = Minute::of(UnixMillis(1_672_159_800_000));
        let clicks = Clicks {
            product_id: "p\u{1b}1".to_owned(),
            from: minute.start(),
            to: minute.end(),
            total_clicks: 0,
            minutes: vec![MinuteClicks { minute: minute.start(), clicks: 0 }],
        };
        assert_eq!(show(&clicks), "Clicks on p\\u{1b}1, 2022-12-27 16:50 – 16:51 UTC\nno clicks in 1m\n");
    }
}
