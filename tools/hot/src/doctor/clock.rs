//! The difference between this machine's clock and AWS's, from the `Date` of DynamoDB's answers.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use aws_sdk_dynamodb::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef},
    error::BoxError,
    primitives::{DateTime, DateTimeFormat},
};
use hot_products::{Clock, SystemClock, UnixMillis};

/// There was no answer with a date.
const NONE: i64 = i64::MIN;

/// Keeps how far AWS's clock is ahead of this machine's, by the last answer. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct AwsClock(Arc<AtomicI64>);

impl AwsClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NONE)))
    }

    /// How many milliseconds AWS's clock is ahead, to a second. Unknown before the first answer.
    pub(super) fn ahead(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != NONE)
    }

    /// The time by AWS's clock, or by this machine's if AWS's is unknown.
    pub(super) fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock.now().0.saturating_add(self.ahead().unwrap_or(0)))
    }
}

impl Intercept for AwsClock {
    fn name(&self) -> &'static str {
        "AwsClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Refused calls have a date as well.
        if let Some(ahead) = context.response().headers().get("date").and_then(|date| ahead(date, SystemClock.now())) {
            self.0.store(ahead, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How far the date of an answer that has arrived at `now` is ahead, in milliseconds.
fn ahead(date: &str, now: UnixMillis) -> Option<i64> {
    let date = DateTime::from_str(date, DateTimeFormat::HttpDate).ok()?.to_millis().ok()?;
    // The date has whole seconds, so the real time was between it and a second later.
    Some(match now.0.saturating_sub(date) {
        0..1000 => 0,
        late if late >= 1000 => 999 - late,
        early => -early,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_tells_the_difference_to_a_second() {
        let date = "Tue, 27 Dec 2022 16:50:00 GMT";
        let at = |text: &str| ahead(date, UnixMillis::parse_rfc3339(text).unwrap());
        assert_eq!(at("2022-12-27T16:50:00.999Z"), Some(0));
        assert_eq!(at("2022-12-27T16:50:10Z"), Some(-9_001), "this machine is fast");
        assert_eq!(at("2022-12-27T16:49:50Z"), Some(10_000), "this machine is slow");
        assert_eq!(ahead("yesterday", UnixMillis(0)), None);
        assert_eq!(AwsClock::new().ahead(), None);
    }
}
