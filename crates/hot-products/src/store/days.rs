//! Items of one day (UTC) that have one attribute for each window that ends on it: `16:50`.

use chrono::Days;

use crate::time::{UnixMillis, Window, bound};

/// The day on which `window` ends, as keys have it: `2022-12-27`.
pub(super) fn day(window: Window) -> String {
    window.end().utc().format("%Y-%m-%d").to_string()
}

/// The attribute name of `window` within its day: `16:50`.
pub(super) fn time(window: Window) -> String {
    window.end().utc().format("%H:%M").to_string()
}

/// The window with the attribute name `time` within `day`; `None` if it is the name of another attribute.
pub(super) fn window(day: &str, time: &str) -> Option<Window> {
    let window = Window::ended_by(UnixMillis::parse_rfc3339(&format!("{day}T{time}:00Z")).ok()?);
    // A time between two windows is not the name of a window.
    (bound(window.end()) == format!("{day}T{time}:00Z")).then_some(window)
}

/// The first instant after the day on which `window` ends.
pub(super) fn end(window: Window) -> UnixMillis {
    let next = window.end().utc().date_naive().checked_add_days(Days::new(1));
    next.and_then(|day| day.and_hms_opt(0, 0, 0))
        .map_or(UnixMillis(i64::MAX), |midnight| UnixMillis(midnight.and_utc().timestamp_millis()))
}

/// The days on which the windows from `first` to `last` end.
pub(super) fn between(first: Window, last: Window) -> Vec<String> {
    let mut days: Vec<String> = first.until(last).map(day).collect();
    days.dedup();
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_of(end: &str) -> Window {
        Window::ended_by(UnixMillis::parse_rfc3339(end).unwrap())
    }

    #[test]
    fn a_window_is_found_again_by_its_day_and_time() {
        let last_of_day = window_of("2022-12-27T23:55:00Z");
        assert_eq!((day(last_of_day).as_str(), time(last_of_day).as_str()), ("2022-12-27", "23:55"));
        assert_eq!((day(last_of_day.next()).as_str(), time(last_of_day.next()).as_str()), ("2022-12-28", "00:00"));
        assert_eq!(window("2022-12-27", "23:55"), Some(last_of_day));
        for name in ["expires_at", "bucket", "16:51", "25:00", ""] {
            assert_eq!(window("2022-12-27", name), None, "{name}");
        }
        assert_eq!(bound(end(last_of_day)), "2022-12-28T00:00:00Z");
        assert_eq!(between(last_of_day, last_of_day.next()), ["2022-12-27", "2022-12-28"]);
    }
}
