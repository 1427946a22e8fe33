//! The same scenarios on two engines: the embedded DynamoDB, which all other tests use, and DynamoDB Local by AWS.
//!
//! Known differences between them, and from DynamoDB as documented by AWS:
//! - Both ignore the limit of 300 operators: they accept larger updates. `MAX_PRODUCTS_PER_UPDATE` follows the documentation.
//! - DynamoDB Local deletes items by TTL within seconds after they expire (except those that expired more than five years ago,
//!   like AWS); the embedded engine never does. So events for DynamoDB Local must be younger than `RETENTION`: it would delete
//!   the counters of older ones during a replay.
//! - The embedded engine starts some error messages with `1 validation error detected: `.
//!
//! Consumed capacity, the limits of 400 KB and 4 KB, and the item that a failed condition returns are equal:
//! [`the_engines_agree_on_limits_capacity_and_refusals`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure},
};
use count_clicks::{CountClicks, CountSettings, CountSummary};
use hot_products::{
    Bucket, Clock, ItemKey, ManualClock, Minute, Shard, SystemClock, TopicPartition, UnixMillis, Window,
    protocol::{CounterUpdate, Update, UpdateOutcome},
    settings::Settings,
    store::CountersTable,
};
use hot_products_tests::{
    group_by,
    parts::{DynamoDbLocal, counted, run},
    process::hot,
};
use local_aws::{embedded::Embedded, msk, template::TableNames};
use rank_products::{RankProducts, RankSettings, Request};
use serde_json::{Value, json};

/// The stack whose tables the scenarios use.
const STACK: &str = "real";

/// The tables of `hot tables`, and the functions with a fixed clock.
struct Shop {
    endpoint: String,
    client: Client,
    tables: TableNames,
    clock: Arc<ManualClock>,
    count_settings: CountSettings,
    count_clicks: CountClicks,
    rank_products: RankProducts,
}

impl Shop {
    fn open(endpoint: String, client: Client) -> Self {
        let create = || run(&mut hot(["tables", "--endpoint-url", &endpoint, "--stack", STACK]));
        assert_eq!(create().matches("created real-").count(), 3);
        assert_eq!(create().matches("existing real-").count(), 3, "existing tables are not changed");
        let tables = TableNames::of(STACK);
        let settings = Settings::from([
            ("COUNTERS_TABLE", &tables.counters),
            ("REJECTS_TABLE", &tables.rejects),
            ("SNAPSHOTS_TABLE", &tables.snapshots),
        ]);
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let count_settings = CountSettings::read(&settings).unwrap();
        let rank_settings = RankSettings::read(&settings).unwrap();
        Self {
            count_clicks: CountClicks::new(client.clone(), count_settings.clone(), clock.clone()),
            count_settings,
            rank_products: RankProducts::new(client.clone(), rank_settings, clock.clone()),
            endpoint,
            client,
            tables,
            clock,
        }
    }

    /// Delivers the lines of `source` from `first` on. Offsets are the lines' positions.
    async fn deliver(&self, source: &str, lines: &[Vec<u8>], first: usize) -> CountSummary {
        self.deliver_to(&self.count_clicks, source, lines, first).await
    }

    /// Another instance of the function, with an empty cache.
    fn another_instance(&self) -> CountClicks {
        CountClicks::new(self.client.clone(), self.count_settings.clone(), self.clock.clone())
    }

    async fn deliver_to(&self, function: &CountClicks, source: &str, lines: &[Vec<u8>], first: usize) -> CountSummary {
        let now = self.clock.now();
        let (topic, partition) = source.rsplit_once('-').unwrap();
        let records = (first as i64..)
            .zip(&lines[first..])
            .map(|(offset, line)| {
                msk::record(
                    msk::Position { topic, partition: partition.parse().unwrap(), offset },
                    now,
                    None,
                    Some(line),
                )
            })
            .collect();
        let event = msk::event(HashMap::from([(source.to_owned(), records)]));
        let event = serde_json::to_string(&event).unwrap();
        let (summary, result) = function.handle(&event, now.plus(Duration::from_mins(1))).await;
        result.unwrap();
        summary
    }

