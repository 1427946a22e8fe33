//! The event source: what Lambda's event source mapping does between a topic and a function.
//!
//! It reads the topic with a consumer group and invokes the function with one batch at a time. It commits a batch's
//! offsets when the function has succeeded, and only then; until then it delivers the batch again, without end. While the
//! function works, it reads a few batches ahead.
//!
//! When a rebalance revokes a partition, its buffered records are dropped, and records in flight are not committed. The
//! new owner starts at the last commit. So a record may be delivered twice, even by two members at the same time, but no
//! record is skipped. A group that starts at the end of the topic commits that end when it is assigned a partition, before
//! it reads, so that this also holds until its first delivery.

mod buffer;
mod commits;
mod rebalance;

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::{Result, bail};
use local_aws::msk::MAX_PAYLOAD_BYTES;
use rdkafka::{
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
};
use serde::Serialize;
use tokio::time::{Sleep, sleep};

use self::{
    buffer::{Buffer, BufferedBatch, BufferedRecord},
    commits::Commits,
    rebalance::{RebalanceContext, RebalanceEvent},
};
use crate::{
    client::{metadata, print_line},
    cluster::{Cluster, create},
    invoke::{Function, InvokeError},
};

/// The wait after the first failed delivery of a batch. It doubles with each further failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// The wait before a failed commit is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// The number of full batches in the buffer at which reading pauses.
const READ_AHEAD: usize = 4;

/// An upper limit for the size of a payload without its records, in bytes.
const ENVELOPE_BYTES: usize = 1024;

/// How the event source works.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Where a group without commits starts.
    pub start: StartOffset,
    /// The most records in a batch.
    pub batch_size: usize,
    /// How long a batch may gather records before it is delivered.
    pub window: Duration,
    /// The longest wait between two deliveries of a batch that fails.
    pub max_backoff: Duration,
}

/// Where a consumer group without commits starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOffset {
    /// At the oldest record.
    Earliest,
    /// After the newest record at the time of its first assignment, which it commits then.
    Latest,
}

/// What was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// Batches for which the function succeeded.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Deliveries that failed. Their batches were delivered again, unless the event source stopped before.
    pub failures: u64,
}

/// Delivers the topic's records to `function` until `stop` is ready and the invocation in progress has ended.
///
/// # Errors
/// When there is no such topic or the settings are wrong; later, only when Kafka's client fails for good,
/// or a group that starts at the end can't commit where that is.
pub async fn run(
    cluster: &Cluster,
    function: &Function,
    options: &SourceOptions,
    stop: impl Future<Output = ()>,
) -> Result<Delivered> {
    // A pause discards what librdkafka has fetched ahead, so it should not fetch much.
    let defaults = [("queued.min.messages", "10000")];
    let fixed = [
        // Also for a group that starts at the end: it commits the end when it is assigned. So this is for a commit whose
        // record was deleted, and nothing that was written since is skipped.
        ("auto.offset.reset", "earliest"),
        ("group.id", options.group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "false"),
    ];
    let config = cluster.config(&defaults, &fixed)?;
    // Fails if there is no such topic. The consumer below would wait for the topic without end.
    metadata(&create(&cluster.config(&[], &[])?, cluster.log())?, Some(&options.topic))?;
    let context = RebalanceContext::new(options.topic.clone(), options.start, cluster.log());
    let consumer: StreamConsumer<RebalanceContext> = create(&config, context)?;
    consumer.subscribe(&[&options.topic])?;
    print_line(&format!("{} as group {} to {}", options.topic, options.group, function.url()));
    let source = EventSource {
        consumer,
        function,
        options,
        buffer: Buffer::new(options.batch_size, MAX_PAYLOAD_BYTES - ENVELOPE_BYTES),
        paused: None,
        window: None,
        delivery: None,
        commits: Commits::new(options.topic.clone()),
        delivered: Delivered::default(),
    };
    source.run(stop).await
}

