//! When a window is ranked, and when its snapshot is due.
//!
//! The schedule in `infra/template.yaml` runs rank-products [`RANKING_DELAY`] after each window's end. Programs that wait for
//! a snapshot look again when the next one is due.

use std::time::Duration;

use crate::time::{UnixMillis, Window};

/// How long after its end a window is ranked, so that the clicks of its last minute are counted by then.
pub const RANKING_DELAY: Duration = Duration::from_mins(1);

/// How long a ranking may take until its snapshot can be read.
pub const RANKING_TIME: Duration = Duration::from_secs(10);

/// How long after a window's end its snapshot is due.
pub const SNAPSHOT_DELAY: Duration = RANKING_DELAY.saturating_add(RANKING_TIME);

/// How long after it is due a snapshot is overdue. By then the scheduler and Lambda have tried again.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait before looking again for a snapshot that is due but not there.
pub const RETRY: Duration = Duration::from_secs(5);

/// When `window` is ranked.
pub fn ranked_at(window: Window) -> UnixMillis {
    window.end().plus(RANKING_DELAY)
}

/// When the snapshot of `window` is due.
pub fn due_at(window: Window) -> UnixMillis {
    window.end().plus(SNAPSHOT_DELAY)
}

/// The newest window that has been ranked by the time `now`, if rankings run on time.
pub fn last_ranked(now: UnixMillis) -> Window {
    Window::ended_by(now.minus(RANKING_DELAY))
}

/// The newest window whose snapshot is due at the time `now`.
pub fn last_due(now: UnixMillis) -> Window {
    Window::ended_by(now.minus(SNAPSHOT_DELAY))
}

/// Whether the snapshot after that of `newest` is overdue at the time `now`.
pub fn is_overdue(newest: Window, now: UnixMillis) -> bool {
    due_at(newest.next()).plus(PATIENCE) < now
}

/// How long to wait at the time `now` before looking for the snapshot after that of `newest`.
pub fn until_next(newest: Window, now: UnixMillis) -> Duration {
    due_at(newest.next()).since(now).max(RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_window_is_ranked_after_a_minute_and_due_ten_seconds_later() {
        let window = Window::ended_by(at("2022-12-27T16:50:00Z"));
        assert_eq!(ranked_at(window), at("2022-12-27T16:51:00Z"));
        assert_eq!(due_at(window), at("2022-12-27T16:51:10Z"));
        assert_eq!(last_ranked(at("2022-12-27T16:51:00Z")), window);
        assert_eq!(last_ranked(at("2022-12-27T16:50:59.999Z")), window.previous());
        assert_eq!(last_due(at("2022-12-27T16:51:10Z")), window);
        assert_eq!(last_due(at("2022-12-27T16:51:09.999Z")), window.previous());
    }

    #[test]
    fn the_next_snapshot_is_awaited_until_it_is_due_and_then_every_few_seconds() {
        let newest = Window::ended_by(at("2022-12-27T16:50:00Z"));
        let wait = |now| until_next(newest, at(now)).as_secs();
        assert_eq!(wait("2022-12-27T16:51:10Z"), 300);
        assert_eq!(wait("2022-12-27T16:56:00Z"), 10);
        assert_eq!(wait("2022-12-27T16:56:09Z"), 5, "nearly due");
        assert_eq!(wait("2022-12-27T20:00:00Z"), 5, "overdue");
    }

    #[test]
    fn a_snapshot_is_overdue_a_minute_after_it_was_due() {
        let newest = Window::ended_by(at("2022-12-27T16:50:00Z"));
        assert!(!is_overdue(newest, at("2022-12-27T16:57:10Z")));
        assert!(is_overdue(newest, at("2022-12-27T16:57:10.001Z")));
    }
}
