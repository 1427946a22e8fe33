use proptest::{collection::vec, prelude::*, sample::select};
use serde_dynamo::aws_sdk_dynamodb_1::to_item;
use serde_json::json;

use super::*;
use crate::{
    click::{EventFields, TimeUnit},
    counters::TopicPartition,
    rejects::{BatchRejects, RejectedBatch},
    time::UnixMillis,
};

fn sample(value: &[u8]) -> RejectedSample {
    sample_of(value, &EventShape::default())
}

fn sample_of(value: &[u8], shape: &EventShape) -> RejectedSample {
    RejectedSample::of(7, Reason::NotJson, Some(value), shape)
}

/// Events in an envelope, without an action.
fn enveloped() -> EventShape {
    let path = |text: &str| text.parse().unwrap();
    let fields = EventFields { event_time: path("meta.ts"), product: path("payload.item_id"), action: None };
    EventShape::new(fields, TimeUnit::Seconds, true).unwrap()
}

#[test]
fn an_object_keeps_the_fields_of_an_event_and_the_names_and_types_of_others() {
    let value = r#"{"user_id":"u_1233","event_time":"yesterday","product_id":7,"action":null,"page":{"u_1233":1},
                    "page":[],"new":true,"u_1233":"x","utm_source":"mail","a b":2,"":3,"1":4}"#;
    let sample = sample(value.as_bytes());
    assert_eq!((sample.content.as_str(), &sample.hash), ("json_object", &None));
    assert_eq!(
        serde_json::to_value(sample.object).unwrap(),
        json!({
            "fields": {
                "event_time": { "type": "string", "bytes": 9, "value": "yesterday" },
                "product_id": { "type": "number", "bytes": 1, "value": "7" },
                "action": { "type": "null", "bytes": 4 },
            },
            "other_fields": { "user_id": "string", "page": "array", "new": "boolean", "utm_source": "string" },
            "unnamed_fields": 4,
        })
    );
}

#[test]
fn an_object_of_another_shape_keeps_the_fields_of_that_shape() {
    let value =
        br#"{"payload":{"item_id":[1]},"payload":{"user_id":"u_1233","item_id":7.5},"meta":{"ts":"now","ip":"1.2.3.4"},
                     "event_time":1,"action":"u_1233"}"#;
    assert_eq!(
        serde_json::to_value(sample_of(value, &enveloped()).object).unwrap(),
        json!({
            "fields": {
                "meta.ts": { "type": "string", "bytes": 3, "value": "now" },
                "payload.item_id": { "type": "number", "bytes": 3, "value": "7.5" },
            },
            "other_fields": { "payload": "object", "meta": "object", "event_time": "number", "action": "string" },
            "unnamed_fields": 0,
        })
    );
    let value = br#"{"payload":{"item_id":7,"\ud800":1}}"#;
    let object = sample_of(value, &enveloped()).object.unwrap();
    assert_eq!((object.fields.len(), object.other_fields.len()), (0, 1));
}

