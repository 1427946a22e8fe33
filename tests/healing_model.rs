//! Notes of late clicks and rankings, checked exhaustively: every order in which deliveries, crashes, runs of
//! rank-products and steps of the clock can occur within a small scope.
//!
//! # What is modelled
//!
//! One topic partition with a few clicks, and two windows, one after the other. A click in the first minute of the first
//! window is counted from the start: its counter is the first that expires.
//!
//! - **count-clicks**: a batch starts at the committed offset or any earlier one and ends anywhere after it. The function
//!   classifies the clicks, counts them in any order, then notes the late ones. It may die at any point, and what it has
//!   sent may still be applied. A note may be added twice, because its answer was lost. Several pollers run at once.
//! - **rank-products**: a run starts at any time or not at all, by the schedule or by hand. It reads the notes and the
//!   records, then for each group of windows the counters, one click at a time. Then it writes each snapshot and its
//!   record. It may die at any point, and what it has sent may still be applied. Several runs overlap.
//! - **DynamoDB**: an item changes as a whole or not at all. Expired counters may disappear at any time.
//! - **The clock** moves between the instants that matter: when rankings are due, a click is accepted for the last time,
//!   its batch is written for the last time, a window can be final, and its counters expire. The clock of count-clicks
//!   may be five minutes behind that of rank-products.
//!
//! The rules are the product's own code: [`plan`], [`LateClicks`], [`Lifetimes`] and [`RankingRecord`], with its constants.
//! The order of the steps is that of the handlers, and the conditions of the writes are those of the snapshots table.
//! That a click is counted once is the subject of `model.rs`, so here it is a set.
//!
//! Not modelled: other windows, which are final here or wait for it; reads that are older than the last write; requests that
//! are on their way for more than five minutes. These limits of the product are left out too:
//!
//! - A run that begins just before a window's counters expire may read them afterwards.
//! - A click that was counted by a delivery that died, and is stale in the redelivery, is not noted. Its windows wait for
//!   their final ranking.
//! - Clicks are not late while the first run over them is not due, even if a person has ranked their window before.
//!
//! # Why the scope suffices
//!
//! A window is wrong if a ranking misses a click and nothing ranks the window afterwards. That takes one click, one
//! delivery and one ranking. A second click makes it possible that a ranking reads one and misses the other. A second
//! delivery is the redelivery after a crash, and a second run overlaps with the first or repeats it. Each of seven
//! deliberate breaks is found with two clicks.

use std::{env, io::Write, time::Duration, time::Instant};

use hot_products::{
    Minute, UnixMillis, Window,
    healing::{FINAL_WAIT, LateClicks, Lifetimes, MAX_WRITE_TIME, RankingRecord, RankingRecords, plan},
    schedule::RANKING_DELAY,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// The windows whose snapshots are compared.
const WINDOWS: usize = 2;
/// The most clicks.
const MAX_CLICKS: usize = 3;
/// Pollers and runs at a time, at most.
const MAX_PARALLEL: usize = 2;
/// The end of the first window: 2022-12-27T12:00:00Z.
const FIRST_END: i64 = 1_672_142_400_000;
const MINUTE: i64 = 60_000;
/// How long clicks are accepted. Short, so that few instants lie between; only differences of times matter.
const MAX_EVENT_AGE: Duration = Duration::from_mins(10);
/// How long counters live: as short as the product allows.
const RETENTION: Duration = Duration::from_mins(130);
/// How long a run takes at most: the timeout in `infra/template.yaml`.
const MAX_RUN_TIME: Duration = Duration::from_mins(1);
/// Windows that wait for their final ranking before the first one, in the runs in which others do.
const OTHERS: usize = 6;

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
struct Scope {
    clicks: usize,
    /// Pollers at a time.
    pollers: usize,
    /// Runs at a time.
    parallel_runs: usize,
    /// Deliveries that start.
    deliveries: u8,
    /// Runs that start.
    runs: u8,
    /// By how much the clock of count-clicks is behind.
    skew: Duration,
}

const NO_SKEW: Duration = Duration::ZERO;
/// What the final margin leaves for clocks that differ.
const SKEW: Duration = Duration::from_mins(5);

/// What is checked. More deliveries, more runs, more clicks and clocks that differ: not all at once, for that multiplies.
const SCOPES: [Scope; 5] = [
    Scope { clicks: 1, pollers: 1, parallel_runs: 2, deliveries: 2, runs: 2, skew: NO_SKEW },
    Scope { clicks: 2, pollers: 1, parallel_runs: 1, deliveries: 1, runs: 2, skew: NO_SKEW },
    Scope { clicks: 2, pollers: 1, parallel_runs: 1, deliveries: 2, runs: 1, skew: NO_SKEW },
    Scope { clicks: 1, pollers: 2, parallel_runs: 1, deliveries: 2, runs: 1, skew: NO_SKEW },
    Scope { clicks: 1, pollers: 1, parallel_runs: 1, deliveries: 1, runs: 2, skew: SKEW },
];

/// What `make model` checks instead, in minutes and with some gigabytes.
const LARGE_SCOPES: [Scope; 5] = [
    Scope { clicks: 1, pollers: 2, parallel_runs: 2, deliveries: 2, runs: 2, skew: NO_SKEW },
    Scope { clicks: 2, pollers: 1, parallel_runs: 2, deliveries: 2, runs: 2, skew: NO_SKEW },
    Scope { clicks: 3, pollers: 1, parallel_runs: 1, deliveries: 1, runs: 2, skew: NO_SKEW },
    Scope { clicks: 1, pollers: 1, parallel_runs: 2, deliveries: 1, runs: 3, skew: NO_SKEW },
    Scope { clicks: 2, pollers: 1, parallel_runs: 1, deliveries: 2, runs: 1, skew: SKEW },
];

/// What is broken on purpose, to see whether the checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// The note is written before the counters.
    NoteBeforeCounters,
    /// Only what this delivery has counted is noted.
    CountedEarlierNotNoted,
    /// A run reads the notes after the counters.
    NotesReadLast,
    /// A snapshot replaces any other.
    FewerClicksReplace,
    /// A window is final as soon as its last click is stale.
    NoFinalMargin,
    /// A record says that a window is final although its snapshot was not written.
    RecordBeforeSnapshot,
    /// A window is ranked whatever its counters.
    ExpiredRanked,
    /// One that `make breaks` has made in the product's code.
    InTheCode,
}

