//! The source of time. Callers pass in a clock, so that a replay runs at the time of its events.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::time::UnixMillis;

/// A source of the current time.
pub trait Clock: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> UnixMillis;
}

/// The system's clock. This is the only place that asks the system for the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    fn now(&self) -> UnixMillis {
        // A time before 1970 becomes 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that moves only when it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that is set to `now`.
    pub fn at(now: UnixMillis) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Sets the clock to `now`.
    pub fn set(&self, now: UnixMillis) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// The longest that Lambda lets any function run (AWS Lambda Developer Guide, "Lambda quotas").
const LONGEST_INVOCATION: Duration = Duration::from_mins(15);

/// When an invocation has to be done, from Lambda's deadline in epoch milliseconds. `cargo lambda watch` gives every
/// invocation a deadline in 1970, which can only mean that there is none.
pub fn deadline(epoch_ms: u64, now: UnixMillis) -> UnixMillis {
    let deadline = UnixMillis(epoch_ms.try_into().unwrap_or(i64::MAX));
    if deadline > now { deadline } else { now.plus(LONGEST_INVOCATION) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_the_past_means_there_is_none() {
        let now = UnixMillis(1_672_159_800_000);
        assert_eq!(deadline(1_672_159_860_000, now), UnixMillis(1_672_159_860_000));
        assert_eq!(deadline(600_000, now), now.plus(LONGEST_INVOCATION));
    }
}
