//! The time of an event, in the unit in which producers write it.

use std::{fmt, str::FromStr};

use serde_json::from_str;
use thiserror::Error;

use super::Text;
use crate::time::UnixMillis;

/// How event times are written. Minutes are counted in milliseconds: what is finer is rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// An integer: milliseconds since the Unix epoch.
    #[default]
    Milliseconds,
    /// A number: seconds since the Unix epoch. It may have a fraction and an exponent, as in `1.672131001234E9`, which Java
    /// writes.
    Seconds,
    /// An integer: microseconds since the Unix epoch.
    Microseconds,
    /// A string: RFC 3339, with an offset or `Z`, and any number of digits of a second.
    Rfc3339,
}

impl TimeUnit {
    const ALL: [Self; 4] = [Self::Milliseconds, Self::Seconds, Self::Microseconds, Self::Rfc3339];

    /// The unit's name in settings and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Microseconds => "us",
            Self::Rfc3339 => "rfc3339",
        }
    }

    /// Reads a JSON value. `None` if it is not a time in this unit, or does not fit [`UnixMillis`].
    pub(super) fn read(self, json: &str) -> Option<UnixMillis> {
        match self {
            Self::Milliseconds => from_str(json).ok().map(UnixMillis),
            Self::Seconds => millis(json).map(UnixMillis),
            Self::Microseconds => from_str(json).ok().map(|micros: i64| UnixMillis(micros.div_euclid(1000))),
            Self::Rfc3339 => from_str(json).ok().and_then(|Text(text)| UnixMillis::parse_rfc3339(&text).ok()),
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TimeUnit {
    type Err = UnknownTimeUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|unit| unit.name() == text).ok_or(UnknownTimeUnit)
    }
}

/// A text is not the name of a [`TimeUnit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("give ms, s, us or rfc3339")]
pub struct UnknownTimeUnit;

