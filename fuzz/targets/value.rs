//! Any bytes as the value of a record: it has one outcome, plain JSON means what serde_json says it means, and an event means
//! the same in any shape.
#![no_main]

use std::sync::LazyLock;

use base64_simd::STANDARD;
use count_clicks::batch::DecodedBatch;
use hot_products::{
    Classification, EventShape, Policy, Reason, UnixMillis,
    click::{EventFields, FieldPath, TimeUnit},
};
use libfuzzer_sys::fuzz_target;

/// 2022-12-27T16:50:01.234Z.
const NOW: UnixMillis = UnixMillis(1_672_159_801_234);

/// The shape of an event of the default shape in an envelope.
static ENVELOPED: LazyLock<Policy> = LazyLock::new(|| {
    let names = ["a.b.event_time", "a.b.product_id", "a.b.action"];
    policy(names, TimeUnit::Milliseconds, false)
});

/// Shapes that use all that a shape can say.
static OTHERS: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let seconds = policy(["payload.ts", "payload.item_id", "none"], TimeUnit::Seconds, true);
    [seconds, policy(["event_time", "a.product_id", "a.x.action"], TimeUnit::Rfc3339, false)]
});

fn policy([event_time, product, action]: [&str; 3], unit: TimeUnit, integers: bool) -> Policy {
    let path = |text: &str| text.parse().expect("a path");
    let action = FieldPath::parse_optional(action).expect("a path or none");
    let fields = EventFields { event_time: path(event_time), product: path(product), action };
    Policy { shape: EventShape::new(fields, unit, integers).expect("a shape"), ..Policy::default() }
}

fuzz_target!(|value: &[u8]| {
    let policy = Policy::default();
    let class = classify(&policy, value);
    let envelope = [b"{\"a\":{\"b\":", value, b"}}"].concat();
    match (&class, classify(&ENVELOPED, &envelope)) {
        // The envelope can make it JSON: {},"c":{}
        (Classification::Rejected(Reason::NotJson), _) => {}
        (Classification::Rejected(Reason::NotAnObject), found) => {
            assert_eq!(found, Classification::Rejected(Reason::MissingEventTime));
        }
        (class, found) => assert_eq!(*class, found),
    }
    OTHERS.iter().for_each(|policy| outcome(policy, value, classify(policy, value)));
    outcome(&policy, value, class);
});

/// Classifies a value. A line break before it changes nothing, but has serde_json read it.
fn classify<'a>(policy: &Policy, value: &'a [u8]) -> Classification<'a> {
    let class = policy.classify(NOW, value);
    assert_eq!(class, policy.classify(NOW, &[b"\n", value].concat()));
    class
}

/// Checks that a batch with the value has the outcome that its class says.
fn outcome(policy: &Policy, value: &[u8], class: Classification<'_>) {
    let base64 = STANDARD.encode_to_string(value);
    let event = format!(r#"{{"records":{{"clicks-0":[{{"offset":7,"value":"{base64}"}}]}}}}"#);
    let batch = DecodedBatch::decode(event.as_bytes(), None, policy, NOW).expect("no value fails a batch");
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
}
