use hot_products::{
    EventShape,
    click::{EventFields, TimeUnit},
};

use super::*;

const HOUR: i64 = 3_600_000;
/// A full minute and hour.
const NOON: i64 = 1_672_142_400_000;

/// An audit at 13:00 of the hour from 12:00 on, of the partitions `clicks-0` and `clicks-1`, delivered up to offset 100.
fn tally() -> (Tally, Rules) {
    let range = UnixMillis(NOON)..UnixMillis(NOON + HOUR);
    let settled = BTreeMap::from([(0, 100), (1, 100)]);
    let rules = Rules { policy: Policy::default(), max_lag: Duration::from_mins(10), now: UnixMillis(NOON + HOUR) };
    (Tally::new(range, "clicks", None, &settled), rules)
}

fn event(time: i64, product: &str) -> Vec<u8> {
    format!(r#"{{"event_time":{time},"product_id":"{product}","action":"click","user_id":"u_1"}}"#).into_bytes()
}

/// A record of `clicks-0`.
fn record(offset: i64, written: i64, value: &[u8]) -> TopicRecord<'_> {
    TopicRecord { partition: 0, offset, timestamp: Some(UnixMillis(written)), value: Some(value) }
}

fn source(name: &str) -> TopicPartition {
    TopicPartition::new(name, None)
}

fn noon() -> Minute {
    Minute::of(UnixMillis(NOON))
}

fn all(tally: &Tally) -> Vec<(String, String, u64, u64, u64)> {
    let differences = tally.differences(UnixMillis(0)).into_iter().map(|one| tally.describe(one));
    differences.map(|one| (one.source, one.product_id, one.expected, one.uncertain, one.counted)).collect()
}

#[test]
fn counters_that_equal_the_records_do_not_differ_and_others_are_named() {
    let (mut tally, rules) = tally();
    for (offset, product) in (0..).zip(["p1", "p1", "p2"]) {
        tally.add_record(&rules, record(offset, NOON + 500, &event(NOON + 10, product))).unwrap();
    }
    tally.add_counter(noon(), &source("clicks-0"), "p1", 1).unwrap();
    tally.add_counter(noon(), &source("clicks-0"), "p1", 1).unwrap();
    tally.add_counter(noon(), &source("clicks-0"), "p2", 1).unwrap();
    assert_eq!(all(&tally), []);
    assert_eq!(tally.totals(UnixMillis(0)), (2, Expected { certain: 3, uncertain: 0 }));
    tally.add_counter(noon(), &source("clicks-0"), "p1", 1).unwrap();
    tally.add_counter(noon(), &source("clicks-1"), "p2", 4).unwrap();
    let one =
        |source: &str, product: &str, expected, counted| (source.to_owned(), product.to_owned(), expected, 0, counted);
    assert_eq!(all(&tally), [one("clicks-0", "p1", 2, 3), one("clicks-1", "p2", 0, 4)]);
    assert!(tally.differences(noon().end()).is_empty(), "their counters have expired");
}

