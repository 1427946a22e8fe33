//! Hostile input: whatever a record holds, its batch is counted, and every record has exactly one outcome.
//!
//! Records are broken at each layer they have: the event's bytes, their Base64, the record's JSON, the envelope around
//! it. The event itself stays JSON: Lambda never hands out half a payload. `SEED=…` replays another run.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env,
    fmt::Write as _,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use base64_simd::STANDARD;
use count_clicks::{CountClicks, CountSettings, Summary, batch::Batch};
use hot_products::{
    Bucket, ManualClock, Minute, Policy, Shard, Snapshot, UnixMillis, Window,
    settings::Settings,
    store::{CountersTable, SnapshotsTable},
};
use hot_products_tests::process::hot;
use local_aws::{embedded::Embedded, msk, template::DEFAULT_STACK, template::TableNames};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rank_products::{RankProducts, RankSettings, Request};
use serde_json::json;

/// 2022-12-27T16:50:01.234Z.
const NOW: UnixMillis = UnixMillis(1_672_159_801_234);
const RECORDS: u64 = 1_000_000;
const SIX_MB: usize = 6 * 1024 * 1024;

/// What must become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Counted,
    Ignored,
    Stale,
    Rejected,
    /// One of these; which one is the mutation's luck.
    Any,
}

/// Ids that are as good as any other.
const ODD_IDS: &[&str] = &[
    "last_offset",
    "expires_at",
    "bucket",
    "source",
    "closed",
    "#0",
    ":1",
    "#o",
    ":l",
    "#",
    ":",
    "##",
    "#last_offset",
    "p#1:2",
    "\"quoted\"",
    "it's",
    "back\\slash",
    "new\nline",
    "carriage\r\nreturn",
    "tab\t",
    "nul\0nul",
    "bell\u{7}",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{9b}2J",
    "\u{202e}right to left\u{202c}",
    "\u{2066}isolate\u{2069}",
    "\u{200f}mark\u{200e}",
    "\u{61c}",
    "\u{feff}bom",
    "zero\u{200b}width",
    "line\u{2028}separator",
    "soft\u{ad}hyphen",
    "مرحبا",
    "שלום",
    "😀",
    "👩‍👩‍👧‍👦",
    "é",
    "e\u{301}",
    "\u{fffd}",
    "\u{ffff}",
    "\u{10ffff}",
    " ",
    "  leading",
    "trailing  ",
    "{\"json\":1}",
    "<b>html</b>",
    "a.b.c",
    "a[0]",
    "SET #a = :b",
    "null",
    "0",
    "-1",
    "1e400",
    "clicks-0+1",
    "../../etc",
    "%00",
    "${jndi:x}",
    "'; DROP TABLE",
];