    async fn item(&self, key: ItemKey<'_>) -> Option<HashMap<String, AttributeValue>> {
        let call = self.client.get_item().table_name(&self.tables.counters).consistent_read(true);
        let call = call.key("bucket", AttributeValue::S(key.bucket.to_string()));
        call.key("source", AttributeValue::S(key.sort_key())).send().await.unwrap().item
    }

    async fn scenarios(&self) {
        self.count_clicks.connect().await.unwrap();
        self.rank_products.connect().await.unwrap();
        let mut produced: Vec<Vec<u8>> = Vec::new();
        for lines in [
            self.a_batch_and_its_redelivery_count_once().await,
            self.many_products_are_split_and_count_once().await,
            self.a_full_item_is_continued_and_counts_once().await,
        ] {
            produced.extend(lines);
        }
        self.a_piece_that_is_counted_is_refused_with_its_item().await;
        self.rejects_are_stored_once().await;
        // Last, because it ranks the clicks of all others.
        let groups = group_by::group(produced.iter().map(Vec::as_slice));
        assert_eq!(counted(&self.client, &self.tables.counters).await, groups.counts);
        self.the_hour_is_ranked_and_shown(&groups.counts).await;
    }

    /// The start of the minute `ago` minutes ago.
    fn minute(&self, ago: u64) -> Minute {
        Minute::of(self.clock.now().minus(Duration::from_mins(ago)))
    }

    /// A delivery, a redelivery, and a larger batch with other boundaries: each click is counted once.
    async fn a_batch_and_its_redelivery_count_once(&self) -> Vec<Vec<u8>> {
        let start = self.minute(20).start();
        let lines: Vec<_> =
            (0..600).map(|n| click(start.plus(Duration::from_millis(n * 500)), &format!("p{}", n * n % 37))).collect();
        let summary = self.deliver("clicks-0", &lines[..400], 0).await;
        assert_eq!((summary.counted, summary.already_counted), (400, 0));
        assert!(summary.write_units >= summary.updates, "{summary:?}");
        let again = self.deliver("clicks-0", &lines[..400], 0).await;
        assert_eq!((again.counted, again.already_counted), (0, 400));
        let grown = self.deliver("clicks-0", &lines, 150).await;
        assert_eq!((grown.counted, grown.already_counted), (200, 250));
        lines
    }

    /// More products than fit in one update: several updates in offset order.
    async fn many_products_are_split_and_count_once(&self) -> Vec<Vec<u8>> {
        let start = self.minute(15).start();
        let products = products_of_a_shard(450, 20);
        let lines: Vec<_> = products.iter().map(|product| click(start, product)).collect();
        let first = self.deliver("clicks-1", &lines[..250], 0).await;
        assert_eq!((first.counted, first.updates), (250, 2));
        // The first update is refused. The second has the 200 products after last_offset.
        let all = self.deliver("clicks-1", &lines, 0).await;
        assert_eq!((all.counted, all.already_counted), (200, 250));
        lines
    }

    /// An update closes a large item, and a separate write closes an item of 400 KB. Counting continues in the next item.
    async fn a_full_item_is_continued_and_counts_once(&self) -> Vec<Vec<u8>> {
        let start = self.minute(10).start();
        let products = products_of_a_shard(2_500, 250);
        let lines: Vec<_> = products.iter().map(|product| click(start, product)).collect();
        // Batches of one update, each by a new instance, which does not know the item's size.
        for first in (0..2_000).step_by(200) {
            let summary = self.deliver_to(&self.another_instance(), "clicks-2", &lines[..first + 200], first).await;
            assert_eq!((summary.counted, summary.already_counted), (200, 0));
        }
        let summary = self.deliver("clicks-2", &lines, 2_000).await;
        assert_eq!((summary.counted, summary.already_counted), (500, 0));
        let source = TopicPartition::new("clicks-2", None);
        let first = ItemKey::first(Bucket::of(self.minute(10), &products[0], &source), &source);
        let chain = [first, first.next(), first.next().next()];
        let mut counters = 0;
        for (key, closed) in chain.into_iter().zip([true, true, false]) {
            let item = self.item(key).await.unwrap();
            assert_eq!(item["closed"], AttributeValue::Bool(closed), "{key}");
            counters += item.len() - 5;
        }
        assert_eq!(counters, 2_500, "each counter is in one of them");
        for first in [0, 700, 1_499, 2_499] {
            for instance in [&self.count_clicks, &self.another_instance()] {
                let again = self.deliver_to(instance, "clicks-2", &lines, first).await;
                assert_eq!((again.counted, again.already_counted), (0, 2_500 - first as u64), "from {first}");
            }
        }
        lines
    }

