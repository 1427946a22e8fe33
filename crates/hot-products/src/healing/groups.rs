//! How many windows of a plan are ranked from one read.

use std::time::Duration;

use crate::time::Window;

/// How much of an invocation's time must be left to rank other windows than the one that is due.
pub const EXTRA_TIME: Duration = Duration::from_secs(20);

/// How many times longer than the windows that a run has ranked so far another one may take: it may be of a busier hour.
const SLOWER: u32 = 4;

/// How many of `windows`, which are in ascending order, a run ranks next, from one read of their counters: the first
/// ones that overlap, as far as they fit into the time that is `left`. `slowest` is the longest that a window has taken
/// in this run.
///
/// The plan of the next run has the windows that are left over again, and may put others before them. So a group that
/// never fits would hold up healing for good, and one window at least is ranked if there is time for it.
pub fn next_group(windows: &[Window], slowest: Duration, left: Duration) -> usize {
    if left < slowest.max(EXTRA_TIME) {
        return 0;
    }
    let overlap = windows.windows(2).take_while(|pair| pair[0].last_overlapping() >= pair[1]).count() + 1;
    let time = (slowest * SLOWER).as_millis().max(1);
    let fitting = usize::try_from(left.as_millis() / time).unwrap_or(usize::MAX).max(1);
    overlap.min(fitting).min(windows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    const MINUTE: Duration = Duration::from_mins(1);

    fn windows(ends: &[&str]) -> Vec<Window> {
        let window = |end| Window::ended_by(UnixMillis::parse_rfc3339(&format!("2022-12-27T{end}:00Z")).unwrap());
        ends.iter().map(window).collect()
    }

    #[test]
    fn windows_that_overlap_are_a_group() {
        let size = |ends: &[&str]| next_group(&windows(ends), Duration::ZERO, MINUTE);
        assert_eq!(size(&["12:00", "12:05", "12:10"]), 3);
        assert_eq!(size(&["12:00", "12:55", "13:00"]), 3);
        assert_eq!(size(&["12:00", "13:00", "13:05"]), 1, "12:00 ends where 13:00 starts");
        assert_eq!(size(&["12:00"]), 1);
        assert_eq!(size(&[]), 0);
    }

    /// A run of 60 s in which each window takes `seconds`, as if neighbours shared nothing: how many windows it ranks
    /// besides the due one, and how long it takes.
    fn run(windows: &[Window], seconds: u64) -> (usize, Duration) {
        let each = Duration::from_secs(seconds);
        let (mut ranked, mut now) = (0, each);
        loop {
            match next_group(&windows[ranked..], each, MINUTE.saturating_sub(now)) {
                0 => return (ranked, now),
                size => {
                    ranked += size;
                    now += each * u32::try_from(size).unwrap();
                }
            }
        }
    }

    #[test]
    fn however_slow_a_ranking_is_a_run_ends_in_time_and_gets_on_if_two_rankings_fit_into_it() {
        let first = windows(&["12:00"])[0];
        let plan: Vec<Window> = first.until(first.last_overlapping()).collect();
        assert_eq!(plan.len(), 12);
        for seconds in 0..=60 {
            let (ranked, took) = run(&plan, seconds);
            assert!(took <= MINUTE, "{seconds} s: {took:?}");
            assert_eq!(ranked > 0, seconds <= 30, "{seconds} s: {ranked}");
        }
        assert_eq!(run(&plan, 1).0, 12);
    }

    #[test]
    fn a_group_fits_although_its_windows_are_four_times_slower_than_those_before() {
        let first = windows(&["12:00"])[0];
        let plan: Vec<Window> = first.until(first.last_overlapping()).collect();
        for seconds in 1..15 {
            let slowest = Duration::from_secs(seconds);
            let left = MINUTE.saturating_sub(slowest);
            let size = next_group(&plan, slowest, left);
            let takes = slowest * SLOWER * u32::try_from(size).unwrap();
            assert!(takes <= left || size == 1, "{seconds} s: {size}");
        }
    }

    #[test]
    fn a_window_needs_twenty_seconds_and_as_long_as_the_slowest_so_far() {
        let plan = windows(&["12:00", "12:05"]);
        let second = Duration::from_secs(1);
        assert_eq!(next_group(&plan, second, EXTRA_TIME.saturating_sub(second)), 0);
        assert_eq!(next_group(&plan, second, EXTRA_TIME), 2);
        assert_eq!(next_group(&plan, 30 * second, 29 * second), 0);
        assert_eq!(next_group(&plan, 30 * second, 30 * second), 1);
    }
}
