//! What the schedules did, in figures.

use std::fmt;

/// The ways in which a schedule breaks the way to DynamoDB, and the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing listens on DynamoDB's port for a moment, and connections are reset.
    Refused,
    /// The connection is reset, and DynamoDB never sees the request.
    ResetBefore,
    /// DynamoDB applies the request, and the connection is reset instead of the answer.
    ResetAfter,
    /// DynamoDB applies the request, and the connection is reset in the middle of the answer.
    AnswerCut,
    /// 500, and nothing was applied.
    Error500,
    /// 500, and yet it was applied.
    Error500After,
    /// DynamoDB's 400 for too many requests, in one of its names.
    Throttled,
    /// DynamoDB applies the request, and the answer does not come within the attempt's timeout.
    SlowAnswer,
    /// The request is held up until later ones went by, while the function waits.
    Delayed,
    /// The connection is reset, and the request is delivered all the same, after later ones or at the very end.
    Late,
    /// The request is delivered and answered, and delivered once more: beside itself, after later ones or at the end.
    Twice,
    /// The function gets SIGKILL before the request reaches DynamoDB.
    KillBefore,
    /// The function gets SIGKILL when DynamoDB has applied the request.
    KillAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Refused,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::AnswerCut,
        Self::Error500,
        Self::Error500After,
        Self::Throttled,
        Self::SlowAnswer,
        Self::Delayed,
        Self::Late,
        Self::Twice,
        Self::KillBefore,
        Self::KillAfter,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::ResetBefore => "reset before the request",
            Self::ResetAfter => "reset after it was applied",
            Self::AnswerCut => "answer cut in the middle",
            Self::Error500 => "500",
            Self::Error500After => "500 after it was applied",
            Self::Throttled => "throttled",
            Self::SlowAnswer => "answer too slow",
            Self::Delayed => "delivered after later ones",
            Self::Late => "delivered after the connection was lost",
            Self::Twice => "delivered twice",
            Self::KillBefore => "SIGKILL before the request",
            Self::KillAfter => "SIGKILL after it was applied",
        }
    }
}

/// Declares figures that add up field by field.
macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)*) => {
        /// What schedules did.
        #[derive(Clone, Debug, Default)]
        pub struct Tally {
            /// Faults that were injected, in the order of [`Fault::ALL`].
            pub faults: [u64; Fault::ALL.len()],
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Tally {
            /// Adds the figures of another schedule.
            pub fn add(&mut self, other: &Self) {
                for (sum, faults) in self.faults.iter_mut().zip(other.faults) {
                    *sum += faults;
                }
                $(self.$field += other.$field;)*
            }

            fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field),)*].into_iter()
            }
        }
    };
}

tally! {
    /// Records in the sources' logs.
    records: "records produced",
    /// Batches that were sent to a function: one an invocation.
    batches: "batches",
    /// Records in batches that had been in an earlier batch.
    redelivered: "redelivered records",
    /// Invocations that ended with an error.
    failed: "invocations failed",
    /// Of those, the ones that answered they ran out of time.
    out_of_time: "  of these, out of time",
    /// Invocations whose function was killed.
    killed: "invocations killed",
    /// Function processes that were started.
    processes: "function processes",
    /// Moves of a source to another poller, or back to an older commit.
    rebalances: "rebalances",
    /// Of those, the ones in the middle of an invocation, so that two pollers had the source.
    two_pollers: "  of these, two pollers on a source",
    /// Times DynamoDB was away for several invocations.
    outages: "outages over several invocations",
    /// Requests of the functions that reached the proxy.
    requests: "requests",
    /// Requests that were applied long after they were sent.
    applied_late: "requests applied late or again",
    /// Updates that DynamoDB refused for their condition.
    refused: "updates refused by their condition",
    /// Counter items read at the end.
    items: "counter items",
    /// Of those, overflow items.
    overflow_items: "  of these, overflow items",
    /// Clicks that were held against the group-by.
    clicks: "clicks compared",
    /// Rejected records that were found noted.
    rejected: "rejected records compared",
}

impl Tally {
    /// Notes a fault.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Faults of all kinds.
    pub fn all_faults(&self) -> u64 {
        self.faults.iter().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, figure) in self.figures() {
            writeln!(f, "{name:<42} {figure:>10}")?;
        }
        writeln!(f, "{:<42} {:>10}", "faults injected", self.all_faults())?;
        for (fault, count) in Fault::ALL.iter().zip(self.faults) {
            writeln!(f, "  {:<40} {count:>10}", fault.name())?;
        }
        Ok(())
    }
}