#[test]
fn records_of_another_shape_are_read_as_the_function_reads_them() {
    let (mut tally, mut rules) = tally();
    let path = |text: &str| text.parse().unwrap();
    let fields = EventFields { event_time: path("payload.ts"), product: path("payload.id"), action: None };
    rules.policy.shape = EventShape::new(fields, TimeUnit::Seconds, true).unwrap();
    let values = [
        format!(r#"{{"payload":{{"ts":{}.5,"id":7}}}}"#, NOON / 1000).into_bytes(),
        format!(r#"{{"payload":{{"ts":{},"id":"7"}}}}"#, NOON / 1000).into_bytes(),
        event(NOON, "7"),
    ];
    for (offset, value) in (0..).zip(&values) {
        tally.add_record(&rules, record(offset, NOON + 500, value)).unwrap();
    }
    tally.add_counter(noon(), &source("clicks-0"), "7", 2).unwrap();
    assert_eq!(all(&tally), []);
    assert_eq!(tally.totals(UnixMillis(0)), (1, Expected { certain: 2, uncertain: 0 }));
}

#[test]
fn records_that_are_not_clicks_of_the_range_are_not_expected() {
    let (mut tally, rules) = tally();
    let view = String::from_utf8(event(NOON, "p1")).unwrap().replace("click", "view").into_bytes();
    let values = [event(NOON - 1, "p1"), event(NOON + HOUR, "p1"), view, b"{".to_vec(), event(NOON - 25 * HOUR, "p1")];
    for (offset, value) in (0..).zip(&values) {
        tally.add_record(&rules, record(offset, NOON + 1, value)).unwrap();
    }
    tally.add_record(&rules, TopicRecord { value: None, ..record(9, NOON, b"") }).unwrap();
    assert_eq!((tally.records, tally.totals(UnixMillis(0)).0), (6, 0));
}

#[test]
fn a_click_that_is_not_delivered_for_certain_may_be_counted_or_not() {
    for (counted, differs) in [(0, true), (1, false), (2, false), (3, true)] {
        let (mut tally, rules) = tally();
        for offset in [99, 100] {
            tally.add_record(&rules, record(offset, NOON + 500, &event(NOON, "p1"))).unwrap();
        }
        if counted > 0 {
            tally.add_counter(noon(), &source("clicks-0"), "p1", counted).unwrap();
        }
        assert_eq!(!all(&tally).is_empty(), differs, "{counted}");
    }
}

#[test]
fn an_event_at_the_limits_of_its_age_may_be_counted_or_not() {
    let (_, rules) = tally();
    let day = 24 * HOUR;
    let certain = |written: i64, time: i64, newest: i64| {
        let value = event(time, "p1");
        rules.click(record(0, written, &value), UnixMillis(newest), true).map(|(_, certain)| certain)
    };
    assert_eq!(certain(NOON, NOON - day + 600_000, 0), Some(true), "not stale even ten minutes later");
    assert_eq!(certain(NOON, NOON - day + 599_999, 0), Some(false), "stale after ten minutes");
    assert_eq!(certain(NOON, NOON - day - 1, 0), None, "stale when it was written");
    assert_eq!(certain(NOON, NOON + 300_000, 0), Some(true));
    assert_eq!(certain(NOON, NOON + 300_001, 0), Some(false), "too far ahead unless delivered later");
    assert_eq!(certain(NOON, NOON + 900_001, 0), None, "too far ahead even ten minutes later");
    assert_eq!(certain(NOON - 2 * day, NOON - 2 * day, NOON), Some(false), "the producer has set an old timestamp");
    assert_eq!(certain(NOON + HOUR, NOON + HOUR - day, 0), Some(true), "nothing is delivered after the audit");
}

#[test]
fn minutes_with_deleted_records_are_not_compared() {
    let (mut tally, rules) = tally();
    tally.add_record(&rules, record(50, NOON + 90_000, &event(NOON + 61_000, "p1"))).unwrap();
    for minutes in [0, 1, 7] {
        let minute = Minute::of(UnixMillis(NOON + minutes * 60_000));
        tally.add_counter(minute, &source("clicks-0"), "p1", 5).unwrap();
    }
    assert_eq!(all(&tally).len(), 3);
    let (name, until) = tally.records_deleted(0, Duration::from_mins(5)).unwrap();
    assert_eq!((name, until), (source("clicks-0"), UnixMillis(NOON + 390_000)));
    let left: Vec<_> = tally.differences(UnixMillis(0)).into_iter().map(|one| one.minute.start().0).collect();
    assert_eq!(left, [NOON + 7 * 60_000]);
    assert!(!tally.is_complete(UnixMillis(NOON)) && tally.is_complete(UnixMillis(NOON + 420_000)));
    let (_, until) = tally.records_deleted(1, Duration::from_mins(5)).unwrap();
    assert_eq!(until, UnixMillis(NOON + HOUR), "nothing is left of it");
}

#[test]
fn counters_of_another_epoch_are_kept_apart() {
    let (mut tally, _) = tally();
    let other = TopicPartition::new("clicks-0", NonZeroU32::new(2));
    tally.add_counter(noon(), &other, "p1", 7).unwrap();
    assert_eq!(all(&tally), []);
    assert_eq!(tally.others[&other], OtherSource { clicks: 7, first: noon(), last: noon() });
}