/// Clicks, one bit each.
type Offsets = u8;

/// The click that is counted from the start.
const OLDEST: Offsets = 1 << MAX_CLICKS;

/// A snapshot: the clicks that it has read, when its ranking began, and whether it is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Snapshot {
    clicks: Offsets,
    generated_at: u8,
    is_final: bool,
}

impl Snapshot {
    /// `attribute_not_exists(total_clicks) OR total_clicks < :t OR (total_clicks = :t AND generated_at < :g)`
    fn replaces(self, stored: Option<Self>) -> bool {
        stored.is_none_or(|stored| {
            let rank = |snapshot: Self| (snapshot.clicks.count_ones(), snapshot.generated_at);
            rank(stored) < rank(self)
        })
    }
}

/// A [`RankingRecord`], as small numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Record {
    noted: u8,
    clicks: u8,
    is_final: bool,
}

impl Record {
    /// `attribute_not_exists(#w) OR #w.clicks < :c OR (#w.clicks = :c AND #w.noted <= :n)`
    fn replaces(self, stored: Option<Self>) -> bool {
        stored.is_none_or(|stored| (stored.clicks, stored.noted) <= (self.clicks, self.noted))
    }
}

/// How many late clicks are noted, by click: a note of a window is the sum over its clicks.
type Notes = [u8; MAX_CLICKS];

/// An invocation of count-clicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Delivery {
    /// The offset after the batch.
    end: u8,
    /// When the batch was classified.
    at: u8,
    /// The clicks that were not stale.
    accepted: Offsets,
    /// Those that it has yet to count, or to find counted.
    left: Offsets,
    /// Those that it has added itself.
    added: Offsets,
    /// Whether a break has written the note already.
    noted: bool,
}

/// What a run of rank-products does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Next {
    /// Reads the counter of the click with this offset.
    Read(u8),
    /// Writes the snapshot of this window.
    Put(u8),
    /// Writes the record of this window.
    Record(u8),
}

/// A run of rank-products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Run {
    /// When it began.
    at: u8,
    /// The notes that it has read.
    notes: Notes,
    /// The windows of the group that it ranks, one bit each, and those of the group after it.
    groups: [u8; 2],
    /// When it began to read the group's counters.
    generated_at: u8,
    /// The clicks that it has read.
    seen: Offsets,
    next: Next,
}

/// A write that nobody waits for any more, and that may still be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Request {
    /// Counts a click.
    Count {
        click: u8,
    },
    /// Notes clicks.
    Note {
        clicks: Offsets,
    },
    Put {
        window: u8,
        snapshot: Snapshot,
    },
    Record {
        window: u8,
        record: Record,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The place of the present time in [`Healing::instants`].
    now: u8,
    committed: u8,
    /// The clicks that were ever counted.
    counted: Offsets,
    /// Of those, the ones whose counters have not disappeared.
    present: Offsets,
    notes: Notes,
    snapshots: [Option<Snapshot>; WINDOWS],
    records: [Option<Record>; WINDOWS],
    /// In order: which poller is which makes no difference.
    pollers: [Option<Delivery>; MAX_PARALLEL],
    runs: [Option<Run>; MAX_PARALLEL],
    /// With the time at which the invocation began. In order, each once.
    late: Vec<(u8, Request)>,
    /// What has started so far.
    deliveries: u8,
    started_runs: u8,
    /// Whether a snapshot was replaced by one with fewer clicks.
    lost_clicks: bool,
    /// Whether a window was ranked whose counters may have expired.
    read_expired: bool,
}

