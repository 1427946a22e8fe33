//! Compares a window's snapshot with the clicks that the topic's records have in its sixty minutes.

use std::collections::{HashMap, HashSet};

use hot_products::{Minute, RankedProduct, Snapshot, time::bound};
use serde::Serialize;

use super::{
    report::Listed,
    tally::{Expected, Tally},
};

/// A figure of a snapshot that is not what the topic's records make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SnapshotDifference {
    /// The end of its window, RFC 3339.
    pub(crate) window_end: String,
    /// Which figure: a field of the snapshot, `clicks` or `rank` of a product, or `missing_product`.
    pub(crate) figure: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) minute: Option<Minute>,
    /// The least that it can be, apart from late clicks.
    pub(crate) expected: u64,
    /// How much more it can be.
    pub(crate) uncertain: u64,
    /// What it is.
    pub(crate) found: u64,
}

/// What is known of a snapshot besides its figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotContext {
    /// How many of the window's clicks were counted after its ranking, at most, as count-clicks has noted.
    pub(crate) late: u64,
    /// How many products a snapshot has, if there are as many.
    pub(crate) top_n: usize,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ComparedSnapshot {
    pub(crate) differences: Listed<SnapshotDifference>,
    /// How many clicks the snapshot misses, which late clicks can explain.
    pub(crate) missing: u64,
}

/// Compares `snapshot` with the records in `tally`, which must have all of its minutes.
pub(crate) fn compare(tally: &Tally, snapshot: &Snapshot, context: SnapshotContext) -> ComparedSnapshot {
    let SnapshotContext { late, top_n } = context;
    let mut products = vec![Expected::default(); tally.products().len()];
    let mut minutes = Vec::new();
    for minute in snapshot.window.minutes() {
        let mut sum = Expected::default();
        for (product, clicks) in tally.expected_of(minute) {
            add(&mut products[product], clicks);
            add(&mut sum, clicks);
        }
        minutes.push((minute, sum));
    }
    let mut total = Expected::default();
    let mut distinct = Expected::default();
    for clicks in &products {
        add(&mut total, *clicks);
        distinct.certain += u64::from(clicks.certain > 0);
        distinct.uncertain += u64::from(clicks.certain == 0 && clicks.uncertain > 0);
    }

    let mut checks = Checks { window_end: bound(snapshot.window.end()), late, differences: Listed::default() };
    checks.check(Figure::of_window("total_clicks"), total, snapshot.total_clicks);
    checks.check(Figure::of_window("distinct_products"), distinct, snapshot.distinct_products);
    // A snapshot of an older version has no minutes.
    for ((minute, expected), found) in minutes.into_iter().zip(&snapshot.clicks_per_minute) {
        checks.check(Figure::of_minute("clicks_per_minute", minute), expected, *found);
    }
    let numbers: HashMap<&str, usize> =
        tally.products().iter().enumerate().map(|(number, id)| (&**id, number)).collect();
    let mut listed = HashSet::new();
    let mut before: Option<&RankedProduct> = None;
    for (rank, product) in (1..).zip(&snapshot.products) {
        let id = product.product_id.as_str();
        let number = numbers.get(id).copied();
        let expected = number.map(|number| products[number]).unwrap_or_default();
        checks.check(Figure::of_product("clicks", id), expected, product.clicks);
        let in_order = before.is_none_or(|before| beats((before.clicks, &before.product_id), (product.clicks, id)));
        if product.rank != rank || !in_order || number.is_some_and(|number| !listed.insert(number)) {
            let expected = Expected { certain: rank, uncertain: 0 };
            checks.differs(Figure::of_product("rank", id), expected, product.rank);
        }
        before = Some(product);
    }
    // Products that must be in the list and are not.
    let last = before.filter(|_| snapshot.products.len() >= top_n);
    for (number, (id, expected)) in tally.products().iter().zip(&products).enumerate() {
        let ranked = expected.certain.saturating_sub(late);
        let wins = last.is_none_or(|last| beats((ranked, id), (last.clicks, &last.product_id)));
        if ranked > 0 && wins && !listed.contains(&number) {
            checks.differs(Figure::of_product("missing_product", id), *expected, 0);
        }
    }
    ComparedSnapshot { differences: checks.differences, missing: total.certain.saturating_sub(snapshot.total_clicks) }
}

