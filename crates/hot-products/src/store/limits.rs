use std::time::Duration;

use aws_sdk_dynamodb::config::{retry::RetryConfig, timeout::TimeoutConfig};

use crate::settings::{SettingError, Settings, wrong};

/// How long calls to DynamoDB may take, and how often they are tried. The SDK itself has no limit for a whole call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// `DYNAMODB_CONNECT_TIMEOUT` (2 s): how long to wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// `DYNAMODB_ATTEMPT_TIMEOUT` (4 s): how long to wait for the answer to one attempt.
    pub attempt_timeout: Duration,
    /// `DYNAMODB_OPERATION_TIMEOUT` (15 s): how long a call may take with all its attempts; far below the functions'
    /// timeouts of a minute.
    pub operation_timeout: Duration,
    /// `DYNAMODB_MAX_ATTEMPTS` (5): how often a call is tried; enough for a throttled key to recover, few enough to
    /// leave time for the other calls.
    pub max_attempts: u32,
    /// `DYNAMODB_MAX_BACKOFF` (2 s): the longest wait between two attempts, which grows with each and,
    /// after throttling, begins at up to a second.
    pub max_backoff: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(4),
            operation_timeout: Duration::from_secs(15),
            max_attempts: 5,
            max_backoff: Duration::from_secs(2),
        }
    }
}

impl CallLimits {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn read<L: Fn(&str) -> Option<String>>(settings: &Settings<L>) -> Result<Self, SettingError> {
        let default = Self::default();
        let limits = Self {
            connect_timeout: settings.duration("DYNAMODB_CONNECT_TIMEOUT", default.connect_timeout)?,
            attempt_timeout: settings.duration("DYNAMODB_ATTEMPT_TIMEOUT", default.attempt_timeout)?,
            operation_timeout: settings.duration("DYNAMODB_OPERATION_TIMEOUT", default.operation_timeout)?,
            max_attempts: settings.number("DYNAMODB_MAX_ATTEMPTS", default.max_attempts as usize, 1..=20)? as u32,
            max_backoff: settings.duration("DYNAMODB_MAX_BACKOFF", default.max_backoff)?,
        };
        if limits.attempt_timeout > limits.operation_timeout {
            // The attempt would be cut off earlier than its setting says.
            let operation = humantime::format_duration(limits.operation_timeout);
            return Err(wrong(
                "DYNAMODB_ATTEMPT_TIMEOUT",
                humantime::format_duration(limits.attempt_timeout).to_string(),
                format!("must not be longer than DYNAMODB_OPERATION_TIMEOUT, which is {operation}"),
            ));
        }
        Ok(limits)
    }

    /// The SDK's timeouts.
    pub fn timeouts(&self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .operation_attempt_timeout(self.attempt_timeout)
            .operation_timeout(self.operation_timeout)
            .build()
    }

    /// The SDK's retries.
    pub fn retries(&self) -> RetryConfig {
        RetryConfig::standard().with_max_attempts(self.max_attempts).with_max_backoff(self.max_backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<CallLimits, SettingError> {
        CallLimits::read(&Settings::new(|name| {
            changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn nothing_set_takes_the_defaults() {
        assert_eq!(read(&[]), Ok(CallLimits::default()));
    }

    #[test]
    fn each_limit_is_read_and_handed_to_the_sdk() {
        let limits = read(&[
            ("DYNAMODB_CONNECT_TIMEOUT", "100ms"),
            ("DYNAMODB_ATTEMPT_TIMEOUT", "200ms"),
            ("DYNAMODB_OPERATION_TIMEOUT", "1s"),
            ("DYNAMODB_MAX_ATTEMPTS", "3"),
            ("DYNAMODB_MAX_BACKOFF", "10ms"),
        ])
        .unwrap();
        let timeouts = limits.timeouts();
        assert_eq!(timeouts.connect_timeout(), Some(Duration::from_millis(100)));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(Duration::from_millis(200)));
        assert_eq!(timeouts.operation_timeout(), Some(Duration::from_secs(1)));
        assert_eq!(limits.retries().max_attempts(), 3);
        assert_eq!(limits.retries().max_backoff(), Duration::from_millis(10));
    }

    #[test]
    fn wrong_limits_are_named() {
        let message = read(&[("DYNAMODB_ATTEMPT_TIMEOUT", "16s")]).unwrap_err().to_string();
        assert_eq!(
            message,
            r#"DYNAMODB_ATTEMPT_TIMEOUT is "16s": must not be longer than DYNAMODB_OPERATION_TIMEOUT, which is 15s"#
        );
        let message = read(&[("DYNAMODB_MAX_ATTEMPTS", "0")]).unwrap_err().to_string();
        assert_eq!(message, r#"DYNAMODB_MAX_ATTEMPTS is "0": give a whole number from 1 to 20"#);
    }
}
