//! Filling a topic: each line becomes a record.

use std::{
    error::Error,
    io::BufRead,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use hot_products::{Event, EventShape};
use rdkafka::{
    ClientContext, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::BaseConsumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::{
    client::{Log, RESPONSE_TIMEOUT, metadata},
    cluster::{Cluster, create},
};

/// How long to wait for space in the producer's queue before the next attempt.
const QUEUE_WAIT: Duration = Duration::from_millis(100);

/// What creates a topic in Amazon MSK.
const CREATE: &str = "`aws kafka create-topic`";

/// What was produced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// How many records the brokers acknowledged.
    pub records: u64,
    /// How many of them have a key.
    pub keyed: u64,
}

/// Returns how many partitions `topic` has. If `partitions` is given and there is no such topic, creates it first, with
/// that many partitions and the brokers' default replication.
///
/// # Errors
/// When the brokers can't be reached, or the topic does not exist and was not created. Or when it should be created in a
/// cluster that asks for IAM: librdkafka asks for a token in the client's main queue, and rdkafka's `AdminClient` (0.39) only
/// polls a queue of its own, for the answers to its requests.
pub async fn prepare(cluster: &Cluster, topic: &str, partitions: Option<i32>) -> Result<usize> {
    if let Some(partitions) = partitions {
        if cluster.iam.is_some() {
            bail!("can't create a topic with --iam: leave out --create-partitions, and create the topic with {CREATE}");
        }
        let admin: AdminClient<Log> = create(&cluster.config(&[], &[])?, cluster.log())?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let options =
            AdminOptions::new().operation_timeout(Some(RESPONSE_TIMEOUT)).request_timeout(Some(RESPONSE_TIMEOUT));
        let results = admin.create_topics([&new], &options).await.map_err(|error| {
            let reason = admin.inner().context().last().unwrap_or_else(|| error.to_string());
            anyhow!("can't create the topic {topic}: {reason}")
        })?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, error)) => bail!("can't create the topic {topic}: {error}"),
            }
        }
    }
    // With a consumer, because a producer's request for metadata would create the topic.
    let client: BaseConsumer<Log> =
        create(&cluster.config(&[], &[("allow.auto.create.topics", "false")])?, cluster.log())?;
    let metadata = metadata(&client, Some(topic))?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
}

/// Produces each line of `input`, valid or not, as the value of one record. If the line is an event, the record's key is
/// the product id. Events have this `shape`.
///
/// # Errors
/// When a line can't be read, or a record was not delivered. Other records may have been delivered.
pub fn produce(cluster: &Cluster, topic: &str, shape: &EventShape, mut input: impl BufRead) -> Result<Produced> {
    let defaults = [
        // Retries neither duplicate nor reorder records.
        ("enable.idempotence", "true"),
        ("compression.type", "lz4"),
        ("linger.ms", "20"),
        // The default of Kafka's own clients: all producers send a product to the same partition.
        ("partitioner", "murmur2_random"),
    ];
    let producer: BaseProducer<Deliveries> = create(&cluster.config(&defaults, &[])?, Deliveries::new(cluster.log()))?;
    let deliveries = producer.context();
    let mut total = Produced::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).with_context(|| format!("can't read line {number}"))? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let event = Event::parse(&line, shape).ok();
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, number).payload(&line[..]);
        if let Some(event) = &event {
            record = record.key(event.product_id.as_str().as_bytes());
            total.keyed += 1;
        }
        while let Err((error, unsent)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                bail!("can't produce line {number} to {topic}: {error}");
            }
            producer.poll(QUEUE_WAIT);
            deliveries.check(topic)?;
            record = unsent;
        }
        total.records += 1;
        if number % 1024 == 0 {
            producer.poll(Duration::ZERO);
            deliveries.check(topic)?;
        }
    }
    while producer.in_flight_count() > 0 {
        producer.poll(QUEUE_WAIT);
        deliveries.check(topic)?;
    }
    deliveries.check(topic)?;
    let delivered = deliveries.state.lock().unwrap_or_else(PoisonError::into_inner).delivered;
    if delivered != total.records {
        bail!("of {} records, only {delivered} were acknowledged by the brokers", total.records);
    }
    Ok(total)
}

/// Collects the brokers' acknowledgements.
#[derive(Debug)]
struct Deliveries {
    log: Log,
    state: Mutex<DeliveryState>,
}

#[derive(Debug, Default)]
struct DeliveryState {
    delivered: u64,
    /// The first line that was not delivered, and why.
    failed: Option<(usize, KafkaError)>,
}

impl Deliveries {
    fn new(log: Log) -> Self {
        Self { log, state: Mutex::default() }
    }

    fn check(&self, topic: &str) -> Result<()> {
        match &self.state.lock().unwrap_or_else(PoisonError::into_inner).failed {
            Some((line, error)) => bail!("line {line} was not delivered to {topic}: {error}"),
            None => Ok(()),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, _error: KafkaError, _reason: &str) {}

    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.log.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, line: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                debug_assert!(message.offset() >= 0, "a delivered record has an offset");
                state.delivered += 1;
            }
            Err((error, _)) => {
                state.failed.get_or_insert((line, error.clone()));
            }
        }
    }
}
