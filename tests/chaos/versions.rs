//! Two versions of the functions on the same tables: those of this workspace, and those of the previous release.
//!
//! During a deployment, Lambda's alias sends each invocation to one of two versions, and each version has its own instances.
//! So do the schedules, if there is a previous release: each poller has an instance of both, and the seed decides which one
//! gets an invocation. What the other one remembers of the tables is then out of date.
//!
//! At the end of a schedule, both versions of rank-products rank what both have counted, in turn. The previous release may
//! have another layout of the tables. Then nothing may be shared, and each version must refuse the other's tables.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::PathBuf,
    time::Duration,
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use bytes::Bytes;
use hot_products::{
    Clock, SystemClock, UnixMillis, Window, defaults,
    snapshot::{BOARD, MINUTES_BOARD, RankedProduct},
    store::SnapshotsTable,
    time::bound,
};
use hot_products_tests::group_by::{self, Counts};
use local_aws::{
    embedded::Embedded,
    msk,
    tables::client_for,
    template::{DEFAULT_STACK, TableNames},
};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    dice::{chance, dice},
    lambda::{Ended, Function},
};

/// The time of an invocation without faults: much more than it takes on a busy machine.
const AMPLE: Duration = Duration::from_mins(2);

/// A version of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// That of this workspace.
    Present,
    /// The previous release.
    Previous,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Present, Self::Previous];

    fn other(self) -> Self {
        if self == Self::Present { Self::Previous } else { Self::Present }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Present { "this version" } else { "the previous release" })
    }
}

/// The binaries of the versions.
#[derive(Clone, Debug)]
pub struct Versions {
    previous: Option<PathBuf>,
}

impl Versions {
    /// The binaries of this workspace, and those of the previous release in the folder `previous`, if there is one.
    pub fn new(previous: Option<PathBuf>) -> Self {
        Self { previous }
    }

    /// Whether there are two.
    pub fn are_two(&self) -> bool {
        self.previous.is_some()
    }

    /// The binary of `function`.
    pub fn binary(&self, version: Version, function: &str) -> PathBuf {
        match &self.previous {
            Some(folder) if version == Version::Previous => {
                let binary = folder.join(function);
                assert!(
                    binary.is_file(),
                    "PREVIOUS is {}, which has no {function}: `make test-versions` builds it",
                    folder.display()
                );
                binary
            }
            _ => hot_products_tests::binary(function),
        }
    }

    /// The version that gets the invocation `number` of `poller`. Its share differs between schedules, as it does during a
    /// deployment.
    pub fn of(&self, seed: u64, poller: usize, number: u64) -> Version {
        if !self.are_two() {
            return Version::Present;
        }
        let share = dice(seed, "share of the previous release").random_range(20..=80);
        let mut dice = dice(seed, format_args!("version of invocation {number} of poller {poller}"));
        if chance(&mut dice, share) { Version::Previous } else { Version::Present }
    }

    /// Lets each version write to new tables and the other one go on. Returns whether they share tables. If not, each of
    /// them must have refused the tables of the other, and nothing may have changed.
    pub async fn share_tables(&self) -> bool {
        let mut layouts = Vec::new();
        let mut answers = Vec::new();
        for version in Version::ALL {
            let dynamodb = Embedded::start(0, None).await.expect("an embedded DynamoDB starts");
            let (endpoint, client) = (dynamodb.endpoint(), dynamodb.client());
            let first = self.count(version, &endpoint, 0).await;
            assert!(matches!(first, Ended::Response(_)), "{version} can't count into new tables: {first:?}");
            let before = items(&client).await;
            layouts.push(before.iter().find_map(layout));
            let counted = self.count(version.other(), &endpoint, 1).await;
            let event = json!({"scheduled_time": SystemClock.now().rfc3339()});
            let ranked = self.rank(version.other(), &endpoint, &event).await;
            answers.push((version, counted, ranked, items(&client).await == before));
            drop(client);
            dynamodb.stop().await.expect("the embedded DynamoDB stops");
        }
        assert!(layouts[0].is_some(), "this version marks new tables with its layout");
        let share = layouts[0] == layouts[1];
        println!("layout of the tables: {:?} of this version, {:?} of the previous release", layouts[0], layouts[1]);
        for (version, counted, ranked, is_unchanged) in answers {
            let other = version.other();
            if share {
                assert!(matches!(counted, Ended::Response(_)), "{other} refuses the tables of {version}: {counted:?}");
                assert!(ranked.is_ok(), "{other} does not rank what {version} has counted: {ranked:?}");
            } else {
                let refused = |ended: &[u8]| String::from_utf8_lossy(ended).contains("Two layouts can't share a table");
                let (Ended::Error(counting), Err(ranking)) = (counted, ranked) else {
                    panic!("{other} accepts the tables of {version}, which have another layout")
                };
                assert!(refused(&counting), "{other} does not say why it refuses: {counting:?}");
                assert!(refused(ranking.as_bytes()), "{other} does not say why it refuses: {ranking}");
                assert!(is_unchanged, "{other} has written to the tables of {version}, which have another layout");
            }
        }
        share
    }

