//! The read API as `hot board` serves it, over tables that the real functions have filled.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use count_clicks::{CountClicks, CountSettings};
use hot_products::{
    ManualClock, Minute, Snapshot, SystemClock, TopicPartition, UnixMillis, Window,
    ranking::{RankedWindow, Ranking, RankingContext, ShardCounters},
    settings::Settings,
    snapshot::{BOARD, MAX_MINUTES_PRODUCTS, MAX_TOP_N, MINUTES_BOARD},
    store::{CountersTable, PutOutcome, SnapshotRange, SnapshotsTable},
    time::bound,
};
use hot_products_tests::{
    http::{Answer, get, request},
    process::{HotDynamoDb, HotServer, hot, schemathesis},
    repository,
};
use hyper::{Method, StatusCode};
use lambda_http::{Adapter, Context, LambdaEvent, Service, request::LambdaRequest};
use local_aws::{
    embedded::Embedded,
    msk,
    serve::{listen, serve},
    tables::create,
    template::{self, DEFAULT_STACK, TEMPLATE, TableNames},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rank_products::{RankProducts, RankSettings, Request};
use read_board::{Board, Caching, router};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// 2022-12-27T17:00:00Z.
const START: UnixMillis = UnixMillis(1_672_160_400_000);
const MINUTES: i64 = 75;
/// From this minute on, one of the partitions has no clicks.
const SILENT_FROM: i64 = 60;

/// The largest response that Lambda takes from a function, in bytes (AWS Lambda Developer Guide, "Lambda quotas": 6 MB).
const LAMBDA_PAYLOAD: usize = 6 << 20;

/// Ids that are as good as any other.
const ODD_IDS: [&str; 10] = [
    "shoes/42",
    "a/clicks",
    "/",
    "caffè ☕ \"doppio\" #1",
    "50% off?x=1&y=2",
    "%2F",
    "+ +",
    "\\..\\<script>",
    "\u{0}\u{1f}\u{202e}",
    "last_offset",
];

/// A shop that has been open for a while, and its board.
struct Shop {
    embedded: Embedded,
    board: HotServer,
    /// What was clicked: product by minute of the shop's time.
    clicks: Vec<(i64, String)>,
    /// Which topic partition had a click in which minute of the shop's time, in order.
    partitions: Vec<(i64, String)>,
}

impl Shop {
    /// Has the real functions count and rank, every five minutes.
    async fn open() -> Self {
        let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
        let tables = TableNames::of(DEFAULT_STACK);
        let settings = Settings::from([
            ("COUNTERS_TABLE", &tables.counters),
            ("REJECTS_TABLE", &tables.rejects),
            ("SNAPSHOTS_TABLE", &tables.snapshots),
        ]);
        let clock = Arc::new(ManualClock::at(START));
        let count = CountSettings::read(&settings).expect("settings");
        let rank = RankSettings::read(&settings).expect("settings");
        let count_clicks = CountClicks::new(embedded.client(), count, clock.clone());
        let rank_products = RankProducts::new(embedded.client(), rank, clock.clone());

        let longest = "é".repeat(128);
        let mut clicks = Vec::new();
        for minute in 0..MINUTES {
            clicks.extend((0..=minute % 7).map(|product| (minute, format!("p{product}"))));
            clicks.push((minute, ODD_IDS[minute as usize % ODD_IDS.len()].to_owned()));
            clicks.extend((minute % 9 == 0).then(|| (minute, longest.clone())));
        }
        let mut offsets = [0; 3];
        let mut partitions = Vec::new();
        for minute in 0..MINUTES {
            let mut records: HashMap<String, Vec<_>> = HashMap::new();
            let now = START.plus(Duration::from_mins(minute as u64));
            for (number, (_, product)) in clicks.iter().filter(|(of, _)| *of == minute).enumerate() {
                // Over several partitions, so that a product has clicks from several sources.
                let open = if minute < SILENT_FROM { offsets.len() } else { offsets.len() - 1 };
                let partition = (number + minute as usize) % open;
                partitions.push((minute, format!("clicks-{partition}")));
                let value = json!({"event_time": now.0 + number as i64, "product_id": product, "action": "click"});
                let value = value.to_string();
                let record = msk::record(
                    msk::Position { topic: "clicks", partition: partition as u32, offset: offsets[partition] },
                    now,
                    None,
                    Some(value.as_bytes()),
                );
                offsets[partition] += 1;
                records.entry(format!("clicks-{partition}")).or_default().push(record);
            }
            let now = START.plus(Duration::from_mins(minute as u64 + 1));
            clock.set(now.plus(Duration::from_mins(1)));
            let event = serde_json::to_string(&msk::event(records)).expect("an event is JSON");
            let (_, result) = count_clicks.handle(&event, clock_deadline(now)).await;
            result.expect("the batch is counted");
            if Window::ended_by(now).end() == now {
                let request = Request { window_end: Some(now.to_string()), scheduled_time: None };
                rank_products.handle(&request, UnixMillis(i64::MAX)).await.expect("the window is ranked");
            }
        }
        let board = HotServer::start("board", &["--endpoint-url", &embedded.endpoint()]);
        Self { embedded, board, clicks, partitions }
    }

    async fn get(&self, path: &str) -> Answer {
        get(&format!("{}{path}", self.board.url())).await
    }

    /// What `hot top` prints.
    fn top(&self, args: &[&str]) -> Value {
        let endpoint = self.embedded.endpoint();
        let args = [&["top", "--json", "--endpoint-url", &endpoint], args].concat();
        let output = hot(args).stdin(Stdio::null()).output().expect("hot runs");
        serde_json::from_slice(&output.stdout).expect("a snapshot")
    }

    /// The clicks on `product` in each of the `minutes` up to the end of the shop's minute `end`.
    fn counts(&self, product: &str, minutes: i64, end: i64) -> Vec<u64> {
        let count = |minute| self.clicks.iter().filter(|(of, id)| *of == minute && id == product).count() as u64;
        (end - minutes..end).map(count).collect()
    }
}

fn clock_deadline(now: UnixMillis) -> UnixMillis {
    now.plus(Duration::from_mins(2))
}

fn minute(number: i64) -> String {
    bound(UnixMillis(START.0 + number * 60_000))
}

fn encoded(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

/// A record of a window, which the shop's clock must have dated a minute after its end.
fn dated(record: Value) -> Value {
    let time = |name: &str| UnixMillis::parse_rfc3339(record[name].as_str().expect("a text")).expect("RFC 3339");
    assert_eq!(time("generated_at").since(time("window_end")), Duration::from_mins(1));
    record
}

fn is_error(answer: &Answer, status: StatusCode, code: &str, words: &[&str]) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
    let body = answer.json();
    assert_eq!(body["error"]["code"], code);
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_shows_what_the_functions_have_counted() {
    let shop = Shop::open().await;
    shop.snapshots_equal_those_of_hot_top().await;
    shop.minutes_equal_a_plain_count().await;
    shop.minutes_are_those_of_the_snapshot_that_wins().await;
    shop.a_history_is_the_snapshots_of_a_range().await;
    shop.clicks_equal_a_plain_count().await;
    shop.a_known_answer_is_not_sent_again().await;
    shop.answers_can_be_cached_until_the_next_is_due().await;
    shop.errors_say_what_is_wrong().await;
    shop.the_page_and_the_document_are_served().await;
    shop.snapshots_say_whether_they_are_final_and_how_far_each_partition_is_counted().await;
    shop.board.stop();
    shop.embedded.stop().await.expect("DynamoDB stops");
}

impl Shop {
    async fn snapshots_equal_those_of_hot_top(&self) {
        let newest = self.get("/hot-products").await;
        assert_eq!((newest.status, newest.header("content-type")), (StatusCode::OK, "application/json"));
        let newest = dated(newest.json());
        assert_eq!(newest, self.top(&[]));
        assert_eq!(newest["window_end"], minute(MINUTES));
        for end in [5, 40, 75] {
            // Up to five minutes later, and in another time zone.
            let at = UnixMillis(START.0 + end * 60_000 + 299_999).utc();
            let at = at.with_timezone(&chrono::FixedOffset::east_opt(7_200).expect("a zone")).to_rfc3339();
            let past = self.get(&format!("/hot-products?at={}", encoded(&at))).await;
            assert_eq!(dated(past.json()), self.top(&["--at", &minute(end)]), "{at}");
        }
        let mut first = newest.clone();
        first["products"].as_array_mut().expect("a list").truncate(3);
        assert_eq!(self.get("/hot-products?limit=3").await.json(), first);
        assert_eq!(self.get("/hot-products?limit=1000").await.json(), newest);
    }

    async fn minutes_equal_a_plain_count(&self) {
        for end in [5, 40, MINUTES] {
            let minutes = dated(self.get(&format!("/hot-products/minutes?at={}", minute(end))).await.json());
            let snapshot = self.get(&format!("/hot-products?at={}", minute(end))).await.json();
            for field in ["window_start", "window_end", "generated_at"] {
                assert_eq!(minutes[field], snapshot[field], "{field}");
            }
            let expected: Vec<_> = snapshot["products"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|product| {
                    let id = product["product_id"].as_str().expect("an id");
                    let counts = self.counts(id, 60, end);
                    assert_eq!(counts.iter().sum::<u64>(), product["clicks"]);
                    json!({"product_id": id, "clicks_per_minute": counts})
                })
                .collect();
            assert_eq!(minutes["products"], json!(expected), "the window up to {end}");
        }
        let newest = self.get("/hot-products/minutes").await.json();
        assert_eq!(newest, self.get(&format!("/hot-products/minutes?at={}", minute(MINUTES))).await.json());
        let mut first = newest.clone();
        first["products"].as_array_mut().expect("a list").truncate(2);
        assert_eq!(self.get("/hot-products/minutes?limit=2").await.json(), first);
    }

    /// The one that read the most clicks wins, whichever ranking writes last; of those that read as many, the one that
    /// started last.
    async fn minutes_are_those_of_the_snapshot_that_wins(&self) {
        let table = SnapshotsTable::new(self.embedded.client(), TableNames::of(DEFAULT_STACK).snapshots);
        let window = Window::ended_by(UnixMillis(START.0 + 2 * MINUTES * 60_000));
        let ranked = |seconds: u64, clicks: u64| {
            let mut shard = ShardCounters::new();
            let minute = window.minutes().last().expect("a window has minutes");
            shard.add(minute, &partition(), "p1", clicks);
            rank(window, 100, &shard, window.end().plus(Duration::from_secs(seconds)), None)
        };
        for (seconds, clicks, wins) in
            [(60, 100, 100), (70, 200, 200), (80, 100, 200), (65, 200, 200), (61, 201, 201), (65, 201, 201)]
        {
            let ranked = ranked(seconds, clicks);
            let put = table.put(&ranked, Duration::from_hours(1)).await.expect("a write");
            let stored = table.get(window).await.expect("a read").expect("a snapshot");
            let minutes = table.minutes(window).await.expect("a read").expect("minutes");
            assert_eq!((stored.total_clicks, minutes.generated_at), (wins, stored.generated_at));
            assert_eq!(minutes.products[0].clicks_per_minute[59], wins);
            match put {
                PutOutcome::Written { write_units } => assert_eq!((write_units, clicks), (2, wins), "at {seconds} s"),
                PutOutcome::Kept { stored: kept } => assert_eq!(*kept, stored, "it returns the one that was kept"),
            }
        }
        for board in [BOARD, MINUTES_BOARD] {
            let key = [("board", board.to_owned()), ("window_end", bound(window.end()))];
            let key = key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
            let delete = self.embedded.client().delete_item().table_name(TableNames::of(DEFAULT_STACK).snapshots);
            delete.set_key(Some(HashMap::from(key))).send().await.expect("a delete");
        }
    }

    async fn a_history_is_the_snapshots_of_a_range(&self) {
        let query = format!("from={}&to={}&limit=4", minute(10), minute(30));
        let history = self.get(&format!("/hot-products/history?{query}")).await.json();
        assert_eq!(history.get("next"), None);
        let snapshots = history["snapshots"].as_array().expect("a list");
        let ends: Vec<_> = snapshots.iter().map(|snapshot| snapshot["window_end"].clone()).collect();
        assert_eq!(ends, [10, 15, 20, 25, 30].map(minute), "both ends belong to it");
        for (snapshot, end) in snapshots.iter().zip([10, 15, 20, 25, 30]) {
            let mut expected = self.top(&["--at", &minute(end)]);
            expected["products"].as_array_mut().expect("a list").truncate(4);
            let fields = expected.as_object_mut().expect("an object");
            for field in ["clicks_per_minute", "counted_through"] {
                fields.remove(field).expect("a snapshot has it, a history does not");
            }
            assert_eq!(dated(snapshot.clone()), expected);
        }
        for (from, to, count) in [(9, 11, 1), (11, 14, 0), (-600, 4, 0), (0, MINUTES, 15), (MINUTES, 9_000, 1)] {
            let query = format!("from={}&to={}", minute(from), minute(to));
            let history = self.get(&format!("/hot-products/history?{query}")).await.json();
            assert_eq!(history["snapshots"].as_array().expect("a list").len(), count, "{from} to {to}");
        }
        // A day back from `to`, and a day back from now, when the shop had no clicks.
        let history = self.get(&format!("/hot-products/history?to={}", minute(24 * 60 + 10))).await.json();
        assert_eq!(history["snapshots"].as_array().expect("a list").len(), 14);
        assert_eq!(self.get("/hot-products/history").await.json(), json!({"snapshots": []}));
    }

    async fn clicks_equal_a_plain_count(&self) {
        let longest = "é".repeat(128);
        for id in ODD_IDS.into_iter().chain(["p0", "p6", "nobody knows it", &longest]) {
            for (minutes, end) in [(60, MINUTES), (180, MINUTES), (7, 30), (1, 1)] {
                let query = format!("minutes={minutes}&to={}", encoded(&minute(end)));
                let answer = self.get(&format!("/products/{}/clicks?{query}", encoded(id))).await;
                let counts = self.counts(id, minutes, end);
                let expected: Vec<_> = (end - minutes..end)
                    .zip(&counts)
                    .map(|(number, clicks)| json!({"minute": minute(number), "clicks": clicks}))
                    .collect();
                assert_eq!(
                    answer.json(),
                    json!({
                        "product_id": id,
                        "from": minute(end - minutes),
                        "to": minute(end),
                        "total_clicks": counts.iter().sum::<u64>(),
                        "minutes": expected,
                    }),
                );
            }
        }
        // A slash that a gateway has decoded, and a time within a minute.
        let query = format!("to={}", UnixMillis(START.0 + 75 * 60_000 - 1));
        let answer = self.get(&format!("/products/shoes/42/clicks?{query}")).await.json();
        assert_eq!((&answer["product_id"], &answer["to"]), (&json!("shoes/42"), &json!(minute(74))));
        assert_eq!(answer["total_clicks"], self.counts("shoes/42", 60, 74).iter().sum::<u64>());
        let today = self.get("/products/p0/clicks").await.json();
        assert_eq!((&today["total_clicks"], today["minutes"].as_array().map(Vec::len)), (&json!(0), Some(60)));
    }

    async fn a_known_answer_is_not_sent_again(&self) {
        let clicks = format!("/products/p0/clicks?to={}", minute(60));
        let past = format!("/hot-products?at={}", minute(40));
        let day = format!("/hot-products/history?to={}", minute(24 * 60));
        let minutes = format!("/hot-products/minutes?at={}", minute(40));
        for (path, lifetimes) in [
            // The next snapshot has been overdue for years.
            ("/hot-products", 5..=5),
            ("/hot-products/minutes", 5..=5),
            (&minutes, 3600..=3600),
            (&past, 3600..=3600),
            (&day, 3600..=3600),
            ("/hot-products/history", 5..=5),
            (&clicks, 1..=60),
        ] {
            let answer = self.get(path).await;
            let lifetime = answer.header("cache-control").strip_prefix("private, max-age=");
            let lifetime = lifetime.unwrap_or_else(|| panic!("{path}: {answer:?}"));
            assert!(lifetimes.contains(&lifetime.parse().expect("seconds")), "{path}: {lifetime}");
        }
        for path in ["/hot-products", &past, &day, &minutes, &clicks, "/", "/board.js", "/board.css", "/openapi.json"] {
            let url = format!("{}{path}", self.board.url());
            let answer = get(&url).await;
            let tag = answer.header("etag");
            assert!(tag.starts_with('"') && tag.ends_with('"'), "{path}: a strong tag");
            let again = request(Method::GET, &url, &[("if-none-match", tag)]).await;
            assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
            assert_eq!(again.header("etag"), tag);
            assert!(!again.header("cache-control").is_empty(), "{path}");
            let other = request(Method::GET, &url, &[("if-none-match", "\"0\"")]).await;
            assert_eq!((other.status, &other.body), (StatusCode::OK, &answer.body), "{path}");
            let head = request(Method::HEAD, &url, &[]).await;
            assert_eq!((head.status, head.header("etag"), head.body.len()), (StatusCode::OK, tag, 0), "{path}");
            assert_eq!(head.header("content-length"), answer.body.len().to_string());
        }
        let [three, four] = ["?limit=3", "?limit=4"].map(|query| format!("/hot-products{query}"));
        assert_ne!(self.get(&three).await.header("etag"), self.get(&four).await.header("etag"));
    }

    /// By the shop's own clock, on a function that everybody may call.
    async fn answers_can_be_cached_until_the_next_is_due(&self) {
        let tables = TableNames::of(DEFAULT_STACK);
        let clock = Arc::new(ManualClock::at(START));
        let board = Board {
            snapshots: SnapshotsTable::new(self.embedded.client(), tables.snapshots),
            counters: CountersTable::new(self.embedded.client(), tables.counters),
            clock: clock.clone(),
            caching: Caching::Public,
            on_error: |error| panic!("{error}"),
        };
        let listener = listen(0).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _dropped = stopped.await;
        };
        let server = tokio::spawn(serve(listener, router(board, Some("/a\"&/pipeline")), stopped));
        let (past, next) = (minute(MINUTES - 5), minute(MINUTES + 5));
        // The newest snapshot was due 70 seconds after the 75th minute, and the next is due 300 seconds later.
        for (seconds, path, lifetime) in [
            (70, "/hot-products".to_owned(), 300),
            (100, "/hot-products".to_owned(), 270),
            (369, "/hot-products".to_owned(), 5),
            (100, "/hot-products/minutes".to_owned(), 270),
            (100, format!("/hot-products/minutes?at={past}"), 3600),
            (100, "/hot-products/history".to_owned(), 270),
            (100, format!("/hot-products/history?to={past}"), 3600),
            (100, format!("/hot-products/history?to={next}"), 270),
            (400, format!("/hot-products/history?to={next}"), 5),
            (100, "/products/p0/clicks".to_owned(), 20),
        ] {
            clock.set(UnixMillis(START.0 + MINUTES * 60_000 + seconds * 1000));
            let answer = get(&format!("{url}{path}")).await;
            assert_eq!(
                answer.header("cache-control"),
                format!("public, max-age={lifetime}"),
                "{path} after {seconds} s"
            );
        }
        let clicks = get(&format!("{url}/products/p0/clicks")).await.json();
        assert_eq!(clicks["to"], minute(MINUTES + 1), "only complete minutes");
        assert_eq!(clicks["total_clicks"], self.counts("p0", 60, MINUTES + 1).iter().sum::<u64>());
        let page = String::from_utf8(get(&url).await.body.to_vec()).expect("text");
        assert!(page.contains(r#"<body data-pipeline="/a&quot;&amp;/pipeline" data-step="300""#), "{page}");
        drop(stop);
        server.await.expect("it runs").expect("it serves");
    }

    async fn errors_say_what_is_wrong(&self) {
        let range = format!("/hot-products/history?from={}&to={}", minute(1), minute(0));
        let long = format!("/products/{}/clicks", "x".repeat(257));
        for (path, words) in [
            ("/hot-products?limit=0", &["limit is \"0\"", "from 1 to 1000"][..]),
            ("/hot-products?limit=1001", &["from 1 to 1000"]),
            ("/hot-products?limit=%2B5", &["limit is \"+5\""]),
            ("/hot-products?at=yesterday", &["at is \"yesterday\"", "RFC 3339"]),
            ("/hot-products/minutes?limit=101", &["from 1 to 100"]),
            ("/hot-products/minutes?minutes=5", &["limit, at"]),
            // An unencoded + is a space.
            ("/hot-products?at=2022-12-27T17:50:00+01:00", &["17:50:00 01:00", "%2B"]),
            ("/hot-products?limits=5", &["\"limits\"", "limit, at"]),
            ("/hot-products?limit=5&limit=6", &["limit is given twice"]),
            (&range, &["after to"]),
            ("/hot-products/history?limit=101", &["from 1 to 100"]),
            ("/products/p1/clicks?minutes=181", &["from 1 to 180"]),
            ("/products/p1/clicks?minutes=", &["minutes is \"\""]),
            ("/products/p1/clicks?at=2022-12-27T17:50:00Z", &["minutes, to"]),
            (&long, &["longer than 256 bytes"]),
            ("/products//clicks", &["empty"]),
            ("/products/%FF/clicks", &["UTF-8"]),
        ] {
            is_error(&self.get(path).await, StatusCode::BAD_REQUEST, "bad_request", words);
        }
        for path in ["/nothing", "/products/p1", "/products/", "/products/p1/views", "/Hot-Products", "/board.css/"] {
            is_error(&self.get(path).await, StatusCode::NOT_FOUND, "not_found", &[path, "/openapi.json"]);
        }
        let none = format!("/hot-products?at={}", minute(0));
        is_error(&self.get(&none).await, StatusCode::NOT_FOUND, "not_found", &["2022-12-27T17:00:00Z", "history"]);
        let none = format!("/hot-products/minutes?at={}", minute(0));
        is_error(&self.get(&none).await, StatusCode::NOT_FOUND, "not_found", &["2022-12-27T17:00:00Z", "history"]);
        for path in [
            "/hot-products",
            "/hot-products/history",
            "/hot-products/minutes",
            "/products/p1/clicks",
            "/",
            "/openapi.json",
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
                let answer = request(method, &format!("{}{path}", self.board.url()), &[]).await;
                is_error(&answer, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &["GET"]);
                assert_eq!(answer.header("allow"), "GET,HEAD", "{path}");
            }
        }
        // A page from another host that has pointed its own name at this machine.
        let url = format!("{}/hot-products", self.board.url());
        let answer = request(Method::GET, &url, &[("host", "rebound.example:8080")]).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
        let answer = request(Method::GET, &url, &[("host", "localhost:8080")]).await;
        assert_eq!(answer.status, StatusCode::OK);
    }

    async fn the_page_and_the_document_are_served(&self) {
        let page = self.get("/").await;
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        assert!(text.contains(r#"<body data-pipeline="" data-step="300""#), "there is no pipeline to show");
        for (path, kind) in [
            ("/board.js", "text/javascript; charset=utf-8"),
            ("/board.css", "text/css; charset=utf-8"),
            ("/openapi.json", "application/json"),
        ] {
            let answer = self.get(path).await;
            assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, kind));
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
        let document = self.get("/openapi.json").await.json();
        let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().cloned().collect();
        assert_eq!(paths, ["/hot-products", "/hot-products/history", "/hot-products/minutes", "/products/{id}/clicks"]);
    }

    async fn snapshots_say_whether_they_are_final_and_how_far_each_partition_is_counted(&self) {
        for end in [5, 40, MINUTES] {
            let snapshot = self.get(&format!("/hot-products?at={}", minute(end))).await.json();
            assert_eq!(snapshot["final"], false, "the window up to {end}");
            // The last of several pairs with one name stays.
            let counted = self.partitions.iter().filter(|(of, _)| *of < end);
            let expected: BTreeMap<_, _> = counted.map(|(of, name)| (name, minute(*of))).collect();
            assert_eq!(snapshot["counted_through"], json!(expected), "the window up to {end}");
        }
        // Readers can see that one partition has had no clicks for a quarter of an hour.
        let newest = self.get("/hot-products").await.json();
        assert_eq!(newest["counted_through"]["clicks-2"], minute(SILENT_FROM - 1));
        assert!(newest["counted_through"]["clicks-0"].as_str() > newest["counted_through"]["clicks-2"].as_str());
        assert_eq!(newest["counted_through"].as_object().map(serde_json::Map::len), Some(3));

        // A day later no click can join a window any more, and it is ranked again.
        let later = START.plus(Duration::from_mins(60 * 24 + 40 + 10));
        let tables = TableNames::of(DEFAULT_STACK);
        let settings =
            Settings::from([("COUNTERS_TABLE", tables.counters.as_str()), ("SNAPSHOTS_TABLE", &tables.snapshots)]);
        let settings = RankSettings::read(&settings).expect("settings");
        let rank_products = RankProducts::new(self.embedded.client(), settings, Arc::new(ManualClock::at(later)));
        let path = format!("/hot-products?at={}", minute(40));
        let before = self.get(&path).await.json();
        let request = Request { window_end: Some(minute(40)), scheduled_time: None };
        rank_products.handle(&request, UnixMillis(i64::MAX)).await.expect("the window is ranked");
        let after = self.get(&path).await.json();
        assert_eq!((&after["final"], &after["generated_at"]), (&true.into(), &later.rfc3339().into()));
        for field in ["products", "total_clicks", "counted_through", "clicks_per_minute"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        let history = format!("/hot-products/history?from={}&to={}", minute(35), minute(45));
        let history = self.get(&history).await.json();
        let finals: Vec<_> = history["snapshots"].as_array().expect("a list").iter().map(|one| &one["final"]).collect();
        assert_eq!(finals, [false, true, false]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_answers_as_its_document_says() {
    let shop = Shop::open().await;
    let document = format!("{}/openapi.json", shop.board.url());
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = schemathesis();
    command.arg("--config-file").arg(repository("tests/schemathesis.toml")).current_dir(folder.path());
    command.args(["run", &document, "--checks", "all", "--seed", "1", "--max-examples", "40", "--no-color"]);
    command.args(["--generation-database", "none", "--warnings", "off"]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| {
        panic!("can't start schemathesis: {error}; run the tests by `make test`, which installs it")
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Selected: 4/4") && said.contains("Tested: 4"), "{said}");
}

fn partition() -> TopicPartition {
    TopicPartition::new("clicks-0", None)
}

/// Ranks the counters of one shard.
fn rank(
    window: Window,
    top_n: usize,
    shard: &ShardCounters,
    generated_at: UnixMillis,
    previous: Option<&Snapshot>,
) -> RankedWindow {
    let mut ranking = Ranking::new(window, top_n);
    ranking.add(shard);
    ranking.finish(RankingContext { generated_at, is_final: false, previous })
}

/// Snapshots of `products` products each, whose ids are long and consist of `letter`.
async fn fill(embedded: &Embedded, stack: &str, windows: usize, (products, letter): (usize, char)) {
    let client = embedded.client();
    for table in template::tables(TEMPLATE, stack).expect("the template has tables") {
        create(&client, &table).await.expect("a table");
    }
    let table = SnapshotsTable::new(client, TableNames::of(stack).snapshots);
    let mut window = Window::ended_by(START);
    for _ in 0..windows {
        let mut counters = ShardCounters::new();
        for number in 0..products {
            let number_text = number.to_string();
            let letters = letter.to_string().repeat((256 - number_text.len()) / letter.len_utf8());
            let id = format!("{number_text}{letters}");
            counters.add(Minute::of(window.start()), &partition(), &id, 1 + number as u64);
        }
        let ranked = rank(window, products.max(1), &counters, window.end(), None);
        table.put(&ranked, Duration::from_hours(24)).await.expect("a snapshot");
        window = window.next();
    }
}

/// What the function read-board returns to Lambda for a GET request, in bytes: the HTTP response as JSON.
async fn payload(board: Board, path: &str, query: &str) -> Vec<u8> {
    let event = fs::read_to_string(repository("events/read-board.json")).expect("a sample event");
    let mut event: Value = serde_json::from_str(&event).expect("JSON");
    event["rawPath"] = path.into();
    event["requestContext"]["http"]["path"] = path.into();
    event["rawQueryString"] = query.into();
    event["queryStringParameters"] = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let request: LambdaRequest = serde_json::from_value(event).expect("a request");
    let answer = Adapter::from(router(board, None)).call(LambdaEvent::new(request, Context::default())).await;
    serde_json::to_vec(&answer.expect("the router always answers")).expect("JSON")
}

/// Checks that a payload fits, and returns the answer's body.
fn fitting(payload: &[u8]) -> Value {
    assert!(payload.len() <= LAMBDA_PAYLOAD, "Lambda does not take {} bytes", payload.len());
    let response: Value = serde_json::from_slice(payload).expect("JSON");
    assert_eq!((&response["statusCode"], &response["isBase64Encoded"]), (&json!(200), &json!(false)));
    serde_json::from_str(response["body"].as_str().expect("a text")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_too_long_for_one_answer_goes_on() {
    let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
    for (stack, windows, products, most) in [
        ("many", 700, (0, ' '), 288),
        // An id grows sixfold in JSON, and to seven times its length in the JSON of Lambda's payload.
        ("control", 40, (100, '\u{1}'), 39),
        // Twofold, and fourfold.
        ("quotes", 60, (100, '"'), 59),
        ("backslashes", 60, (100, '\\'), 59),
        ("letters", 190, (100, 'x'), 189),
        ("accents", 190, (100, 'é'), 189),
    ] {
        fill(&embedded, stack, windows, products).await;
        let board = HotServer::start("board", &["--endpoint-url", &embedded.endpoint(), "--stack", stack]);
        let (to, mut from) = (minute(10_000), Some(minute(0)));
        let (mut ends, mut answers) = (Vec::new(), 0);
        while let Some(start) = from {
            let query = format!("from={start}&to={to}&limit=100");
            let answer = get(&format!("{}/hot-products/history?{query}", board.url())).await;
            let history = answer.json();
            let payload = payload(board_of(&embedded, stack), "/hot-products/history", &query).await;
            assert!(fitting(&payload) == history, "{stack}: the function answers otherwise than hot board");
            let snapshots = history["snapshots"].as_array().expect("a list");
            assert!((1..=most).contains(&snapshots.len()), "{stack}: {}", snapshots.len());
            for snapshot in snapshots {
                ends.push(snapshot["window_end"].as_str().expect("a time").to_owned());
                assert_eq!(snapshot["products"].as_array().map(Vec::len), Some(products.0));
            }
            from = history["next"].as_str().map(str::to_owned);
            assert!(
                from.is_none() || products.0 == 0 || payload.len() > LAMBDA_PAYLOAD / 2,
                "{stack} is cut too early"
            );
            answers += 1;
        }
        assert_eq!(ends, (0..windows as i64).map(|number| minute(5 * number)).collect::<Vec<_>>(), "each of them once");
        assert!(answers > 1, "{stack}");
    }
}

/// The other routes cut nothing, so their largest answers must fit.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_snapshot_fits_lambdas_payload() {
    let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
    fill(&embedded, "largest", 1, (MAX_TOP_N, '\u{1}')).await;
    for (path, query, products) in [
        ("/hot-products", format!("limit={MAX_TOP_N}"), MAX_TOP_N),
        ("/hot-products/minutes", format!("limit={MAX_MINUTES_PRODUCTS}"), MAX_MINUTES_PRODUCTS),
        ("/hot-products/history", format!("from={}&to={}&limit=100", minute(0), minute(10)), 1),
    ] {
        let body = fitting(&payload(board_of(&embedded, "largest"), path, &query).await);
        let list = body["products"].as_array().or(body["snapshots"].as_array());
        assert_eq!(list.map(Vec::len), Some(products), "{path}");
    }
}

/// What the function read-board has, over the tables of `stack`.
fn board_of(embedded: &Embedded, stack: &str) -> Board {
    let tables = TableNames::of(stack);
    Board {
        snapshots: SnapshotsTable::new(embedded.client(), tables.snapshots),
        counters: CountersTable::new(embedded.client(), tables.counters),
        clock: Arc::new(SystemClock),
        caching: Caching::Private,
        on_error: |error| panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_whether_a_snapshot_or_a_table_is_missing() {
    let dynamodb = HotDynamoDb::start(&[]);
    let board = HotServer::start("board", &["--endpoint-url", dynamodb.endpoint()]);
    let url = format!("{}/hot-products", board.url());
    is_error(&get(&url).await, StatusCode::NOT_FOUND, "not_found", &["no snapshot yet"]);
    let minutes = get(&format!("{url}/minutes")).await;
    is_error(&minutes, StatusCode::NOT_FOUND, "not_found", &["no record of clicks per minute yet"]);
    dynamodb.stop();
    let answer = get(&url).await;
    is_error(&answer, StatusCode::SERVICE_UNAVAILABLE, "unavailable", &["try again"]);
    assert_eq!(answer.header("retry-after"), "5");
    assert!(!String::from_utf8_lossy(&answer.body).contains("hot-products-snapshots"), "no internals: {answer:?}");
    assert!(board.said().contains("hot: Query on table hot-products-snapshots failed"), "{}", board.said());

    let output = hot(["board", "--port", "0", "--endpoint-url", "http://127.0.0.1:1"]).output().expect("hot runs");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("hot-products-snapshots failed"), "{stderr}");
    let port = board.url().rsplit(':').next().expect("a port").to_owned();
    let dynamodb = HotDynamoDb::start(&[]);
    let output = hot(["board", "--port", &port, "--endpoint-url", dynamodb.endpoint()]).output().expect("hot runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains(&format!("can't listen on port {port}")), "{stderr}");
}

/// The size of an item's value by DynamoDB's rules (Amazon DynamoDB Developer Guide, "Item sizes and formats").
fn bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number.trim_end_matches('0').trim_start_matches('-').len().div_ceil(2) + 1,
        AttributeValue::Bool(_) => 1,
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + bytes(value)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.iter().map(|(name, value)| 1 + name.len() + bytes(value)).sum::<usize>(),
        other => panic!("{other:?} is in no snapshot"),
    }
}

/// The sizes of a snapshot's two items, as `SnapshotsTable::put` documents them.
#[tokio::test]
async fn a_snapshot_of_the_longest_ids_fits_its_items() {
    let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
    let name = TableNames::of(DEFAULT_STACK).snapshots;
    let table = SnapshotsTable::new(embedded.client(), name.clone());
    let size = async |board: &str, window: Window| {
        let key = [("board", board.to_owned()), ("window_end", bound(window.end()))];
        let key = key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
        let get = embedded.client().get_item().table_name(&name).set_key(Some(HashMap::from(key)));
        let item = get.send().await.expect("a read").item.expect("an item");
        item.iter().map(|(name, value)| name.len() + bytes(value)).sum::<usize>()
    };
    let mut window = Window::ended_by(START);
    for (top_n, id_bytes, snapshot_bytes, minutes_bytes, units) in
        [(100, 5, 5_831, 26_799, 33), (100, 256, 30_931, 51_899, 82), (MAX_TOP_N, 256, 305_591, 51_899, 350)]
    {
        let mut previous = None;
        let mut written = None;
        for _ in 0..2 {
            let mut counters = ShardCounters::new();
            for product in 0..top_n {
                let id = format!("{product:x<id_bytes$}");
                for (number, minute) in window.minutes().enumerate() {
                    // As at a thousand clicks a second: three digits for the hottest, one or two for the others.
                    let clicks = 1 + 9_000 / (10 + product) + number % 3;
                    counters.add(minute, &partition(), &id, clicks as u64);
                }
            }
            let at = window.end().plus(Duration::from_mins(1));
            let ranked = rank(window, top_n, &counters, at, previous.as_ref());
            assert_eq!(ranked.minutes.products.len(), MAX_MINUTES_PRODUCTS);
            written = Some(table.put(&ranked, Duration::from_hours(24)).await.expect("a snapshot"));
            // The second has every product's previous rank.
            previous = Some(ranked.snapshot);
            window = window.next();
        }
        let stored = window.previous();
        assert_eq!((size(BOARD, stored).await, size(MINUTES_BOARD, stored).await), (snapshot_bytes, minutes_bytes));
        assert!(snapshot_bytes.max(minutes_bytes) < 400 * 1024);
        assert_eq!(written, Some(PutOutcome::Written { write_units: units }));
    }
    embedded.stop().await.expect("DynamoDB stops");
}

/// A request costs a bounded number of read units, however large the snapshots are and however little of them it asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_large_snapshots_is_read_in_parts() {
    let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
    // An item of more than 256 KB takes more than 32 read units, so all of them take more than the limit.
    let windows = 30;
    fill(&embedded, "large", windows, (MAX_TOP_N, 'x')).await;
    let (mut from, mut ends, mut answers) = (Some(minute(0)), Vec::new(), 0);
    while let Some(start) = from {
        let query = format!("from={start}&to={}&limit=1", minute(10_000));
        let history = fitting(&payload(board_of(&embedded, "large"), "/hot-products/history", &query).await);
        let snapshots = history["snapshots"].as_array().expect("a list");
        // The limit, and a page of a query.
        assert!(snapshots.len() * 32 < SnapshotRange::MAX_READ_UNITS as usize + 128, "{} snapshots", snapshots.len());
        ends.extend(snapshots.iter().map(|snapshot| snapshot["window_end"].as_str().expect("a time").to_owned()));
        from = history["next"].as_str().map(str::to_owned);
        answers += 1;
    }
    assert_eq!(ends, (0..windows as i64).map(|number| minute(5 * number)).collect::<Vec<_>>(), "each of them once");
    assert!(answers > 1, "one answer has all");
    // A range that costs less is not cut.
    let query = format!("from={}&to={}&limit=1", minute(0), minute(50));
    let history = fitting(&payload(board_of(&embedded, "large"), "/hot-products/history", &query).await);
    assert_eq!((history["snapshots"].as_array().map(Vec::len), history.get("next")), (Some(11), None));
    embedded.stop().await.expect("DynamoDB stops");
}
