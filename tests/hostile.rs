//! Hostile input: whatever a producer writes, the batch is counted, and every record has exactly one outcome.
//!
//! Producers control a record's value, key and headers. These are mutated at each layer: the bytes, their Base64 and the
//! record's JSON. The envelope comes from Lambda: its unused and unknown fields may be anything, and an envelope of another
//! shape fails the whole batch. `SEED=…` repeats another run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    env,
    fmt::Write as _,
    io::Write as _,
    ops::ControlFlow,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use base64_simd::STANDARD;
use count_clicks::{
    CountClicks, CountError, CountSettings, CountSummary,
    batch::{Cause, DecodedBatch},
};
use hot_products::{
    Bucket, Classification, EventShape, ManualClock, Minute, Policy, Reason, Snapshot, TopicPartition, UnixMillis,
    Window,
    click::{EventFields, TimeUnit},
    rejects::RejectedBatch,
    settings::Settings,
    store::{CountersTable, RejectsPage, RejectsTable, SnapshotsTable},
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
/// A user's id, of letters that nothing else in an event has.
const USER: &str = "u_QXZWVK";
const SIX_MB: usize = 6 * 1024 * 1024;

/// What must happen to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Counted,
    Ignored,
    Stale,
    Rejected,
    /// One of these; which one depends on the mutation.
    Any,
}

/// Unusual ids. All of them are valid.
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

/// Unusual JSON: never a string, a number of milliseconds or an object that an event may have.
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

/// A record's value, and what must happen to it.
fn value(random: &mut ChaCha8Rng) -> (Vec<u8>, Fate) {
    let (minutes, time_fate) = match random.random_range(0..20) {
        0 => (random.random_range(-100_000..-1_441), Fate::Stale),
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
        vec![("event_time", time), ("product_id", product), ("action", action), ("user_id", json!(USER).to_string())];
    let mut fate = if id.len() > 256 { Fate::Rejected } else { fate };
    match random.random_range(0..12) {
        // Unknown fields may hold anything.
        0 => {
            let odd = odd_json(random);
            let position = random.random_range(0..=fields.len());
            fields.insert(position, ("x", odd));
        }
        // A required field is missing.
        1 => {
            fields.remove(random.random_range(0..3));
            fate = Fate::Rejected;
        }
        // A required field has an unusual value.
        2 => {
            let position = random.random_range(0..3);
            fields[position].1 = odd_json(random);
            fate = Fate::Any;
        }
        // A duplicate field: the last is used.
        3 => {
            let duplicate = (["event_time", "product_id", "action"][random.random_range(0..3)], odd_json(random));
            fields.insert(0, duplicate);
        }
        // Half a surrogate pair is not valid text.
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
        // Not valid UTF-8 at any position.
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

/// The usual policy, and one for events in an envelope.
static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let path = |text: &str| text.parse().expect("a path");
    let (event_time, product) = (path("a.b.event_time"), path("a.b.product_id"));
    let fields = EventFields { event_time, product, action: Some(path("a.b.action")) };
    let shape = EventShape::new(fields, TimeUnit::Milliseconds, false).expect("a shape");
    [Policy::default(), Policy { shape, ..Policy::default() }]
});

/// The class of a value. Plain JSON is read by code of its own: a line break before the value makes it JSON that
/// `serde_json` reads, and changes nothing else.
fn class<'a>(policy: &Policy, value: &'a [u8]) -> Classification<'a> {
    let class = policy.classify(NOW, value);
    let other = [b"\n", value].concat();
    let is_same = class == policy.classify(NOW, &other);
    assert!(is_same, "a line break before the value makes a difference: {}", String::from_utf8_lossy(value));
    class
}

