//! Which window an invocation is for.

use hot_products::{UnixMillis, Window};
use serde::Deserialize;
use thiserror::Error;

/// The event: `{"scheduled_time": "2022-12-27T16:51:00Z"}` from the schedule, or `{"window_end": "2022-12-27T16:50:00Z"}`
/// from a person who wants a past window ranked again. If both are given, `window_end` is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// RFC 3339: the time the schedule was due.
    pub scheduled_time: Option<String>,
    /// RFC 3339: the time the window ended, or up to five minutes later.
    pub window_end: Option<String>,
}

/// An event that does not name a window that can be ranked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Both fields are missing.
    #[error(
        "the event does not name a window: give `scheduled_time`, or `window_end` as in {{\"window_end\":\"2022-12-27T16:50:00Z\"}}"
    )]
    Missing,
    /// The field is not a time.
    #[error("`{field}` is {value:?}: give an RFC 3339 time such as 2022-12-27T16:50:00Z")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The window has not ended yet.
    #[error("`{field}` is {value}, which is in the future: the time is {now}")]
    InFuture {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: UnixMillis,
        /// The time of the invocation.
        now: UnixMillis,
    },
}

impl Request {
    /// Whether a person asks for one past window, so that no other window is ranked with it.
    pub fn is_backfill(&self) -> bool {
        self.window_end.is_some()
    }

    /// The window that the event asks for: its end is the given time, rounded down to five minutes.
    ///
    /// # Errors
    /// If the event does not give a time, or gives one after `now`. The scheduler's clock may be slightly ahead of ours, so
    /// of a scheduled time only the window's end must have passed.
    pub fn window(&self, now: UnixMillis) -> Result<Window, RequestError> {
        let (field, value) = match (&self.window_end, &self.scheduled_time) {
            (Some(value), _) => ("window_end", value),
            (None, Some(value)) => ("scheduled_time", value),
            (None, None) => return Err(RequestError::Missing),
        };
        let time =
            UnixMillis::parse_rfc3339(value).map_err(|_| RequestError::Malformed { field, value: value.clone() })?;
        let window = Window::ended_by(time);
        let must_have_passed = if field == "window_end" { time } else { window.end() };
        if must_have_passed > now {
            return Err(RequestError::InFuture { field, value: time, now });
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2022-12-27T16:52:00Z";

    fn window(event: &str) -> Result<String, String> {
        let request: Request = serde_json::from_str(event).unwrap();
        let now = UnixMillis::parse_rfc3339(NOW).unwrap();
        request.window(now).map(|window| window.end().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_window_is_the_last_one_that_has_ended() {
        for event in [
            r#"{"scheduled_time":"2022-12-27T16:51:00Z"}"#,
            r#"{"scheduled_time":"2022-12-27T16:54:59Z"}"#,
            r#"{"window_end":"2022-12-27T16:50:00Z"}"#,
            r#"{"window_end":"2022-12-27T17:50:00+01:00"}"#,
            r#"{"window_end":"2022-12-27T16:51:59.999Z","scheduled_time":"nonsense","else":1}"#,
        ] {
            assert_eq!(window(event).as_deref(), Ok("2022-12-27T16:50:00Z"), "{event}");
        }
    }

    #[test]
    fn an_event_without_a_past_window_is_an_error_that_says_why() {
        assert!(window("{}").unwrap_err().starts_with("the event does not name a window"));
        assert_eq!(
            window(r#"{"window_end":"yesterday"}"#).unwrap_err(),
            "`window_end` is \"yesterday\": give an RFC 3339 time such as 2022-12-27T16:50:00Z"
        );
        assert_eq!(
            window(r#"{"window_end":"2022-12-27T16:53:00Z"}"#).unwrap_err(),
            "`window_end` is 2022-12-27T16:53:00Z, which is in the future: the time is 2022-12-27T16:52:00Z"
        );
        assert!(window(r#"{"scheduled_time":"2022-12-27T16:55:00Z"}"#).unwrap_err().contains("future"));
        assert!(window(r#"{"scheduled_time":"<aws.scheduler.scheduled-time>"}"#).unwrap_err().contains("RFC 3339"));
    }
}
