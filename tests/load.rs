//! The model behind `hot cost` and `hot scale`, compared with the real functions on a DynamoDB API: the same clicks must
//! take the same calls and units.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cost_model::{
    bill,
    load::{Batches, Estimate, KeyedBy, Ledger, Load, START, SimulatedBatch, Topic, item::write_units},
};
use count_clicks::{CountClicks, CountSettings};
use hot_products::{Bucket, ManualClock, Minute, UnixMillis, Window, settings::Settings, store::SnapshotsTable};
use local_aws::{
    embedded::Embedded,
    msk,
    template::{DEFAULT_STACK, TableNames},
};
use rank_products::{RankProducts, RankSettings, Request};

/// Minutes of simulated clicks.
const MINUTES: u64 = 5;

fn event(batch: &SimulatedBatch) -> String {
    let mut records: HashMap<String, Vec<_>> = HashMap::new();
    for record in &batch.records {
        let value = serde_json::json!({
            "event_time": record.event_time.0,
            "product_id": format!("p{}", record.product + 1),
            "action": "click",
        });
        let record = msk::record(
            msk::Position { topic: "clicks", partition: record.partition, offset: record.offset },
            record.event_time,
            None,
            Some(value.to_string().as_bytes()),
        );
        records.entry(format!("clicks-{}", record.partition)).or_default().push(record);
    }
    serde_json::to_string(&msk::event(records)).expect("an event is JSON")
}

async fn assert_model_matches_functions(keyed_by: KeyedBy) {
    let load = Load { disorder: Duration::from_secs(20), ..Load::new(250.0, 12, 2_000, keyed_by) };
    let dynamodb = Embedded::start(0, None).await.expect("a DynamoDB");
    let tables = TableNames::of(DEFAULT_STACK);
    let settings = Settings::from([
        ("COUNTERS_TABLE", &tables.counters),
        ("REJECTS_TABLE", &tables.rejects),
        ("SNAPSHOTS_TABLE", &tables.snapshots),
    ]);
    let clock = Arc::new(ManualClock::at(START));
    let client = dynamodb.client();
    let count_clicks =
        CountClicks::new(client.clone(), CountSettings::read(&settings).expect("settings"), clock.clone());
    let snapshots = SnapshotsTable::new(client.clone(), tables.snapshots.clone());
    let rank_products = RankProducts::new(client, RankSettings::read(&settings).expect("settings"), clock.clone());

    let topic = Topic::of(&load);
    let end = START.plus(Duration::from_mins(MINUTES));
    let mut minutes: Vec<Vec<(u64, u64)>> = vec![Vec::new(); MINUTES as usize + 2];
    let (mut batches, mut clicks) = (0, 0);
    for poller in 0..topic.pollers {
        let mut ledger = Ledger::new(&topic);
        for batch in Batches::of(&load, &topic, poller).take_while(|batch| batch.at < end) {
            let expected = ledger.count(&batch);
            clock.set(batch.at);
            let (done, result) = count_clicks.handle(&event(&batch), batch.at.plus(Duration::from_mins(1))).await;
            result.expect("the batch is counted");
            assert_eq!(done.counted, batch.records.len() as u64);
            assert_eq!((done.updates, done.write_units), (expected.updates, expected.write_units), "batch {batches}");
            batches += 1;
            clicks += done.counted;
        }
        // From the minute before the first on: an event can be that much older.
        for (number, minute) in (0..).zip(&mut minutes) {
            let buckets = ledger.minute(Minute::of(UnixMillis(START.0 + (number - 1) * 60_000)));
            minute.resize(Bucket::PER_MINUTE.into(), (0, 0));
            for (sum, bucket) in minute.iter_mut().zip(buckets) {
                *sum = (sum.0 + bucket.items, sum.1 + bucket.bytes);
            }
        }
    }
    assert!(batches >= 10 && clicks > 60_000, "{batches} batches of {clicks} clicks");

    let window_end = hot_products::time::bound(end);
    clock.set(end.plus(Duration::from_mins(1)));
    let request = Request { window_end: Some(window_end), scheduled_time: None };
    let ranked = rank_products.handle(&request, UnixMillis(i64::MAX)).await.expect("the window is ranked").summary;
    let buckets = || minutes.iter().take(MINUTES as usize + 1).flatten();
    // Half a unit for each 4 KB; a query of an empty bucket costs half a unit too.
    let halves: u64 = buckets().map(|(_, bytes)| bytes.div_ceil(4096).max(1)).sum();
    let empty = 60 * u64::from(Bucket::PER_MINUTE) - buckets().count() as u64;
    assert_eq!(ranked.items, buckets().map(|(items, _)| items).sum::<u64>());
    assert_eq!((ranked.read_units * 2.0).round() as u64, halves + empty);
    // The second snapshot has the previous rank of every product, as the model assumes.
    let next = end.plus(Duration::from_mins(5));
    clock.set(next.plus(Duration::from_mins(1)));
    let request = Request { window_end: Some(hot_products::time::bound(next)), scheduled_time: None };
    let ranked = rank_products.handle(&request, UnixMillis(i64::MAX)).await.expect("the window is ranked").summary;
    let minutes = snapshots.minutes(Window::ended_by(next)).await.expect("a read").expect("minutes");
    let minutes_units = write_units(0, bill::minutes_bytes(&minutes.products));
    // The record of the ranking is the second of its day.
    let record_units = 1;
    let units = bill::snapshot_write_units(load.partitions) + minutes_units + record_units;
    assert_eq!((ranked.ranked, ranked.write_units), (100, units));
    dynamodb.stop().await.expect("it stops");
}

#[tokio::test]
async fn the_model_matches_the_functions_keyed_by_product() {
    assert_model_matches_functions(KeyedBy::Product).await;
}

#[tokio::test]
async fn the_model_matches_the_functions_keyed_by_user() {
    assert_model_matches_functions(KeyedBy::User).await;
}

#[test]
fn the_designs_example_load_needs_the_write_units_that_the_design_states() {
    let estimate = Estimate::of(&Load::new(1_000.0, 12, 20_000, KeyedBy::Product));
    let units = estimate.write_units_per_1000_clicks;
    assert!((4.0..8.0).contains(&units), "{units} write units per 1,000 clicks");
    let single = estimate.distinct_per_second;
    assert!((200.0..280.0).contains(&single), "{single} distinct products in the batches of 1,000 clicks");
}