/// Whether a product with these clicks is ranked before the other: ties are ordered by the bytes of the id.
fn beats((clicks, id): (u64, &str), (other_clicks, other_id): (u64, &str)) -> bool {
    clicks > other_clicks || (clicks == other_clicks && id < other_id)
}

fn add(sum: &mut Expected, clicks: Expected) {
    sum.certain += clicks.certain;
    sum.uncertain += clicks.uncertain;
}

/// A figure of a snapshot.
#[derive(Clone, Copy)]
struct Figure<'a> {
    name: &'static str,
    product_id: Option<&'a str>,
    minute: Option<Minute>,
}

impl<'a> Figure<'a> {
    fn of_window(name: &'static str) -> Self {
        Self { name, product_id: None, minute: None }
    }

    fn of_minute(name: &'static str, minute: Minute) -> Self {
        Self { name, product_id: None, minute: Some(minute) }
    }

    fn of_product(name: &'static str, id: &'a str) -> Self {
        Self { name, product_id: Some(id), minute: None }
    }
}

/// The differences of one snapshot so far.
struct Checks {
    window_end: String,
    late: u64,
    differences: Listed<SnapshotDifference>,
}

impl Checks {
    fn check(&mut self, figure: Figure<'_>, expected: Expected, found: u64) {
        if !expected.allows(found, self.late) {
            self.differs(figure, expected, found);
        }
    }

