//! The statistics of the schedules.

use std::fmt;

/// A fault that a schedule injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// DynamoDB's port refuses connections for a moment, and open connections are reset.
    Refused,
    /// The connection is reset, and DynamoDB never receives the request.
    ResetBefore,
    /// DynamoDB applies the request, and the connection is reset before the response.
    ResetAfter,
    /// DynamoDB applies the request, and the connection is reset in the middle of the response.
    AnswerCut,
    /// Status 500, and the request was not applied.
    Error500,
    /// Status 500, but the request was applied.
    Error500After,
    /// DynamoDB's status 400 for too many requests, with one of its error names.
    Throttled,
    /// DynamoDB applies the request, but the response takes longer than the attempt's timeout.
    SlowAnswer,
    /// The request is delayed until later ones have passed; the function waits.
    Delayed,
    /// The connection is reset, and the request is delivered after later ones, or at the end of the schedule.
    Late,
    /// The request is delivered twice: at the same time, after later ones, or at the end of the schedule.
    Twice,
    /// The function is killed before the request reaches DynamoDB.
    KillBefore,
    /// The function is killed after DynamoDB has applied the request.
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
            Self::AnswerCut => "response cut in the middle",
            Self::Error500 => "500",
            Self::Error500After => "500 after it was applied",
            Self::Throttled => "throttled",
            Self::SlowAnswer => "response too slow",
            Self::Delayed => "delivered after later ones",
            Self::Late => "delivered after a reset",
            Self::Twice => "delivered twice",
            Self::KillBefore => "SIGKILL before the request",
            Self::KillAfter => "SIGKILL after it was applied",
        }
    }
}

