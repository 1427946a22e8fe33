//! The real handler over a DynamoDB API: whatever is delivered, in whatever cut and however often, the counters equal a
//! plain group-by; and each rule of the table's layout does what it is there for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use count_clicks::{CountClicks, CountError, CountSettings, CountSummary};
use hot_products::{Clock, ManualClock, Shard, UnixMillis};
use hot_products_tests::group_by::{self, Counts};
use local_aws::{
    embedded::Embedded,
    msk,
    template::{DEFAULT_STACK, TableNames},
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

const MINUTE: i64 = 60_000;

/// One DynamoDB for all tests; each test has minutes of its own.
static DYNAMODB: LazyLock<(Runtime, Embedded)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let dynamodb = runtime.block_on(Embedded::start(0, None)).expect("DynamoDB starts");
    (runtime, dynamodb)
});

/// The function, at a time that no other test is at.
struct Function {
    handler: CountClicks,
    settings: CountSettings,
    clock: Arc<ManualClock>,
    client: Client,
    /// The first minute that this test may count in, epoch milliseconds.
    start: i64,
}

impl Function {
    fn new(changes: &[(&str, &str)]) -> Self {
        static NEXT: AtomicI64 = AtomicI64::new(1_672_156_800_000);
        let start = NEXT.fetch_add(1_000 * MINUTE, Ordering::Relaxed);
        let tables = TableNames::of(DEFAULT_STACK);
        let names = [("COUNTERS_TABLE", tables.counters.as_str()), ("REJECTS_TABLE", &tables.rejects)];
        let settings = CountSettings::read(&names.iter().chain(changes).copied().collect());
        let clock = Arc::new(ManualClock::at(UnixMillis(start + 5 * MINUTE)));
        let client = DYNAMODB.1.client();
        let settings = settings.expect("good settings");
        let handler = CountClicks::new(client.clone(), settings.clone(), clock.clone());
        Self { handler, settings, clock, client, start }
    }

    /// Another instance of the function: what this one remembers, it does not.
    fn another_instance(&self) -> Self {
        let handler = CountClicks::new(self.client.clone(), self.settings.clone(), self.clock.clone());
        Self {
            handler,
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            client: self.client.clone(),
            ..*self
        }
    }

    /// Hands over records of one source, `values` from `offset` on.
    fn deliver(&self, source: &str, offset: i64, values: &[Vec<u8>]) -> CountSummary {
        self.deliver_all(&[(source, offset, values)])
    }

    fn deliver_all(&self, sources: &[(&str, i64, &[Vec<u8>])]) -> CountSummary {
        let (summary, result) = self.try_deliver(sources);
        result.expect("storage is well");
        assert_eq!(
            summary.records,
            summary.counted + summary.already_counted + summary.ignored + summary.stale + summary.rejected,
            "each record has one outcome"
        );
        summary
    }

    fn try_deliver(&self, sources: &[(&str, i64, &[Vec<u8>])]) -> (CountSummary, Result<(), CountError>) {
        let mut records = HashMap::new();
        for (source, offset, values) in sources {
            let (topic, partition) = source.rsplit_once('-').expect("topic-partition");
            let partition = partition.parse().expect("a partition");
            let record = |(offset, value): (i64, &Vec<u8>)| {
                msk::record(msk::Position { topic, partition, offset }, self.clock.now(), None, Some(value))
            };
            records.insert((*source).to_owned(), (*offset..).zip(*values).map(record).collect());
        }
        let event = serde_json::to_string(&msk::event(records)).expect("an event is JSON");
        let deadline = UnixMillis(self.clock.now().0 + MINUTE);
        DYNAMODB.0.block_on(self.handler.handle(&event, deadline))
    }

