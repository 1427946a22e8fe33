//! How long an answer can be cached: until the next snapshot, or the next complete minute.

use std::time::Duration;

use hot_products::{
    Minute, UnixMillis, Window,
    schedule::{self, RETRY},
};

/// How long a past snapshot can be cached. Only ranking its window again changes it.
pub(crate) const PAST: Duration = Duration::from_hours(1);

/// Who may cache answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Only the caller: answers are for those who are allowed to ask.
    Private,
    /// Shared caches too.
    Public,
    /// Nobody, without asking again: for a clock that runs faster than the caller's.
    Never,
}

impl Caching {
    /// The `Cache-Control` of an answer that is valid for `lifetime`, in whole seconds, at least one.
    pub(crate) fn control(self, lifetime: Duration) -> String {
        let scope = match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Never => return "no-cache".to_owned(),
        };
        format!("{scope}, max-age={}", lifetime.as_secs().max(1))
    }
}

/// How long a history stays the same: the snapshots of the windows that end up to `to`, of which `newest` is the last that
/// exists. `to` is `None` for a range that ends in the present and moves with it.
///
/// It stays the same until the next snapshot is due. If all of them exist, it is in the past.
pub(crate) fn until_next_in(newest: Option<Window>, to: Option<UnixMillis>, now: UnixMillis) -> Duration {
    match (newest, to) {
        (Some(newest), Some(to)) if newest >= Window::ended_by(to) => PAST,
        (Some(newest), _) if newest >= schedule::last_due(now) => schedule::until_next(newest, now),
        // A snapshot is overdue, or will never be made. An hour after the end of the range, nobody waits for it.
        (_, Some(to)) if to.plus(Duration::from_hours(1)) < now => PAST,
        _ => RETRY,
    }
}

/// How long the counts of complete minutes stay the same: until one more minute is complete.
pub(crate) fn until_next_minute(now: UnixMillis) -> Duration {
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
    fn a_range_can_be_cached_until_the_next_of_its_snapshots() {
        let newest = Some(window("2022-12-27T16:50:00Z"));
        let lifetime = |newest, to, now| until_next_in(newest, Some(at(to)), at(now)).as_secs();
        assert_eq!(lifetime(newest, "2022-12-27T16:54:59Z", "2022-12-27T16:55:00Z"), 3600, "it is complete");
        assert_eq!(lifetime(newest, "2022-12-27T16:55:00Z", "2022-12-27T16:55:00Z"), 70);
        assert_eq!(lifetime(newest, "2022-12-27T18:00:00Z", "2022-12-27T16:55:00Z"), 70);
        assert_eq!(lifetime(newest, "2022-12-27T17:00:00Z", "2022-12-27T17:02:00Z"), 5, "overdue");
        assert_eq!(lifetime(None, "2022-12-27T17:00:00Z", "2022-12-27T17:02:00Z"), 5);
        assert_eq!(lifetime(None, "2022-12-27T17:00:00Z", "2022-12-28T17:02:00Z"), 3600, "nothing will be added");
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
    fn minutes_can_be_cached_until_the_next_is_complete() {
        assert_eq!(until_next_minute(at("2022-12-27T16:50:00Z")).as_secs(), 60);
        assert_eq!(until_next_minute(at("2022-12-27T16:50:59Z")).as_secs(), 1);
    }

    #[test]
    fn cache_control_says_who_may_cache_an_answer() {
        assert_eq!(Caching::Private.control(Duration::from_secs(70)), "private, max-age=70");
        assert_eq!(Caching::Public.control(Duration::from_millis(200)), "public, max-age=1");
        assert_eq!(Caching::Never.control(Duration::from_secs(70)), "no-cache");
    }
}
