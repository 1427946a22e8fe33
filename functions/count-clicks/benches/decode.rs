//! Decoding, classifying and grouping one full batch: 10,000 records of twelve partitions, 2.6 MB.

use std::collections::HashMap;

use aws_lambda_events::kafka::{KafkaEvent, KafkaRecord};
use base64_simd::STANDARD;
use count_clicks::batch::DecodedBatch;
use divan::{Bencher, black_box};
use hot_products::{
    EventShape, Policy, UnixMillis,
    click::{EventFields, TimeUnit},
};

const RECORDS: i64 = 10_000;
const PARTITIONS: i64 = 12;
const PRODUCTS: f64 = 20_000.0;
/// 2022-12-27T16:50:00Z.
const START: i64 = 1_672_159_800_000;
/// The length of the batch window that the records are from.
const WINDOW_MS: i64 = 30_000;

fn main() {
    divan::main();
}

/// The same events as in `bench/workload.py`, keyed by product, with the values that `write` makes of time, product and user.
/// Ids are log-uniform, which is Zipf's law with exponent 1.
fn event(write: impl Fn(i64, &str, i64) -> String) -> String {
    let mut records: HashMap<String, Vec<KafkaRecord>> = HashMap::new();
    for number in 0..RECORDS {
        // Weyl's sequence: evenly spread, and always the same.
        let random = (number as f64 * 0.618_033_988_749_895).fract();
        let product = format!("p{}", PRODUCTS.powf(random) as u64);
        let event_time = START + number * WINDOW_MS / RECORDS;
        let value = write(event_time, &product, number * 7919 % 100_000);
        let partition = product.bytes().map(i64::from).sum::<i64>() % PARTITIONS;
        let of_partition = records.entry(format!("clicks-{partition}")).or_default();
        let mut record = KafkaRecord::default();
        record.topic = Some("clicks".to_owned());
        record.partition = partition;
        record.offset = 4_000_000 + number;
        record.timestamp.0 = UnixMillis(event_time).utc();
        record.timestamp_type = Some("CREATE_TIME".to_owned());
        record.key = Some(STANDARD.encode_to_string(product));
        record.value = Some(STANDARD.encode_to_string(value));
        of_partition.push(record);
    }
    let mut event = KafkaEvent::default();
    event.event_source = Some("aws:kafka".to_owned());
    event.bootstrap_servers = Some("b-1.shop.c2.kafka.us-east-1.amazonaws.com:9098".to_owned());
    event.records = records;
    serde_json::to_string(&event).unwrap_or_default()
}

#[divan::bench]
fn full_batch(bencher: Bencher<'_, '_>) {
    let event = event(|time, product, user| {
        format!(r#"{{"event_time":{time},"product_id":"{product}","action":"click","user_id":"u_{user}"}}"#)
    });
    decode(bencher, &event, &Policy::default());
}

/// The fields have other names, and no more bytes.
#[divan::bench]
fn full_batch_of_another_shape(bencher: Bencher<'_, '_>) {
    let event = event(|time, product, user| {
        format!(r#"{{"time_of_it":{time},"the_item":"{product}","kind_of":"click","user_id":"u_{user}"}}"#)
    });
    decode(bencher, &event, &other(["time_of_it", "the_item", "kind_of"], TimeUnit::Milliseconds));
}

/// The fields are in an envelope, and the time has a fraction.
#[divan::bench]
fn full_batch_in_an_envelope(bencher: Bencher<'_, '_>) {
    let event = event(|time, product, user| {
        let (seconds, millis) = (time / 1000, time % 1000);
        format!(
            r#"{{"payload":{{"ts":{seconds}.{millis:03},"item":"{product}","type":"click"}},"user_id":"u_{user}"}}"#
        )
    });
    decode(bencher, &event, &other(["payload.ts", "payload.item", "payload.type"], TimeUnit::Seconds));
}

#[expect(clippy::expect_used, reason = "the fields are valid")]
fn other([event_time, product, action]: [&str; 3], unit: TimeUnit) -> Policy {
    let path = |text: &str| text.parse().expect("a path");
    let fields = EventFields { event_time: path(event_time), product: path(product), action: Some(path(action)) };
    Policy { shape: EventShape::new(fields, unit, false).expect("a shape"), ..Policy::default() }
}

fn decode(bencher: Bencher<'_, '_>, event: &str, policy: &Policy) {
    let now = UnixMillis(START + WINDOW_MS);
    bencher
        .counter(divan::counter::BytesCount::new(event.len()))
        .bench(|| DecodedBatch::decode(black_box(event.as_bytes()), None, policy, now).map(|batch| batch.clicks()));
}