/// A running event source.
struct EventSource<'a> {
    consumer: StreamConsumer<RebalanceContext>,
    function: &'a Function,
    options: &'a SourceOptions,
    /// Records that were read and are not being delivered.
    buffer: Buffer,
    /// Whether reading is paused; unknown after a rebalance.
    paused: Option<bool>,
    /// The batch window; `None` while the buffer is empty.
    window: Option<BatchWindow>,
    delivery: Option<Delivery<'a>>,
    commits: Commits,
    delivered: Delivered,
}

/// The time in which a batch gathers records.
enum BatchWindow {
    Open(Pin<Box<Sleep>>),
    Elapsed,
}

/// A batch that is being delivered.
struct Delivery<'a> {
    batch: BufferedBatch,
    /// How often it has failed.
    failures: u32,
    state: DeliveryState<'a>,
}

enum DeliveryState<'a> {
    /// It failed, and waits for the next attempt.
    BackingOff(Pin<Box<Sleep>>),
    /// The function is running.
    Invoked(Pin<Box<dyn Future<Output = Result<String, InvokeError>> + Send + 'a>>),
}

impl EventSource<'_> {
    async fn run(mut self, stop: impl Future<Output = ()>) -> Result<Delivered> {
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        loop {
            self.handle_rebalances()?;
            if stopping && !matches!(&self.delivery, Some(Delivery { state: DeliveryState::Invoked(_), .. })) {
                break;
            }
            if !stopping {
                self.deliver_if_due();
            }
            self.pause_or_resume();
            tokio::select! {
                () = &mut stop, if !stopping => {
                    stopping = true;
                    print_line("stopping when the invocation in progress has ended");
                }
                // Also while reading is paused: polling is what keeps this member in the group.
                message = self.consumer.recv() => match message {
                    Ok(message) => {
                        let record = BufferedRecord::from(&message);
                        // The message may be of a partition that was assigned a moment ago.
                        drop(message);
                        self.handle_rebalances()?;
                        self.buffer.push(record);
                        self.window.get_or_insert_with(|| BatchWindow::Open(Box::pin(sleep(self.options.window))));
                    }
                    Err(error @ KafkaError::MessageConsumptionFatal(_)) => bail!("Kafka's client failed: {error}"),
                    // librdkafka retries after all other errors.
                    Err(error) => print_line(&error.to_string()),
                },
                // The loop begins with the rebalances. Without this, it would handle them when the next record arrives.
                () = self.consumer.context().changed() => {}
                () = elapsed(&mut self.window) => self.window = Some(BatchWindow::Elapsed),
                result = progress(&mut self.delivery) => {
                    // First, because a partition that was revoked a moment ago must not be committed.
                    self.handle_rebalances()?;
                    match (self.delivery.take(), result) {
                        (Some(Delivery { batch, failures, .. }), None) => self.invoke(batch, failures),
                        (Some(Delivery { batch, .. }), Some(Ok(response))) => self.succeeded(&batch, &response),
                        (Some(delivery), Some(Err(error))) => self.failed(delivery, &error, stopping),
                        (None, _) => {}
                    }
                }
                () = sleep(COMMIT_RETRY), if !self.commits.is_empty() => self.commits.commit(&self.consumer),
            }
        }
        self.commits.commit(&self.consumer);
        // Dropping the consumer leaves the group at once, so that the other members need not wait for a timeout.
        Ok(self.delivered)
    }

    /// Starts the delivery of the next batch if it is due and no other delivery is in progress.
    fn deliver_if_due(&mut self) {
        let due = self.buffer.is_full() || matches!(self.window, Some(BatchWindow::Elapsed));
        if self.delivery.is_some() || !due {
            return;
        }
        self.window = None;
        let batch = self.buffer.take();
        if !self.buffer.is_empty() {
            self.window = Some(BatchWindow::Open(Box::pin(sleep(self.options.window))));
        }
        self.invoke(batch, 0);
    }

    /// Invokes the function with what is left of a batch without the partitions that were revoked.
    fn invoke(&mut self, mut batch: BufferedBatch, failures: u32) {
        batch.drop_revoked();
        if batch.is_empty() {
            return;
        }
        let (function, payload) = (self.function, batch.payload(&self.options.topic));
        let response = Box::pin(async move { function.invoke(payload?).await });
        self.delivery = Some(Delivery { batch, failures, state: DeliveryState::Invoked(response) });
    }

    fn succeeded(&mut self, batch: &BufferedBatch, response: &str) {
        print_line(&format!("{}: {response}", batch.describe(&self.options.topic)));
        self.delivered.batches += 1;
        self.delivered.records += batch.records.len() as u64;
        self.commits.extend(batch.next_offsets());
        self.commits.commit(&self.consumer);
    }

    fn failed(&mut self, delivery: Delivery<'_>, error: &InvokeError, stopping: bool) {
        let batch = delivery.batch;
        let description = batch.describe(&self.options.topic);
        self.delivered.failures += 1;
        if stopping {
            print_line(&format!("{description}: {error}; not committed"));
            return;
        }
        let failures = delivery.failures.saturating_add(1);
        let wait = backoff(failures, self.options.max_backoff);
        print_line(&format!("{description}: {error}; retrying in {}", humantime::format_duration(wait)));
        self.delivery = Some(Delivery { batch, failures, state: DeliveryState::BackingOff(Box::pin(sleep(wait))) });
    }

    /// Handles the rebalances since the last call, in order.
    ///
    /// # Errors
    /// When the group's start could not be committed.
    fn handle_rebalances(&mut self) -> Result<()> {
        for event in self.consumer.context().take() {
            match event {
                RebalanceEvent::Assigned(partitions) => {
                    print_line(&format!("partitions assigned: {}", list(&partitions)));
                    self.paused = None;
                }
                RebalanceEvent::Revoked(partitions) => {
                    print_line(&format!("partitions revoked: {}", list(&partitions)));
                    self.buffer.revoke(&partitions);
                    if let Some(delivery) = &mut self.delivery {
                        delivery.batch.revoke(&partitions);
                    }
                    self.commits.revoke(&partitions);
                }
                RebalanceEvent::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Pauses reading when several batches are waiting, and resumes when one is left. In between, changes nothing: a pause
    /// discards what librdkafka has fetched ahead, and fetching again is slow.
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
            Err(error) => print_line(&format!("can't {} reading yet: {error}", if pause { "pause" } else { "resume" })),
        }
    }
}

