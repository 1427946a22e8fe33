//! Any bytes as an event: decoding neither panics nor loses a record, and plain JSON means what serde_json says it means.
#![no_main]

use count_clicks::batch::{DecodedBatch, PartitionBatch};
use hot_products::{Policy, UnixMillis};
use libfuzzer_sys::fuzz_target;

/// 2022-12-27T16:50:01.234Z.
const NOW: UnixMillis = UnixMillis(1_672_159_801_234);

fuzz_target!(|event: &[u8]| {
    let decode = |event: &[u8]| DecodedBatch::decode(event, None, &Policy::default(), NOW);
    let batch = decode(event);
    // A line break before the event changes nothing, but has serde_json read it.
    let other = decode(&[b"\n", event].concat());
    match (batch, other) {
        (Ok(batch), Ok(other)) => {
            assert!(batch == other, "{batch:?}\n{other:?}");
            let outcomes = batch.clicks() + batch.repeated + batch.ignored + batch.stale() + batch.rejected();
            assert_eq!(outcomes, batch.records, "each record has one outcome");
            batch.partitions.iter().for_each(|partition| check(&batch, partition));
        }
        (Err(error), Err(other)) => {
            assert!(error.to_string().len() < 1_000 && other.to_string().len() < 1_000, "the message quotes the event");
        }
        (batch, other) => panic!("{batch:?}\n{other:?}"),
    }
});

/// Each bucket is there once, and its clicks are in the order of their offsets.
fn check(batch: &DecodedBatch, PartitionBatch { clicks, buckets, .. }: &PartitionBatch) {
    assert!(buckets.is_sorted_by(|(a, _), (b, _)| a < b));
    let mut end = 0;
    for (_, range) in buckets {
        assert_eq!(range.start, end);
        assert!(!range.is_empty());
        end = range.end;
        assert!(clicks[range.clone()].is_sorted_by(|a, b| a.offset < b.offset));
    }
    assert_eq!(end, clicks.len());
    assert!(clicks.iter().all(|click| click.offset >= 0 && !batch.product(click.product).is_empty()));
}