    /// A refusal returns the item's last offset and whether it is closed.
    async fn a_piece_that_is_counted_is_refused_with_its_item(&self) {
        let table = CountersTable::new(self.client.clone(), self.tables.counters.clone());
        let retention = Duration::from_hours(26);
        let source = TopicPartition::new("clicks-2", None);
        let product = products_of_a_shard(1, 250).remove(0);
        let bucket = Bucket::of(self.minute(10), &product, &source);
        let update = |first, last| {
            let counts = CounterUpdate { first, last, clicks: 1, counts: vec![(0, 1)] };
            Update { overflow: 0, counts, closes: false }
        };
        let key = ItemKey::first(bucket, &source);
        let Ok(UpdateOutcome::Refused { last_offset, closed }) =
            table.update(key, &update(9_000, 9_000), |_| &product, retention).await
        else {
            panic!("a closed item refuses every update")
        };
        assert!(closed && (1_000..2_500).contains(&last_offset), "{last_offset}");
        let refused = table.update(key.next().next(), &update(2_499, 2_600), |_| &product, retention).await.unwrap();
        assert_eq!(refused, UpdateOutcome::Refused { last_offset: 2_499, closed: false });
        assert_eq!(table.close(key).await.unwrap(), last_offset, "closing twice changes nothing");
    }

    /// One item per batch, unchanged by a redelivery, without user data.
    async fn rejects_are_stored_once(&self) {
        let now = self.clock.now();
        let broken = [
            b"{".to_vec(),
            b"\xff\xfe".to_vec(),
            br#"{"event_time":"now","product_id":"p1","action":"click","user_id":"u_secret"}"#.to_vec(),
            click(now.plus(Duration::from_hours(1)), "p1"),
            Vec::new(),
        ];
        for _ in 0..2 {
            let summary = self.deliver("clicks-3", &broken, 0).await;
            assert_eq!((summary.counted, summary.rejected), (0, 5));
        }
        let items = self.client.scan().table_name(&self.tables.rejects).send().await.unwrap().items.unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0]["rejected"], AttributeValue::N("5".to_owned()));
        let offsets = items[0]["offsets"].as_m().unwrap().values().map(|list| list.as_l().unwrap().len());
        assert_eq!(offsets.sum::<usize>(), 5);
        assert!(!format!("{items:?}").contains("u_secret"));
    }

    /// The ranks of the last hour equal an independent group-by, and `hot top` shows them.
    async fn the_hour_is_ranked_and_shown(&self, counts: &group_by::Counts) {
        let window = Window::ended_by(self.clock.now());
        let request = Request { window_end: Some(window.end().to_string()), scheduled_time: None };
        let first = self.rank_products.handle(&request, UnixMillis(i64::MAX)).await.unwrap();
        let summary = &first.summary;
        assert!(summary.written && summary.items > 0 && summary.read_units > 0.0, "{summary:?}");
        let again = self.rank_products.handle(&request, UnixMillis(i64::MAX)).await.unwrap();
        assert!(!again.summary.written, "a second run at the same instant is not newer");
        assert_eq!(again.snapshot, first.snapshot, "it returns the snapshot that was kept");
        let top = ["top", "--endpoint-url", &self.endpoint, "--stack", STACK, "--json"];
        let shown: Value = serde_json::from_str(&run(&mut hot(top))).unwrap();
        let (clicks, products, places) = group_by::hour(counts, window.end().0, 100);
        assert_eq!(shown["total_clicks"], clicks);
        assert_eq!(shown["distinct_products"], products);
        let ranked: Vec<_> = shown["products"].as_array().unwrap().iter().map(place).collect();
        assert_eq!(ranked, places.iter().map(|(rank, id, clicks, _)| (*rank, id.clone(), *clicks)).collect::<Vec<_>>());
    }
}

fn place(product: &Value) -> (u64, String, u64) {
    let number = |name: &str| product[name].as_u64().unwrap();
    (number("rank"), product["product_id"].as_str().unwrap().to_owned(), number("clicks"))
}

