//! Invented tracking events: Zipf-distributed products, and events out of order as producers send them. For tools, and for
//! `seed-clicks`.

use std::{io, time::Duration};

use hot_products::{ProductId, UnixMillis};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde::Serialize;

/// What to generate. The same specification gives the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// How many lines.
    pub events: u64,
    /// How many products there are; product `p1` is the hottest.
    pub products: u64,
    /// Over how many minutes the events are spread, evenly.
    pub minutes: u64,
    /// The random seed.
    pub seed: u64,
    /// Zipf's exponent: at 0 all products are equally popular, above 1 a few are very hot.
    pub zipf: f64,
    /// The time of the first event.
    pub start: UnixMillis,
    /// How much older an event may be than the newest event before it.
    pub disorder: Duration,
    /// The share of events whose action is not a click.
    pub ignored_share: f64,
    /// The share of lines that are broken.
    pub bad_share: f64,
}

/// A tracking event as producers send it.
#[derive(Debug, Serialize)]
pub struct TrackingEvent<'a> {
    /// When it happened, in epoch milliseconds.
    pub event_time: i64,
    /// The product.
    pub product_id: &'a str,
    /// What the shopper did, such as `click`.
    pub action: &'a str,
    /// The shopper, who is invented too.
    pub user_id: &'a str,
}

/// What shoppers do besides clicking.
pub const OTHER_ACTIONS: [&str; 3] = ["view", "add_to_cart", "remove_from_cart"];

/// How many ways [`corrupt`] has to break a line.
const FAULTS: u32 = 8;

/// Writes the events as JSON lines.
///
/// # Errors
/// When `out` can't be written to, or the number of products or Zipf's exponent is out of range.
pub fn write(spec: &Spec, mut out: impl io::Write) -> io::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
    let popularity = Zipf::new(spec.products as f64, spec.zipf).map_err(io::Error::other)?;
    let span = spec.minutes as f64 * 60_000.0;
    let disorder = u64::try_from(spec.disorder.as_millis()).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    for number in 0..spec.events {
        let on_time = spec.start.plus(Duration::from_millis((span * number as f64 / spec.events as f64) as u64));
        let late = Duration::from_millis(random.random_range(0..=disorder));
        let event_time = on_time.minus(late).max(spec.start);
        let product_id = format!("p{}", popularity.sample(&mut random) as u64);
        let user_id = format!("u_{}", random.random_range(1..=spec.events.div_ceil(4)));
        let action = if random.random_bool(spec.ignored_share) {
            OTHER_ACTIONS[random.random_range(0..OTHER_ACTIONS.len())]
        } else {
            "click"
        };
        let event = TrackingEvent { event_time: event_time.0, product_id: &product_id, action, user_id: &user_id };
        line.clear();
        serde_json::to_writer(&mut line, &event)?;
        if random.random_bool(spec.bad_share) {
            corrupt(&mut line, &event, &mut random);
        }
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}

/// Breaks the line of `event` in one of the ways that producers do, so that it is rejected.
pub fn corrupt(line: &mut Vec<u8>, event: &TrackingEvent<'_>, random: &mut impl Rng) {
    let text = |event: &TrackingEvent<'_>| serde_json::to_string(event).unwrap_or_default();
    let corrupted = match random.random_range(0..FAULTS) {
        0 => return line.truncate(random.random_range(0..line.len())),
        1 => text(event).replace("\"event_time\"", "\"time\""),
        2 => text(event).replace("\"product_id\":", "\"product\":"),
        3 => text(event).replace("\"action\":", "\"event\":"),
        4 => text(event).replace(&event.event_time.to_string(), &format!("\"{}\"", UnixMillis(event.event_time))),
        5 => text(&TrackingEvent { product_id: "", ..*event }),
        6 => text(&TrackingEvent { product_id: &"x".repeat(ProductId::MAX_BYTES + 1), ..*event }),
        _ => return line.fill(0xff),
    };
    *line = corrupted.into_bytes();
}

#[cfg(test)]
mod tests {
    use hot_products::{Event, EventShape};

    use super::*;

    fn spec() -> Spec {
        Spec {
            events: 5_000,
            products: 50,
            minutes: 10,
            seed: 7,
            zipf: 1.0,
            start: UnixMillis(1_672_156_800_000),
            disorder: Duration::from_secs(30),
            ignored_share: 0.2,
            bad_share: 0.05,
        }
    }

    fn lines(spec: &Spec) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        write(spec, &mut bytes).unwrap();
        bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line[..line.len() - 1].to_vec()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(lines(&spec()), lines(&spec()));
        assert_ne!(lines(&spec()), lines(&Spec { seed: 8, ..spec() }));
    }

    #[test]
    fn shares_times_and_disorder_follow_the_specification() {
        let spec = spec();
        let lines = lines(&spec);
        assert_eq!(lines.len(), 5_000);
        let events: Vec<_> = lines.iter().filter_map(|line| Event::parse(line, &EventShape::default()).ok()).collect();
        let (bad, clicks) = (
            lines.len() - events.len(),
            events.iter().filter(|event| event.action.as_deref() == Some("click")).count(),
        );
        assert!((150..350).contains(&bad), "{bad} of 5,000 are broken");
        assert!((3_600..4_000).contains(&clicks), "{clicks} of {} are clicks", events.len());
        let mut newest = spec.start;
        let mut disordered = 0;
        for event in events {
            assert!(event.event_time >= spec.start && event.event_time < spec.start.plus(Duration::from_mins(10)));
            assert!(newest.since(event.event_time) <= spec.disorder);
            disordered += usize::from(event.event_time < newest);
            newest = newest.max(event.event_time);
        }
        assert!(disordered > 1_000);
    }
}