    /// The items of `minutes` minutes by their keys, `2022-12-27T16:50Z#3 clicks-0`.
    fn items(&self, minutes: i64) -> BTreeMap<String, HashMap<String, AttributeValue>> {
        let mut items = BTreeMap::new();
        for minute in 0..minutes {
            let minute = hot_products::Minute::of(UnixMillis(self.start + minute * MINUTE));
            for shard in Shard::all() {
                let bucket = hot_products::Bucket { minute, shard }.to_string();
                let query = self
                    .client
                    .query()
                    .table_name(TableNames::of(DEFAULT_STACK).counters)
                    .key_condition_expression("#b = :b")
                    .expression_attribute_names("#b", "bucket")
                    .expression_attribute_values(":b", AttributeValue::S(bucket.clone()))
                    .into_paginator()
                    .items();
                let found: Vec<_> = DYNAMODB.0.block_on(query.send().collect::<Result<_, _>>()).expect("a query");
                for item in found {
                    items.insert(format!("{bucket} {}", item["source"].as_s().expect("a key")), item);
                }
            }
        }
        items
    }

    /// The sums of all counters.
    fn counts(&self, minutes: i64) -> Counts {
        let mut counts = Counts::new();
        for (key, item) in self.items(minutes) {
            let minute = UnixMillis::parse_rfc3339(&format!("{}:00Z", &key[..16])).expect("a minute").0;
            for (name, value) in item {
                if let Some(product) = name.strip_prefix('#') {
                    let clicks: u64 = value.as_n().expect("a number").parse().expect("a count");
                    *counts.entry(minute).or_default().entry(product.to_owned()).or_default() += clicks;
                }
            }
        }
        counts
    }

    fn click(&self, minute: i64, product: &str) -> Vec<u8> {
        event(self.start + minute * MINUTE, product, "click")
    }
}

fn event(time: i64, product: &str, action: &str) -> Vec<u8> {
    let event = serde_json::json!({"event_time": time, "product_id": product, "action": action, "user_id": "u_1"});
    event.to_string().into_bytes()
}

/// Products of one shard, each `length` bytes long.
fn products_of_one_shard(count: usize, length: usize) -> Vec<String> {
    let all = (0..).map(|number| format!("{number:x>length$}"));
    all.filter(|id| Shard::of(id) == Shard::of("p1")).take(count).collect()
}

fn number(item: &HashMap<String, AttributeValue>, name: &str) -> i64 {
    item[name].as_n().expect("a number").parse().expect("a whole number")
}

/// One delivery of a source: how far before the last commit it begins, how many records it has at most, and whether it is
/// committed after it.
type Delivery = (usize, usize, bool);

#[derive(Clone, Debug)]
struct Stream {
    /// Per source, the records: minute, product, and what they are.
    sources: Vec<Vec<(i64, u16, u8)>>,
    deliveries: Vec<Vec<Delivery>>,
}

fn streams() -> impl Strategy<Value = Stream> {
    let record = (0..4_i64, prop_oneof![0..6_u16, 0..1_000_u16], 0..20_u8);
    let source = prop::collection::vec(record, 1..400);
    let deliveries = prop::collection::vec((0..120_usize, 1..300_usize, any::<bool>()), 0..12);
    (1..4_usize).prop_flat_map(move |sources| {
        (prop::collection::vec(source.clone(), sources), prop::collection::vec(deliveries.clone(), sources))
            .prop_map(|(sources, deliveries)| Stream { sources, deliveries })
    })
}