/// What starts a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// The schedule. `others` tells whether older windows wait for their final ranking too.
    Schedule { others: bool },
    /// A person who names a window.
    Person { window: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Deliver {
        start: u8,
        end: u8,
    },
    /// A click of a delivery's batch is counted.
    Count {
        poller: usize,
        click: u8,
    },
    /// All is counted. The delivery notes its late clicks, perhaps twice, and ends. If it `dies`, nothing is committed.
    Note {
        poller: usize,
        twice: bool,
        dies: bool,
    },
    /// The invocation ends without success.
    DeliveryDies {
        poller: usize,
    },
    StartRun(Trigger),
    /// A run does what comes next. If the answer to its snapshot is `lost`, it finds a snapshot as new as its own when it
    /// tries again.
    RunGoesOn {
        run: usize,
        lost: bool,
    },
    RunDies {
        run: usize,
    },
    /// A write is applied that nobody waits for.
    Apply(u8, Request),
    /// The counter of the oldest click disappears.
    Expire,
    Tick,
}

struct Healing {
    scope: Scope,
    broken: Option<Break>,
    lifetimes: Lifetimes,
    instants: Vec<UnixMillis>,
    /// The event times of the clicks.
    clicks: Vec<UnixMillis>,
}

fn time(since_first_end: i64) -> UnixMillis {
    UnixMillis(FIRST_END + since_first_end)
}

fn window(number: usize) -> Window {
    let first = Window::ended_by(time(0));
    if number == 0 { first } else { first.next() }
}

impl Healing {
    fn new(scope: Scope, broken: Option<Break>) -> Self {
        let lifetimes = Lifetimes::new(MAX_EVENT_AGE, RETENTION).expect("far enough apart");
        // The last moments of the windows, and a click of both that arrives after them.
        let clicks: Vec<_> = [-1, 5 * MINUTE - 1, -2 * MINUTE].map(time)[..scope.clicks].to_vec();
        let mut instants = vec![time(MINUTE / 2), time(MINUTE), time(6 * MINUTE)];
        for click in &clicks {
            let last_accepted = click.plus(MAX_EVENT_AGE).plus(scope.skew);
            instants.extend([last_accepted, last_accepted.plus(MAX_WRITE_TIME)]);
        }
        for number in 0..WINDOWS {
            let window = window(number);
            // Of the product's code too: whatever it says, this is where it can be wrong.
            let can_be_final = window.end().plus(MAX_EVENT_AGE).plus(Duration::from_mins(10));
            let expires = Self::expires_from(number);
            instants.extend([lifetimes.final_from(window), can_be_final, can_be_final.plus(FINAL_WAIT)]);
            instants.extend([expires.minus(MAX_RUN_TIME).minus(Duration::from_secs(1)), expires]);
        }
        instants.retain(|instant| *instant >= time(MINUTE / 2));
        instants.sort_unstable();
        instants.dedup();
        Self { scope, broken, lifetimes, instants, clicks }
    }

    /// When the first counter of a window expires: not by the product's code, which a break may change.
    fn expires_from(number: usize) -> UnixMillis {
        UnixMillis(window(number).end().0 - 59 * MINUTE).plus(RETENTION)
    }

    fn instant(&self, place: u8) -> UnixMillis {
        self.instants[usize::from(place)]
    }

    /// The clock of count-clicks.
    fn counting_clock(&self, place: u8) -> UnixMillis {
        self.instant(place).minus(self.scope.skew)
    }

    /// The clicks of a window.
    fn within(&self, number: usize) -> Offsets {
        let window = window(number);
        let is_within = |click: &UnixMillis| (window.start()..window.end()).contains(click);
        let oldest = if number == 0 { OLDEST } else { 0 };
        (0..).zip(&self.clicks).filter(|(_, click)| is_within(click)).fold(oldest, |mask, (place, _)| mask | 1 << place)
    }

    fn may_write(&self, classified_at: u8, now: u8) -> bool {
        self.instant(now) <= self.instant(classified_at).plus(MAX_WRITE_TIME)
    }

    /// The clicks of `accepted` that are late at `now`.
    fn late(&self, accepted: Offsets, now: u8) -> Offsets {
        let now = self.counting_clock(now);
        let is_late = |place: &u8| LateClicks::is_late(Minute::of(self.clicks[usize::from(*place)]), now);
        offsets(accepted).filter(is_late).fold(0, |mask, place| mask | 1 << place)
    }

    /// The notes, as the product reads them.
    fn late_clicks(&self, notes: Notes) -> LateClicks {
        let mut late = LateClicks::default();
        for (click, noted) in self.clicks.iter().zip(notes).filter(|(_, noted)| *noted > 0) {
            late.add(Minute::of(*click), u64::from(noted));
        }
        late
    }