/// The milliseconds of a JSON number of seconds, rounded down. By its digits, because a float would round some of them to
/// another millisecond. `None` if `json` is of another type, or they do not fit.
fn millis(json: &str) -> Option<i64> {
    let (is_negative, number) = json.strip_prefix('-').map_or((false, json), |number| (true, number));
    if !number.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    // An exponent that does not fit moves the point behind or before all digits, as the nearest one does that fits.
    let exponent: i64 = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    // How many digits are before the point, if the number is in milliseconds.
    let before = exponent.saturating_add_unsigned(whole.len() as u64).saturating_add(3);
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|digit| u64::from(digit - b'0'));
    let mut millis = 0_u64;
    for _ in 0..before {
        match digits.next() {
            None if millis == 0 => break,
            digit => millis = millis.checked_mul(10)?.checked_add(digit.unwrap_or(0))?,
        }
    }
    if is_negative {
        let rounded_down = millis.checked_add(u64::from(digits.any(|digit| digit != 0)))?;
        0_i64.checked_sub_unsigned(rounded_down)
    } else {
        i64::try_from(millis).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(unit: TimeUnit, json: &str) -> Option<i64> {
        unit.read(json).map(|time| time.0)
    }

    #[test]
    fn each_unit_has_a_name() {
        for unit in TimeUnit::ALL {
            assert_eq!(unit.to_string().parse(), Ok(unit));
        }
        for text in ["", "MS", "seconds", "ns"] {
            assert_eq!(text.parse::<TimeUnit>().unwrap_err().to_string(), "give ms, s, us or rfc3339");
        }
    }

    #[test]
    fn times_are_read_in_each_unit() {
        use TimeUnit::{Microseconds, Milliseconds, Rfc3339, Seconds};
        for (unit, json, millis) in [
            (Milliseconds, "1672131001234", 1_672_131_001_234),
            (Milliseconds, "-1", -1),
            (Seconds, "1672131001", 1_672_131_001_000),
            (Seconds, "1672131001.234", 1_672_131_001_234),
            // As a float, 1.001 seconds are 1000.9999999999999 milliseconds.
            (Seconds, "1.001", 1001),
            (Seconds, "1.0019999999999999999999", 1001),
            (Seconds, "1.672131001234E9", 1_672_131_001_234),
            (Seconds, "1672131001234e-3", 1_672_131_001_234),
            (Seconds, "1e+3", 1_000_000),
            (Seconds, "0", 0),
            (Seconds, "-0.0", 0),
            (Seconds, "0e99999999999999999999", 0),
            (Seconds, "1e-99999999999999999999", 0),
            (Seconds, "-1e-99999999999999999999", -1),
            (Seconds, "-1.5", -1500),
            (Seconds, "-0.0005", -1),
            (Seconds, "-0.001", -1),
            (Seconds, "9223372036854775.807", i64::MAX),
            (Seconds, "9223372036854775.8079", i64::MAX),
            (Seconds, "-9223372036854775.808", i64::MIN),
            (Microseconds, "1672131001234999", 1_672_131_001_234),
            (Microseconds, "-1", -1),
            (Microseconds, "-1000", -1),
            (Microseconds, "-1001", -2),
            (Rfc3339, r#""2022-12-27T08:50:01.234Z""#, 1_672_131_001_234),
            (Rfc3339, r#""2022-12-27T10:20:01.2349999+01:30""#, 1_672_131_001_234),
            (Rfc3339, r#""2022-12-27T08:50:01\u005a""#, 1_672_131_001_000),
            (Rfc3339, r#""1969-12-31T23:59:59.9999Z""#, -1),
        ] {
            assert_eq!(read(unit, json), Some(millis), "{json} in {unit}");
        }
    }

    #[test]
    fn what_is_not_a_time_in_the_unit_or_does_not_fit_is_not_read() {
        use TimeUnit::{Microseconds, Milliseconds, Rfc3339, Seconds};
        let zeros = format!("1{}", "0".repeat(100_000));
        for (unit, json) in [
            (Milliseconds, "1.5"),
            (Milliseconds, "1e3"),
            (Milliseconds, "-0"),
            (Milliseconds, "9223372036854775808"),
            (Milliseconds, "\"1\""),
            (Seconds, "9223372036854775.808"),
            (Seconds, "-9223372036854775.8081"),
            (Seconds, "1e400"),
            (Seconds, "-1e99999999999999999999"),
            (Seconds, &zeros),
            (Seconds, "\"1672131001\""),
            (Seconds, "null"),
            (Seconds, "[1]"),
            (Seconds, "{}"),
            (Seconds, "true"),
            (Microseconds, "1.5"),
            (Microseconds, "9223372036854775808"),
            (Rfc3339, "1672131001234"),
            (Rfc3339, "\"2022-12-27T08:50:01\""),
            (Rfc3339, "\"2022-12-27\""),
            (Rfc3339, "\"1672131001\""),
            (Rfc3339, "\"\""),
            (Rfc3339, "\"\\ud800\""),
            (Rfc3339, "null"),
        ] {
            assert_eq!(read(unit, json), None, "{json} in {unit}");
        }
    }

    proptest! {
        #[test]
        fn seconds_are_read_exactly_however_they_are_written(millis in -1_000_000_000_000_000_i64..1_000_000_000_000_000, zeros in 0..30_usize, exponent in -40..40_i64) {
            let sign = if millis < 0 { "-" } else { "" };
            let (whole, fraction) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
            let plain = format!("{sign}{whole}.{fraction:03}{}", "0".repeat(zeros));
            prop_assert_eq!(read(TimeUnit::Seconds, &plain), Some(millis), "{}", plain);
            // The same number with the point moved.
            let digits = format!("{:0>60}{}", millis.unsigned_abs(), "0".repeat(60));
            let (before, after) = digits.split_at((57 - exponent) as usize);
            let before = match before.trim_start_matches('0') { "" => "0", digits => digits };
            let moved = format!("{sign}{before}.{after}e{exponent}");
            prop_assert_eq!(read(TimeUnit::Seconds, &moved), Some(millis), "{}", moved);
        }
    }
}