#[test]
fn any_stream_in_any_cut_redelivered_at_will_equals_the_group_by() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&streams(), |stream| {
        let function = Function::new(&[]);
        let values: Vec<Vec<Vec<u8>>> = stream
            .sources
            .iter()
            .map(|records| {
                let value = |(minute, product, kind): &(i64, u16, u8)| match kind {
                    0 => b"{\"event_time\":1,\"product".to_vec(),
                    1 => event(function.start + minute * MINUTE, &format!("p{product}"), "view"),
                    2 => event(function.start - 300 * MINUTE, &format!("p{product}"), "click"),
                    3 => event(function.start, "", "click"),
                    _ => function.click(*minute, &format!("p{product}")),
                };
                records.iter().map(value).collect()
            })
            .collect();
        let mut committed = vec![0_usize; values.len()];
        // Sources take turns, as the partitions of one batch do.
        for turn in 0..stream.deliveries.iter().map(Vec::len).max().unwrap_or(0) {
            let mut batch = Vec::new();
            for (number, deliveries) in stream.deliveries.iter().enumerate() {
                let Some((back, most, _)) = deliveries.get(turn) else { continue };
                let from = committed[number].saturating_sub(*back);
                let to = values[number].len().min(from + most);
                batch.push((number, from, to));
            }
            let names: Vec<_> = (0..values.len()).map(|number| format!("clicks-{number}")).collect();
            let sources: Vec<_> = batch
                .iter()
                .map(|(number, from, to)| (names[*number].as_str(), *from as i64, &values[*number][*from..*to]))
                .collect();
            function.deliver_all(&sources);
            for (number, _, to) in batch {
                // An invocation that was counted and not committed comes again.
                if stream.deliveries[number][turn].2 {
                    committed[number] = committed[number].max(to);
                }
            }
        }
        for (number, values) in values.iter().enumerate() {
            function.deliver(&format!("clicks-{number}"), committed[number] as i64, &values[committed[number]..]);
        }
        let mut expected = group_by::group(values.iter().flatten().map(Vec::as_slice)).counts;
        expected.retain(|minute, _| *minute >= function.start); // the others are stale
        prop_assert_eq!(function.counts(4), expected);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_redelivered_batch_moves_no_count_and_its_new_part_is_counted() {
    let function = Function::new(&[]);
    let values: Vec<_> = (0..15).map(|number| function.click(0, &format!("p{}", number % 3))).collect();
    assert_eq!(function.deliver("clicks-0", 40, &values[..10]).counted, 10);
    let before = function.items(1);

    let again = function.deliver("clicks-0", 40, &values[..10]);
    assert_eq!((again.counted, again.already_counted), (0, 10));
    assert_eq!(function.items(1), before, "not even an attribute moved");

    // Cut elsewhere and grown: the condition fails, and what the item returned tells which part is new.
    let grown = function.deliver("clicks-0", 45, &values[5..]);
    assert_eq!((grown.counted, grown.already_counted), (5, 5));
    assert_eq!(function.counts(1), group_by::group(values.iter().map(Vec::as_slice)).counts);
}

#[test]
fn an_item_is_of_the_designs_layout() {
    let function = Function::new(&[("SOURCE_EPOCH", "2")]);
    function.deliver("clicks-0", 7, &[function.click(0, "p1"), function.click(0, "p1")]);
    let items = function.items(1);
    let (key, item) = items.first_key_value().expect("an item");
    assert!(key.ends_with("#4 clicks-0@2"), "{key}");
    let mut names: Vec<_> = item.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["#p1", "bucket", "closed", "expires_at", "last_offset", "source"]);
    assert_eq!((number(item, "#p1"), number(item, "last_offset")), (2, 8));
    assert_eq!(number(item, "expires_at"), (function.start + MINUTE) / 1000 + 26 * 3600);
}

#[test]
fn more_than_200_products_in_one_item_are_split_by_offset() {
    let function = Function::new(&[]);
    let products = products_of_one_shard(450, 8);
    let values: Vec<_> = products.iter().map(|product| function.click(0, product)).collect();
    let summary = function.deliver("clicks-0", 0, &values);
    assert_eq!((summary.counted, summary.updates), (450, 3), "200 + 200 + 50");
    assert_eq!(function.counts(1), group_by::group(values.iter().map(Vec::as_slice)).counts);
}