    /// The run that `trigger` starts; `None` if it has nothing to do with the windows, or refuses.
    fn start_run(&self, state: &State, trigger: Trigger) -> Option<Run> {
        let now = self.instant(state.now);
        let ignores_expiry = self.broken == Some(Break::ExpiredRanked);
        let due = match trigger {
            Trigger::Schedule { .. } => Window::ended_by(now.minus(RANKING_DELAY)),
            Trigger::Person { window: number } => window(number.into()),
        };
        if self.lifetimes.expires_from(due) <= now && !ignores_expiry {
            return None;
        }
        let mut groups = vec![tracked([due].into_iter())];
        if let Trigger::Schedule { others } = trigger {
            let oldest =
                if ignores_expiry { Window::ended_by(time(-60 * MINUTE)) } else { self.lifetimes.oldest_complete(now) };
            let mut records: RankingRecords = oldest
                .until(due)
                .map(|window| (window, RankingRecord { noted: 0, clicks: 0, is_final: true }))
                .collect();
            let mut other = window(0);
            for _ in 0..OTHERS {
                other = other.previous();
                records.entry(other).and_modify(|record| record.is_final = !others);
            }
            for (number, record) in state.records.iter().enumerate() {
                records.remove(&window(number));
                if let Some(Record { noted, clicks, is_final }) = *record {
                    let record = RankingRecord { noted: noted.into(), clicks: clicks.into(), is_final };
                    records.insert(window(number), record);
                }
            }
            records.retain(|window, _| (oldest..=due).contains(window));
            if !records.contains_key(&oldest) {
                // The stack is not new: there is an older snapshot.
                records.insert(oldest.previous(), RankingRecord::default());
            }
            let late = self.late_clicks(state.notes);
            let lifetimes = if ignores_expiry {
                Lifetimes::new(MAX_EVENT_AGE, 2 * RETENTION).expect("far enough apart")
            } else {
                self.lifetimes
            };
            let planned = plan(due, now, lifetimes, &late, &records);
            groups.push(tracked(planned.into_iter().filter(|window| *window != due)));
        }
        groups.retain(|group| *group > 0);
        let groups = [*groups.first()?, groups.get(1).copied().unwrap_or_default()];
        Some(Run { at: state.now, notes: state.notes, groups, generated_at: state.now, seen: 0, next: Next::Read(0) })
    }

    /// The clicks noted for a window, as far as a run knows.
    fn noted(&self, notes: Notes, number: usize) -> u8 {
        self.late_clicks(notes).within(window(number)) as u8
    }

    /// The snapshot that a run has made of a window.
    fn snapshot(&self, run: &Run, number: u8) -> Snapshot {
        let final_from = if self.broken == Some(Break::NoFinalMargin) {
            window(number.into()).end().plus(MAX_EVENT_AGE)
        } else {
            self.lifetimes.final_from(window(number.into()))
        };
        Snapshot {
            clicks: run.seen & self.within(number.into()),
            generated_at: run.generated_at,
            is_final: final_from <= self.instant(run.generated_at),
        }
    }

    fn record(&self, run: &Run, number: u8) -> Record {
        let Snapshot { clicks, is_final, .. } = self.snapshot(run, number);
        Record { noted: self.noted(run.notes, number.into()), clicks: clicks.count_ones() as u8, is_final }
    }

    /// DynamoDB: applies a write. Returns whether its condition allowed it.
    fn apply(&self, state: &mut State, request: Request) -> bool {
        match request {
            Request::Count { click } => {
                let is_new = state.counted >> click & 1 == 0;
                state.counted |= 1 << click;
                if is_new {
                    state.present |= 1 << click;
                }
                is_new
            }
            Request::Note { clicks } => {
                for click in offsets(clicks) {
                    state.notes[usize::from(click)] += 1;
                }
                true
            }
            Request::Put { window, snapshot } => {
                let stored = &mut state.snapshots[usize::from(window)];
                let replaces = snapshot.replaces(*stored) || self.broken == Some(Break::FewerClicksReplace);
                if replaces {
                    state.lost_clicks |= stored.is_some_and(|stored| stored.clicks & !snapshot.clicks != 0);
                    *stored = Some(snapshot);
                }
                replaces
            }
            Request::Record { window, record } => {
                let stored = &mut state.records[usize::from(window)];
                let replaces = record.replaces(*stored);
                if replaces {
                    *stored = Some(record);
                }
                replaces
            }
        }
    }

    /// The request of the write that a run does next.
    fn write(&self, run: &Run) -> Option<Request> {
        match run.next {
            Next::Read(_) => None,
            Next::Put(window) => Some(Request::Put { window, snapshot: self.snapshot(run, window) }),
            Next::Record(window) => Some(Request::Record { window, record: self.record(run, window) }),
        }
    }

