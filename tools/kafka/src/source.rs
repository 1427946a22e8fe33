//! The event source: what Lambda's event source mapping does between a topic and a function.
//!
//! Records are consumed with a consumer group and handed to the function in batches, one at a time. Offsets are committed
//! when the function has answered well, and only then; until then the batch is delivered again, for ever. While the
//! function works, a few batches are read ahead.
//!
//! A partition that a rebalance takes away is forgotten: its records still unsent are dropped, those being sent are not
//! committed. Who gets the partition begins where the last commit was. So a record may come to the function twice, and
//! from two sides at a time, but none is ever left out.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use aws_lambda_events::kafka::KafkaRecord;
use hot_products::UnixMillis;
use hyper::body::Bytes;
use rdkafka::{
    ClientContext, Message, Offset, Timestamp, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
    topic_partition_list::TopicPartitionListElem,
};
use serde::Serialize;
use tokio::time::{Sleep, sleep};

use crate::{
    Cluster, Log, create,
    invoke::{Function, InvokeError},
    metadata, tell,
};
use local_aws::msk::{self, MAX_PAYLOAD_BYTES};

/// How long to wait after the first failure; twice as long after each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// How long to wait before a commit that the brokers refused is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// How many batches are read ahead at most, about.
const READ_AHEAD: usize = 4;

/// What a batch's payload holds besides its records, in bytes, generously.
const ENVELOPE_BYTES: usize = 1024;

/// How the source works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Where a group without commits begins: `earliest` or `latest`.
    pub start: &'static str,
    /// Most records in a batch.
    pub batch_size: usize,
    /// How long a batch may gather records before it is sent.
    pub window: Duration,
    /// The longest wait between two deliveries of a batch that fails.
    pub max_backoff: Duration,
}

/// What was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// Batches that the function has answered well.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Deliveries that failed. Their batches came again, unless stopping came first.
    pub failures: u64,
}

/// Delivers the topic's records to `function` until `stop` is ready, then lets the batch under way end.
///
/// # Errors
/// When the topic is not there or the settings are wrong. Once it runs, only what Kafka's client can't recover from.
pub async fn run(
    cluster: &Cluster,
    function: &Function,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Delivered> {
    let defaults = [
        ("auto.offset.reset", options.start),
        // What Kafka's client reads ahead of us, a pause throws away.
        ("queued.min.messages", "10000"),
    ];
    let fixed = [
        ("group.id", options.group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "false"),
    ];
    let config = cluster.config(&defaults, &fixed)?;
    // A member of the group would wait for the topic for ever.
    metadata(&create(&cluster.config(&[], &[])?, Log::default())?, Some(&options.topic))?;
    let consumer: StreamConsumer<Rebalances> = create(&config, Rebalances::default())?;
    consumer.subscribe(&[&options.topic])?;
    tell(&format!("hot: {} as group {} to {}", options.topic, options.group, function.url()));
    let buffer = Buffer::new(options.batch_size, MAX_PAYLOAD_BYTES - ENVELOPE_BYTES);
    let source = Source {
        consumer,
        function,
        options,
        buffer,
        paused: None,
        window: None,
        flight: None,
        uncommitted: BTreeMap::new(),
        delivered: Delivered::default(),
    };
    source.run(stop).await
}

/// The source at work.
struct Source<'a> {
    consumer: StreamConsumer<Rebalances>,
    function: &'a Function,
    options: &'a Options,
    /// What was read and is not being sent.
    buffer: Buffer,
    /// Whether reading pauses; unknown after a rebalance.
    paused: Option<bool>,
    /// Runs until the records of the buffer have gathered for long enough.
    window: Option<Window>,
    flight: Option<Flight<'a>>,
    /// By partition, the offset to begin at next time: delivered, and not committed yet.
    uncommitted: BTreeMap<i32, i64>,
    delivered: Delivered,
}

enum Window {
    Open(Pin<Box<Sleep>>),
    Over,
}

/// A batch that is being delivered.
struct Flight<'a> {
    batch: Batch,
    /// How often it has failed.
    failures: u32,
    phase: Phase<'a>,
}