/// Ready when the batch window has elapsed.
async fn elapsed(window: &mut Option<BatchWindow>) {
    match window {
        Some(BatchWindow::Open(sleep)) => sleep.await,
        Some(BatchWindow::Elapsed) | None => std::future::pending().await,
    }
}

/// Ready with the function's result, or with `None` when the backoff is over. The caller must then take the delivery.
async fn progress(delivery: &mut Option<Delivery<'_>>) -> Option<Result<String, InvokeError>> {
    match delivery.as_mut().map(|delivery| &mut delivery.state) {
        Some(DeliveryState::BackingOff(sleep)) => {
            sleep.await;
            None
        }
        Some(DeliveryState::Invoked(response)) => Some(response.await),
        None => std::future::pending().await,
    }
}

/// The wait before the next delivery of a batch that has failed `failures` times.
fn backoff(failures: u32, most: Duration) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(16)).min(most),
    }
}

fn list(partitions: &[i32]) -> String {
    let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    if partitions.is_empty() { "none".to_owned() } else { partitions.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_the_longest() {
        let most = Duration::from_secs(30);
        let waits: Vec<_> = [0, 1, 2, 3, 8, 50, u32::MAX].map(|failures| backoff(failures, most).as_millis()).into();
        assert_eq!(waits, [0, 250, 500, 1_000, 30_000, 30_000, 30_000]);
    }
}