    /// The run after what it does next; `None` when it has ended.
    fn go_on(&self, state: &mut State, mut run: Run, lost: bool) -> Option<Run> {
        let record_first = self.broken == Some(Break::RecordBeforeSnapshot);
        match run.next {
            Next::Read(click) => {
                if click == 0 {
                    run.generated_at = state.now;
                    run.seen = state.present & OLDEST;
                }
                run.seen |= state.present & 1 << click;
                let expired = |number: &u8| Self::expires_from(usize::from(*number)) <= self.instant(state.now);
                state.read_expired |= offsets(run.groups[0]).any(|number| expired(&number));
                if usize::from(click) + 1 < self.clicks.len() {
                    run.next = Next::Read(click + 1);
                } else {
                    if self.broken == Some(Break::NotesReadLast) {
                        run.notes = state.notes;
                    }
                    return Self::next_window(run, None, record_first);
                }
            }
            Next::Put(window) => {
                let written = self.write(&run).is_some_and(|request| self.apply(state, request));
                if record_first || !written || lost {
                    return Self::next_window(run, Some(window), record_first);
                }
                run.next = Next::Record(window);
            }
            Next::Record(window) => {
                let _kept = self.write(&run).map(|request| self.apply(state, request));
                if record_first {
                    run.next = Next::Put(window);
                } else {
                    return Self::next_window(run, Some(window), record_first);
                }
            }
        }
        Some(run)
    }

    /// The run at the window after `done` in its group, or at its next group.
    fn next_window(mut run: Run, done: Option<u8>, record_first: bool) -> Option<Run> {
        let next = offsets(run.groups[0]).find(|window| done.is_none_or(|done| *window > done));
        match next {
            Some(window) => run.next = if record_first { Next::Record(window) } else { Next::Put(window) },
            None if run.groups[1] > 0 => {
                run = Run { groups: [run.groups[1], 0], next: Next::Read(0), ..run };
            }
            None => return None,
        }
        Some(run)
    }

    /// Whether count-clicks would count a click.
    fn is_fresh(&self, click: u8, now: u8) -> bool {
        let click = self.clicks.get(usize::from(click));
        click.is_none_or(|click| self.counting_clock(now).since(*click) <= MAX_EVENT_AGE)
    }

    fn deliver(&self, state: &State, start: u8, end: u8) -> Delivery {
        let is_fresh = |place: &u8| self.is_fresh(*place, state.now);
        let accepted = (start..end).filter(is_fresh).fold(0, |mask, place| mask | 1 << place);
        Delivery { end, at: state.now, accepted, left: accepted, added: 0, noted: false }
    }

    /// Counts a click. Idempotent: that is what the protocol is for.
    fn count(&self, state: &mut State, delivery: &mut Delivery, click: u8) {
        if self.apply(state, Request::Count { click }) {
            delivery.added |= 1 << click;
        }
        delivery.left &= !(1 << click);
    }

    /// The late clicks that a delivery notes now.
    fn note_of(&self, state: &State, delivery: Delivery) -> Offsets {
        let noted = match self.broken {
            Some(Break::CountedEarlierNotNoted) => delivery.added,
            Some(Break::NoteBeforeCounters) if delivery.noted => 0,
            _ => delivery.accepted,
        };
        self.late(noted, state.now)
    }

    /// Whether a late request can still change something. One that can't never will: the conditions of snapshots and
    /// records only get stricter, and a click is counted once. A request is not on its way for longer than
    /// [`MAX_WRITE_TIME`].
    fn is_alive(&self, state: &State, (began, request): (u8, Request)) -> bool {
        if !self.may_write(began, state.now) {
            return false;
        }
        match request {
            Request::Count { click } => state.counted >> click & 1 == 0,
            Request::Note { .. } => true,
            Request::Put { window, snapshot } => {
                snapshot.replaces(state.snapshots[usize::from(window)])
                    || self.broken == Some(Break::FewerClicksReplace)
            }
            Request::Record { window, record } => {
                let stored = state.records[usize::from(window)];
                stored != Some(record) && record.replaces(stored)
            }
        }
    }

    /// One state for all that behave alike.
    fn tidy(&self, state: &mut State) {
        state.pollers.sort_unstable();
        state.runs.sort_unstable();
        let mut late = std::mem::take(&mut state.late);
        late.retain(|request| self.is_alive(state, *request));
        late.sort_unstable();
        late.dedup();
        state.late = late;
    }

    /// Whether nothing is under way. What is late may never be applied.
    fn is_quiet(state: &State) -> bool {
        state.pollers.iter().all(Option::is_none) && state.runs.iter().all(Option::is_none)
    }

    /// Delivers what is not committed, and nothing disturbs it.
    fn undisturbed_delivery(&self, state: &mut State) {
        let end = self.produced(state);
        if state.committed < end {
            let mut delivery = self.deliver(state, state.committed, end);
            for click in offsets(delivery.accepted) {
                self.count(state, &mut delivery, click);
            }
            let note = self.note_of(state, delivery);
            self.apply(state, Request::Note { clicks: note });
            state.committed = end;
        }
    }

    /// A scheduled run that nothing disturbs.
    fn undisturbed_run(&self, state: &mut State) {
        let mut run = self.start_run(state, Trigger::Schedule { others: false });
        while let Some(current) = run {
            run = self.go_on(state, current, false);
        }
    }

