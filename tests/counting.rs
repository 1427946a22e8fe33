//! The real handler with a DynamoDB API: the counters equal a plain group-by for any batch boundaries and redeliveries, and
//! each rule of the table's layout works.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{ControlFlow, Range},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use count_clicks::{CountClicks, CountError, CountSettings, CountSummary};
use futures_util::future::join_all;
use hot_products::{
    Bucket, Clock, EventShape, ManualClock, Reason, Shard, TopicPartition, UnixMillis,
    rejects::BatchRejects,
    store::{CountersTable, RejectsPage, RejectsTable},
};
use hot_products_tests::group_by::{self, Counts};
use local_aws::{
    embedded::Embedded,
    msk,
    template::{DEFAULT_STACK, TableNames},
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

const MINUTE: i64 = 60_000;

/// One DynamoDB for all tests; each test uses different minutes.
static DYNAMODB: LazyLock<(Runtime, Embedded)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let dynamodb = runtime.block_on(Embedded::start(0, None)).expect("DynamoDB starts");
    (runtime, dynamodb)
});

/// The function, with a clock at a time that no other test uses.
struct Function {
    handler: CountClicks,
    settings: CountSettings,
    clock: Arc<ManualClock>,
    client: Client,
    /// The first minute of this test, epoch milliseconds.
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

    /// Another instance of the function, with an empty cache.
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

    /// Delivers records of one source: `values`, with offsets from `offset` on.
    fn deliver(&self, source: &str, offset: i64, values: &[Vec<u8>]) -> CountSummary {
        self.deliver_all(&[(source, offset, values)])
    }