#[test]
fn a_full_item_is_closed_and_counting_goes_on_behind_it() {
    let function = Function::new(&[]);
    // Ids of 256 bytes: about 1,560 fill an item. A batch of one piece does not close it, and no function of a batch
    // knows of its size from the last one.
    let products = products_of_one_shard(3_600, 256);
    let values: Vec<_> = products.iter().map(|product| function.click(0, product)).collect();
    let expected = group_by::group(values.iter().map(Vec::as_slice)).counts;
    for (number, chunk) in values.chunks(200).enumerate() {
        assert_eq!(
            function.another_instance().deliver("clicks-0", number as i64 * 200, chunk).counted,
            chunk.len() as u64
        );
    }
    assert_eq!(function.counts(1), expected);

    let items = function.items(1);
    let chain: Vec<_> = items.iter().map(|(key, item)| (key.rsplit(' ').next().unwrap_or_default(), item)).collect();
    let names: Vec<_> = chain.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["clicks-0", "clicks-0+1", "clicks-0+2"]);
    let closed: Vec<_> = chain.iter().map(|(_, item)| *item["closed"].as_bool().expect("a mark")).collect();
    assert_eq!(closed, [true, true, false], "before the next item got its first count");
    let last: Vec<_> = chain.iter().map(|(_, item)| number(item, "last_offset")).collect();
    assert!(last.is_sorted() && last[2] == 3_599, "{last:?}");

    // What the overflow items counted must never fit back into the first: redeliver all of it, cut elsewhere.
    let before = function.items(1);
    for (number, chunk) in values.chunks(700).enumerate() {
        let summary = function.deliver("clicks-0", number as i64 * 700, chunk);
        assert_eq!((summary.counted, summary.already_counted), (0, chunk.len() as u64));
    }
    assert_eq!(function.items(1), before);
}

#[test]
fn a_large_item_is_closed_by_one_update_more() {
    let function = Function::new(&[]);
    // 200 of them are about 8 KB.
    let products = products_of_one_shard(1_400, 36);
    let values: Vec<_> = products.iter().map(|product| function.click(0, product)).collect();
    let expected = group_by::group(values.iter().map(Vec::as_slice)).counts;
    let first = function.deliver("clicks-0", 0, &values[..1_000]);
    assert_eq!((first.counted, first.updates), (1_000, 5), "no write is for closing alone");
    let chain = |function: &Function| -> Vec<_> {
        let closed = |item: &HashMap<String, AttributeValue>| *item["closed"].as_bool().expect("a mark");
        function.items(1).values().map(|item| (number(item, "last_offset"), closed(item))).collect()
    };
    assert_eq!(chain(&function), [(399, true), (799, true), (999, false)]);

    // The function remembers the chain: nothing is refused, and its item of 200 takes one more update.
    let second = function.deliver("clicks-0", 1_000, &values[1_000..]);
    assert_eq!((second.counted, second.updates), (400, 2));
    assert_eq!(chain(&function), [(399, true), (799, true), (1_199, true), (1_399, false)]);
    assert!(second.largest_item_kb.is_some_and(|kb| (16..20).contains(&kb)), "{second:?}");
    assert_eq!(function.counts(1), expected);

    // One that knows nothing is told by refusals, one an item, and counts nothing twice.
    let again = function.another_instance().deliver("clicks-0", 500, &values[500..]);
    assert_eq!((again.counted, again.already_counted, again.updates), (0, 900, 4));
    let again = function.deliver("clicks-0", 0, &values);
    assert_eq!((again.counted, again.already_counted, again.updates), (0, 1_400, 1));
    assert_eq!(function.counts(1), expected);
}

#[test]
fn a_closed_item_refuses_even_what_would_fit() {
    let function = Function::new(&[]);
    let products = products_of_one_shard(500, 256);
    let values: Vec<_> = products.iter().map(|product| function.click(0, product)).collect();
    function.deliver("clicks-0", 0, &values);
    // A click on a product that the closed item knows would not make it grow.
    let summary = function.another_instance().deliver("clicks-0", 500, &[values[0].clone()]);
    assert_eq!(summary.counted, 1);
    let items = function.items(1);
    let item = |name: &str| items.iter().find(|(key, _)| key.ends_with(name)).expect("the item").1;
    let counter = format!("#{}", products[0]);
    assert_eq!((number(item("clicks-0"), &counter), number(item("clicks-0+1"), &counter)), (1, 1));
}

