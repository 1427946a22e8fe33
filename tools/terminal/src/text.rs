//! Printing for people: safe on a terminal, whatever an id holds.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use console::{Term, colors_enabled, style, truncate_str};

/// Lines above, below and under the header.
pub const STYLE: TableStyle = {
    let line = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(line).header_separator(line).bottom_border(line)
};
/// How wide the bar of the hottest product is, in columns.
const BAR_COLUMNS: u128 = 24;
/// How wide a product's id may be in a table, in columns.
const ID_COLUMNS: usize = 64;
/// How wide a table of products is besides the ids, in columns.
const OTHER_COLUMNS: usize = 54;

/// Prints a line on standard output. `println!` panics when the reader has gone.
///
/// # Errors
/// When standard output can't be written to, a closed pipe included.
pub fn print(line: &str) -> Result<()> {
    let mut stdout = Term::buffered_stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

/// Prints an error or a warning on standard error, safe on a terminal whatever a table or a server put into it.
pub fn complain(what: &str) {
    let lines: Vec<String> = what.lines().map(safe).collect();
    // There is nowhere left to report that standard error is closed.
    let _closed = writeln!(io::stderr(), "hot: {}", lines.join("\n"));
}

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
pub fn table<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
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
pub fn bar(part: u64, most: u64) -> Cell {
    let columns = (u128::from(part) * BAR_COLUMNS).div_ceil(u128::from(most.max(1)));
    Cell::new("█".repeat(columns as usize)).fg(Color::Cyan)
}

/// `text` as what matters most.
pub fn title(text: impl Display) -> String {
    style(text).bold().to_string()
}

/// `text` as good news or as bad.
pub fn verdict(good: bool, text: impl Display) -> String {
    if good { style(text).green() } else { style(text).red().bold() }.to_string()
}

/// Counts as a line of bars: nothing is a dot, and the highest count a full block.
pub fn sparkline(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u128::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let bar = |count: &u64| match *count {
        0 => '·',
        count => BARS[((u128::from(count) * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(bar).collect()
}

/// A time span for people, in whole seconds, from an hour on in minutes, from a day on in hours: `1m 20s`.
pub fn seconds(span: Duration) -> String {
    let unit = match span.as_secs() {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    humantime::format_duration(Duration::from_secs(span.as_secs() / unit * unit)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_do_nothing_to_a_terminal() {
        assert_eq!(safe("p1234 é 😀 #:\"'\\"), "p1234 é 😀 #:\"'\\");
        assert_eq!(safe("a\u{1b}[31m\n\t\0\u{9b}b"), "a\\u{1b}[31m\\n\\t\\u{0}\\u{9b}b");
        assert_eq!(safe("\u{202e}abc\u{2066}\u{200b}"), "\\u{202e}abc\\u{2066}\\u{200b}");
        assert!(product_cell(&"x".repeat(256)).ends_with("x…"));
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

    /// What turns text around on a terminal (Unicode Standard Annex #9, explicit directional formatting).
    fn turns_text(c: char) -> bool {
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    #[test]
    fn no_character_has_an_effect_on_a_terminal() {
        for c in '\0'..=char::MAX {
            let printed = safe(c.encode_utf8(&mut [0; 4]));
            assert!(!printed.contains(|c: char| c.is_control() || turns_text(c)), "{c:?} prints as {printed:?}");
        }
    }
}
