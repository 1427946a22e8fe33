//! Any bytes as the value of a record: it has one outcome, and plain JSON means what serde_json says it means.
#![no_main]

use base64_simd::STANDARD;
use count_clicks::batch::DecodedBatch;
use hot_products::{Classification, Policy, UnixMillis};
use libfuzzer_sys::fuzz_target;

/// 2022-12-27T16:50:01.234Z.
const NOW: UnixMillis = UnixMillis(1_672_159_801_234);

fuzz_target!(|value: &[u8]| {
    let policy = Policy::default();
    let class = policy.classify(NOW, value);
    // A line break before the value changes nothing, but has serde_json read it.
    assert_eq!(class, policy.classify(NOW, &[b"\n", value].concat()));

    let base64 = STANDARD.encode_to_string(value);
    let event = format!(r#"{{"records":{{"clicks-0":[{{"offset":7,"value":"{base64}"}}]}}}}"#);
    let batch = DecodedBatch::decode(event.as_bytes(), None, &policy, NOW).expect("no value fails a batch");
    let outcomes = [batch.clicks(), batch.ignored, batch.stale(), batch.rejected()];
    let expected = match &class {
        Classification::Counted(_) => [1, 0, 0, 0],
        Classification::Ignored => [0, 1, 0, 0],
        Classification::Stale(_) => [0, 0, 1, 0],
        Classification::Rejected(_) => [0, 0, 0, 1],
    };
    assert_eq!((outcomes, batch.records), (expected, 1));
    if let Classification::Counted(event) = class {
        assert_eq!(batch.product(batch.partitions[0].clicks[0].product), event.product_id.as_str());
    }
});