    /// Ranks the tables at `endpoint`, which have `counts` of less than an hour, by both versions in turn, and compares the
    /// snapshots. Returns the number of windows.
    ///
    /// # Errors
    /// What differs.
    pub async fn compare_rankings(&self, seed: u64, endpoint: &str, counts: &Counts) -> Result<u64, String> {
        let Some(first_click) = counts.keys().next().copied().map(UnixMillis) else { return Ok(0) };
        let first = if chance(&mut dice(seed, "first to rank"), 50) { Version::Previous } else { Version::Present };
        let order = [first, first.other()];
        let now = SystemClock.now();

        // What one version notes of late clicks and rankings, the other one reads.
        let mut ranked = BTreeSet::new();
        let event = json!({"scheduled_time": now.rfc3339()});
        for version in order {
            let summary = self.rank(version, endpoint, &event).await?;
            for window in summary["also_ranked"].as_array().into_iter().flatten() {
                if !ranked.insert(window.to_string()) {
                    return Err(format!("{version} ranks {window} again, which {} has ranked", version.other()));
                }
            }
        }
        let client = client_for(endpoint);
        let (first_window, last_window) = (Window::first_after(first_click), Window::ended_by(now));
        let mut windows = 0;
        for window in first_window.until(last_window) {
            compare(&client, window, counts).await?;
            windows += 1;
        }

        // A window of which each version writes its own snapshot.
        let window = first_window.last_overlapping().min(last_window);
        let mut snapshots_of = Vec::new();
        for version in order {
            let summary = self.rank(version, endpoint, &json!({"window_end": bound(window.end())})).await?;
            if summary["written"] != true {
                return Err(format!("{version} has kept the snapshot of {}: {summary}", version.other()));
            }
            compare(&client, window, counts).await?;
            snapshots_of.push(written(&client, window).await);
        }
        if first == Version::Present {
            snapshots_of.reverse();
        }
        for (previous, present) in snapshots_of[0].iter().zip(&snapshots_of[1]) {
            if !extends(present, previous) {
                return Err(format!(
                    "a reader of the previous release misses something: {present:?} instead of {previous:?}"
                ));
            }
        }
        Ok(windows)
    }

    /// Invokes count-clicks with one click.
    async fn count(&self, version: Version, endpoint: &str, offset: i64) -> Ended {
        let now = SystemClock.now();
        let click = json!({"event_time": now.0, "product_id": "p1", "action": "click", "user_id": "u_1"}).to_string();
        let position = msk::Position { topic: "clicks", partition: 0, offset };
        let record = msk::record(position, now, None, Some(click.as_bytes()));
        let event = msk::event(HashMap::from([("clicks-0".to_owned(), vec![record])]));
        let event = serde_json::to_vec(&event).expect("an event is JSON");
        self.invoke(version, "count-clicks", endpoint, event).await
    }

