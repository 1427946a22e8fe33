//! A plain group-by, which tests compare all counts with. It is independent of the product's code: a generic JSON parser
//! reads the three fields, and a count is a number in a map. Tests of other shapes of events say how they read them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Clicks by minute (its start, in epoch milliseconds) and product.
pub type Counts = BTreeMap<i64, BTreeMap<String, u64>>;

/// The contents of a stream of lines.
#[derive(Debug, Default)]
pub struct Groups {
    /// The clicks.
    pub counts: Counts,
    /// The number of lines.
    pub lines: u64,
    /// The number of clicks.
    pub clicks: u64,
    /// The number of other events.
    pub others: u64,
    /// The number of lines that are not events.
    pub broken: u64,
    /// The numbers of these lines, counted from 0.
    pub broken_at: Vec<u64>,
    /// The earliest and the latest event time, epoch milliseconds.
    pub span: Option<(i64, i64)>,
}

/// Groups lines, which may contain any bytes.
pub fn group<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Groups {
    group_as(lines, event)
}

/// Groups lines by what `event` reads from their JSON: event time in epoch milliseconds, product and action. `None` if the
/// line is not an event; `click` is the action that counts.
pub fn group_as<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    event: impl Fn(&Value) -> Option<(i64, String, String)>,
) -> Groups {
    let mut groups = Groups::default();
    for line in lines {
        groups.lines += 1;
        let Some((time, product, action)) = serde_json::from_slice(line).ok().as_ref().and_then(&event) else {
            groups.broken += 1;
            groups.broken_at.push(groups.lines - 1);
            continue;
        };
        let (earliest, latest) = groups.span.unwrap_or((time, time));
        groups.span = Some((earliest.min(time), latest.max(time)));
        if action == "click" {
            groups.clicks += 1;
            *groups.counts.entry(time - time.rem_euclid(60_000)).or_default().entry(product).or_default() += 1;
        } else {
            groups.others += 1;
        }
    }
    groups
}

fn event(event: &Value) -> Option<(i64, String, String)> {
    let product = event["product_id"].as_str().filter(|id| (1..=256).contains(&id.len()))?;
    Some((event["event_time"].as_i64()?, product.to_owned(), event["action"].as_str()?.to_owned()))
}

/// One product of a ranking: rank, product, clicks, rank in the previous window.
pub type Place = (u64, String, u64, Option<u64>);

/// The expected snapshot of the hour before `end` (epoch milliseconds): clicks, number of products, and the `top` products.
pub fn hour(counts: &Counts, end: i64, top: usize) -> (u64, u64, Vec<Place>) {
    let before = places(counts, end - 300_000, top).2;
    let (clicks, products, mut now) = places(counts, end, top);
    for place in &mut now {
        place.3 = before.iter().find(|before| before.1 == place.1).map(|before| before.0);
    }
    (clicks, products, now)
}

/// The clicks of each minute of the hour before `end` (epoch milliseconds).
pub fn minutes(counts: &Counts, end: i64) -> Vec<u64> {
    let clicks = |minute: i64| counts.get(&minute).map_or(0, |products| products.values().sum());
    (1..=60).rev().map(|back| clicks(end - back * 60_000)).collect()
}

fn places(counts: &Counts, end: i64, top: usize) -> (u64, u64, Vec<Place>) {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for minute in counts.range(end - 3_600_000..end) {
        for (product, clicks) in minute.1 {
            *sums.entry(product).or_default() += clicks;
        }
    }
    let mut order: Vec<_> = sums.iter().map(|(product, clicks)| (*product, *clicks)).collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.as_bytes().cmp(b.0.as_bytes())));
    let places = (1..).zip(order).take(top).map(|(rank, (product, clicks))| (rank, product.to_owned(), clicks, None));
    (sums.values().sum(), sums.len() as u64, places.collect())
}