    /// Whether after an undisturbed delivery and an undisturbed run each window that is due has all its clicks.
    fn heals(&self, state: &State) -> bool {
        let mut state = state.clone();
        self.undisturbed_delivery(&mut state);
        self.undisturbed_run(&mut state);
        (0..WINDOWS).all(|number| {
            let is_due = window(number).end().plus(RANKING_DELAY) <= self.instant(state.now);
            // A click that was counted and is stale in its redelivery is not noted, and waits for the final ranking.
            let is_open = self.instant(state.now) < self.lifetimes.final_from(window(number))
                && offsets(self.within(number)).all(|click| self.is_fresh(click, state.now));
            let clicks = state.snapshots[number].map(|snapshot| snapshot.clicks);
            !is_due || !is_open || clicks == Some(state.counted & self.within(number))
        })
    }

    /// Whether each window for which there is still time is final and right in the end, if runs are undisturbed from now on.
    fn ends_right(&self, state: &State) -> bool {
        let mut state = state.clone();
        let began = self.instant(state.now);
        self.undisturbed_delivery(&mut state);
        self.undisturbed_run(&mut state);
        while usize::from(state.now) + 1 < self.instants.len() {
            state.now += 1;
            self.undisturbed_delivery(&mut state);
            self.undisturbed_run(&mut state);
        }
        (0..WINDOWS).all(|number| {
            let has_time = began < Self::expires_from(number);
            let wanted = state.counted & self.within(number);
            let is_right = |snapshot: Snapshot| snapshot.is_final && snapshot.clicks == wanted;
            !has_time || state.snapshots[number].is_some_and(is_right)
        })
    }

    /// How many clicks have happened.
    fn produced(&self, state: &State) -> u8 {
        let now = self.instant(state.now);
        self.clicks.iter().take_while(|click| **click <= now).count() as u8
    }
}

/// The places of the bits that are set.
fn offsets(mask: Offsets) -> impl Iterator<Item = u8> {
    (0..8).filter(move |place| mask >> place & 1 == 1)
}

/// Which of the windows whose snapshots are compared are among `windows`, one bit each.
fn tracked(windows: impl Iterator<Item = Window>) -> u8 {
    let number = |wanted: Window| (0..WINDOWS).find(|number| window(*number) == wanted);
    windows.filter_map(number).fold(0, |mask, number| mask | 1 << number)
}

fn free<T>(places: &[Option<T>]) -> Option<usize> {
    places.iter().position(Option::is_none)
}

fn busy<T>(places: &[Option<T>]) -> usize {
    places.iter().flatten().count()
}

const FINAL_IS_RIGHT: &str = "a final snapshot equals the group-by of all clicks that were counted";
const KEEPS_CLICKS: &str = "a snapshot is never replaced by one that misses a click of it";
const COMPLETE: &str = "no window is ranked when its counters may have expired";
const HEALS: &str = "an undisturbed delivery and run heal every open window";
const ENDS_RIGHT: &str = "every window that still has its counters ends final and right";
const ALWAYS: [&str; 5] = [FINAL_IS_RIGHT, KEEPS_CLICKS, COMPLETE, HEALS, ENDS_RIGHT];