    /// Invokes rank-products and returns its summary.
    async fn rank(&self, version: Version, endpoint: &str, event: &Value) -> Result<Value, String> {
        match self.invoke(version, "rank-products", endpoint, event.to_string().into_bytes()).await {
            Ended::Response(summary) => Ok(serde_json::from_slice(&summary).unwrap_or_default()),
            Ended::Error(error) => Err(format!("{version} does not rank: {}", String::from_utf8_lossy(&error))),
            ended => Err(format!("{version} does not rank: {ended:?}")),
        }
    }

    /// A single invocation of a new instance, without faults.
    async fn invoke(&self, version: Version, function: &str, endpoint: &str, event: Vec<u8>) -> Ended {
        let tables = TableNames::of(DEFAULT_STACK);
        let settings = [
            ("COUNTERS_TABLE", tables.counters),
            ("REJECTS_TABLE", tables.rejects),
            ("SNAPSHOTS_TABLE", tables.snapshots),
            ("AWS_ENDPOINT_URL_DYNAMODB", endpoint.to_owned()),
        ];
        let mut instance = Function::start(&self.binary(version, function), &settings, false).await;
        let (_never, killed) = oneshot::channel();
        let ended = instance.invoke(Bytes::from(event), AMPLE, killed).await;
        instance.kill().await;
        ended
    }
}

type Item = HashMap<String, AttributeValue>;

/// All items of the counters and snapshots, in order of their keys.
async fn items(client: &Client) -> Vec<Item> {
    let tables = TableNames::of(DEFAULT_STACK);
    let mut items = Vec::new();
    for table in [tables.counters, tables.snapshots] {
        let page = client.scan().table_name(table).consistent_read(true).send().await.expect("a table can be read");
        items.extend(page.items.unwrap_or_default());
    }
    items.sort_by_key(|item| format!("{:?} {:?}", item.get("bucket"), item.get("source")));
    items
}

/// The version of the layout, if `item` is the one that has it.
fn layout(item: &Item) -> Option<String> {
    let is_layout = item.get("bucket").and_then(|bucket| bucket.as_s().ok()).is_some_and(|bucket| bucket == "layout");
    item.get("version").filter(|_| is_layout).and_then(|version| version.as_n().ok()).cloned()
}

/// Compares the snapshot of `window` with `counts`.
async fn compare(client: &Client, window: Window, counts: &Counts) -> Result<(), String> {
    let end = bound(window.end());
    let snapshots = SnapshotsTable::new(client.clone(), TableNames::of(DEFAULT_STACK).snapshots);
    let stored = snapshots.get(window).await.map_err(|error| error.to_string())?;
    let stored = stored.ok_or_else(|| format!("nobody has ranked the window that ends at {end}"))?;
    let place = |place: RankedProduct| (place.rank, place.product_id, place.clicks, place.previous_rank);
    let products: Vec<_> = stored.products.into_iter().map(place).collect();
    let found = (stored.total_clicks, stored.distinct_products, products);
    let expected = group_by::hour(counts, window.end().0, defaults::TOP_N);
    if found != expected {
        return Err(format!("the snapshot of the window that ends at {end} is {found:?} instead of {expected:?}"));
    }
    Ok(())
}

/// The items of `window`, its snapshot and its clicks per minute, without when they were made.
async fn written(client: &Client, window: Window) -> Vec<AttributeValue> {
    let mut found = Vec::new();
    for board in [BOARD, MINUTES_BOARD] {
        let get = client.get_item().table_name(TableNames::of(DEFAULT_STACK).snapshots).consistent_read(true);
        let get = get.key("board", AttributeValue::S(board.to_owned()));
        let output = get.key("window_end", AttributeValue::S(bound(window.end()))).send().await;
        let mut item = output.expect("the snapshots can be read").item.expect("the window was just ranked");
        item.remove("generated_at");
        found.push(AttributeValue::M(item));
    }
    found
}

/// Whether `new` has all that a reader of `old` knows: only attributes may be added.
fn extends(new: &AttributeValue, old: &AttributeValue) -> bool {
    match (new, old) {
        (AttributeValue::M(new), AttributeValue::M(old)) => {
            old.iter().all(|(name, old)| new.get(name).is_some_and(|new| extends(new, old)))
        }
        (AttributeValue::L(new), AttributeValue::L(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| extends(new, old))
        }
        _ => new == old,
    }
}