    fn differs(&mut self, figure: Figure<'_>, expected: Expected, found: u64) {
        self.differences.push(SnapshotDifference {
            window_end: self.window_end.clone(),
            figure: figure.name,
            product_id: figure.product_id.map(str::to_owned),
            minute: figure.minute,
            expected: expected.certain,
            uncertain: expected.uncertain,
            found,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use hot_products::{Policy, TopicPartition, UnixMillis, Window};
    use kafka::records::TopicRecord;

    use super::*;
    use crate::audit::tally::Rules;

    const ON_TIME: SnapshotContext = SnapshotContext { late: 0, top_n: 2 };

    fn window() -> Window {
        Window::ended_by(UnixMillis(1_672_159_800_000))
    }

    /// The records of `clicks` (minute of the window, product), the last `uncertain` of which may be counted or not.
    fn tally(clicks: &[(u64, &str)], uncertain: usize) -> Tally {
        let rules = Rules {
            policy: Policy::default(),
            max_lag: Duration::from_mins(1),
            now: window().end().plus(Duration::from_mins(5)),
        };
        let settled = BTreeMap::from([(0, i64::try_from(clicks.len() - uncertain).unwrap())]);
        let mut tally = Tally::new(window().start()..window().end(), "clicks", None, &settled);
        for (offset, (minute, product)) in (0..).zip(clicks) {
            let time = window().start().plus(Duration::from_mins(*minute));
            let value = format!(r#"{{"event_time":{},"product_id":"{product}","action":"click"}}"#, time.0);
            let record = TopicRecord { partition: 0, offset, timestamp: Some(time), value: Some(value.as_bytes()) };
            tally.add_record(&rules, record).unwrap();
        }
        tally
    }

    const CLICKS: [(u64, &str); 6] = [(0, "b"), (0, "b"), (59, "b"), (1, "c"), (2, "a"), (7, "a")];

    fn snapshot() -> Snapshot {
        let mut clicks_per_minute = vec![0; 60];
        for (minute, _) in CLICKS {
            clicks_per_minute[minute as usize] += 1;
        }
        let product =
            |rank, id: &str, clicks| RankedProduct { rank, product_id: id.to_owned(), clicks, previous_rank: None };
        Snapshot {
            window: window(),
            generated_at: window().end(),
            is_final: false,
            counted_through: BTreeMap::from([(
                TopicPartition::new("clicks-0", None).to_string(),
                Minute::of(window().start()),
            )]),
            total_clicks: 6,
            distinct_products: 3,
            clicks_per_minute,
            products: vec![product(1, "b", 3), product(2, "a", 2)],
        }
    }

    /// The figures that differ, each with what it is.
    fn figures(tally: &Tally, snapshot: &Snapshot, context: SnapshotContext) -> Vec<(&'static str, u64)> {
        compare(tally, snapshot, context).differences.first.iter().map(|one| (one.figure, one.found)).collect()
    }

    #[test]
    fn a_snapshot_of_the_records_does_not_differ() {
        assert_eq!(compare(&tally(&CLICKS, 0), &snapshot(), ON_TIME), ComparedSnapshot::default());
    }

    #[test]
    fn each_wrong_figure_is_named() {
        let tally = tally(&CLICKS, 0);
        let changed = |change: fn(&mut Snapshot)| {
            let mut snapshot = snapshot();
            change(&mut snapshot);
            figures(&tally, &snapshot, ON_TIME)
        };
        assert_eq!(changed(|snapshot| snapshot.total_clicks = 5), [("total_clicks", 5)]);
        assert_eq!(changed(|snapshot| snapshot.distinct_products = 4), [("distinct_products", 4)]);
        assert_eq!(changed(|snapshot| snapshot.clicks_per_minute[59] = 2), [("clicks_per_minute", 2)]);
        assert_eq!(changed(|snapshot| snapshot.products[0].clicks = 4), [("clicks", 4)]);
        assert_eq!(changed(|snapshot| snapshot.products[1].rank = 3), [("rank", 3)]);
        assert_eq!(changed(|snapshot| snapshot.products.reverse()), [("rank", 2), ("rank", 1)]);
        let unknown = changed(|snapshot| snapshot.products[1].product_id = "z".to_owned());
        assert_eq!(unknown, [("clicks", 2), ("missing_product", 0)]);
        let short = changed(|snapshot| drop(snapshot.products.pop()));
        assert_eq!(short, [("missing_product", 0), ("missing_product", 0)], "c is missing too: the list is not full");
        let difference =
            compare(&tally, &Snapshot { total_clicks: 5, ..snapshot() }, ON_TIME).differences.first.remove(0);
        assert_eq!((difference.window_end.as_str(), difference.expected), ("2022-12-27T16:50:00Z", 6));
    }

    #[test]
    fn late_clicks_may_be_missing_but_no_more_than_were_noted() {
        let tally = tally(&CLICKS, 0);
        let mut early = snapshot();
        early.total_clicks = 5;
        early.distinct_products = 2;
        early.clicks_per_minute[1] = 0;
        let compared = compare(&tally, &early, SnapshotContext { late: 1, ..ON_TIME });
        assert_eq!(compared, ComparedSnapshot { differences: Listed::default(), missing: 1 });
        assert_eq!(figures(&tally, &early, ON_TIME).len(), 3);
        early.total_clicks = 7;
        assert_eq!(figures(&tally, &early, SnapshotContext { late: 5, ..ON_TIME }), [("total_clicks", 7)]);
    }

    #[test]
    fn uncertain_clicks_may_be_in_a_snapshot_or_not() {
        // The last two records, both of a, are uncertain.
        let tally = tally(&CLICKS, 2);
        assert_eq!(figures(&tally, &snapshot(), ON_TIME), []);
        let mut without = snapshot();
        without.total_clicks = 4;
        without.distinct_products = 2;
        (without.clicks_per_minute[2], without.clicks_per_minute[7]) = (0, 0);
        without.products[1] = RankedProduct { rank: 2, product_id: "c".to_owned(), clicks: 1, previous_rank: None };
        assert_eq!(figures(&tally, &without, ON_TIME), []);
        without.total_clicks = 3;
        assert_eq!(figures(&tally, &without, ON_TIME), [("total_clicks", 3)]);
    }
}
