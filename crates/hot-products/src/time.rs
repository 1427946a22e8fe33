//! Minutes and windows: the two units of event time in the tables.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const MINUTE_MS: i64 = 60_000;

/// A point in time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Parses an RFC 3339 time such as `2022-12-27T16:50:00Z`; digits below a millisecond are dropped.
    ///
    /// # Errors
    /// When `text` is not an RFC 3339 time.
    pub fn parse_rfc3339(text: &str) -> Result<Self, chrono::ParseError> {
        DateTime::parse_from_rfc3339(text).map(|time| Self(time.timestamp_millis()))
    }

    /// The time `duration` later; stops at the end of the range.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The time `duration` earlier; stops at the start of the range.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time from `earlier` to this one; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since the Unix epoch, rounded down: the unit of DynamoDB's TTL.
    pub fn epoch_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// RFC 3339 in UTC with milliseconds, `2022-12-27T16:50:00.123Z`. It has a fixed width, so text order is time order.
    pub fn rfc3339(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// As a `chrono` time. A time outside chrono's range becomes the nearest end of that range.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// As `Display`: RFC 3339 in UTC.
impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serde for a stored time: [`UnixMillis::rfc3339`], whose text order is time order.
pub(crate) mod fixed_width {
    use super::{Deserialize, Deserializer, Error, Serializer, UnixMillis};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(crate) fn serialize<S: Serializer>(time: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.rfc3339())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMillis, D::Error> {
        UnixMillis::parse_rfc3339(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A minute of event time: a tumbling window `[start, start + 60 s)`, aligned to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(i64);

impl Minute {
    /// The minute that contains `time`.
    pub fn of(time: UnixMillis) -> Self {
        Self(time.0.div_euclid(MINUTE_MS))
    }

    /// The first instant of the minute.
    pub fn start(self) -> UnixMillis {
        UnixMillis(self.0 * MINUTE_MS)
    }

    /// The first instant after the minute.
    pub fn end(self) -> UnixMillis {
        UnixMillis((self.0 + 1) * MINUTE_MS)
    }
}

/// As the RFC 3339 time of its start, `2022-12-27T16:50:00Z`.
impl Serialize for Minute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bound(self.start()))
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        UnixMillis::parse_rfc3339(&text).map(Self::of).map_err(D::Error::custom)
    }
}

/// As in the keys of the counters table: `2022-12-27T16:50Z`.
impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start().utc().format("%Y-%m-%dT%H:%MZ"))
    }
}

/// The sixty minutes `[end - 60 min, end)` that a snapshot ranks; `end` is on a five-minute boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// In steps since the epoch, so that no other window can be represented.
    end_step: i64,
}

impl Window {
    /// How many minutes a window spans.
    pub const MINUTES: i64 = 60;
    /// Minutes between the ends of two windows.
    pub const STEP_MINUTES: i64 = 5;

    const STEP_MS: i64 = Self::STEP_MINUTES * MINUTE_MS;

    /// The newest window that has ended at `time`: its end is `time` floored to five minutes.
    pub fn ended_by(time: UnixMillis) -> Self {
        Self { end_step: time.0.div_euclid(Self::STEP_MS) }
    }

    /// The first window that ends after `time`: the first that contains a click at `time`.
    pub fn first_after(time: UnixMillis) -> Self {
        Self::ended_by(time).next()
    }

    /// The window that ends five minutes later.
    #[must_use]
    pub fn next(self) -> Self {
        Self { end_step: self.end_step + 1 }
    }

    /// The window that ended five minutes earlier.
    #[must_use]
    pub fn previous(self) -> Self {
        Self { end_step: self.end_step - 1 }
    }

    /// The oldest window that has minutes in common with this one.
    #[must_use]
    pub fn first_overlapping(self) -> Self {
        Self { end_step: self.end_step - (Self::MINUTES / Self::STEP_MINUTES - 1) }
    }

    /// The newest window that has minutes in common with this one.
    #[must_use]
    pub fn last_overlapping(self) -> Self {
        Self { end_step: self.end_step + (Self::MINUTES / Self::STEP_MINUTES - 1) }
    }

    /// The windows from this one to `last`, inclusive.
    pub fn until(self, last: Self) -> impl Iterator<Item = Self> + Clone {
        (self.end_step..=last.end_step).map(|end_step| Self { end_step })
    }

    /// The window's first instant.
    pub fn start(self) -> UnixMillis {
        UnixMillis(self.end().0 - Self::MINUTES * MINUTE_MS)
    }

    /// The first instant after the window.
    pub fn end(self) -> UnixMillis {
        UnixMillis(self.end_step * Self::STEP_MS)
    }

    /// Its sixty minutes, in order.
    pub fn minutes(self) -> impl Iterator<Item = Minute> {
        let first = Minute::of(self.start()).0;
        (first..first + Self::MINUTES).map(Minute)
    }
}

/// The start or end of a window as in the snapshots table: `2022-12-27T16:50:00Z`.
pub fn bound(time: UnixMillis) -> String {
    time.utc().to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_minute_contains_its_start_but_not_its_end() {
        let minute = Minute::of(at("2022-12-27T16:50:00Z"));
        assert_eq!(minute.to_string(), "2022-12-27T16:50Z");
        assert_eq!(Minute::of(at("2022-12-27T16:50:59.999Z")), minute);
        assert_ne!(Minute::of(minute.end()), minute);
        assert_eq!(Minute::of(UnixMillis(-1)).end(), UnixMillis(0));
    }

    #[test]
    fn a_window_is_sixty_minutes_up_to_a_five_minute_boundary() {
        let window = Window::ended_by(at("2022-12-27T16:54:59.999Z"));
        assert_eq!(bound(window.start()), "2022-12-27T15:50:00Z");
        assert_eq!(bound(window.end()), "2022-12-27T16:50:00Z");
        let minutes: Vec<_> = window.minutes().collect();
        assert_eq!(minutes.len(), 60);
        assert_eq!(minutes[0].start(), window.start());
        assert_eq!(minutes[59].end(), window.end());
        assert_eq!(window.next().previous(), window);
    }

    #[test]
    fn a_click_on_a_boundary_belongs_to_the_next_window() {
        assert_eq!(bound(Window::first_after(at("2022-12-27T16:50:00Z")).end()), "2022-12-27T16:55:00Z");
        assert_eq!(bound(Window::first_after(at("2022-12-27T16:49:59Z")).end()), "2022-12-27T16:50:00Z");
    }

    #[test]
    fn times_outside_the_calendar_do_not_panic() {
        for time in [UnixMillis(i64::MIN), UnixMillis(i64::MAX)] {
            assert!(!time.rfc3339().is_empty());
            assert!(!time.plus(Duration::MAX).to_string().is_empty());
            assert!(!time.minus(Duration::MAX).to_string().is_empty());
        }
    }
}
