//! Parsers of option values. Each error says what to give instead.

use std::{ops::RangeInclusive, time::Duration};

use hot_products::UnixMillis;

/// A time in RFC 3339.
pub(crate) fn time(text: &str) -> Result<UnixMillis, String> {
    UnixMillis::parse_rfc3339(text).map_err(|_| "give an RFC 3339 time such as 2022-12-27T16:50:00Z".to_owned())
}

/// A duration with units, as a [`Duration`] or, for arguments with a default, as one that displays.
pub(crate) fn duration<D: From<Duration>>(text: &str) -> Result<D, String> {
    let duration = humantime::parse_duration(text);
    duration.map(D::from).map_err(|error| format!("give a duration such as 500ms, 5s or 2m: {error}"))
}

/// A duration from a minute to an hour.
pub(crate) fn within_an_hour(text: &str) -> Result<Duration, String> {
    let taken = duration(text)?;
    if (Duration::from_mins(1)..=Duration::from_hours(1)).contains(&taken) {
        Ok(taken)
    } else {
        Err("give a duration from 1m to 1h".to_owned())
    }
}

/// A number in `range`.
pub(crate) fn number(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("give a number from {} to {}", range.start(), range.end()))
    }
}

/// A share, 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    number(0.0..=1.0)(text)
}

/// A whole number in `range`.
pub(crate) fn whole(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A whole number, 1 or more.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "give a whole number, 1 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_its_range_is_taken_and_any_other_is_refused_with_the_range() {
        assert_eq!(number(0.1..=1000.0)("0.1"), Ok(0.1));
        for bad in ["0", "1000.1", "NaN", "-1", "", "x"] {
            assert_eq!(number(0.1..=1000.0)(bad), Err("give a number from 0.1 to 1000".to_owned()), "{bad:?}");
        }
        assert_eq!((share("0"), share("1")), (Ok(0.0), Ok(1.0)));
        assert_eq!(share("1.01"), Err("give a number from 0 to 1".to_owned()));
        assert_eq!((whole(1..=1000)("1"), whole(1..=1000)("1000")), (Ok(1), Ok(1000)));
        for bad in ["0", "1001", "1.5", "-1", ""] {
            assert_eq!(whole(1..=1000)(bad), Err("give a whole number from 1 to 1000".to_owned()), "{bad:?}");
        }
        assert_eq!(at_least_one("20000"), Ok(20_000));
        assert!(at_least_one("0").is_err());
    }

    #[test]
    fn times_and_durations_are_taken_as_people_write_them() {
        assert_eq!(time("2022-12-27T16:50:00Z"), Ok(UnixMillis(1_672_159_800_000)));
        assert!(time("noon").unwrap_err().contains("RFC 3339"));
        assert_eq!(duration::<Duration>("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(within_an_hour("10m"), Ok(Duration::from_mins(10)));
        for bad in ["59s", "61m"] {
            assert_eq!(within_an_hour(bad), Err("give a duration from 1m to 1h".to_owned()), "{bad}");
        }
        assert!(duration::<Duration>("soon").unwrap_err().starts_with("give a duration such as 500ms"));
    }
}