fn click(time: UnixMillis, product: &str) -> Vec<u8> {
    json!({ "event_time": time.0, "product_id": product, "action": "click", "user_id": "u_1" }).to_string().into_bytes()
}

/// `count` product ids of `bytes` bytes, all on one shard.
fn products_of_a_shard(count: usize, bytes: usize) -> Vec<String> {
    let ids = (0_u32..).map(|number| format!("{number:x<bytes$}"));
    ids.filter(|id| Shard::all().next() == Some(Shard::of(id))).take(count).collect()
}

#[tokio::test]
async fn all_scenarios_pass_on_dynamodb_local() {
    let dynamodb = DynamoDbLocal::start();
    Shop::open(dynamodb.endpoint(), dynamodb.client()).scenarios().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_scenarios_pass_on_the_embedded_engine() {
    let dynamodb = Embedded::start(0, None).await.unwrap();
    Shop::open(dynamodb.endpoint(), dynamodb.client()).scenarios().await;
}

/// An engine's responses to updates at DynamoDB's limits, by probe.
async fn limits(client: &Client) -> BTreeMap<&'static str, String> {
    let table = &TableNames::of(STACK).counters;
    // `products` counters with names of `bytes` bytes, numbered from `from`.
    let update = |key: &str, from: usize, products: usize, bytes: usize| {
        let places: Vec<_> = (0..products).map(|n| format!("#{n} :v")).collect();
        let names = (0..products).map(|n| (format!("#{n}"), format!("{:x<bytes$}", from + n)));
        client
            .update_item()
            .table_name(table)
            .key("bucket", AttributeValue::S("limits".to_owned()))
            .key("source", AttributeValue::S(key.to_owned()))
            .update_expression(format!("ADD {}", places.join(",")))
            .set_expression_attribute_names(Some(names.collect()))
            .expression_attribute_values(":v", AttributeValue::N("1".to_owned()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    };
    let mut outcomes = BTreeMap::new();
    for (probe, key, from, products, bytes) in [
        ("200 products in a new item", "a", 0, 200, 36),
        ("the same again", "a", 0, 200, 36),
        ("200 more", "a", 200, 200, 36),
        ("an expression of 301 actions", "b", 0, 301, 36),
        ("an expression above 4 KB", "c", 0, 600, 36),
        ("a new item of 300 KB", "d", 0, 150, 2_000),
        ("300 KB that grow above 400", "d", 150, 100, 2_000),
        ("a new item above 400 KB", "e", 0, 200, 2_100),
        ("a key that is empty", "", 0, 1, 36),
    ] {
        let outcome = match update(key, from, products, bytes).send().await {
            Ok(output) => format!("{} units", output.consumed_capacity().unwrap().capacity_units().unwrap()),
            Err(error) => format!("{}: {}", error.code().unwrap_or_default(), error.message().unwrap_or_default()),
        };
        outcomes.insert(probe, outcome);
    }
    let refused = update("a", 0, 1, 36)
        .condition_expression("attribute_not_exists(#0)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await;
    let error = refused.unwrap_err().into_service_error();
    let item = match &error {
        aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(failed) => {
            failed.item()
        }
        other => panic!("{other:?}"),
    };
    outcomes.insert("a condition that fails", format!("{} attributes", item.unwrap().len()));
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_agree_on_limits_capacity_and_refusals() {
    let local = DynamoDbLocal::start();
    let embedded = Embedded::start(0, None).await.unwrap();
    let local = limits(&Shop::open(local.endpoint(), local.client()).client).await;
    let embedded = limits(&Shop::open(embedded.endpoint(), embedded.client()).client).await;
    let plain = |text: &String| text.replace("1 validation error detected: ", "");
    let differing: BTreeSet<_> = local.iter().filter(|(probe, said)| plain(said) != plain(&embedded[*probe])).collect();
    assert!(differing.is_empty(), "DynamoDB Local responds {differing:#?}, the embedded engine {embedded:#?}");
    assert_eq!(
        local["300 KB that grow above 400"],
        "ValidationException: Item size to update has exceeded the maximum allowed size"
    );
    assert!(local["an expression above 4 KB"].contains("Expression size has exceeded"), "{local:#?}");
    assert!(local["an expression of 301 actions"].ends_with("units"), "neither counts operators: {local:#?}");
}