impl Model for Healing {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            committed: 0,
            counted: OLDEST,
            present: OLDEST,
            notes: [0; MAX_CLICKS],
            snapshots: [None; WINDOWS],
            records: [None; WINDOWS],
            pollers: [None; MAX_PARALLEL],
            runs: [None; MAX_PARALLEL],
            late: Vec::new(),
            deliveries: 0,
            started_runs: 0,
            lost_clicks: false,
            read_expired: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let now = self.instant(state.now);
        if busy(&state.pollers) < self.scope.pollers && state.deliveries < self.scope.deliveries {
            let end = self.produced(state);
            for start in 0..=state.committed {
                steps.extend((start + 1..=end).map(|end| Step::Deliver { start, end }));
            }
        }
        for (poller, delivery) in state.pollers.iter().enumerate() {
            let Some(delivery) = delivery else { continue };
            if self.may_write(delivery.at, state.now) {
                let note_first = self.broken == Some(Break::NoteBeforeCounters) && !delivery.noted;
                if delivery.left == 0 || note_first {
                    for (twice, dies) in [(false, false), (false, true), (true, false)] {
                        steps.push(Step::Note { poller, twice, dies });
                    }
                } else {
                    steps.extend(offsets(delivery.left).map(|click| Step::Count { poller, click }));
                }
            }
            steps.push(Step::DeliveryDies { poller });
        }
        if busy(&state.runs) < self.scope.parallel_runs && state.started_runs < self.scope.runs {
            for others in [false, true] {
                steps.push(Step::StartRun(Trigger::Schedule { others }));
            }
            // Not before its run is due.
            let due = |number: &usize| window(*number).end().plus(RANKING_DELAY) <= now;
            let by_hand = |number: usize| Step::StartRun(Trigger::Person { window: number as u8 });
            steps.extend((0..WINDOWS).filter(due).map(by_hand));
        }
        for (number, run) in state.runs.iter().enumerate() {
            let Some(run) = run else { continue };
            steps.extend([Step::RunGoesOn { run: number, lost: false }, Step::RunDies { run: number }]);
            if matches!(run.next, Next::Put(_)) {
                steps.push(Step::RunGoesOn { run: number, lost: true });
            }
        }
        steps.extend(state.late.iter().map(|(began, request)| Step::Apply(*began, *request)));
        if state.present & OLDEST > 0 && Self::expires_from(0) <= now {
            steps.push(Step::Expire);
        }
        if usize::from(state.now) + 1 < self.instants.len() {
            let next = self.instant(state.now + 1);
            let in_time = |run: &Run| next <= self.instant(run.at).plus(MAX_RUN_TIME);
            if state.runs.iter().flatten().all(in_time) {
                steps.push(Step::Tick);
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Deliver { start, end } => {
                let place = free(&state.pollers)?;
                let delivery = self.deliver(&state, start, end);
                state.deliveries += 1;
                if delivery.accepted == 0 {
                    state.committed = state.committed.max(end);
                } else {
                    state.pollers[place] = Some(delivery);
                }
            }
            Step::Count { poller, click } => {
                let mut delivery = state.pollers[poller].take()?;
                self.count(&mut state, &mut delivery, click);
                state.pollers[poller] = Some(delivery);
            }
            Step::Note { poller, twice, dies } => {
                let mut delivery = state.pollers[poller].take()?;
                let clicks = self.note_of(&state, delivery);
                if clicks == 0 && (twice || dies) {
                    return None;
                }
                for _ in 0..=usize::from(twice) {
                    self.apply(&mut state, Request::Note { clicks });
                }
                if delivery.left != 0 && !dies {
                    delivery.noted = true;
                    state.pollers[poller] = Some(delivery);
                } else if !dies {
                    state.committed = state.committed.max(delivery.end);
                }
            }
            Step::DeliveryDies { poller } => {
                let delivery = state.pollers[poller].take()?;
                let at = delivery.at;
                state.late.extend(offsets(delivery.left).map(|click| (at, Request::Count { click })));
                let clicks = self.note_of(&state, delivery);
                if delivery.left == 0 && clicks != 0 {
                    state.late.push((at, Request::Note { clicks }));
                }
            }
            Step::StartRun(trigger) => {
                let place = free(&state.runs)?;
                state.runs[place] = Some(self.start_run(&state, trigger)?);
                state.started_runs += 1;
            }
            Step::RunGoesOn { run, lost } => {
                let current = state.runs[run].take()?;
                state.runs[run] = self.go_on(&mut state, current, lost);
            }
            Step::RunDies { run } => {
                let current = state.runs[run].take()?;
                state.late.extend(self.write(&current).map(|request| (current.at, request)));
            }
            Step::Apply(began, request) => {
                state.late.retain(|late| *late != (began, request));
                self.apply(&mut state, request);
            }
            Step::Expire => state.present &= !OLDEST,
            Step::Tick => state.now += 1,
        }
        self.tidy(&mut state);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always(FINAL_IS_RIGHT, |model, state| {
                (0..WINDOWS).all(|number| {
                    let wanted = state.counted & model.within(number);
                    state.snapshots[number].is_none_or(|snapshot| !snapshot.is_final || snapshot.clicks == wanted)
                })
            }),
            Property::<Self>::always(KEEPS_CLICKS, |_, state| !state.lost_clicks),
            Property::<Self>::always(COMPLETE, |_, state| !state.read_expired),
            // Whatever is under way may end at any time, so it suffices to look at the states in which nothing is.
            Property::<Self>::always(ENDS_RIGHT, |model, state| !Self::is_quiet(state) || model.ends_right(state)),
            // What follows shows that the check is not of an idle machine.
            Property::<Self>::sometimes("a note is lost in a crash", |model, state| {
                let uncommitted = OLDEST - (1 << state.committed);
                let lost = |click: u8| state.notes[usize::from(click)] == 0;
                let late = model.late(state.counted & uncommitted, state.now);
                Self::is_quiet(state) && offsets(late).any(lost)
            }),
            Property::<Self>::sometimes("a click is noted more often than it was counted", |_, state| {
                state.notes.iter().any(|noted| *noted > 1)
            }),
            Property::<Self>::sometimes("a window is healed before it is final", |_, state| {
                let healed = |record: &Record| record.noted > 0 && record.clicks > 0 && !record.is_final;
                state.records.iter().flatten().any(healed)
            }),
            Property::<Self>::sometimes("a run dies between a snapshot and its record", |_, state| {
                let mut both = state.snapshots.iter().zip(&state.records);
                Self::is_quiet(state)
                    && both.any(|(snapshot, record)| {
                        snapshot
                            .is_some_and(|snapshot| snapshot.is_final && !record.is_some_and(|record| record.is_final))
                    })
            }),
            Property::<Self>::sometimes("a snapshot is applied although its run is dead", |_, state| {
                state.runs.iter().all(Option::is_none)
                    && state.late.iter().any(|late| matches!(late, (_, Request::Put { .. })))
            }),
            Property::<Self>::sometimes("a run reads one click and misses another that is counted", |model, state| {
                let mut runs = state.runs.iter().flatten();
                runs.any(|run| {
                    let window = offsets(run.groups[0]).last().unwrap_or_default();
                    let missed = state.counted & !run.seen & model.within(window.into());
                    missed > 0 && !matches!(run.next, Next::Read(_))
                })
            }),
            Property::<Self>::sometimes("a counter has disappeared", |_, state| state.present & OLDEST == 0),
            Property::<Self>::sometimes("all windows are final", |_, state| {
                state.snapshots.iter().all(|snapshot| snapshot.is_some_and(|snapshot| snapshot.is_final))
            }),
        ];
        // A clock that is behind takes late clicks for punctual ones; they wait for the final ranking.
        if self.scope.skew == NO_SKEW {
            properties
                .push(Property::<Self>::always(HEALS, |model, state| !Self::is_quiet(state) || model.heals(state)));
        }
        if self.scope.parallel_runs > 1 {
            properties.push(Property::<Self>::sometimes("the run that read less writes last", |model, state| {
                state.runs.iter().flatten().any(|run| match run.next {
                    Next::Put(window) => {
                        let clicks = model.snapshot(run, window).clicks;
                        state.snapshots[usize::from(window)].is_some_and(|stored| stored.clicks & !clicks != 0)
                    }
                    _ => false,
                })
            }));
        }
        properties
    }
}