/// Declares counters that are added field by field.
macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)*) => {
        /// The counters of one or more schedules.
        #[derive(Clone, Debug, Default)]
        pub struct Tally {
            /// Injected faults, in the order of [`Fault::ALL`].
            pub faults: [u64; Fault::ALL.len()],
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Tally {
            /// Adds the counters of another schedule.
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
    /// Records in all partitions.
    records: "records produced",
    /// Batches that were sent to a function, one per invocation.
    batches: "batches",
    /// With two versions: batches that this version got.
    by_present: "  of these, to this version",
    /// With two versions: batches that the previous release got.
    by_previous: "  of these, to the previous release",
    /// With two versions: how often a partition's batch went to the other version than the one before.
    handovers: "  of these, after the other version",
    /// Records in batches that had been in an earlier batch.
    redelivered: "redelivered records",
    /// Invocations that ended with an error.
    failed: "invocations failed",
    /// Of those, the ones that ran out of time.
    out_of_time: "  of these, out of time",
    /// Invocations whose function was killed.
    killed: "invocations killed",
    /// Function processes that were started.
    processes: "function processes",
    /// Moves of a partition to another poller, or back to an older commit.
    rebalances: "rebalances",
    /// Of those, the ones during an invocation, so that two pollers had the partition.
    two_pollers: "  of these, two pollers on a partition",
    /// Outages of DynamoDB over several invocations.
    outages: "outages over several invocations",
    /// Requests of the functions that reached the proxy.
    requests: "requests",
    /// Requests that were applied long after they were sent.
    applied_late: "requests applied late or again",
    /// Writes whose condition failed.
    refused: "writes refused by their condition",
    /// Counting updates that DynamoDB applied.
    applied: "updates applied",
    /// Updates that DynamoDB refused because their item would have grown beyond 400 KB.
    full: "updates refused by a full item",
    /// Writes that closed a full item, applied.
    closings: "closing writes applied",
    /// Closing writes that met a fault.
    closings_met: "closing writes that met a fault",
    /// Notes of late clicks, applied.
    notes: "notes of late clicks applied",
    /// Notes that met a fault.
    notes_met: "  notes that met a fault",
    /// Notes that were lost because the function was killed between its counters and its note.
    notes_lost: "  notes lost in a crash",
    /// Runs of rank-products.
    runs: "runs of rank-products",
    /// Of those, the ones that failed or were killed.
    runs_failed: "  of these, failed or killed",
    /// Runs of the schedule that did not take place.
    runs_missed: "runs missed",
    /// Runs at the same time as another one.
    runs_overlapping: "runs at the same time as another",
    /// Snapshots and clicks per minute that DynamoDB applied.
    snapshots: "snapshots and minutes through the proxy",
    /// Those that it refused, because the window had a snapshot as good.
    kept: "  refused for a snapshot as good",
    /// Snapshots and records of rankings that met a fault.
    rankings_met: "snapshots and records that met a fault",
    /// Clicks that arrived an hour or more after their event time.
    hours_late: "clicks that arrived hours late",
    /// Steps of five minutes in which a partition stalled.
    stalls: "stalls of a partition, five minutes each",
    /// Counter items that expired.
    expired: "counter items expired",
    /// Windows whose first snapshot missed clicks, and that had all of them before they were final.
    healed: "windows healed",
    /// Windows with a final snapshot.
    finals: "windows final",
    /// With two versions: windows that one of them ranked, and the other accepted.
    shared_windows: "windows ranked by one of two versions",
    /// Counters that differ from the group-by.
    wrong_counters: "wrong counters",
    /// Windows that are not final at the end, or differ from the group-by.
    wrong_finals: "wrong or missing final snapshots",
    /// Writes that were throttled by the table's ceiling.
    throttled: "writes above the ceiling",
    /// Write units that writes under a ceiling used.
    units: "write units under a ceiling",
    /// Of those, the ones that went into writes whose condition failed.
    refused_units: "  of these, for refused writes",
    /// Counter items read at the end.
    items: "counter items",
    /// Of those, overflow items.
    overflow_items: "  of these, overflow items",
    /// Of the items, those that are closed.
    closed_items: "  of these, closed items",
    /// Clicks that were compared with the group-by.
    clicks: "clicks compared",
    /// Rejected records that were compared.
    rejected: "rejected records compared",
}

/// The number of schedules that the minimums below are for.
const LEAST_OF: u64 = 300;
/// Reads a counter.
type Figure = fn(&Tally) -> u64;
/// The minimum of each fault of a request: about a third of the rarest.
const LEAST_FAULTS: u64 = 300;
/// The minimum of each kind of kill.
const LEAST_KILLS: u64 = 65;
/// Other minimums, about a third of what the schedules reach, and less where a few schedules make the most of it. One schedule in
/// eight is about healing.
const LEAST: [(&str, Figure, u64); 22] = [
    ("redelivered records", |tally| tally.redelivered, 190_000),
    ("two pollers on a partition", |tally| tally.two_pollers, 380),
    ("outages", |tally| tally.outages, 16),
    ("writes refused by their condition", |tally| tally.refused, 18_000),
    ("overflow items", |tally| tally.overflow_items, 50),
    ("updates refused by a full item", |tally| tally.full, 13),
    ("closing writes applied", |tally| tally.closings, 17),
    ("closing writes that met a fault", |tally| tally.closings_met, 17),
    ("writes above the ceiling", |tally| tally.throttled, 1_300),
    ("notes of late clicks applied", |tally| tally.notes, 2_000),
    ("notes that met a fault", |tally| tally.notes_met, 500),
    ("notes lost in a crash", |tally| tally.notes_lost, 30),
    ("runs failed or killed", |tally| tally.runs_failed, 24),
    ("runs missed", |tally| tally.runs_missed, 6),
    ("runs at the same time as another", |tally| tally.runs_overlapping, 18),
    ("snapshots refused for one as good", |tally| tally.kept, 60),
    ("snapshots and records that met a fault", |tally| tally.rankings_met, 180),
    ("clicks that arrived hours late", |tally| tally.hours_late, 18),
    ("stalls of a partition", |tally| tally.stalls, 40),
    ("counter items expired", |tally| tally.expired, 3),
    ("windows healed", |tally| tally.healed, 40),
    ("windows final", |tally| tally.finals, 180),
];

/// The minimums of schedules with two versions, about half of what they reach.
const LEAST_OF_VERSIONS: [(&str, Figure, u64); 4] = [
    ("batches to this version", |tally| tally.by_present, 2_000),
    ("batches to the previous release", |tally| tally.by_previous, 2_000),
    ("batches after the other version", |tally| tally.handovers, 1_800),
    ("windows ranked by one of two versions", |tally| tally.shared_windows, 1_600),
];

impl Tally {
    /// Counts a fault.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// The counters that are too low after `schedules` schedules, perhaps with two versions. Without this check, a harness
    /// that injects nothing would pass.
    pub fn shortfalls(&self, schedules: u64, two_versions: bool) -> Vec<String> {
        let faults = Fault::ALL.iter().zip(self.faults).map(|(fault, count)| {
            let kills = matches!(fault, Fault::KillBefore | Fault::KillAfter);
            (fault.name(), count, if kills { LEAST_KILLS } else { LEAST_FAULTS })
        });
        let of_versions = if two_versions { LEAST_OF_VERSIONS.as_slice() } else { &[] };
        let figures = LEAST.iter().chain(of_versions).map(|(name, figure, least)| (*name, figure(self), *least));
        let short = |(name, found, least): (&str, u64, u64)| {
            // Rounded up, so that at least one is required.
            let least = (least * schedules).div_ceil(LEAST_OF);
            (found < least).then(|| format!("{name}: {found}, at least {least} expected"))
        };
        faults.chain(figures).filter_map(short).collect()
    }

    /// The number of faults of all kinds.
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