/// JSON that is no string, number of milliseconds or object of an event, each odd in its own way.
fn odd_json(random: &mut ChaCha8Rng) -> String {
    match random.random_range(0..18) {
        0 => "null".into(),
        1 => "true".into(),
        2 => "1e400".into(),
        3 => "-1e-400".into(),
        4 => "9".repeat(random.random_range(20..400)),
        5 => "-9223372036854775809".into(),
        6 => "18446744073709551616".into(),
        7 => "1672131001234.5".into(),
        8 => "-0".into(),
        9 => "{}".into(),
        10 => "[]".into(),
        11 => r#"{"a":1,"a":{"a":[2]},"a":null}"#.into(),
        12 => "[-128,-1,0,127,256,1e9]".into(),
        13 => r#""\ud83d\ude00\u0000\u001b""#.into(),
        14 => r#"{"\ud83d\ude00":"\/\b\f"}"#.into(),
        15 => {
            let deep = random.random_range(1..3000);
            format!("{}{}", "[".repeat(deep), "]".repeat(deep))
        }
        16 => {
            let deep = random.random_range(1..300);
            format!("{}1{}", r#"{"a":"#.repeat(deep), "}".repeat(deep))
        }
        _ => "false".into(),
    }
}

/// `text` as JSON; any of its characters may be escaped.
fn json_text(random: &mut ChaCha8Rng, text: &str) -> String {
    if random.random_bool(0.7) {
        return json!(text).to_string();
    }
    let mut escaped = String::from('"');
    for unit in text.encode_utf16() {
        let _infallible = write!(escaped, "\\u{unit:04x}");
    }
    escaped + "\""
}

fn id(random: &mut ChaCha8Rng) -> String {
    match random.random_range(0..10) {
        0..5 => format!("p{}", random.random_range(0..500)),
        5..8 => (*ODD_IDS.choose(random).expect("there are ids")).to_owned(),
        8 => (0..random.random_range(1..64)).map(|_| random.random::<char>()).collect(),
        _ => "x".repeat(random.random_range(1..=256)),
    }
}

/// A record's value and what must become of it.
fn value(random: &mut ChaCha8Rng) -> (Vec<u8>, Fate) {
    let (minutes, time_fate) = match random.random_range(0..20) {
        0 => (random.random_range(-100_000..-121), Fate::Stale),
        1 => (random.random_range(7..100_000), Fate::Rejected),
        _ => (random.random_range(-118..4), Fate::Counted),
    };
    let time = (NOW.0 + minutes * 60_000).to_string();
    let id = id(random);
    let product = json_text(random, &id);
    let (action, fate) = if random.random_bool(0.1) {
        (r#""view""#.to_owned(), Fate::Ignored)
    } else {
        (json_text(random, "click"), time_fate)
    };
    let mut fields =
        vec![("event_time", time), ("product_id", product), ("action", action), ("user_id", r#""u_1""#.into())];
    let mut fate = if id.len() > 256 { Fate::Rejected } else { fate };
    match random.random_range(0..12) {
        // Unknown fields are fine, whatever they hold.
        0 => {
            let odd = odd_json(random);
            let position = random.random_range(0..=fields.len());
            fields.insert(position, ("x", odd));
        }
        // A field that matters, missing.
        1 => {
            fields.remove(random.random_range(0..3));
            fate = Fate::Rejected;
        }
        // One that is odd.
        2 => {
            let position = random.random_range(0..3);
            fields[position].1 = odd_json(random);
            fate = Fate::Any;
        }
        // One that stands twice: the last counts.
        3 => {
            let twice = (["event_time", "product_id", "action"][random.random_range(0..3)], odd_json(random));
            fields.insert(0, twice);
        }
        // Half a pair of surrogates is no text.
        4 if random.random_bool(0.3) => {
            fields[1].1 = r#""p\ud800""#.into();
            fate = Fate::Rejected;
        }
        5 if random.random_bool(0.3) => {
            fields[1].1 = format!("\"{}\"", "é".repeat(random.random_range(129..3000)));
            fate = Fate::Rejected;
        }
        _ => {}
    }
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    let mut value = format!("{{{}}}", fields.join(",")).into_bytes();
    match random.random_range(0..40) {
        0 => {
            value.truncate(random.random_range(0..value.len()));
            fate = Fate::Rejected;
        }
        1 => {
            let position = random.random_range(0..value.len());
            value[position] ^= 1 << random.random_range(0..8);
            fate = Fate::Any;
        }
        // Invalid in UTF-8 wherever it stands.
        2 => {
            let bytes: &[u8] =
                [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"][random.random_range(0..4)];
            let position = random.random_range(0..=value.len());
            value.splice(position..position, bytes.iter().copied());
            fate = Fate::Rejected;
        }
        3 => {
            let position = random.random_range(0..=value.len());
            value.insert(position, 0);
            fate = Fate::Rejected;
        }
        4 => {
            value = (0..random.random_range(0..200)).map(|_| random.random()).collect();
            fate = Fate::Any;
        }
        5 => {
            value = odd_json(random).into_bytes();
            fate = Fate::Rejected;
        }
        6 => {
            value = "[".repeat(random.random_range(1..3000)).into_bytes();
            fate = Fate::Rejected;
        }
        _ => {}
    }
    (value, fate)
}

/// A record of an envelope, at `offset`.
fn record(random: &mut ChaCha8Rng, offset: i64) -> (String, Fate) {
    let (value, mut fate) = value(random);
    let mut value = format!("\"{}\"", STANDARD.encode_to_string(&value));
    let mut offset = offset.to_string();
    let mut extra = String::new();
    match random.random_range(0..40) {
        0 => {
            value = "null".into();
            fate = Fate::Rejected;
        }
        1 => {
            value = odd_json(random);
            fate = Fate::Rejected;
        }
        2 => {
            value = json!(
                ["%%%", "a", "ab=c", "eyJ", "e30", "e30= ", "e3\n0=", "-_-_", "\u{0}", "😀", "===="].choose(random)
            )
            .to_string();
            fate = Fate::Rejected;
        }
        3 => {
            offset = [
                "null",
                "\"7\"",
                "7.0",
                "1e3",
                "-1",
                "-9223372036854775808",
                "9223372036854775808",
                "[7]",
                "{}",
                "true",
            ]
            .choose(random)
            .expect("there are offsets")
            .to_string();
            fate = Fate::Rejected;
        }
        // The last of a field that stands twice counts.
        4 => extra = r#""value":"e30=","value":null,"#.into(),
        5 => extra = r#""offset":3,"#.into(),
        6 => extra = format!("\"x\":{},\"😀\":{},", odd_json(random), odd_json(random)),
        7 => return (odd_json(random), Fate::Rejected),
        8 => return (r#"{"topic":"clicks","partition":0}"#.into(), Fate::Rejected),
        9 => {
            // No value at all.
            return (format!(r#"{{"topic":"clicks","partition":0,"offset":{offset}}}"#), Fate::Rejected);
        }
        _ => {}
    }
    let key = match random.random_range(0..4) {
        0 => "null".into(),
        1 => odd_json(random),
        _ => r#""cDE=""#.into(),
    };
    let headers = match random.random_range(0..5) {
        0 => "[]".into(),
        1 => r#"[{"trace":[-1,-128,127,0]},{"":[]},{"trace":[]}]"#.into(),
        2 => "null".into(),
        3 => odd_json(random),
        _ => "[{\"h\":[106]}]".into(),
    };
    let time = if random.random_bool(0.1) { odd_json(random) } else { "1672159801234".into() };
    let record = format!(
        r#"{{{extra}"topic":"clicks","partition":0,"offset":{offset},"timestamp":{time},"timestampType":"CREATE_TIME","key":{key},"headers":{headers},"value":{value}}}"#
    );
    (record, fate)
}

/// An event with records of several sources, and what must become of each record: by its offset, which is unique in
/// the event, where it has one.
struct Event {
    json: String,
    fates: Vec<(i64, Fate)>,
}

impl Event {
    /// The text around the record at `offset`, for a failure's message.
    fn around(&self, offset: i64) -> &str {
        let position = self.json.find(&format!("\"offset\":{offset},")).unwrap_or_default();
        &self.json[self.json.floor_char_boundary(position)..self.json.floor_char_boundary(position + 2000)]
    }
}

fn event(random: &mut ChaCha8Rng, first_offset: i64, records: usize) -> Event {
    let mut fates = Vec::with_capacity(records);
    let mut sources: Vec<(String, Vec<String>)> = Vec::new();
    for name in ["clicks-0", "clicks-1", "clicks-0", "", "😀\u{202e}\"\\\0-0"].iter().take(random.random_range(1..=5))
    {
        sources.push(((*name).to_owned(), Vec::new()));
    }
    for offset in (first_offset..).take(records) {
        let (record, fate) = record(random, offset);
        let source = random.random_range(0..sources.len());
        if fate == Fate::Counted && random.random_bool(0.02) {
            // Delivered twice in one batch. It then has one outcome more.
            sources[source].1.push(record.clone());
            fates.push((offset, Fate::Any));
        }
        sources[source].1.push(record);
        fates.push((offset, fate));
    }
    let mut json = String::from("{");
    if random.random_bool(0.5) {
        let _infallible =
            write!(json, r#""eventSource":{},"eventSource":"aws:kafka","x":{},"#, odd_json(random), odd_json(random));
    }
    json.push_str(r#""records":{"#);
    for (position, (name, records)) in sources.iter().enumerate() {
        let comma = if position == 0 { "" } else { "," };
        let _infallible = write!(json, "{comma}{}:[{}]", json_text(random, name), records.join(","));
    }
    // Records that lie in no array: one record that is none.
    if random.random_bool(0.2) {
        for (name, odd) in
            [("clicks-2", "null"), ("clicks-3", "{\"clicks-0\":[]}"), ("clicks-2", "17"), ("", "\"e30=\"")]
        {
            let _infallible = write!(json, ",\"{name}\":{odd}");
            fates.push((-1, Fate::Rejected));
        }
    }
    json.push('}');
    if random.random_bool(0.2) {
        json.push_str(r#","records":{"clicks-0":[null]}"#);
        fates.push((-1, Fate::Rejected));
    }
    json.push('}');
    Event { json, fates }
}

fn policy() -> Policy {
    Policy { counted_actions: vec!["click".into()], max_event_age: Duration::from_hours(2) }
}

/// Decodes an event and holds every record's outcome against its fate.
fn decode(seed: u64, event: &Event) -> Batch {
    let batch = Batch::decode(event.json.as_bytes(), None, &policy(), NOW)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let outcomes = batch.clicks() + batch.repeated + batch.ignored + batch.stale + batch.rejected();
    assert_eq!((outcomes, batch.records), (event.fates.len() as u64, event.fates.len() as u64), "seed {seed}");
    let counted: HashSet<i64> =
        batch.sources.iter().flat_map(|source| &source.clicks).map(|click| click.offset).collect();
    let rejected: HashSet<i64> = batch.sources.iter().flat_map(|source| &source.rejects.offsets).copied().collect();
    let mut at_least: HashMap<&str, u64> = HashMap::new();
    for (offset, fate) in &event.fates {
        let right = match fate {
            Fate::Counted => counted.contains(offset),
            Fate::Rejected => !counted.contains(offset),
            Fate::Ignored | Fate::Stale => !counted.contains(offset) && !rejected.contains(offset),
            Fate::Any => true,
        };
        assert!(right, "seed {seed}: the record at {offset} is not {fate:?}: {}", event.around(*offset));
        *at_least
            .entry(match fate {
                Fate::Ignored => "ignored",
                Fate::Stale => "stale",
                Fate::Rejected => "rejected",
                Fate::Counted | Fate::Any => "",
            })
            .or_default() += 1;
    }
    let at_least = |fate| at_least.get(fate).copied().unwrap_or_default();
    assert!(batch.ignored >= at_least("ignored"), "seed {seed}");
    assert!(batch.stale >= at_least("stale"), "seed {seed}");
    assert!(batch.rejected() >= at_least("rejected"), "seed {seed}");
    batch
}

fn first_seed() -> u64 {
    env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"))
}

/// Past the capturing of tests: the figures are to be seen.
fn say(text: &str) {
    let _unseen = writeln!(std::io::stderr(), "{text}");
}

#[expect(clippy::disallowed_methods, reason = "how long a test takes is the machine's time")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn a_million_mutated_records_have_one_outcome_each() {
    let start = start();
    let (mut records, mut batches, mut bytes, mut clicks, mut rejected) = (0, 0, 0, 0, 0);
    for seed in first_seed().. {
        if records >= RECORDS {
            break;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let size = *[1, 10, 100, 1000, 10_000].choose(&mut random).expect("there are sizes");
        let event = event(&mut random, seed as i64 * 100_000, size);
        let batch = decode(seed, &event);
        records += batch.records;
        batches += 1;
        bytes += event.json.len();
        clicks += batch.clicks();
        rejected += batch.rejected();
    }
    assert!(clicks > records / 10 && rejected > records / 10, "the mutations are too tame or too wild");
    say(&format!(
        "{records} mutated records in {batches} batches, {} MB: {clicks} clicks, {rejected} rejected, {:.1} s",
        bytes / 1_000_000,
        start.elapsed().as_secs_f64()
    ));
}

/// The largest payloads that Lambda hands out, each filled in another way.
#[test]
fn a_batch_of_six_megabytes_is_decoded_whatever_fills_it() {
    let at = |records: &str| format!(r#"{{"eventSource":"aws:kafka","records":{{"clicks-0":[{records}]}}}}"#);
    let click = |id: &str| {
        STANDARD.encode_to_string(format!(r#"{{"event_time":{},"product_id":"{id}","action":"click"}}"#, NOW.0))
    };
    let decode = |json: String| {
        assert!(json.len() > SIX_MB / 2 && json.len() <= SIX_MB, "{} bytes", json.len());
        let batch = Batch::decode(json.as_bytes(), None, &policy(), NOW).expect("a batch");
        assert_eq!(batch.clicks() + batch.repeated + batch.ignored + batch.stale + batch.rejected(), batch.records);
        (batch.records, batch.clicks(), batch.rejected())
    };
    let record = |offset: usize, value: &str| format!(r#"{{"offset":{offset},"value":"{value}"}}"#);
    let many = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");

    assert_eq!(decode(at(&many(40_000, &|offset| record(offset, &click(&offset.to_string()))))), (40_000, 40_000, 0));
    assert_eq!(decode(at(&many(SIX_MB / 5 - 20, &|_| "null".into()))).2, (SIX_MB / 5 - 20) as u64);
    assert_eq!(decode(at(&many(SIX_MB / 3 - 30, &|_| "[]".into()))).2, (SIX_MB / 3 - 30) as u64);
    // One record: long, deep, or with a long key, headers or field.
    assert_eq!(decode(at(&record(0, &"A".repeat(6_000_000)))), (1, 0, 1));
    assert_eq!(decode(at(&record(0, &STANDARD.encode_to_string("[".repeat(4_000_000))))), (1, 0, 1));
    assert_eq!(decode(at(&record(0, &click(&"x".repeat(4_000_000))))), (1, 0, 1));
    let with = |field: &str| at(&format!(r#"{{"offset":0,{field},"value":"{}"}}"#, click("p1")));
    let deep = format!("{}{}", "[".repeat(3_000_000), "]".repeat(3_000_000));
    assert_eq!(decode(with(&format!(r#""key":"{}""#, "A".repeat(6_000_000)))), (1, 1, 0));
    assert_eq!(decode(with(&format!(r#""headers":[{{"h":[-1{}]}}]"#, ",-128".repeat(1_200_000)))), (1, 1, 0));
    assert_eq!(decode(with(&format!(r#""x":{deep}"#))), (1, 1, 0));
    assert_eq!(decode(at(&deep)), (1, 0, 1));
    assert_eq!(decode(format!(r#"{{"x":{deep},"records":{{}}}}"#)), (0, 0, 0));
    let names = many(200_000, &|number| format!(r#""clicks-{}":[]"#, number % 50));
    assert_eq!(decode(format!(r#"{{"records":{{{names}}},"x":"{}"}}"#, "x".repeat(1_000_000))), (0, 0, 0));
}

/// The two functions over a DynamoDB of their own, and the time.
struct Shop {
    embedded: Embedded,
    clock: Arc<ManualClock>,
    count_clicks: CountClicks,
    rank_products: RankProducts,
    counters: CountersTable,
    snapshots: SnapshotsTable,
}

impl Shop {
    async fn open() -> Self {
        let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
        let tables = TableNames::of(DEFAULT_STACK);
        let settings = Settings::new(|name| match name {
            "COUNTERS_TABLE" => Some(tables.counters.clone()),
            "REJECTS_TABLE" => Some(tables.rejects.clone()),
            "SNAPSHOTS_TABLE" => Some(tables.snapshots.clone()),
            _ => None,
        });
        let clock = Arc::new(ManualClock::at(NOW));
        let client = embedded.client();
        let count = CountSettings::read(&settings).expect("settings");
        let rank = RankSettings::read(&settings).expect("settings");
        Self {
            counters: CountersTable::new(client.clone(), tables.counters.clone()),
            snapshots: SnapshotsTable::new(client.clone(), tables.snapshots.clone()),
            count_clicks: CountClicks::new(client.clone(), count, clock.clone()),
            rank_products: RankProducts::new(client, rank, clock.clone()),
            embedded,
            clock,
        }
    }

    /// Has a batch counted; it must not fail.
    async fn count(&self, event: &str) -> Summary {
        let (summary, result) = self.count_clicks.handle(event, NOW.plus(Duration::from_mins(1))).await;
        result.expect("no record's content fails a batch");
        let outcomes = summary.counted + summary.already_counted + summary.ignored + summary.stale + summary.rejected;
        assert_eq!(outcomes, summary.records);
        summary
    }

    /// The counters of a minute over all its items, and how many items they are.
    async fn minute(&self, minute: Minute) -> (BTreeMap<String, u64>, u64) {
        let (mut counts, mut items) = (BTreeMap::new(), 0);
        for shard in Shard::all() {
            let add = |product: &str, clicks| *counts.entry(product.to_owned()).or_default() += clicks;
            items += self.counters.read(Bucket { minute, shard }, add).await.expect("a bucket").items;
        }
        (counts, items)
    }

    async fn close(self) {
        self.embedded.stop().await.expect("DynamoDB stops");
    }
}

/// A batch of clicks on `ids`, one each, on one source from `first_offset` on.
fn clicks<'a>(ids: impl IntoIterator<Item = &'a str>, first_offset: i64, time: UnixMillis) -> String {
    let records = (first_offset..).zip(ids).map(|(offset, id)| {
        let value = json!({"event_time": time.0, "product_id": id, "action": "click", "user_id": "u_1"}).to_string();
        msk::record("clicks", 0, offset, time, None, Some(value.as_bytes()))
    });
    let records = HashMap::from([("clicks-0".to_owned(), records.collect())]);
    serde_json::to_string(&msk::event(records)).expect("an event is JSON")
}

/// The same mutations through the whole handler into the tables: no batch fails, what it says it counted is in the
/// counters, and the same batch again moves none.
#[tokio::test]
async fn mutated_records_fail_no_invocation() {
    let start = start();
    let shop = Shop::open().await;
    let (mut records, mut counted, mut rejected) = (0, 0, 0);
    for seed in (first_seed()..).take(40) {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xdead_beef);
        let size = *[1, 30, 300, 3000].choose(&mut random).expect("there are sizes");
        let event = event(&mut random, seed as i64 * 100_000, size);
        let summary = shop.count(&event.json).await;
        assert_eq!(summary.records, event.fates.len() as u64, "seed {seed}");
        let again = shop.count(&event.json).await;
        assert_eq!(
            (again.counted, again.already_counted),
            (0, summary.counted + summary.already_counted),
            "seed {seed}"
        );
        records += summary.records;
        counted += summary.counted;
        rejected += summary.rejected;
    }
    let mut stored = 0;
    for minutes in -121..=6 {
        let (counts, _) = shop.minute(Minute::of(UnixMillis(NOW.0 + minutes * 60_000))).await;
        stored += counts.values().sum::<u64>();
    }
    assert_eq!(stored, counted);
    say(&format!(
        "{records} mutated records through the handler, twice: {counted} counted, {rejected} rejected, {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    shop.close().await;
}

/// A flood of invented ids fills item after item; it neither blocks the partition nor loses a count.
#[tokio::test]
async fn a_flood_of_product_ids_is_counted_whole() {
    const IDS: usize = 150_000;
    let begin = start();
    let shop = Shop::open().await;
    let mut random = ChaCha8Rng::seed_from_u64(first_seed());
    let ids: Vec<String> = (0..IDS)
        .map(|number| {
            let [a, b, c, d]: [u16; 4] = random.random();
            format!("{number:08x}-{a:04x}-{b:04x}-{c:04x}-{d:012x}")
        })
        .collect();
    assert!(ids.iter().all(|id| id.len() == 36));

    let mut seconds = Vec::new();
    for (batch, ids) in ids.chunks(10_000).enumerate() {
        let event = clicks(ids.iter().map(String::as_str), batch as i64 * 10_000, NOW);
        let before = start();
        let summary = shop.count(&event).await;
        seconds.push(before.elapsed().as_secs_f64());
        assert_eq!((summary.counted, summary.already_counted), (10_000, 0));
    }
    let each_once = |counts: &BTreeMap<String, u64>| {
        counts.len() == IDS && ids.iter().all(|id| counts.get(id.as_str()) == Some(&1))
    };
    let minute = Minute::of(NOW);
    let (counts, items) = shop.minute(minute).await;
    assert!(each_once(&counts));
    assert!(items > u64::from(Shard::COUNT), "the flood overflowed nothing: {items} items");

    // An older commit, cut elsewhere: nothing moves.
    let before = start();
    for (batch, ids) in ids[43_210..].chunks(7_000).enumerate() {
        let event = clicks(ids.iter().map(String::as_str), 43_210 + batch as i64 * 7_000, NOW);
        assert_eq!(shop.count(&event).await.already_counted, ids.len() as u64);
    }
    let again = before.elapsed().as_secs_f64();
    assert_eq!(shop.minute(minute).await, (counts, items));

    // And the partition goes on, in this minute and in the next.
    for time in [NOW, NOW.plus(Duration::from_mins(1))] {
        let offset = IDS as i64 + (time.0 - NOW.0);
        let summary = shop.count(&clicks(["p1", "p1", ids[0].as_str()], offset, time)).await;
        assert_eq!(summary.counted, 3);
        let (counts, _) = shop.minute(Minute::of(time)).await;
        let first = if time == NOW { 2 } else { 1 };
        assert_eq!((counts["p1"], counts[ids[0].as_str()]), (2, first));
    }
    let seconds: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
    say(&format!(
        "{IDS} product ids in {items} items, {:.1} s; batches of 10,000 took {} s; redelivered in {again:.1} s",
        begin.elapsed().as_secs_f64(),
        seconds.join(" ")
    ));
    shop.close().await;
}

/// What turns text around on a terminal (Unicode Standard Annex #9, explicit directional formatting).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Ids that equal an attribute's name, or hold what has a meaning to DynamoDB, JSON or a terminal, are ordinary ids:
/// counted, ranked, read back byte for byte, and printed without effect.
#[tokio::test]
async fn an_odd_product_id_is_an_ordinary_id() {
    let shop = Shop::open().await;
    let (longest, wide) = ("#".repeat(256), "\u{202e}".repeat(85));
    let ids: Vec<&str> = ODD_IDS.iter().copied().chain([longest.as_str(), wide.as_str()]).collect();
    assert!(ids.len() <= 100, "all must be in a snapshot of the default length");
    // The first most often, the last once: so each has a place of its own.
    let expected: Vec<(u64, &str, u64)> =
        (1..).zip(&ids).map(|(rank, id)| (rank, *id, ids.len() as u64 + 1 - rank)).collect();
    let of_one = expected.iter().flat_map(|(_, id, clicks)| (0..*clicks).map(|_| *id));
    let time = NOW.minus(Duration::from_mins(5));
    let summary = shop.count(&clicks(of_one, 0, time)).await;
    assert_eq!(summary.counted, summary.records);
    let (counts, items) = shop.minute(Minute::of(time)).await;
    assert_eq!(counts, expected.iter().map(|(_, id, clicks)| ((*id).to_owned(), *clicks)).collect());
    assert!(items <= u64::from(Shard::COUNT));

    shop.clock.set(NOW);
    let request = Request { scheduled_time: Some(NOW.rfc3339()), window_end: None };
    assert!(shop.rank_products.handle(&request).await.expect("a snapshot").written);
    let snapshot: Snapshot = shop.snapshots.get(Window::ended_by(NOW)).await.expect("a read").expect("a snapshot");
    let places: Vec<(u64, &str, u64)> =
        snapshot.products.iter().map(|product| (product.rank, product.product_id.as_str(), product.clicks)).collect();
    assert_eq!(places, expected);

    // The real program, in a blocking call: the embedded DynamoDB answers it from this process.
    let endpoint = shop.embedded.endpoint();
    let top = move || hot(["top", "--endpoint-url", &endpoint]).output();
    let output = tokio::task::spawn_blocking(top).await.expect("no panic").expect("hot runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("output is text");
    assert!(!printed.contains(|c: char| c != '\n' && (c.is_control() || turns_text(c))), "{printed:?}");
    assert_eq!(printed.lines().filter(|line| line.contains('█')).count(), ids.len(), "a row each");
    shop.close().await;
}
