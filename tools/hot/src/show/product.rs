//! A product's clicks in each minute, for people.

use comfy_table::Cell;
use read_board::clicks::Clicks;
use terminal::text::{bar, duration, safe, sparkline, table, title};

use super::time_range;

/// The largest width of a sparkline, in columns.
const SPARKLINE_COLUMNS: usize = 72;

/// A sparkline, a row for each minute, and the total.
pub(crate) fn clicks(clicks: &Clicks) -> String {
    let counts: Vec<u64> = clicks.minutes.iter().map(|minute| minute.clicks).collect();
    let title = title(format_args!("Clicks on {}, {}", safe(&clicks.product_id), time_range(clicks.from, clicks.to)));
    let (columns, minutes_a_column) = columns(&counts);
    let scale = match minutes_a_column {
        1 => String::new(),
        minutes => format!("  {minutes} minutes a column"),
    };
    let Some(most) = counts.iter().copied().max().filter(|most| *most > 0) else {
        return format!("{title}\nno clicks in {}\n", duration(clicks.to.since(clicks.from)));
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
        duration(clicks.to.since(clicks.from)),
    )
}

/// The counts of a sparkline's columns, and the number of minutes in each column.
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
    fn a_sparkline_sums_minutes_if_there_are_more_than_columns() {
        assert_eq!(columns(&[1, 2, 3]), (vec![1, 2, 3], 1));
        assert_eq!(columns(&[]), (vec![], 1));
        let (day, minutes) = columns(&[1; 1440]);
        assert_eq!((day.len(), minutes, day[0]), (72, 20, 20));
    }

    #[test]
    fn a_product_without_clicks_has_no_table() {
        let minute = Minute::of(UnixMillis(1_672_159_800_000));
        let none = Clicks {
            product_id: "p\u{1b}1".to_owned(),
            from: minute.start(),
            to: minute.end(),
            total_clicks: 0,
            minutes: vec![MinuteClicks { minute: minute.start(), clicks: 0 }],
        };
        assert_eq!(clicks(&none), "Clicks on p\\u{1b}1, 2022-12-27 16:50 – 16:51 UTC\nno clicks in 1m\n");
    }
}