#[test]
fn values_and_names_are_bounded() {
    let field = |value: &str| {
        let value = format!(r#"{{"action":{value}}}"#);
        sample(value.as_bytes()).object.unwrap().fields.remove("action").unwrap()
    };
    let text = |bytes| format!("\"{}\"", "é".repeat(bytes / 2));
    assert_eq!(field(&text(MAX_VALUE_BYTES)).value.unwrap().len(), MAX_VALUE_BYTES);
    let long = field(&text(MAX_VALUE_BYTES + 2));
    assert_eq!(long, FieldSample { kind: "string".into(), bytes: MAX_VALUE_BYTES as u64 + 2, value: None });
    assert_eq!(field(&"9".repeat(MAX_VALUE_BYTES + 1)).value, None);
    assert_eq!(field(r#"{"a":1}"#).value, None);
    assert_eq!(field(r#""\ud800""#), FieldSample { kind: "string".into(), bytes: 8, value: None });

    let names = |names: &[String]| {
        let fields: Vec<_> = names.iter().map(|name| format!("{name:?}:0")).collect();
        sample(format!("{{{}}}", fields.join(",")).as_bytes()).object.unwrap()
    };
    let many: Vec<_> = ('a'..='z').map(String::from).collect();
    let object = names(&many);
    assert_eq!((object.other_fields.len(), object.unnamed_fields), (MAX_OTHER_FIELDS, 10));
    let object = names(&["x".repeat(MAX_NAME_BYTES), "y".repeat(MAX_NAME_BYTES + 1), "ab12".into(), "ab123".into()]);
    assert_eq!(object.other_fields.into_keys().collect::<Vec<_>>(), ["ab12".to_owned(), "x".repeat(32)]);
    assert_eq!(object.unnamed_fields, 2);
}

#[test]
fn what_is_not_an_object_keeps_its_kind_length_and_hash() {
    for (value, content) in [
        (&b""[..], "empty"),
        (b"[1,2]", "json_array"),
        (b" \"u_1\" ", "json_string"),
        (b"-1e400", "json_number"),
        (b"true", "json_boolean"),
        (b"null", "json_null"),
        (b"{\"user_id\":\"u_1", "broken_json"),
        (b"{'a':1}", "broken_json"),
        (b"\xef\xbb\xbf{}", "broken_json"),
        (b"{\"\\ud800\":1}", "broken_json"),
        (b"[1,", "broken_json"),
        (b"\n<click user=\"u_1\"/>", "xml"),
        (b"u_1,p1,click\r\n", "text"),
        ("caffè".as_bytes(), "text"),
        (b"\x02u_1\x04p1", "binary"),
        (b"caf\xe8", "binary"),
        (b"Obj\x01\x04", "avro_container"),
        (b"\xc3\x01\0\0", "avro_single_object"),
        (b"\0\0\0\0\x07\x06u_1", "confluent_schema_registry"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd\0", "zstd"),
    ] {
        let sample = sample(value);
        assert_eq!((sample.content.as_str(), sample.bytes), (content, value.len() as u64), "{value:?}");
        assert_eq!(sample.hash.unwrap(), format!("{:016x}", xxh3_64(value)));
        assert_eq!(sample.object, None);
    }
    let none = RejectedSample::of(7, Reason::NoValue, None, &EventShape::default());
    assert_eq!((none.content.as_str(), none.bytes, none.hash), ("none", 0, None));
}

#[test]
fn deep_nesting_and_many_fields_neither_recurse_nor_grow_a_sample() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(sample(deep.as_bytes()).content, "json_array");
    let object = sample(format!(r#"{{"x":{deep}}}"#).as_bytes()).object.unwrap();
    assert_eq!(object.other_fields["x"], "array");
    let many: Vec<_> = (0..100_000).map(|number| format!("\"u_{number:06}\":0")).collect();
    let object = sample(format!("{{{}}}", many.join(",")).as_bytes()).object.unwrap();
    assert_eq!((object.other_fields.len(), object.unnamed_fields), (0, 100_000));
}

/// Values with a user's id, by the ways in which producers send one. No field of an event holds it.
fn with_id(id: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let json = serde_json::to_string(id).unwrap();
    let escaped = id.bytes().fold(String::new(), |escaped, byte| format!("{escaped}\\u{byte:04x}"));
    let mut avro = vec![(id.len() as u8) << 1];
    avro.extend(id.bytes());
    let texts = vec![
        format!("{id},p1,click,1672131001234"),
        format!("1672131001234\tp1\t{id}"),
        format!("user_id={id}&action=click"),
        format!("<click user=\"{id}\"/>"),
        id.to_owned(),
        json.clone(),
        format!("[{json},\"p1\"]"),
        format!("[[{{\"user\":{{\"id\":{json}}}}}]]"),
        format!("{{\"user_id\":{json},\"action\":7}}"),
        format!("{{\"user_id\":\"{escaped}\"}}"),
        format!("{{\"{escaped}\":1,\"action\":{{\"by\":{json}}}}}"),
        format!("{{\"user\":{{\"id\":[{json}]}},\"event_time\":[{json}],\"product_id\":{{{json}:1}}}}"),
        format!("{{{json}:{{\"action\":\"click\"}},\"product_id\":\"p1\"}}"),
        format!("{{\"payload\":{{\"item_id\":null,\"by\":{json}}},\"meta\":{{\"ts\":[{json}],{json}:1}}}}"),
        format!("{{\"user_id\":{json}"),
        format!("{{'user_id':'{id}'}}"),
        format!("\"{{\\\"user_id\\\":\\\"{id}\\\"}}\""),
        format!("{{\"product_id\":\"{}{id}\"}}", "x".repeat(MAX_VALUE_BYTES)),
    ];
    let values: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).chain([avro]).collect();
    let prefixes =
        vec![&b""[..], b"\0\0\0\0\x01", b"Obj\x01", b"\xc3\x01", b"\x1f\x8b", b"\xff", b" ", b"\xef\xbb\xbf"];
    (select(values), select(prefixes), vec(any::<u8>(), 0..8))
        .prop_map(|(value, prefix, suffix)| [prefix, &value, if suffix.len() < 4 { &[] } else { &suffix }].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Ids as shops have them: with digits, as hexadecimal, as base64url, as an address. Their letters are not those of
    /// the words that an item consists of.
    #[test]
    fn no_part_of_a_users_id_is_stored(
        shape in select(vec![EventShape::default(), enveloped()]),
        (id, value) in "u_[0-9]{4,12}|[0-9]{6,16}|[0-9a-f]{8}-[0-9]{4}-[0-9a-f]{12}|[A-Z0-9_-]{10}[0-9]{3}==|[qvwxz]{4,9}@[qvwxz]{4,9}"
            .prop_flat_map(|id| (Just(id.clone()), with_id(&id)))
    ) {
        let mut rejects = BatchRejects::default();
        rejects.push(7, Reason::NotJson, Some(&value), &shape);
        let mut batch = RejectedBatch::empty(&TopicPartition::new("clicks-0", None), 7, UnixMillis(0));
        batch.add(&rejects.offsets, &rejects.samples, UnixMillis(0));
        if let Some(hash) = batch.samples[0].hash.take() {
            prop_assert_eq!(hash, format!("{:016x}", xxh3_64(&value)));
        }
        // The time of rejection has digits too, of the clock.
        let mut item = to_item(batch).unwrap();
        item.remove("rejected_at");
        let stored = format!("{item:?}");
        for part in id.as_bytes().windows(4) {
            let part = std::str::from_utf8(part).unwrap();
            prop_assert!(!stored.contains(part), "{part:?} of {id:?} is in {stored}");
        }
    }
}
