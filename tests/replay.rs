//! A replay that remembers counters gives the snapshots of one that reads them for each window.

use std::{fmt::Write, time::Duration};

use hot_products::{Policy, Snapshot, UnixMillis};
use local_aws::embedded::Embedded;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use simulator::{
    Rankings, SimulatorOptions, SimulatorTotals,
    replay::{Replay, ReplayProgress},
};

const START: i64 = 1_672_131_000_000;
const MINUTE: i64 = 60_000;
const EVENTS: u64 = 200;

#[derive(Default)]
struct Snapshots(Vec<Snapshot>);

impl ReplayProgress for Snapshots {
    fn read(&mut self, _bytes: u64, _now: Option<UnixMillis>) {}

    fn ranked(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.0.push(snapshot.clone());
        Ok(())
    }
}

async fn replay(lines: &str, remember: bool) -> (Vec<Snapshot>, SimulatorTotals) {
    let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
    let options = SimulatorOptions {
        partitions: 2,
        policy: Policy::default(),
        batch_size: 10,
        top: Some(20),
        settle: Duration::from_mins(1),
        rankings: Rankings::DueOnly,
        remember,
    };
    let mut replay = Replay::new(&embedded, options, Duration::from_hours(24)).expect("a replay");
    let mut snapshots = Snapshots::default();
    let totals = replay.run(lines.as_bytes(), &mut snapshots).await.expect("the lines are replayed");
    embedded.stop().await.expect("DynamoDB stops");
    (snapshots.0, totals)
}

/// Clicks with quiet times between them, a third of them up to ninety minutes late.
fn stream(seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut lines, mut now) = (String::new(), START);
    for number in 0..EVENTS {
        now += match random.random_range(0..100) {
            _ if number == EVENTS / 2 => 170 * MINUTE,
            0..10 => 5 * MINUTE,
            _ => random.random_range(0..20_000),
        };
        let late = if random.random_ratio(1, 3) { random.random_range(0..90 * MINUTE) } else { 0 };
        let (time, product) = (now - late, random.random_range(0..60));
        writeln!(lines, r#"{{"event_time": {time}, "product_id": "p{product}", "action": "click"}}"#)
            .expect("a string");
    }
    lines
}

#[tokio::test]
async fn what_is_remembered_changes_no_snapshot() {
    for seed in 0..2 {
        let lines = stream(seed);
        let (expected, totals) = replay(&lines, false).await;
        // Otherwise there would be nothing to compare.
        assert!(expected.len() > 20 && totals.counted == EVENTS, "{} windows, {totals:?}", expected.len());
        assert!(expected.iter().any(|snapshot| snapshot.total_clicks == 0), "no quiet hour");
        assert_eq!(replay(&lines, true).await, (expected, totals), "seed {seed}");
    }
}
