//! What all clients share: librdkafka's log, and the metadata of topics.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
};
use terminal::text::{complain, safe};

/// How long to wait for the brokers' response to one request.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints librdkafka's warnings and errors to standard error, and keeps the last one.
#[derive(Debug, Default)]
pub(crate) struct Log {
    last: Mutex<Option<String>>,
    muted: AtomicBool,
}

impl Log {
    /// The last message.
    pub(crate) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Prints nothing from now on. For a caller that reports the last message itself.
    fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }

    fn record(&self, level: RDKafkaLogLevel, message: &str) {
        if level as i32 > RDKafkaLogLevel::Warning as i32 {
            return;
        }
        // `[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap: Connect to …`: the thread is of no use to users.
        let message =
            message.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(message) && !self.muted.load(Ordering::Relaxed) {
            print_line(&format!("Kafka: {message}"));
        }
        *last = Some(message.to_owned());
    }
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.record(level, message);
    }

    /// Nothing to do: librdkafka also logs these errors, or returns them from a call.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Log {}

/// The brokers' metadata of `topic`, or of all topics. Does not create the topic.
///
/// # Errors
/// When the brokers can't be reached, or there is no such topic.
pub(crate) fn metadata(client: &BaseConsumer<Log>, topic: Option<&str>) -> Result<Metadata> {
    let metadata = match client.fetch_metadata(topic, RESPONSE_TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => {
            // Only the log has the reason, and librdkafka passes on its log when it is polled.
            client.context().mute();
            for _ in 0..100 {
                let _log = client.poll(Duration::ZERO);
            }
            match client.context().last() {
                Some(reason) => bail!("can't reach the brokers: {reason}"),
                None => bail!("can't reach the brokers: {error}; check --brokers, and the security settings under -X"),
            }
        }
    };
    if let Some(topic) = topic {
        let error = metadata.topics().first().and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        match error {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                bail!("there is no topic {topic} on this cluster; `hot produce --create-partitions N` creates it")
            }
            Some(error) => bail!("can't use the topic {topic}: {error}"),
        }
    }
    Ok(metadata)
}

/// Prints `text` as one line to standard error, with line breaks escaped.
pub(crate) fn print_line(text: &str) {
    complain(safe(text));
}
