//! How long an answer holds: until the next snapshot, or the next minute, is due.

use std::time::Duration;

use hot_products::{Minute, UnixMillis, Window};

/// When after its end a window's snapshot can be read: its minute to settle, and what ranking takes.
pub const SNAPSHOT_DELAY: Duration = Duration::from_secs(60 + 10);

/// How long to wait for a snapshot that is overdue before asking again.
const OVERDUE: Duration = Duration::from_secs(5);

/// How long a past snapshot holds. Only a backfill changes it.
pub const PAST: Duration = Duration::from_hours(1);

/// Who may keep answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// The caller alone: answers are for those who are allowed to ask.
    Private,
    /// Caches that many share, too.
    Public,
    /// Nobody without asking again: where the clock runs at another speed than the caller's.
    Never,
}

impl Caching {
    /// The `Cache-Control` of an answer that holds for `lifetime`, in whole seconds, at least one.
    pub fn control(self, lifetime: Duration) -> String {
        let scope = match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Never => return "no-cache".to_owned(),
        };
        format!("{scope}, max-age={}", lifetime.as_secs().max(1))
    }
}

/// How long the newest snapshot, that of `newest`, stays the newest.
pub fn until_next_snapshot(newest: Window, now: UnixMillis) -> Duration {
    newest.next().end().plus(SNAPSHOT_DELAY).since(now).max(OVERDUE)
}

/// How long the snapshots of the windows that end up to `to` hold, of which `newest` is the last there is; `None` for a
/// range that ends in the present, and moves on with it.
///
/// It is until the next is due, whichever it is; where all are there, they are past.
pub fn until_next_in(newest: Option<Window>, to: Option<UnixMillis>, now: UnixMillis) -> Duration {
    let last_due = Window::ended_by(now.minus(SNAPSHOT_DELAY));
    match (newest, to) {
        (Some(newest), Some(to)) if newest >= Window::ended_by(to) => PAST,
        (Some(newest), _) if newest >= last_due => until_next_snapshot(newest, now),
        // One is overdue, or will never come. A range that lies a window's length back waits for none.
        (_, Some(to)) if to.plus(Duration::from_hours(1)) < now => PAST,
        _ => OVERDUE,
    }
}

/// How long the counts of complete minutes hold: when the next is complete, there is one more.
pub fn until_next_minute(now: UnixMillis) -> Duration {
    Minute::of(now).end().since(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    fn window(end: &str) -> Window {
        Window::ended_by(at(end))
    }

    #[test]
    fn the_newest_holds_until_the_next_has_been_ranked() {
        let newest = window("2022-12-27T16:50:00Z");
        let lifetime = |now| until_next_snapshot(newest, at(now)).as_secs();
        assert_eq!(lifetime("2022-12-27T16:51:10Z"), 300);
        assert_eq!(lifetime("2022-12-27T16:56:00Z"), 10);
        assert_eq!(lifetime("2022-12-27T16:56:09Z"), 5, "nearly due");
        assert_eq!(lifetime("2022-12-27T20:00:00Z"), 5, "overdue");
    }

    #[test]
    fn a_range_holds_until_the_next_of_its_snapshots() {
        let newest = Some(window("2022-12-27T16:50:00Z"));
        let lifetime = |newest, to, now| until_next_in(newest, Some(at(to)), at(now)).as_secs();
        assert_eq!(lifetime(newest, "2022-12-27T16:54:59Z", "2022-12-27T16:55:00Z"), 3600, "it is complete");
        assert_eq!(lifetime(newest, "2022-12-27T16:55:00Z", "2022-12-27T16:55:00Z"), 70);
        assert_eq!(lifetime(newest, "2022-12-27T18:00:00Z", "2022-12-27T16:55:00Z"), 70);
        assert_eq!(lifetime(newest, "2022-12-27T17:00:00Z", "2022-12-27T17:02:00Z"), 5, "overdue");
        assert_eq!(lifetime(None, "2022-12-27T17:00:00Z", "2022-12-27T17:02:00Z"), 5);
        assert_eq!(lifetime(None, "2022-12-27T17:00:00Z", "2022-12-28T17:02:00Z"), 3600, "nothing will come");
    }

    #[test]
    fn a_range_up_to_now_is_never_complete() {
        let newest = Some(window("2022-12-27T16:50:00Z"));
        let lifetime = |newest, now| until_next_in(newest, None, at(now)).as_secs();
        assert_eq!(lifetime(newest, "2022-12-27T16:52:00Z"), 250);
        assert_eq!(lifetime(newest, "2022-12-27T17:02:00Z"), 5, "overdue");
        assert_eq!(lifetime(None, "2022-12-27T17:02:00Z"), 5);
    }

    #[test]
    fn minutes_hold_until_the_next_is_complete() {
        assert_eq!(until_next_minute(at("2022-12-27T16:50:00Z")).as_secs(), 60);
        assert_eq!(until_next_minute(at("2022-12-27T16:50:59Z")).as_secs(), 1);
    }

    #[test]
    fn who_may_keep_an_answer_is_said() {
        assert_eq!(Caching::Private.control(Duration::from_secs(70)), "private, max-age=70");
        assert_eq!(Caching::Public.control(Duration::from_millis(200)), "public, max-age=1");
        assert_eq!(Caching::Never.control(Duration::from_secs(70)), "no-cache");
    }
}