enum Phase<'a> {
    /// It failed, and waits to be sent again.
    Waiting(Pin<Box<Sleep>>),
    /// The function has it.
    Sent(Pin<Box<dyn Future<Output = Result<String, InvokeError>> + Send + 'a>>),
}

impl Source<'_> {
    async fn run(mut self, stop: impl Future<Output = ()>) -> Result<Delivered> {
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        loop {
            self.follow_rebalances();
            if stopping && !matches!(&self.flight, Some(Flight { phase: Phase::Sent(_), .. })) {
                break;
            }
            self.depart(stopping);
            self.pause_or_resume();
            tokio::select! {
                () = &mut stop, if !stopping => {
                    stopping = true;
                    tell("hot: stopping; an invocation under way may end");
                }
                // Asked even where reading pauses: this is also what keeps us in the group.
                message = self.consumer.recv() => match message {
                    Ok(message) => {
                        let record = record(&message);
                        // The message may be of a partition that came with a rebalance a moment ago.
                        drop(message);
                        self.follow_rebalances();
                        self.buffer.push(record);
                        self.window.get_or_insert_with(|| Window::Open(Box::pin(sleep(self.options.window))));
                    }
                    Err(error @ KafkaError::MessageConsumptionFatal(_)) => bail!("Kafka's client gave up: {error}"),
                    // Whatever passes: librdkafka tries again by itself.
                    Err(error) => tell(&format!("hot: {error}")),
                },
                () = gathered(&mut self.window) => self.window = Some(Window::Over),
                answer = landed(&mut self.flight) => {
                    // First, for a partition that was lost a moment ago must not be committed.
                    self.follow_rebalances();
                    match (self.flight.take(), answer) {
                        (Some(Flight { batch, failures, .. }), None) => self.send(batch, failures),
                        (Some(Flight { batch, failures, .. }), Some(answer)) => {
                            self.land(batch, failures, answer, stopping);
                        }
                        (None, _) => {}
                    }
                }
                () = sleep(COMMIT_AGAIN), if !self.uncommitted.is_empty() => self.commit(),
            }
        }
        self.commit();
        // Dropping the consumer leaves the group at once, so that the others needn't wait for this member to go missing.
        Ok(self.delivered)
    }

    /// Sends a batch if one is due and none is under way.
    fn depart(&mut self, stopping: bool) {
        let due = self.buffer.is_full() || matches!(self.window, Some(Window::Over));
        if stopping || self.flight.is_some() || !due {
            return;
        }
        self.window = None;
        let batch = self.buffer.take();
        if !self.buffer.is_empty() {
            self.window = Some(Window::Open(Box::pin(sleep(self.options.window))));
        }
        if !batch.is_empty() {
            self.send(batch, 0);
        }
    }

    /// Sends what is still ours of a batch.
    fn send(&mut self, mut batch: Batch, failures: u32) {
        batch.forget_lost();
        if batch.is_empty() {
            return;
        }
        let (function, payload) = (self.function, batch.payload(&self.options.topic));
        let answer = Box::pin(async move { function.invoke(payload?).await });
        self.flight = Some(Flight { batch, failures, phase: Phase::Sent(answer) });
    }

    /// A batch was delivered, or was not.
    fn land(&mut self, batch: Batch, failures: u32, answer: Result<String, InvokeError>, stopping: bool) {
        let what = batch.describe(&self.options.topic);
        self.delivered.failures += u64::from(answer.is_err());
        match answer {
            Ok(answer) => {
                tell(&format!("hot: {what}: {answer}"));
                self.delivered.batches += 1;
                self.delivered.records += batch.records.len() as u64;
                for (partition, (_, last)) in batch.offsets() {
                    if batch.is_ours(partition) {
                        self.uncommitted.insert(partition, last + 1);
                    }
                }
                self.commit();
            }
            Err(error) if stopping => tell(&format!("hot: {what}: {error}; not committed")),
            Err(error) => {
                let failures = failures.saturating_add(1);
                let wait = backoff(failures, self.options.max_backoff);
                tell(&format!("hot: {what}: {error}; again in {}", humantime::format_duration(wait)));
                self.flight = Some(Flight { batch, failures, phase: Phase::Waiting(Box::pin(sleep(wait))) });
            }
        }
    }

    /// Commits what was delivered. A commit that fails is tried again later, unless the partition is lost by then.
    fn commit(&mut self) {
        if self.uncommitted.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in &self.uncommitted {
            // Fails only for an offset below zero, which no record has.
            let _never = offsets.add_partition_offset(&self.options.topic, *partition, Offset::Offset(*offset));
        }
        match self.consumer.commit(&offsets, CommitMode::Sync) {
            Ok(()) => self.uncommitted.clear(),
            Err(error) => tell(&format!("hot: can't commit yet: {error}")),
        }
    }

    /// Does what the rebalances since the last time ask for, in their order.
    fn follow_rebalances(&mut self) {
        for change in self.consumer.context().take() {
            match change {
                Change::Gained(partitions) => {
                    tell(&format!("hot: partitions gained: {}", list(&partitions)));
                    self.paused = None;
                }
                Change::Lost(partitions) => {
                    tell(&format!("hot: partitions lost: {}", list(&partitions)));
                    self.buffer.forget(&partitions);
                    if let Some(flight) = &mut self.flight {
                        flight.batch.lose(&partitions);
                    }
                    self.uncommitted.retain(|partition, _| !partitions.contains(partition));
                }
            }
        }
    }

    /// Pauses reading when several batches are waiting, and goes on when one is left. In between, all stays as it is: a
    /// pause throws away what Kafka's client has read by then, and the brokers are slow to be asked again.
    fn pause_or_resume(&mut self) {
        let pause = match self.buffer.batches() {
            0 | 1 => false,
            READ_AHEAD.. => true,
            _ => self.paused.unwrap_or(false),
        };
        if self.paused == Some(pause) {
            return;
        }
        let change =
            |assignment| if pause { self.consumer.pause(&assignment) } else { self.consumer.resume(&assignment) };
        match self.consumer.assignment().and_then(change) {
            Ok(()) => self.paused = Some(pause),
            Err(error) => tell(&format!("hot: can't {} reading yet: {error}", if pause { "pause" } else { "resume" })),
        }
    }
}

