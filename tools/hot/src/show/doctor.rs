//! The findings of `hot doctor` for people.

use std::fmt::Write;

use hot_products::time::bound;
use terminal::text::{bad, good, safe, title, warning};

use crate::doctor::{Finding, Report, Status};

/// The whole report: a line for each check, and below it what to do, if it is not ok.
pub(crate) fn report(report: &Report) -> String {
    let (stack, at) = (safe(&report.stack), bound(report.at));
    let mut text = format!("{}\n", title(format_args!("{stack} in {}, {at}", safe(&report.region))));
    let width = report.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in &report.findings {
        let Finding { check, status, found, next, command } = finding;
        let status = match status {
            Status::Ok => good("ok     "),
            Status::Wrong => bad("wrong  "),
            Status::Unknown => warning("unknown"),
        };
        let _infallible = writeln!(text, "{status}  {:width$}  {}", safe(check), safe(found));
        let indent = " ".repeat(width + 11);
        for (name, step) in [("next", next), ("ask", command)] {
            if let Some(step) = step {
                let _infallible = writeln!(text, "{indent}{name}: {}", safe(step));
            }
        }
    }
    let Report { ok, wrong, unknown, .. } = report;
    let _infallible = write!(text, "{ok} ok, {wrong} wrong, {unknown} unknown");
    text
}

#[cfg(test)]
mod tests {
    use hot_products::UnixMillis;

    use super::*;

    #[test]
    fn what_is_not_ok_shows_what_to_do_and_the_command() {
        let findings = vec![
            Finding::ok("clock", "fine"),
            Finding {
                command: Some("aws x".to_owned()),
                ..Finding::wrong("schedule", "is DISABLED \u{1b}[2J", "enable it")
            },
            Finding::unknown("topic", "no answer", "ask again"),
        ];
        let text = report(&Report {
            at: UnixMillis(1_672_159_920_000),
            stack: "shop".to_owned(),
            region: "eu-west-1".to_owned(),
            ok: 1,
            wrong: 1,
            unknown: 1,
            findings,
        });
        let expected = "\
shop in eu-west-1, 2022-12-27T16:52:00Z
ok       clock     fine
wrong    schedule  is DISABLED \\u{1b}[2J
                   next: enable it
                   ask: aws x
unknown  topic     no answer
                   next: ask again
1 ok, 1 wrong, 1 unknown";
        assert_eq!(text, expected);
    }
}