#[test]
fn rejected_records_are_noted_once_a_source_and_batch() {
    let function = Function::new(&[]);
    let source = format!("rejects{}-3", function.start);
    let mut values: Vec<_> = (0..8).map(|number| function.click(0, &format!("p{number}"))).collect();
    values[2] = b"{\"user_id\":\"u_7\",\"event_time\":".to_vec();
    values[5] = event(function.start + 600 * MINUTE, "p1", "click");
    values[6] = event(function.start, "", "click");
    let read = || {
        let query = function
            .client
            .query()
            .table_name(TableNames::of(DEFAULT_STACK).rejects)
            .key_condition_expression("#s = :s")
            .expression_attribute_names("#s", "source")
            .expression_attribute_values(":s", AttributeValue::S(source.clone()));
        DYNAMODB.0.block_on(query.send()).expect("a query").items.unwrap_or_default()
    };
    assert_eq!(function.deliver(&source, 100, &values).rejected, 3);
    let items = read();
    assert_eq!(items.len(), 1);
    let item = &items[0];
    assert_eq!((number(item, "first_offset"), number(item, "rejected")), (102, 3));
    let reasons = item["reasons"].as_m().expect("a map");
    for reason in ["not_json", "event_time_in_future", "empty_product_id"] {
        assert_eq!(number(reasons, reason), 1);
    }
    let offsets: Vec<_> = item["offsets"].as_l().expect("a list").iter().filter_map(|n| n.as_n().ok()).collect();
    assert_eq!(offsets, ["102", "105", "106"]);
    let samples = item["samples"].as_l().expect("a list");
    assert_eq!(
        samples[0].as_m().expect("a map")["value"].as_s().expect("a text"),
        "{\"user_id\":\"…\",\"event_time\":"
    );
    assert_eq!(number(item, "expires_at"), function.clock.now().epoch_seconds() + 14 * 24 * 3600);

    function.clock.set(UnixMillis(function.clock.now().0 + 1_000));
    function.deliver(&source, 100, &values);
    assert_eq!(read(), items, "writing it twice changes nothing");
    function.deliver(&source, 101, &values[1..4]);
    assert_eq!(read(), items, "nor does a shorter cut");
}

#[test]
fn a_record_of_an_expired_minute_is_stale_and_begins_no_item() {
    let function = Function::new(&[("RETENTION", "3h")]);
    let values = [event(function.start - 120 * MINUTE, "p1", "click"), function.click(0, "p1")];
    let summary = function.deliver("clicks-0", 0, &values);
    assert_eq!((summary.counted, summary.stale), (1, 1));
    assert_eq!(function.items(1).len(), 1);
}

#[test]
fn an_invocation_without_time_writes_nothing_and_fails() {
    let function = Function::new(&[]);
    let value = function.click(0, "p1");
    let position = msk::Position { topic: "clicks", partition: 0, offset: 0 };
    let records = vec![msk::record(position, function.clock.now(), None, Some(&value))];
    let event = serde_json::to_string(&msk::event(HashMap::from([("clicks-0".to_owned(), records)]))).expect("JSON");
    let soon = UnixMillis(function.clock.now().0 + 500);
    let (summary, result) = DYNAMODB.0.block_on(function.handler.handle(&event, soon));
    assert_eq!(summary.counted, 0);
    assert_eq!(
        result.expect_err("out of time").to_string(),
        "out of time: the batch will come again, 0 of 1 items are done"
    );
    assert!(function.items(1).is_empty());
}

#[test]
fn an_item_that_another_hand_wrote_fails_the_batch_instead_of_looping() {
    let function = Function::new(&[]);
    function.deliver("clicks-0", 5, &[function.click(0, "p1")]);
    let items = function.items(1);
    let item = items.values().next().expect("an item");
    let update = function
        .client
        .update_item()
        .table_name(TableNames::of(DEFAULT_STACK).counters)
        .key("bucket", item["bucket"].clone())
        .key("source", item["source"].clone())
        .update_expression("REMOVE closed");
    DYNAMODB.0.block_on(update.send()).expect("an update");
    let error = function.try_deliver(&[("clicks-0", 6, &[function.click(0, "p1")])]).1.expect_err("a broken item");
    assert!(error.to_string().contains("is open and behind the update that it refused"), "{error}");
}
