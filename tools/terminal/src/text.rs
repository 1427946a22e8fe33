//! Output for people. Every text may hold bytes from a producer, so what is printed is made safe for a terminal first.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write as _},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use console::{Term, colors_enabled, style, truncate_str};

/// The style of all tables: lines above, below and under the header.
pub const STYLE: TableStyle = {
    let line = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(line).header_separator(line).bottom_border(line)
};
/// The width of a full bar, in columns.
const BAR_COLUMNS: u128 = 24;
/// The largest width of a product id in a table, in columns.
const ID_COLUMNS: usize = 64;
/// The smallest width of a product id in a table, in columns, however narrow the terminal is.
const MIN_ID_COLUMNS: usize = 12;
/// The width of a table of products without the ids, in columns.
const OTHER_COLUMNS: usize = 54;

/// The name at the beginning of each message on standard error.
static PROGRAM: OnceLock<&str> = OnceLock::new();

/// Sets the program's name, with which [`complain`] begins each message: `hot: can't open …`. A program calls it once,
/// before it prints anything; later calls change nothing.
pub fn set_program(name: &'static str) {
    PROGRAM.get_or_init(|| name);
}

/// Prints a line on standard output. Unlike `println!`, it does not panic when the reader has closed the pipe.
///
/// # Errors
/// When standard output can't be written to. A closed pipe is an [`io::Error`] of the kind [`io::ErrorKind::BrokenPipe`].
pub fn print(line: &str) -> Result<()> {
    let mut stdout = Term::buffered_stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

/// Prints a message on standard error: an error, a warning or a note. The text is made safe for a terminal first, since
/// it may come from a table or a server.
pub fn complain(message: impl Display) {
    let line = message_line(PROGRAM.get().copied(), &message.to_string()) + "\n";
    // One write, so that programs that share the output do not mix their lines. Nothing is left to report that standard
    // error is closed.
    let _closed = io::stderr().write_all(line.as_bytes());
}

fn message_line(program: Option<&str>, message: &str) -> String {
    let message = message.lines().map(safe).collect::<Vec<_>>().join("\n");
    match program {
        Some(program) => format!("{program}: {message}"),
        None => message,
    }
}

/// `text` with every character escaped that could move the cursor, change colours, or hide or reorder the text around it.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_control() => safe.extend(c.escape_default()),
            // Directional formatting, line and paragraph separators, and characters without width.
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

/// A product id for a table: safe, and cut to the width that the terminal has for it.
pub fn product_cell(id: &str) -> String {
    truncate_str(&safe(id), id_columns(), "…").into_owned()
}

/// The width of a product id: on a narrow terminal, what the other columns leave.
fn id_columns() -> usize {
    let columns = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    columns.map_or(ID_COLUMNS, |columns| columns.saturating_sub(OTHER_COLUMNS).clamp(MIN_ID_COLUMNS, ID_COLUMNS))
}

/// A table with the columns `header`. The columns at the positions `numbers` hold numbers and are aligned to the right.
///
/// It has colours if standard output is a terminal that supports them and neither `NO_COLOR` nor `CLICOLOR=0` is set, or
/// if `CLICOLOR_FORCE` is set.
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

/// A bar for `part`: its length is to a full bar as `part` is to `most`, rounded up to a column.
pub fn bar(part: u64, most: u64) -> Cell {
    let columns = (u128::from(part) * BAR_COLUMNS).div_ceil(u128::from(most.max(1)));
    Cell::new("█".repeat(columns as usize)).fg(Color::Cyan)
}

/// `text` in bold.
pub fn title(text: impl Display) -> String {
    style(text).bold().to_string()
}

/// `text` as good news, in green.
pub fn good(text: impl Display) -> String {
    style(text).green().to_string()
}

/// `text` as bad news, in bold red.
pub fn bad(text: impl Display) -> String {
    style(text).red().bold().to_string()
}

/// `text` as something to look at, in yellow.
pub fn warning(text: impl Display) -> String {
    style(text).yellow().to_string()
}

/// Counts as a line of bars, one column each: a dot for 0, a full block for the highest count.
pub fn sparkline(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u128::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let bar = |count: &u64| match *count {
        0 => '·',
        count => BARS[((u128::from(count) * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(bar).collect()
}

/// A duration for people, such as `1m 20s`: in whole seconds, from one hour in minutes, from one day in hours.
pub fn duration(span: Duration) -> String {
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
    fn an_id_has_no_effect_on_a_terminal() {
        assert_eq!(safe("p1234 é 😀 #:\"'\\"), "p1234 é 😀 #:\"'\\");
        assert_eq!(safe("a\u{1b}[31m\n\t\0\u{9b}b"), "a\\u{1b}[31m\\n\\t\\u{0}\\u{9b}b");
        assert_eq!(safe("\u{202e}abc\u{2066}\u{200b}"), "\\u{202e}abc\\u{2066}\\u{200b}");
        assert!(product_cell(&"x".repeat(256)).ends_with("x…"));
    }

    #[test]
    fn a_long_duration_has_no_seconds() {
        let texts = [0, 80, 3599, 3725, 90_061].map(|seconds| duration(Duration::from_secs(seconds)));
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
    fn a_message_begins_with_the_program_and_is_safe_in_each_line() {
        assert_eq!(message_line(Some("hot"), "can't open a\u{1b}[31m\nb\n"), "hot: can't open a\\u{1b}[31m\nb");
        assert_eq!(message_line(None, "no\tname"), "no\\tname");
    }

    /// Whether a character changes the direction of text (Unicode Standard Annex #9, explicit directional formatting).
    fn reorders_text(c: char) -> bool {
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    #[test]
    fn no_character_has_an_effect_on_a_terminal() {
        for c in '\0'..=char::MAX {
            let printed = safe(c.encode_utf8(&mut [0; 4]));
            assert!(!printed.contains(|c: char| c.is_control() || reorders_text(c)), "{c:?} prints as {printed:?}");
        }
    }
}