/// Past the capturing of tests: the figures are to be seen.
fn say(text: &str) {
    let _unseen = writeln!(std::io::stderr(), "{text}");
}

/// Checks the scope whole, and says how large it is.
fn check(scope: Scope) {
    #[expect(clippy::disallowed_methods, reason = "how long the check takes is the machine's time")]
    let start = Instant::now();
    let checker = Healing::new(scope, None).checker().threads(2).spawn_dfs().join();
    say(&format!(
        "{scope:?}, {} instants: {} states, {} steps, {} deep, {:.1} s",
        checker.model().instants.len(),
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64(),
    ));
    checker.assert_properties();
}

#[test]
fn every_window_ends_right_in_every_order() {
    if env::var_os("BROKEN").is_some() {
        counterexample(Break::InTheCode);
        return;
    }
    let scopes: &[Scope] = if env::var_os("LARGE").is_some() { &LARGE_SCOPES } else { &SCOPES };
    for &scope in scopes {
        check(scope);
    }
}

/// The shortest way, or one about as short, to a property that a break violates, and the property.
fn counterexample(broken: Break) -> &'static str {
    let two = Scope { clicks: 2, pollers: 1, parallel_runs: 2, deliveries: 2, runs: 2, skew: NO_SKEW };
    // What is in other code than the model's goes unnoticed, which takes the whole scope.
    let one = Scope { parallel_runs: 1, deliveries: 1, runs: 1, ..two };
    let scope = if broken == Break::InTheCode { one } else { two };
    let wrong = HasDiscoveries::AnyOf(ALWAYS.into());
    let checker = Healing::new(scope, Some(broken)).checker().threads(2).finish_when(wrong).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let found = ALWAYS.into_iter().find_map(|name| Some((name, discoveries.get(name)?.clone())));
    let (name, path) = found.unwrap_or_else(|| panic!("{broken:?} goes unnoticed"));
    let steps = path.into_actions();
    let after = checker.unique_state_count();
    say(&format!("{broken:?}: not so that {name}, after {after} states; {} steps: {steps:?}", steps.len()));
    name
}

#[test]
fn with_the_note_before_the_counters_a_window_does_not_heal() {
    assert_eq!(counterexample(Break::NoteBeforeCounters), HEALS);
}

#[test]
fn with_clicks_of_an_earlier_delivery_not_noted_a_window_does_not_heal() {
    assert_eq!(counterexample(Break::CountedEarlierNotNoted), HEALS);
}

#[test]
fn with_the_notes_read_last_a_window_does_not_heal() {
    assert_eq!(counterexample(Break::NotesReadLast), HEALS);
}

#[test]
fn with_any_snapshot_replaced_clicks_are_lost() {
    assert_eq!(counterexample(Break::FewerClicksReplace), KEEPS_CLICKS);
}

#[test]
fn without_the_final_margin_a_final_snapshot_misses_clicks() {
    assert_eq!(counterexample(Break::NoFinalMargin), FINAL_IS_RIGHT);
}

#[test]
fn with_the_record_before_the_snapshot_a_window_does_not_heal() {
    assert_ne!(counterexample(Break::RecordBeforeSnapshot), COMPLETE);
}

#[test]
fn without_the_check_expired_counters_are_ranked() {
    assert_eq!(counterexample(Break::ExpiredRanked), COMPLETE);
}