    fn deliver_all(&self, sources: &[(&str, i64, &[Vec<u8>])]) -> CountSummary {
        let (summary, result) = self.try_deliver(sources);
        result.expect("storage works");
        assert_eq!(
            summary.records,
            summary.counted + summary.already_counted + summary.ignored + summary.stale + summary.rejected,
            "each record is in one class"
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

    /// The items of the first `minutes` minutes by their keys, `2022-12-27T16:50Z#3 clicks-0`.
    fn items(&self, minutes: i64) -> BTreeMap<String, HashMap<String, AttributeValue>> {
        self.items_of(0..minutes)
    }

    /// The items of these minutes, relative to the test's first one.
    fn items_of(&self, minutes: impl IntoIterator<Item = i64>) -> BTreeMap<String, HashMap<String, AttributeValue>> {
        let mut items = BTreeMap::new();
        for minute in minutes {
            let minute = hot_products::Minute::of(UnixMillis(self.start + minute * MINUTE));
            for bucket in Bucket::of_minute(minute) {
                let bucket = bucket.to_string();
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

    /// The sums of all counters of the first `minutes` minutes.
    fn counts(&self, minutes: i64) -> Counts {
        self.counts_of(0..minutes)
    }

    /// The sums of all counters of these minutes, relative to the test's first one.
    fn counts_of(&self, minutes: impl IntoIterator<Item = i64>) -> Counts {
        let mut counts = Counts::new();
        for (key, item) in self.items_of(minutes) {
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

/// One delivery of a source: how many records before the last commit it starts, its maximum number of records, and whether
/// it is committed.
type Delivery = (usize, usize, bool);

#[derive(Clone, Debug)]
struct Stream {
    /// The records of each source: minute, product, and kind.
    sources: Vec<Vec<(i64, u16, u8)>>,
    deliveries: Vec<Vec<Delivery>>,
    /// How many minutes the clock advances before each turn of the deliveries.
    advances: Vec<i64>,
}

/// Streams with records in `minutes`. The clock advances by less than `max_advance` minutes in each turn.
fn streams(minutes: &'static [i64], max_advance: i64) -> impl Strategy<Value = Stream> {
    let record = (prop::sample::select(minutes), prop_oneof![0..6_u16, 0..1_000_u16], 0..20_u8);
    let source = prop::collection::vec(record, 1..400);
    let deliveries = prop::collection::vec((0..120_usize, 1..300_usize, any::<bool>()), 0..12);
    let advances = prop::collection::vec(0..max_advance, 13);
    (1..4_usize, advances).prop_flat_map(move |(sources, advances)| {
        (prop::collection::vec(source.clone(), sources), prop::collection::vec(deliveries.clone(), sources))
            .prop_map(move |(sources, deliveries)| Stream { sources, deliveries, advances: advances.clone() })
    })
}

/// Records of one source that were delivered together.
struct Delivered {
    now: i64,
    source: usize,
    offsets: Range<usize>,
}

impl Stream {
    /// The records' values by source; a record's offset is its position.
    fn values(&self, function: &Function) -> Vec<Vec<Vec<u8>>> {
        let value = |(minute, product, kind): &(i64, u16, u8)| match kind {
            0 => b"{\"event_time\":1,\"product".to_vec(),
            1 => event(function.start + minute * MINUTE, &format!("p{product}"), "view"),
            2 => event(function.start - 300 * MINUTE, &format!("p{product}"), "click"),
            3 => event(function.start, "", "click"),
            _ => function.click(*minute, &format!("p{product}")),
        };
        self.sources.iter().map(|records| records.iter().map(value).collect()).collect()
    }

    /// Delivers `values` by the stream's deliveries, then everything that is not committed. Returns what was delivered when.
    fn deliver(&self, function: &Function, values: &[Vec<Vec<u8>>]) -> Vec<Delivered> {
        let mut committed = vec![0_usize; values.len()];
        let mut delivered = Vec::new();
        // A batch has records of several sources.
        let turns = self.deliveries.iter().map(Vec::len).max().unwrap_or(0);
        for turn in 0..=turns {
            function.clock.set(UnixMillis(function.clock.now().0 + self.advances[turn] * MINUTE));
            let mut batch = Vec::new();
            for (source, deliveries) in self.deliveries.iter().enumerate() {
                let (back, most) = match deliveries.get(turn) {
                    Some((back, most, _)) => (*back, *most),
                    None if turn == turns => (0, usize::MAX),
                    None => continue,
                };
                let from = committed[source].saturating_sub(back);
                let to = values[source].len().min(from.saturating_add(most));
                batch.push((source, from, to));
            }
            let names: Vec<_> = (0..values.len()).map(|source| format!("clicks-{source}")).collect();
            let sources: Vec<_> = batch
                .iter()
                .map(|(source, from, to)| (names[*source].as_str(), *from as i64, &values[*source][*from..*to]))
                .collect();
            function.deliver_all(&sources);
            for (source, from, to) in batch {
                delivered.push(Delivered { now: function.clock.now().0, source, offsets: from..to });
                // Without a commit, counted records are redelivered.
                if self.deliveries[source].get(turn).is_none_or(|(.., commits)| *commits) {
                    committed[source] = committed[source].max(to);
                }
            }
        }
        delivered
    }
}

fn check(streams: impl Strategy<Value = Stream>, property: impl Fn(Stream) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    if let Err(error) = TestRunner::new(config).run(&streams, property) {
        panic!("{error}");
    }
}

#[test]
fn any_deliveries_of_any_stream_equal_the_group_by() {
    check(streams(&[0, 1, 2, 3], 1), |stream| {
        let function = Function::new(&[]);
        let values = stream.values(&function);
        stream.deliver(&function, &values);
        let mut expected = group_by::group(values.iter().flatten().map(Vec::as_slice)).counts;
        expected.retain(|minute, _| *minute >= function.start); // the others are stale
        prop_assert_eq!(function.counts(4), expected);
        Ok(())
    });
}

/// The minutes of the records. The clock starts at minute 5, so some records are too far ahead at first, and some become
/// stale.
const MOVING_MINUTES: &[i64] = &[0, 3, 12, 20, 34];

/// The expected counts for these deliveries.
///
/// A delivery counts a click that is neither stale nor too far ahead at that time, unless its item has already counted up to
/// its offset. So a click is counted at its first delivery, or never if it is stale then. A click that is too far ahead at
/// first is counted later only if no later record of its bucket and topic partition was counted before.
fn counts_at(values: &[Vec<Vec<u8>>], delivered: &[Delivered], max_event_age: i64) -> Counts {
    let mut counts = Counts::new();
    let mut last_offsets = HashMap::new();
    for Delivered { now, source, offsets } in delivered {
        for offset in offsets.clone() {
            let one = group_by::group([values[*source][offset].as_slice()]);
            let (Some((time, _)), Some((minute, product))) = (one.span, one.counts.first_key_value()) else { continue };
            let product = product.keys().next().expect("a click is on a product");
            if time < now - max_event_age || time > now + 5 * MINUTE {
                continue;
            }
            let last_offset = last_offsets.entry((*source, *minute, Shard::of(product))).or_insert(-1);
            if offset as i64 > *last_offset {
                *last_offset = offset as i64;
                *counts.entry(*minute).or_default().entry(product.clone()).or_default() += 1;
            }
        }
    }
    counts
}

#[test]
fn with_a_moving_clock_each_click_counts_by_its_age_at_delivery() {
    check(streams(MOVING_MINUTES, 12), |stream| {
        let function = Function::new(&[("MAX_EVENT_AGE", "30m")]);
        let values = stream.values(&function);
        let delivered = stream.deliver(&function, &values);
        let expected = counts_at(&values, &delivered, 30 * MINUTE);
        prop_assert_eq!(function.counts_of(MOVING_MINUTES.iter().copied()), expected);
        Ok(())
    });
}

#[test]
fn a_redelivered_batch_changes_no_count_and_new_records_are_counted() {
    let function = Function::new(&[]);
    let values: Vec<_> = (0..15).map(|number| function.click(0, &format!("p{}", number % 3))).collect();
    assert_eq!(function.deliver("clicks-0", 40, &values[..10]).counted, 10);
    let before = function.items(1);

    let again = function.deliver("clicks-0", 40, &values[..10]);
    assert_eq!((again.counted, again.already_counted), (0, 10));
    assert_eq!(again.offset_fallback, 9, "from 49 to 40");
    assert_eq!(function.items(1), before, "no attribute changed");

    // A larger batch with other boundaries: the condition fails, and the returned item shows which records are new.
    let grown = function.deliver("clicks-0", 45, &values[5..]);
    assert_eq!((grown.counted, grown.already_counted), (5, 5));
    assert_eq!(function.counts(1), group_by::group(values.iter().map(Vec::as_slice)).counts);
}

#[test]
fn clicks_that_were_skipped_are_reported_as_counted_and_can_be_counted_by_a_new_instance_without_their_items() {
    let function = Function::new(&[]);
    let values: Vec<_> = (0..20).map(|_| function.click(0, "p1")).collect();
    // The group is moved forward over ten clicks, and back after the next ten.
    assert_eq!(function.deliver("clicks-0", 20, &values[10..]).counted, 10);
    let back = function.deliver("clicks-0", 10, &values);
    assert_eq!((back.counted, back.already_counted, back.offset_fallback), (0, 20, 19));

    // "Count minutes again" in docs/operations.md.
    for item in function.items(1).values() {
        let table = TableNames::of(DEFAULT_STACK).counters;
        let delete = function.client.delete_item().table_name(table);
        let delete = delete.key("bucket", item["bucket"].clone()).key("source", item["source"].clone());
        DYNAMODB.0.block_on(delete.send()).expect("an item can be deleted");
    }
    assert_eq!(function.another_instance().deliver("clicks-0", 10, &values).counted, 20);
    assert_eq!(function.counts(1), group_by::group(values.iter().map(Vec::as_slice)).counts);
}

#[test]
fn an_item_has_the_documented_layout() {
    let function = Function::new(&[("SOURCE_EPOCH", "2")]);
    function.deliver("clicks-0", 7, &[function.click(0, "p1"), function.click(0, "p1")]);
    let items = function.items(1);
    let (key, item) = items.first_key_value().expect("an item");
    assert!(key.ends_with("#0 clicks-0@2"), "{key}");
    let mut names: Vec<_> = item.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["#p1", "bucket", "closed", "expires_at", "last_offset", "source"]);
    assert_eq!((number(item, "#p1"), number(item, "last_offset")), (2, 8));
    assert_eq!(number(item, "expires_at"), (function.start + MINUTE) / 1000 + 26 * 3600);
}

#[test]
fn a_table_with_another_layout_is_neither_written_nor_read() {
    let run = &DYNAMODB.0;
    let dynamodb = run.block_on(Embedded::start(0, None)).expect("DynamoDB starts");
    let (client, table) = (dynamodb.client(), TableNames::of(DEFAULT_STACK).counters);
    let function = Function { client: client.clone(), ..Function::new(&[]) }.another_instance();
    let counters = CountersTable::new(client.clone(), table.clone());
    assert_eq!(run.block_on(counters.check_layout()).expect("nothing was written"), None);
    let values = [function.click(0, "p1")];
    function.deliver("clicks-0", 0, &values);
    let marked = run.block_on(counters.check_layout()).expect("the function has marked the table");
    assert_eq!(marked, Some(function.clock.now()));
    run.block_on(counters.claim_layout(UnixMillis(1))).expect("the same layout");
    assert_eq!(run.block_on(counters.check_layout()).expect("the same layout"), marked, "the first time stays");

    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mark = client.put_item().table_name(table).item("bucket", text("layout")).item("source", text("-"));
    run.block_on(mark.item("version", AttributeValue::N("999".to_owned())).send()).expect("a put");
    let refused = run.block_on(counters.check_layout()).expect_err("another layout").to_string();
    assert!(refused.contains("has counters of layout 999, and this program has layout 2"), "{refused}");
    let (summary, result) = function.another_instance().try_deliver(&[("clicks-0", 1, &values)]);
    let refused = result.expect_err("another layout").to_string();
    assert!(refused.contains("has counters of layout 999"), "{refused}");
    assert_eq!(summary.counted, 0);
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
fn a_full_item_is_closed_and_counting_continues_in_the_next() {
    let function = Function::new(&[]);
    // About 1,560 ids of 256 bytes fill an item. Each batch is one update by a new instance, which does not know the item's
    // size and so does not close it.
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
    assert_eq!(closed, [true, true, false], "closed before the next item was created");
    let last: Vec<_> = chain.iter().map(|(_, item)| number(item, "last_offset")).collect();
    assert!(last.is_sorted() && last[2] == 3_599, "{last:?}");

    // The first item must not accept what the overflow items counted: redeliver everything with other boundaries.
    let before = function.items(1);
    for (number, chunk) in values.chunks(700).enumerate() {
        let summary = function.deliver("clicks-0", number as i64 * 700, chunk);
        assert_eq!((summary.counted, summary.already_counted), (0, chunk.len() as u64));
    }
    assert_eq!(function.items(1), before);
}

#[test]
fn the_next_update_of_a_large_item_closes_it() {
    let function = Function::new(&[]);
    // 200 of them are about 8 KB.
    let products = products_of_one_shard(1_400, 36);
    let values: Vec<_> = products.iter().map(|product| function.click(0, product)).collect();
    let expected = group_by::group(values.iter().map(Vec::as_slice)).counts;
    let first = function.deliver("clicks-0", 0, &values[..1_000]);
    assert_eq!((first.counted, first.updates), (1_000, 5), "closing needs no extra write");
    let chain = |function: &Function| -> Vec<_> {
        let closed = |item: &HashMap<String, AttributeValue>| *item["closed"].as_bool().expect("a mark");
        function.items(1).values().map(|item| (number(item, "last_offset"), closed(item))).collect()
    };
    assert_eq!(chain(&function), [(399, true), (799, true), (999, false)]);

    // The function remembers the chain: no update is refused, and the open item of 200 products takes one more.
    let second = function.deliver("clicks-0", 1_000, &values[1_000..]);
    assert_eq!((second.counted, second.updates), (400, 2));
    assert_eq!(chain(&function), [(399, true), (799, true), (1_199, true), (1_399, false)]);
    assert!(second.largest_item_kb.is_some_and(|kb| (16..20).contains(&kb)), "{second:?}");
    assert_eq!(function.counts(1), expected);

    // A new instance learns the chain from refusals, one per item, and counts nothing twice.
    let again = function.another_instance().deliver("clicks-0", 500, &values[500..]);
    assert_eq!((again.counted, again.already_counted, again.updates), (0, 900, 4));
    let again = function.deliver("clicks-0", 0, &values);
    assert_eq!((again.counted, again.already_counted, again.updates), (0, 1_400, 0), "it remembers all of it");
    assert_eq!(function.counts(1), expected);
}

#[test]
fn a_closed_item_refuses_clicks_that_would_fit() {
    let function = Function::new(&[]);
    let products = products_of_one_shard(500, 256);
    let values: Vec<_> = products.iter().map(|product| function.click(0, product)).collect();
    function.deliver("clicks-0", 0, &values);
    // A click on a product of the closed item would not increase its size.
    let summary = function.another_instance().deliver("clicks-0", 500, &[values[0].clone()]);
    assert_eq!(summary.counted, 1);
    let items = function.items(1);
    let item = |name: &str| items.iter().find(|(key, _)| key.ends_with(name)).expect("the item").1;
    let counter = format!("#{}", products[0]);
    assert_eq!((number(item("clicks-0"), &counter), number(item("clicks-0+1"), &counter)), (1, 1));
}

#[test]
fn rejected_records_are_stored_once_per_source_and_batch() {
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
    let offsets = item["offsets"].as_m().expect("a map");
    for (reason, offset) in [("not_json", "102"), ("event_time_in_future", "105"), ("empty_product_id", "106")] {
        assert_eq!(offsets[reason].as_l().expect("a list"), &[AttributeValue::N(offset.to_owned())]);
    }
    let samples = item["samples"].as_l().expect("a list");
    assert_eq!(samples[0].as_m().expect("a map")["content"].as_s().expect("a text"), "broken_json");
    assert!(!format!("{item:?}").contains("u_7"), "{item:?}");
    assert_eq!(number(item, "expires_at"), function.clock.now().epoch_seconds() + 14 * 24 * 3600);

    function.clock.set(UnixMillis(function.clock.now().0 + 1_000));
    function.deliver(&source, 100, &values);
    assert_eq!(read(), items, "a redelivery changes nothing");
    function.deliver(&source, 101, &values[1..4]);
    assert_eq!(read(), items, "nor does a shorter batch");
}

/// Redeliveries begin and end anywhere, and the clock moves: a record can be rejected in one and valid in another.
#[test]
fn every_rejected_record_is_noted_however_its_batches_are_cut() {
    let function = Function::new(&[]);
    let source = format!("cuts{}-3", function.start);
    let table = TableNames::of(DEFAULT_STACK).rejects;
    let query = || {
        let query = function
            .client
            .query()
            .table_name(&table)
            .key_condition_expression("#s = :s")
            .expression_attribute_names("#s", "source")
            .expression_attribute_values(":s", AttributeValue::S(source.clone()));
        DYNAMODB.0.block_on(query.send()).expect("a query").items.unwrap_or_default()
    };
    let noted = || {
        let mut noted = BTreeSet::new();
        for item in query() {
            let offsets = item["offsets"].as_m().expect("a map").values().flat_map(|list| list.as_l().expect("a list"));
            let offsets: Vec<i64> =
                offsets.map(|offset| offset.as_n().expect("a number").parse().expect("an offset")).collect();
            assert_eq!(offsets.len() as i64, number(&item, "rejected"));
            assert_eq!(offsets.iter().min(), Some(&number(&item, "first_offset")));
            noted.extend(offsets);
        }
        noted
    };
    let bad = || b"no JSON".to_vec();
    let good = || function.click(0, "p1");
    let early = || event(function.start + 11 * MINUTE, "p1", "click");

    // As many rejected records from the same first offset, but others.
    function.deliver(&source, 100, &[bad(), early(), good(), bad()]);
    assert_eq!(noted(), [100, 101, 103].into());
    function.clock.set(UnixMillis(function.start + 7 * MINUTE));
    function.deliver(&source, 100, &[bad(), early(), good(), bad(), bad()]);
    assert_eq!(noted(), [100, 101, 103, 104].into());
    assert_eq!(query().len(), 1);
    // Fewer of them, with one that is new.
    function.deliver(&source, 103, &[bad(), bad(), bad()]);
    function.deliver(&source, 100, &[bad(), good(), good(), good(), good(), good(), bad()]);
    let all: BTreeSet<i64> = [100, 101, 103, 104, 105, 106].into();
    assert_eq!(noted(), all);

    // An item of another version stays as it is, and hides no record.
    let item = HashMap::from([
        ("source".to_owned(), AttributeValue::S(source.clone())),
        ("first_offset".to_owned(), AttributeValue::N("200".to_owned())),
        ("rejected".to_owned(), AttributeValue::N("3".to_owned())),
        ("offsets".to_owned(), AttributeValue::L(vec![AttributeValue::N("200".to_owned())])),
    ]);
    let put = function.client.put_item().table_name(&table).set_item(Some(item.clone()));
    DYNAMODB.0.block_on(put.send()).expect("an item");
    let before = query();
    for _ in 0..2 {
        function.deliver(&source, 200, &[bad(), bad(), bad()]);
        let mut after = query();
        let other = after.iter().position(|found| *found == item).expect("the other version's item");
        after.remove(other);
        let ours = after.iter().position(|found| number(found, "first_offset") == 201).expect("an item of our own");
        assert_eq!(number(&after[ours], "rejected"), 2);
        assert_eq!(after.len(), before.len());
    }
}

#[test]
fn concurrent_deliveries_and_full_items_lose_no_rejected_record() {
    let function = Function::new(&[]);
    let table = RejectsTable::new(function.client.clone(), TableNames::of(DEFAULT_STACK).rejects);
    let source = TopicPartition::new(&format!("concurrent{}-0", function.start), None);
    let rejects = |offsets: &mut dyn Iterator<Item = i64>| {
        let mut rejects = BatchRejects::default();
        offsets.for_each(|offset| rejects.push(offset, Reason::NotJson, Some(b"x"), &EventShape::default()));
        rejects
    };
    let put = async |rejects: BatchRejects| {
        let now = function.clock.now();
        table.put(&source, &rejects, now, Duration::from_hours(1)).await.expect("the rejects are stored")
    };
    let items = async || {
        let mut items: Vec<(i64, BTreeSet<i64>)> = Vec::new();
        let each = |page: RejectsPage| {
            let ours = page.batches.into_iter().filter(|batch| batch.source == source.as_str());
            items.extend(ours.map(|batch| (batch.first_offset, batch.offsets.into_values().flatten().collect())));
            ControlFlow::Continue(())
        };
        table.since(UnixMillis(0), each).await.expect("the table is read");
        items.sort();
        items
    };
    DYNAMODB.0.block_on(async {
        // Eight batches begin with the same record, and each has others.
        let batches = (1..=8).map(|number| put(rejects(&mut [0].into_iter().chain((number..1_000).step_by(8)))));
        assert!(join_all(batches).await.into_iter().all(|write_units| write_units > 0));
        assert_eq!(items().await, [(0, (0..1_000).collect())]);
        // An item takes as many as Lambda's largest batch has. The rest is in items of its own.
        let many = || rejects(&mut (0..25_000));
        put(many()).await;
        let all = vec![
            (0, (0..10_000).collect()),
            (10_000, (10_000..20_000).collect()),
            (20_000, (20_000..25_000).collect()),
        ];
        assert_eq!(items().await, all);
        assert_eq!(put(many()).await, 0, "nothing is written twice");
        assert_eq!(items().await, all);
    });
}

#[test]
fn a_record_of_an_expired_minute_is_stale_and_creates_no_item() {
    let function = Function::new(&[("MAX_EVENT_AGE", "1h"), ("RETENTION", "3h")]);
    let values = [event(function.start - 120 * MINUTE, "p1", "click"), function.click(0, "p1")];
    let summary = function.deliver("clicks-0", 0, &values);
    assert_eq!((summary.counted, summary.stale), (1, 1));
    assert_eq!(function.items(1).len(), 1);
    assert!(function.items_of([-120]).is_empty(), "no item in the stale record's minute");
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
        "out of time: the batch will be redelivered, 0 of 1 items are done"
    );
    assert!(function.items(1).is_empty());
}

#[test]
fn an_invalid_item_fails_the_batch_instead_of_looping() {
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
    assert!(error.to_string().contains("is open and has not counted the update that it refused"), "{error}");
}
