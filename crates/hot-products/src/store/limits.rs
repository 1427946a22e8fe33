use std::time::Duration;

use aws_sdk_dynamodb::config::{retry::RetryConfig, timeout::TimeoutConfig};

use crate::{
    defaults,
    settings::{SettingError, Settings, wrong},
};

/// How long calls to DynamoDB may take, and how often they are tried. The SDK itself has no limit for a whole call.
///
/// The defaults are in [`defaults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// `DYNAMODB_CONNECT_TIMEOUT`: how long to wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// `DYNAMODB_ATTEMPT_TIMEOUT`: how long to wait for the answer to one attempt.
    pub attempt_timeout: Duration,
    /// `DYNAMODB_OPERATION_TIMEOUT`: how long a call with all its attempts may take.
    pub operation_timeout: Duration,
    /// `DYNAMODB_MAX_ATTEMPTS`: how often a call is tried.
    pub max_attempts: u32,
    /// `DYNAMODB_MAX_BACKOFF`: the longest wait between two attempts. The wait grows with each attempt; after throttling
    /// it starts at up to a second.
    pub max_backoff: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            connect_timeout: defaults::CONNECT_TIMEOUT,
            attempt_timeout: defaults::ATTEMPT_TIMEOUT,
            operation_timeout: defaults::OPERATION_TIMEOUT,
            max_attempts: defaults::MAX_ATTEMPTS as u32,
            max_backoff: defaults::MAX_BACKOFF,
        }
    }
}

impl CallLimits {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        let default = Self::default();
        let limits = Self {
            connect_timeout: settings.duration("DYNAMODB_CONNECT_TIMEOUT", default.connect_timeout)?,
            attempt_timeout: settings.duration("DYNAMODB_ATTEMPT_TIMEOUT", default.attempt_timeout)?,
            operation_timeout: settings.duration("DYNAMODB_OPERATION_TIMEOUT", default.operation_timeout)?,
            max_attempts: settings.number("DYNAMODB_MAX_ATTEMPTS", default.max_attempts as usize, 1..=20)? as u32,
            max_backoff: settings.duration("DYNAMODB_MAX_BACKOFF", default.max_backoff)?,
        };
        if limits.attempt_timeout > limits.operation_timeout {
            // The operation's timeout would end the attempt earlier than its own setting says.
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
        CallLimits::read(&changes.iter().copied().collect())
    }

    #[test]
    fn settings_that_are_not_set_have_their_defaults() {
        assert_eq!(read(&[]), Ok(CallLimits::default()));
    }

    #[test]
    fn each_limit_is_read_and_passed_to_the_sdk() {
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
    fn the_message_names_a_wrong_limit() {
        let message = read(&[("DYNAMODB_ATTEMPT_TIMEOUT", "16s")]).unwrap_err().to_string();
        assert_eq!(
            message,
            r#"DYNAMODB_ATTEMPT_TIMEOUT is "16s": must not be longer than DYNAMODB_OPERATION_TIMEOUT, which is 15s"#
        );
        let message = read(&[("DYNAMODB_MAX_ATTEMPTS", "0")]).unwrap_err().to_string();
        assert_eq!(message, r#"DYNAMODB_MAX_ATTEMPTS is "0": give a whole number from 1 to 20"#);
    }
}