/// A value has the same class if it is in an envelope, where its fields are looked for.
fn check_shapes(value: &[u8]) {
    let [usual, enveloped] = &*POLICIES;
    let expected = class(usual, value);
    let envelope = [b"{\"event_time\":[],\"a\":{\"b\":0,\"b\":", value, b",\"action\":{}},\"b\":{}}"].concat();
    let found = class(enveloped, &envelope);
    let is_right = match expected {
        Classification::Rejected(Reason::NotJson) => matches!(found, Classification::Rejected(_)),
        Classification::Rejected(Reason::NotAnObject) => found == Classification::Rejected(Reason::MissingEventTime),
        expected => found == expected,
    };
    assert!(is_right, "an envelope makes a difference: {found:?} for {}", String::from_utf8_lossy(value));
}

/// A record of an envelope, at `offset`.
fn record(random: &mut ChaCha8Rng, offset: i64) -> (String, Fate) {
    let (value, mut fate) = value(random);
    check_shapes(&value);
    let base64 = STANDARD.encode_to_string(&value);
    let mut value = format!("\"{base64}\"");
    let mut extra = String::new();
    match random.random_range(0..40) {
        0 => {
            value = "null".into();
            fate = Fate::Rejected;
        }
        // Base64 with JSON escapes.
        1 => value = format!("\"{}\"", base64.replace('=', "\\u003d").replace('/', "\\/")),
        2 => {
            value = json!(
                ["%%%", "a", "ab=c", "eyJ", "e30", "e30= ", "e3\n0=", "-_-_", "\u{0}", "😀", "===="].choose(random)
            )
            .to_string();
            fate = Fate::Rejected;
        }
        3 => extra = format!("\"x\":{},\"😀\":{},", odd_json(random), odd_json(random)),
        4 => {
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

/// Changes to a record that make its envelope one that Lambda does not send.
fn other_shape(random: &mut ChaCha8Rng, offset: i64) -> String {
    let offsets =
        ["null", "\"7\"", "7.0", "1e3", "-1", "-9223372036854775808", "9223372036854775808", "[7]", "{}", "true"];
    let odd_offset = offsets.choose(random).expect("there are offsets");
    match random.random_range(0..8) {
        0 => format!(r#"{{"offset":{odd_offset},"value":"e30="}}"#),
        1 => r#"{"topic":"clicks","partition":0,"value":"e30="}"#.into(),
        2 => format!(r#"{{"offset":{offset},"offset":{offset},"value":"e30="}}"#),
        3 => format!(r#"{{"offset":{offset},"value":"e30=","value":"e30="}}"#),
        4 => format!(r#"[{offset},"e30="]"#),
        5 => r#""e30=""#.into(),
        6 => loop {
            let value = odd_json(random);
            if value != "null" && !value.starts_with('"') {
                break format!(r#"{{"offset":{offset},"value":{value}}}"#);
            }
        },
        _ => odd_json(random),
    }
}

/// An event with records of several topic partitions, and what must happen to each record, by its offset, which is unique
/// in the event.
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
    for name in ["clicks-0", "clicks-1", "clicks-2", "😀\u{202e}\"\\\0-0"].iter().take(random.random_range(1..=4)) {
        sources.push(((*name).to_owned(), Vec::new()));
    }
    for offset in (first_offset..).take(records) {
        let (record, fate) = record(random, offset);
        let source = random.random_range(0..sources.len());
        if fate == Fate::Counted && random.random_bool(0.02) {
            // Twice in one batch: one more outcome.
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
    json.push_str("}}");
    Event { json, fates }
}

/// Decodes an event and checks every record's outcome.
fn decode(seed: u64, event: &Event) -> DecodedBatch {
    let batch = DecodedBatch::decode(event.json.as_bytes(), None, &Policy::default(), NOW)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // Plain JSON is read by code of its own. A line break makes it JSON that serde_json reads.
    let other = DecodedBatch::decode(format!("\n{}", event.json).as_bytes(), None, &Policy::default(), NOW);
    assert!(other.is_ok_and(|other| other == batch), "seed {seed}: a line break before the event makes a difference");
    let outcomes = batch.clicks() + batch.repeated + batch.ignored + batch.stale() + batch.rejected();
    assert_eq!((outcomes, batch.records), (event.fates.len() as u64, event.fates.len() as u64), "seed {seed}");
    let counted: HashSet<i64> =
        batch.partitions.iter().flat_map(|source| &source.clicks).map(|click| click.offset).collect();
    let rejected: HashSet<i64> =
        batch.partitions.iter().flat_map(|source| source.rejects.offsets.keys()).copied().collect();
    let left_out: HashMap<i64, Cause> = batch
        .partitions
        .iter()
        .flat_map(|source| &source.left_out)
        .map(|record| (record.offset, record.cause))
        .collect();
    let mut at_least: HashMap<&str, u64> = HashMap::new();
    for (offset, fate) in &event.fates {
        let right = match fate {
            Fate::Counted => counted.contains(offset),
            Fate::Rejected => !counted.contains(offset) && matches!(left_out.get(offset), Some(Cause::Rejected(_))),
            Fate::Ignored => !counted.contains(offset) && !rejected.contains(offset) && !left_out.contains_key(offset),
            Fate::Stale => !counted.contains(offset) && left_out.get(offset) == Some(&Cause::Stale),
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
    assert!(batch.stale() >= at_least("stale"), "seed {seed}");
    assert!(batch.rejected() >= at_least("rejected"), "seed {seed}");
    batch
}

fn first_seed() -> u64 {
    env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"))
}

/// Prints past the test runner's capture: the figures are to be seen.
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
    assert!(clicks > records / 10 && rejected > records / 10, "there are too few or too many mutations");
    say(&format!(
        "{records} mutated records in {batches} batches, {} MB: {clicks} clicks, {rejected} rejected, {:.1} s",
        bytes / 1_000_000,
        start.elapsed().as_secs_f64()
    ));
}

/// A record that Lambda would not send fails its batch, wherever it is: to reject it would commit a click that was never
/// read.
#[test]
fn one_record_of_another_shape_fails_the_whole_batch() {
    for seed in (first_seed()..).take(2_000) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut records: Vec<String> = (1..=3).map(|offset| record(&mut random, offset).0).collect();
        let position = random.random_range(0..=records.len());
        records.insert(position, other_shape(&mut random, 9));
        let event = format!(r#"{{"records":{{"clicks-0":[{}]}}}}"#, records.join(","));
        for event in [event.clone(), format!("\n{event}")] {
            match DecodedBatch::decode(event.as_bytes(), None, &Policy::default(), NOW) {
                Ok(_) => panic!("seed {seed} is accepted: {}", records[position]),
                Err(error) => assert!(error.to_string().starts_with("the event is not an MSK batch: "), "{error}"),
            }
        }
    }
}

/// The largest payloads that Lambda sends, each filled in another way.
#[test]
fn a_batch_of_six_megabytes_is_decoded_whatever_fills_it() {
    let at = |records: &str| format!(r#"{{"eventSource":"aws:kafka","records":{{"clicks-0":[{records}]}}}}"#);
    let click = |id: &str| {
        STANDARD.encode_to_string(format!(r#"{{"event_time":{},"product_id":"{id}","action":"click"}}"#, NOW.0))
    };
    let try_decode = |json: String| {
        assert!(json.len() > SIX_MB / 2 && json.len() <= SIX_MB, "{} bytes", json.len());
        DecodedBatch::decode(json.as_bytes(), None, &Policy::default(), NOW)
    };
    let decode = |json: String| {
        let batch = try_decode(json).expect("a batch");
        assert_eq!(batch.clicks() + batch.repeated + batch.ignored + batch.stale() + batch.rejected(), batch.records);
        (batch.records, batch.clicks(), batch.rejected())
    };
    let is_refused = |json: String| {
        let message = try_decode(json).expect_err("not a batch").to_string();
        assert!(message.len() < 500, "{} bytes of message", message.len());
    };
    let record = |offset: usize, value: &str| format!(r#"{{"offset":{offset},"value":"{value}"}}"#);
    let many = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");

    assert_eq!(decode(at(&many(40_000, &|offset| record(offset, &click(&offset.to_string()))))), (40_000, 40_000, 0));
    let empty = r#"{"offset":0}"#;
    let rejected = (SIX_MB / (empty.len() + 1) - 30) as u64;
    assert_eq!(decode(at(&many(rejected as usize, &|_| empty.into()))), (rejected, 0, rejected));
    is_refused(at(&many(SIX_MB / 5 - 20, &|_| "null".into())));
    is_refused(at(&many(SIX_MB / 3 - 30, &|_| "[]".into())));
    is_refused(at(&format!("\"{}\"", "A".repeat(6_000_000))));
    // One record: long, deep, or with a long key, headers or field.
    assert_eq!(decode(at(&record(0, &"A".repeat(6_000_000)))), (1, 0, 1));
    assert_eq!(decode(at(&record(0, &STANDARD.encode_to_string("[".repeat(4_000_000))))), (1, 0, 1));
    assert_eq!(decode(at(&record(0, &click(&"x".repeat(4_000_000))))), (1, 0, 1));
    let with = |field: &str| at(&format!(r#"{{"offset":0,{field},"value":"{}"}}"#, click("p1")));
    let deep = format!("{}{}", "[".repeat(3_000_000), "]".repeat(3_000_000));
    assert_eq!(decode(with(&format!(r#""key":"{}""#, "A".repeat(6_000_000)))), (1, 1, 0));
    assert_eq!(decode(with(&format!(r#""headers":[{{"h":[-1{}]}}]"#, ",-128".repeat(1_200_000)))), (1, 1, 0));
    assert_eq!(decode(with(&format!(r#""x":{deep}"#))), (1, 1, 0));
    is_refused(at(&deep));
    assert_eq!(decode(format!(r#"{{"x":{deep},"records":{{}}}}"#)), (0, 0, 0));
    let names = many(200_000, &|number| format!(r#""clicks-{number}":[]"#));
    assert_eq!(decode(format!(r#"{{"records":{{{names}}},"x":"{}"}}"#, "x".repeat(1_000_000))), (0, 0, 0));
}

/// The two functions over their own DynamoDB, and a clock.
struct Shop {
    embedded: Embedded,
    clock: Arc<ManualClock>,
    count_clicks: CountClicks,
    rank_products: RankProducts,
    counters: CountersTable,
    rejects: RejectsTable,
    snapshots: SnapshotsTable,
}

impl Shop {
    async fn open() -> Self {
        let embedded = Embedded::start(0, None).await.expect("DynamoDB starts");
        let tables = TableNames::of(DEFAULT_STACK);
        let settings = Settings::from([
            ("COUNTERS_TABLE", &tables.counters),
            ("REJECTS_TABLE", &tables.rejects),
            ("SNAPSHOTS_TABLE", &tables.snapshots),
        ]);
        let clock = Arc::new(ManualClock::at(NOW));
        let client = embedded.client();
        let count = CountSettings::read(&settings).expect("settings");
        let rank = RankSettings::read(&settings).expect("settings");
        Self {
            counters: CountersTable::new(client.clone(), tables.counters.clone()),
            rejects: RejectsTable::new(client.clone(), tables.rejects.clone()),
            snapshots: SnapshotsTable::new(client.clone(), tables.snapshots.clone()),
            count_clicks: CountClicks::new(client.clone(), count, clock.clone()),
            rank_products: RankProducts::new(client, rank, clock.clone()),
            embedded,
            clock,
        }
    }

    /// Counts a batch, which must not fail.
    async fn count(&self, event: &str) -> CountSummary {
        let (summary, result) = self.count_clicks.handle(event, NOW.plus(Duration::from_mins(1))).await;
        result.expect("no record's value fails a batch");
        assert_eq!(summary.rejected, summary.rejected_by_reason.values().sum::<u64>());
        let left_out: usize = summary.left_out.iter().map(|(_, records)| records.len()).sum();
        assert_eq!(left_out as u64, summary.stale + summary.rejected);
        let outcomes = summary.counted + summary.already_counted + summary.ignored + summary.stale + summary.rejected;
        assert_eq!(outcomes, summary.records);
        summary
    }

    /// The counters of a minute, and how many items hold them.
    async fn minute(&self, minute: Minute) -> (BTreeMap<String, u64>, u64) {
        let (mut counts, mut items) = (BTreeMap::new(), 0);
        for bucket in Bucket::of_minute(minute) {
            let add =
                |_: &TopicPartition, product: &str, clicks| *counts.entry(product.to_owned()).or_default() += clicks;
            items += self.counters.read(bucket, add).await.expect("a bucket").items;
        }
        (counts, items)
    }

    /// The rejected events, as they are stored.
    async fn rejected(&self) -> Vec<RejectedBatch> {
        let mut batches = Vec::new();
        let each = |page: RejectsPage| {
            assert_eq!(page.unreadable, 0);
            batches.extend(page.batches);
            ControlFlow::Continue(())
        };
        assert!(self.rejects.since(UnixMillis(0), each).await.expect("the table is read"));
        batches
    }

    async fn close(self) {
        self.embedded.stop().await.expect("DynamoDB stops");
    }
}

/// A batch with one click on each of `ids`, from one topic partition, starting at `first_offset`.
fn clicks<'a>(ids: impl IntoIterator<Item = &'a str>, first_offset: i64, time: UnixMillis) -> String {
    let records = (first_offset..).zip(ids).map(|(offset, id)| {
        let value = json!({"event_time": time.0, "product_id": id, "action": "click", "user_id": "u_1"}).to_string();
        msk::record(msk::Position { topic: "clicks", partition: 0, offset }, time, None, Some(value.as_bytes()))
    });
    let records = HashMap::from([("clicks-0".to_owned(), records.collect())]);
    serde_json::to_string(&msk::event(records)).expect("an event is JSON")
}

/// The same mutations through the whole handler into the tables: no batch fails, the counters contain what the summaries
/// report, a redelivery changes no counter, and every rejected record is noted, without the user.
#[tokio::test]
async fn mutated_records_never_fail_an_invocation() {
    let start = start();
    let shop = Shop::open().await;
    let (mut records, mut counted, mut rejected) = (0, 0, 0);
    let mut left_out = BTreeSet::new();
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
        for (source, records) in &summary.left_out {
            let rejected = records.iter().filter(|record| matches!(record.cause, Cause::Rejected(_)));
            left_out.extend(rejected.map(|record| (source.as_str().to_owned(), record.offset)));
        }
    }
    let mut noted = BTreeSet::new();
    for batch in shop.rejected().await {
        let text = serde_json::to_string(&batch).expect("JSON");
        let mut parts = USER.as_bytes().windows(4).map(|part| std::str::from_utf8(part).expect("ASCII"));
        assert!(!parts.any(|part| text.contains(part)), "{text}");
        noted.extend(batch.offsets.into_values().flatten().map(|offset| (batch.source.clone(), offset)));
    }
    assert!(noted == left_out, "{} of {} rejected records are noted", noted.len(), left_out.len());
    let mut stored = 0;
    for minutes in -1_441..=6 {
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

/// An event of another shape fails before anything is written, so that its redelivery finds everything to do.
#[tokio::test]
async fn an_envelope_of_another_shape_fails_the_invocation_and_writes_nothing() {
    let shop = Shop::open().await;
    let valid = clicks(["p1"], 5, NOW);
    let broken = valid.replace("\"offset\":5", "\"offset\":-5");
    assert_ne!(valid, broken);
    let (summary, result) = shop.count_clicks.handle(&broken, NOW.plus(Duration::from_mins(1))).await;
    assert!(matches!(result, Err(CountError::NotAnMskBatch(_))), "{result:?}");
    assert_eq!(summary, CountSummary::default());
    assert_eq!(shop.minute(Minute::of(NOW)).await.1, 0);
    assert_eq!(shop.count(&valid).await.counted, 1);
    shop.close().await;
}

/// A flood of invented ids fills item after item. It neither blocks the partition nor loses a count.
#[tokio::test]
async fn a_flood_of_product_ids_is_counted_completely() {
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
    assert!(items > u64::from(Bucket::PER_MINUTE), "the flood caused no overflow: {items} items");

    // A redelivery from an older commit, with other batch boundaries, changes nothing.
    let before = start();
    for (batch, ids) in ids[43_210..].chunks(7_000).enumerate() {
        let event = clicks(ids.iter().map(String::as_str), 43_210 + batch as i64 * 7_000, NOW);
        assert_eq!(shop.count(&event).await.already_counted, ids.len() as u64);
    }
    let again = before.elapsed().as_secs_f64();
    assert_eq!(shop.minute(minute).await, (counts, items));

    // Counting goes on, in this minute and in the next.
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

/// Characters that change the direction of text on a terminal (Unicode Standard Annex #9, explicit directional
/// formatting).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Ids that equal an attribute's name, or contain characters with a meaning to DynamoDB, JSON or a terminal, are ordinary
/// ids: counted, ranked, read back byte for byte, and printed without effect.
#[tokio::test]
async fn an_unusual_product_id_is_an_ordinary_id() {
    let shop = Shop::open().await;
    let (longest, wide) = ("#".repeat(256), "\u{202e}".repeat(85));
    let ids: Vec<&str> = ODD_IDS.iter().copied().chain([longest.as_str(), wide.as_str()]).collect();
    assert!(ids.len() <= 100, "all must be in a snapshot of the default length");
    // The first most often, the last once, so that each has its own rank.
    let expected: Vec<(u64, &str, u64)> =
        (1..).zip(&ids).map(|(rank, id)| (rank, *id, ids.len() as u64 + 1 - rank)).collect();
    let of_one = expected.iter().flat_map(|(_, id, clicks)| (0..*clicks).map(|_| *id));
    let time = NOW.minus(Duration::from_mins(5));
    let summary = shop.count(&clicks(of_one, 0, time)).await;
    assert_eq!(summary.counted, summary.records);
    let (counts, items) = shop.minute(Minute::of(time)).await;
    assert_eq!(counts, expected.iter().map(|(_, id, clicks)| ((*id).to_owned(), *clicks)).collect());
    assert!(items <= u64::from(Bucket::PER_MINUTE));

    shop.clock.set(NOW);
    let request = Request { scheduled_time: Some(NOW.rfc3339()), window_end: None };
    assert!(shop.rank_products.handle(&request, UnixMillis(i64::MAX)).await.expect("a snapshot").summary.written);
    let snapshot: Snapshot = shop.snapshots.get(Window::ended_by(NOW)).await.expect("a read").expect("a snapshot");
    let places: Vec<(u64, &str, u64)> =
        snapshot.products.iter().map(|product| (product.rank, product.product_id.as_str(), product.clicks)).collect();
    assert_eq!(places, expected);

    // The real program, in a blocking call, because the embedded DynamoDB runs in this process.
    let endpoint = shop.embedded.endpoint();
    let top = move || hot(["top", "--endpoint-url", &endpoint]).output();
    let output = tokio::task::spawn_blocking(top).await.expect("no panic").expect("hot runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("output is text");
    assert!(!printed.contains(|c: char| c != '\n' && (c.is_control() || turns_text(c))), "{printed:?}");
    assert_eq!(printed.lines().filter(|line| line.contains('█')).count(), ids.len(), "one row for each");
    shop.close().await;
}
