//! What all clients share: librdkafka's log, and the metadata of topics.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
};
use terminal::text::{complain, safe};

use crate::iam::Iam;

/// How long to wait for the brokers' response to one request.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the next record of a partition that has one.
pub(crate) const RECORD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to poll a client that has no token yet, and how often.
const TOKEN_POLL: Duration = Duration::from_millis(100);
const TOKEN_POLLS: u32 = 100;

/// What to check if the brokers refuse a token.
const NOT_LET_IN: &str = "check that `aws sts get-caller-identity` names a role with kafka-cluster:Connect on this cluster, that \
                          this is the cluster's region, and that this machine's clock is right";

/// What the role needs besides the permission to connect.
const NEEDED_OF_TOPIC: &str = "they need kafka-cluster:DescribeTopic, and kafka-cluster:WriteData to produce or \
                               kafka-cluster:ReadData to read; infra/policies has examples";

/// The group of clients that read records without a group. It has no members and commits nothing.
pub(crate) const READER: &str = "hot-topic";

/// How long to wait between two requests to a group's coordinator.
const COORDINATOR_WAIT: Duration = Duration::from_millis(250);
/// How often to repeat a request to a group's coordinator.
const COORDINATOR_TRIES: u32 = 40;

/// What clients call: prints librdkafka's warnings and errors to standard error, keeps the last one, and signs in with IAM.
#[derive(Debug)]
pub(crate) struct Log {
    last: Mutex<Option<String>>,
    muted: AtomicBool,
    iam: Option<Iam>,
    /// Whether librdkafka has asked for a token.
    asked: AtomicBool,
    /// Why there was no token the last time.
    no_token: Mutex<Option<String>>,
}

impl Log {
    /// For a client that signs in with `iam`, or as its settings say.
    pub(crate) fn new(iam: Option<Iam>) -> Self {
        Self {
            last: Mutex::default(),
            muted: AtomicBool::default(),
            iam,
            asked: AtomicBool::default(),
            no_token: Mutex::default(),
        }
    }

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

    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let Some(iam) = &self.iam else {
            return Err("OAUTHBEARER needs --iam, or sasl.oauthbearer.method=oidc".into());
        };
        let token = iam.token();
        let message = token.as_ref().err().map(ToString::to_string);
        if let Some(message) = &message {
            self.record(RDKafkaLogLevel::Error, message);
        }
        *self.no_token.lock().unwrap_or_else(PoisonError::into_inner) = message;
        self.asked.store(true, Ordering::Relaxed);
        Ok(token?)
    }
}

impl ConsumerContext for Log {}

/// Waits until the client has a token. librdkafka asks for one when it is polled, and connects to no broker before.
///
/// # Errors
/// When there is no token.
fn sign_in(client: &BaseConsumer<Log>) -> Result<()> {
    let log = client.context();
    if log.iam.is_none() {
        return Ok(());
    }
    log.muted.store(true, Ordering::Relaxed);
    for _ in 0..TOKEN_POLLS {
        let _event = client.poll(TOKEN_POLL);
        if log.asked.load(Ordering::Relaxed) {
            break;
        }
    }
    log.muted.store(false, Ordering::Relaxed);
    match log.no_token.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(reason) => bail!("can't sign in to the brokers: {reason}"),
        None => Ok(()),
    }
}

/// The brokers' metadata of `topic`, or of all topics. Does not create the topic.
///
/// # Errors
/// When the brokers can't be reached, or there is no such topic.
pub(crate) fn metadata(client: &BaseConsumer<Log>, topic: Option<&str>) -> Result<Metadata> {
    sign_in(client)?;
    let iam = client.context().iam.is_some();
    let metadata = match client.fetch_metadata(topic, RESPONSE_TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => {
            // Only the log has the reason, and librdkafka passes on its log when it is polled.
            client.context().mute();
            for _ in 0..100 {
                let _log = client.poll(Duration::ZERO);
            }
            match client.context().last() {
                Some(reason) if iam && reason.contains("SASL") => {
                    bail!("can't sign in to the brokers: {reason}; {NOT_LET_IN}")
                }
                Some(reason) => bail!("can't reach the brokers: {reason}"),
                None => bail!(
                    "can't reach the brokers: {error}; check --brokers, and --iam or the security settings under -X"
                ),
            }
        }
    };
    if let Some(topic) = topic {
        let error = metadata.topics().first().and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        match error {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) if iam => {
                bail!("there is no topic {topic} on this cluster; `aws kafka create-topic` creates it")
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) if iam => {
                bail!("these AWS credentials may not use the topic {topic}: {NEEDED_OF_TOPIC}")
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                bail!("there is no topic {topic} on this cluster; `hot produce --create-partitions N` creates it")
            }
            Some(error) => bail!("can't use the topic {topic}: {error}"),
        }
    }
    Ok(metadata)
}

/// The offsets that the client's group reads next, by partition. A partition without a commit is not in it.
///
/// # Errors
/// When the group's coordinator can't be reached or refuses.
pub(crate) fn committed<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<BTreeMap<i32, i64>> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition);
    }
    let list = ask_coordinator(|| client.committed_offsets(list.clone(), RESPONSE_TIMEOUT))
        .with_context(|| format!("can't get the group's offsets of {topic}"))?;
    let mut committed = BTreeMap::new();
    for one in list.elements() {
        one.error().with_context(|| format!("can't get the group's offset of {topic}-{}", one.partition()))?;
        if let Offset::Offset(offset) = one.offset() {
            committed.insert(one.partition(), offset);
        }
    }
    Ok(committed)
}

/// Repeats `request` while the group's coordinator moves or loads the commits, as it does after a broker has started.
pub(crate) fn ask_coordinator<T>(mut request: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode::{
        BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
    };
    let mut tries = 0;
    loop {
        let result = request();
        let code = result.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let is_temporary = matches!(
            code,
            Some(BrokerTransportFailure | CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
        );
        if !is_temporary || tries == COORDINATOR_TRIES {
            return result;
        }
        tries += 1;
        thread::sleep(COORDINATOR_WAIT);
    }
}

/// Prints `text` as one line to standard error, with line breaks escaped.
pub(crate) fn print_line(text: &str) {
    complain(safe(text));
}