/// Ready when the window's time is over.
async fn gathered(window: &mut Option<Window>) {
    match window {
        Some(Window::Open(sleep)) => sleep.await,
        Some(Window::Over) | None => std::future::pending().await,
    }
}

/// Ready when something happens to the flight: the function's answer, or nothing when the wait is over. The flight is to
/// be taken then.
async fn landed(flight: &mut Option<Flight<'_>>) -> Option<Result<String, InvokeError>> {
    match flight.as_mut().map(|flight| &mut flight.phase) {
        Some(Phase::Waiting(sleep)) => {
            sleep.await;
            None
        }
        Some(Phase::Sent(answer)) => Some(answer.await),
        None => std::future::pending().await,
    }
}

/// How long to wait before the delivery after `failures` failures.
fn backoff(failures: u32, most: Duration) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(16)).min(most),
    }
}

/// A record, read and not delivered.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    partition: i32,
    offset: i64,
    /// Its size in a payload, in bytes.
    bytes: usize,
    json: KafkaRecord,
}

impl Record {
    fn new(record: KafkaRecord) -> Self {
        // The comma counts too.
        let bytes = serde_json::to_vec(&record).map_or(0, |json| json.len()) + 1;
        Self { partition: record.partition as i32, offset: record.offset, bytes, json: record }
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let (kind, timestamp) = match message.timestamp() {
        Timestamp::CreateTime(time) => ("CREATE_TIME", time),
        Timestamp::LogAppendTime(time) => ("LOG_APPEND_TIME", time),
        Timestamp::NotAvailable => ("NO_TIMESTAMP_TYPE", 0),
    };
    let mut record = msk::record(
        message.topic(),
        u32::try_from(message.partition()).unwrap_or_default(),
        message.offset(),
        UnixMillis(timestamp),
        message.key(),
        message.payload(),
    );
    record.timestamp_type = Some(kind.to_owned());
    if let Some(headers) = message.headers() {
        record.headers = headers
            .iter()
            .map(|header| {
                let value = header.value.unwrap_or_default().iter().map(|byte| byte.cast_signed()).collect();
                HashMap::from([(header.key.to_owned(), value)])
            })
            .collect();
    }
    Record::new(record)
}

/// Records in the order in which they were read, with a batch's limits.
#[derive(Debug)]
struct Buffer {
    batch_size: usize,
    max_bytes: usize,
    records: VecDeque<Record>,
    /// Of all records, in a payload.
    bytes: usize,
}

impl Buffer {
    fn new(batch_size: usize, max_bytes: usize) -> Self {
        Self { batch_size, max_bytes, records: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, record: Record) {
        self.bytes += record.bytes;
        self.records.push_back(record);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many full batches there are, about.
    fn batches(&self) -> usize {
        (self.records.len() / self.batch_size).max(self.bytes / self.max_bytes)
    }

    /// Whether the next batch can't grow any more.
    fn is_full(&self) -> bool {
        self.batches() > 0
    }

    /// The longest batch at the buffer's start; a record that is too large for any batch goes alone.
    fn take(&mut self) -> Batch {
        let mut bytes = 0;
        let fit = self
            .records
            .iter()
            .take(self.batch_size)
            .take_while(|record| {
                bytes += record.bytes;
                bytes <= self.max_bytes
            })
            .count();
        let count = fit.max(1).min(self.records.len());
        let records: Vec<Record> = self.records.drain(..count).collect();
        self.bytes -= records.iter().map(|record| record.bytes).sum::<usize>();
        Batch { records, lost: Vec::new() }
    }

    /// Drops what was read from `partitions`.
    fn forget(&mut self, partitions: &[i32]) {
        self.records.retain(|record| !partitions.contains(&record.partition));
        self.bytes = self.records.iter().map(|record| record.bytes).sum();
    }
}

/// What goes to the function at once.
#[derive(Clone, Debug, PartialEq)]
struct Batch {
    records: Vec<Record>,
    /// Partitions that a rebalance took away since the records were read.
    lost: Vec<i32>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn is_ours(&self, partition: i32) -> bool {
        !self.lost.contains(&partition)
    }

    fn lose(&mut self, partitions: &[i32]) {
        self.lost.extend(partitions);
    }

    /// Drops the records of the partitions that are lost.
    fn forget_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        self.records.retain(|record| !lost.contains(&record.partition));
    }

    /// First and last offset, by partition.
    fn offsets(&self) -> BTreeMap<i32, (i64, i64)> {
        let mut offsets = BTreeMap::new();
        for record in &self.records {
            let (_, last) = offsets.entry(record.partition).or_insert((record.offset, record.offset));
            *last = record.offset;
        }
        offsets
    }

    fn describe(&self, topic: &str) -> String {
        let mut text = format!("{} records", self.records.len());
        for (partition, (first, last)) in self.offsets() {
            let _infallible = write!(text, ", {topic}-{partition} {first}..{last}");
        }
        text
    }

    fn payload(&self, topic: &str) -> Result<Bytes, InvokeError> {
        let mut records: HashMap<String, Vec<KafkaRecord>> = HashMap::new();
        for record in &self.records {
            records.entry(format!("{topic}-{}", record.partition)).or_default().push(record.json.clone());
        }
        let json =
            serde_json::to_vec(&msk::event(records)).map_err(|error| InvokeError::NoPayload(error.to_string()))?;
        Ok(json.into())
    }
}

fn list(partitions: &[i32]) -> String {
    let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    if partitions.is_empty() { "none".to_owned() } else { partitions.join(", ") }
}

/// What a rebalance did.
#[derive(Debug)]
enum Change {
    Gained(Vec<i32>),
    Lost(Vec<i32>),
}

/// Notes rebalances, which happen while the consumer is asked for a message, until they are taken.
#[derive(Debug, Default)]
struct Rebalances {
    log: Log,
    changes: Mutex<Vec<Change>>,
}

impl Rebalances {
    fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let partitions =
            |list: &TopicPartitionList| list.elements().iter().map(TopicPartitionListElem::partition).collect();
        let change = match rebalance {
            Rebalance::Assign(list) => Change::Gained(partitions(list)),
            Rebalance::Revoke(list) => Change::Lost(partitions(list)),
            Rebalance::Error(error) => return tell(&format!("hot: {error}")),
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(partition: i32, offset: i64, value: &str) -> Record {
        Record::new(msk::record("clicks", partition as u32, offset, UnixMillis(0), None, Some(value.as_bytes())))
    }

    fn offsets(batch: &Batch) -> Vec<(i32, i64)> {
        batch.records.iter().map(|record| (record.partition, record.offset)).collect()
    }

    #[test]
    fn a_batch_is_cut_by_records() {
        let mut buffer = Buffer::new(3, usize::MAX);
        for offset in 0..7 {
            assert_eq!(buffer.is_full(), offset >= 3);
            buffer.push(one(0, offset, "x"));
        }
        assert_eq!(offsets(&buffer.take()), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(offsets(&buffer.take()), [(0, 3), (0, 4), (0, 5)]);
        assert!(!buffer.is_full());
        assert_eq!(offsets(&buffer.take()), [(0, 6)]);
        assert!(buffer.take().is_empty() && buffer.is_empty() && buffer.bytes == 0);
    }

    #[test]
    fn a_batch_is_cut_before_the_record_that_would_make_it_too_large() {
        let size = one(0, 0, "x").bytes;
        let mut buffer = Buffer::new(100, 2 * size);
        for offset in 0..3 {
            buffer.push(one(0, offset, "x"));
        }
        assert!(buffer.is_full());
        assert_eq!(offsets(&buffer.take()), [(0, 0), (0, 1)]);
        assert!(!buffer.is_full());
        // A record that no batch has room for must not block the partition.
        buffer.push(one(0, 3, &"x".repeat(3 * size)));
        assert_eq!(offsets(&buffer.take()), [(0, 2)]);
        assert_eq!(offsets(&buffer.take()), [(0, 3)]);
    }

    #[test]
    fn a_payload_is_as_large_as_its_records_and_no_larger_than_lambda_takes() {
        let mut buffer = Buffer::new(100_000, MAX_PAYLOAD_BYTES - ENVELOPE_BYTES);
        let mut offset = 0;
        while !buffer.is_full() {
            buffer.push(one(offset as i32 % 12, offset, &"\"\u{1f600}".repeat(offset as usize % 50)));
            offset += 1;
        }
        let batch = buffer.take();
        let payload = batch.payload("clicks").unwrap();
        assert!(payload.len() <= MAX_PAYLOAD_BYTES, "{}", payload.len());
        assert!(payload.len() > MAX_PAYLOAD_BYTES - 2 * ENVELOPE_BYTES, "{}", payload.len());
    }

    #[test]
    fn a_batch_names_its_sources_as_lambda_does() {
        let batch = Batch { records: vec![one(1, 5, "a"), one(0, 9, "b"), one(1, 6, "c")], lost: Vec::new() };
        let event: serde_json::Value = serde_json::from_slice(&batch.payload("clicks").unwrap()).unwrap();
        assert_eq!(event["eventSource"], "aws:kafka");
        assert_eq!(event["records"]["clicks-1"][1]["offset"], 6);
        assert_eq!(event["records"]["clicks-1"][1]["value"], "Yw==");
        assert_eq!(event["records"]["clicks-0"].as_array().unwrap().len(), 1);
        assert_eq!(batch.describe("clicks"), "3 records, clicks-0 9..9, clicks-1 5..6");
    }

    #[test]
    fn what_a_rebalance_took_is_neither_sent_again_nor_committed() {
        let mut buffer = Buffer::new(10, usize::MAX);
        for record in [one(0, 1, "a"), one(1, 1, "b"), one(2, 1, "c"), one(0, 2, "d")] {
            buffer.push(record);
        }
        buffer.forget(&[2]);
        let mut batch = buffer.take();
        assert_eq!(offsets(&batch), [(0, 1), (1, 1), (0, 2)]);
        batch.lose(&[0]);
        assert!(!batch.is_ours(0) && batch.is_ours(1));
        batch.forget_lost();
        assert_eq!(offsets(&batch), [(1, 1)]);
        // What comes back with a later rebalance is read anew from the last commit; this batch knows nothing of it.
        assert!(batch.is_ours(0));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let most = Duration::from_secs(30);
        let waits: Vec<_> = [0, 1, 2, 3, 8, 50, u32::MAX].map(|failures| backoff(failures, most).as_millis()).into();
        assert_eq!(waits, [0, 250, 500, 1_000, 30_000, 30_000, 30_000]);
    }
}
