//! The function.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::Arc,
    time::Duration,
};

use click_generator::Spec;
use hot_products::{Clock, Event, EventShape, UnixMillis};
use kafka_protocol::records::Record;
use msk_iam::{Token, TokenError, token};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde::Serialize;
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{
    broker::{BrokerError, Connection},
    partition::partition_of,
    request::{Request, RequestError},
    settings::SeedSettings,
    topic::{Topic, TopicError, record},
};

/// How many records a request has. Far below the largest batch that a broker takes by default, 1 MiB.
const BATCH: usize = 1_000;

/// The time that is left for the response of the function.
const RESPONSE_TIME: Duration = Duration::from_secs(1);

/// Why not all clicks were written.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The event is wrong.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no token to sign in with.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// TLS can't be used.
    #[error("TLS can't be used: {0}")]
    Tls(String),
    /// The clicks can't be made.
    #[error("the clicks can't be made: {0}")]
    Generator(#[from] io::Error),
    /// No broker can be reached.
    #[error(
        "no broker can be reached: {}; check that the function is in the cluster's subnets and in a security group that the \
         brokers let in, and that BROKERS has the addresses for IAM, with port 9098",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    NoBroker(Vec<BrokerError>),
    /// The topic can't be used, or refused records.
    #[error("{error} ({written} clicks were written before)")]
    Topic {
        /// The reason.
        error: TopicError,
        /// How many clicks the brokers acknowledged.
        written: u64,
    },
    /// The time was up.
    #[error("the time is up, and {written} clicks are written: write fewer, or look at the brokers")]
    OutOfTime {
        /// How many clicks the brokers acknowledged.
        written: u64,
    },
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SeedSummary {
    /// The topic.
    pub topic: String,
    /// How many clicks.
    pub clicks: u64,
    /// The oldest event time, RFC 3339.
    pub from: String,
    /// The newest event time.
    pub to: String,
    /// How many clicks in each partition.
    pub partitions: BTreeMap<i32, u64>,
}

/// The function, without the runtime.
pub struct SeedClicks {
    settings: SeedSettings,
    tls: TlsConnector,
    clock: Arc<dyn Clock>,
}

impl SeedClicks {
    /// Trusts the certificates of the system.
    ///
    /// # Errors
    /// If it has none.
    pub fn new(settings: SeedSettings, clock: Arc<dyn Clock>) -> Result<Self, SeedError> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if added == 0 {
            return Err(SeedError::Tls("the system has no certificates to trust".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| SeedError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { settings, tls: TlsConnector::from(Arc::new(config)), clock })
    }

    /// Writes the clicks that `request` asks for, and ends before `deadline`. Twice the same request writes other clicks.
    ///
    /// # Errors
    /// If the request is wrong, or not all clicks were written.
    pub async fn handle(&self, request: &Request, deadline: UnixMillis) -> Result<SeedSummary, SeedError> {
        request.check()?;
        let now = self.clock.now();
        let token = token(&self.settings.credentials, &self.settings.region, now)?;
        let mut summary = SeedSummary { topic: self.settings.topic.clone(), ..SeedSummary::default() };
        let time = deadline.since(now).saturating_sub(RESPONSE_TIME);
        match timeout(time, self.write(&clicks(request, now)?, &token, &mut summary)).await {
            Ok(result) => result.map(|()| summary),
            Err(_) => Err(SeedError::OutOfTime { written: summary.clicks }),
        }
    }

    async fn write(&self, lines: &[u8], token: &Token, summary: &mut SeedSummary) -> Result<(), SeedError> {
        let topic = self.topic(token).await?;
        let partitions = records(lines, topic.leaders.len(), summary);
        let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
        for (partition, (leader, records)) in (0..).zip(topic.leaders.iter().zip(&partitions)) {
            for batch in records.chunks(BATCH) {
                let connection = match connections.entry(leader) {
                    Entry::Occupied(open) => Ok(open.into_mut()),
                    Entry::Vacant(place) => {
                        Connection::open(leader, &self.tls, token).await.map(|open| place.insert(open))
                    }
                };
                let written = match connection {
                    Ok(connection) => topic.write(partition, batch, connection).await,
                    Err(error) => Err(error.into()),
                };
                written.map_err(|error| SeedError::Topic { error, written: summary.clicks })?;
                summary.clicks += batch.len() as u64;
                *summary.partitions.entry(partition).or_default() += batch.len() as u64;
            }
        }
        Ok(())
    }

    /// Asks the first broker that can be reached. One that refuses the token speaks for all.
    async fn topic(&self, token: &Token) -> Result<Topic, SeedError> {
        let mut errors = Vec::new();
        for broker in &self.settings.brokers {
            match Connection::open(broker, &self.tls, token).await {
                Ok(mut connection) => {
                    let found = Topic::find(&self.settings.topic, &mut connection).await;
                    return found.map_err(|error| SeedError::Topic { error, written: 0 });
                }
                Err(error @ BrokerError::Unreachable { .. }) => errors.push(error),
                Err(error) => return Err(SeedError::Topic { error: error.into(), written: 0 }),
            }
        }
        Err(SeedError::NoBroker(errors))
    }
}

/// The clicks as lines of JSON, spread over the minutes before `now`.
fn clicks(request: &Request, now: UnixMillis) -> io::Result<Vec<u8>> {
    let spec = Spec {
        events: request.clicks,
        products: request.products,
        minutes: request.minutes,
        // Two invocations write other clicks.
        seed: now.0.unsigned_abs(),
        zipf: 1.0,
        start: now.minus(Duration::from_mins(request.minutes)),
        disorder: Duration::from_secs(5),
        ignored_share: 0.0,
        bad_share: 0.0,
    };
    let mut lines = Vec::new();
    click_generator::write(&spec, &mut lines)?;
    Ok(lines)
}

/// The records of each partition, and the event times of all in `summary`.
fn records(lines: &[u8], partitions: usize, summary: &mut SeedSummary) -> Vec<Vec<Record>> {
    let (mut records, shape) = (vec![Vec::new(); partitions], EventShape::default());
    let (mut from, mut to) = (None, None);
    for line in lines.split(|byte| *byte == b'\n') {
        // The generator was asked for valid events only; the line after the last one is empty.
        let Ok(event) = Event::parse(line, &shape) else { continue };
        let key = event.product_id.as_str().as_bytes();
        let time = event.event_time;
        records[partition_of(key, partitions as u32) as usize].push(record(time.0, key, line));
        from = Some(from.map_or(time, |from: UnixMillis| from.min(time)));
        to = Some(to.map_or(time, |to: UnixMillis| to.max(time)));
    }
    summary.from = from.map(UnixMillis::rfc3339).unwrap_or_default();
    summary.to = to.map(UnixMillis::rfc3339).unwrap_or_default();
    records
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use hot_products::{Classification, ManualClock, Policy};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_672_159_800_123);

    #[test]
    fn clicks_are_counted_and_of_the_last_minutes_and_a_product_stays_in_its_partition() {
        let request = Request { clicks: 3_000, minutes: 7, products: 40 };
        let lines = clicks(&request, NOW).unwrap();
        let mut summary = SeedSummary::default();
        let partitions = records(&lines, 6, &mut summary);
        let (mut products, mut count) = (HashMap::new(), 0);
        for (number, records) in partitions.iter().enumerate() {
            for record in records {
                let value = record.value.as_ref().unwrap();
                let Classification::Counted(event) = Policy::default().classify(NOW, value) else {
                    panic!("not counted: {value:?}")
                };
                assert!(event.event_time <= NOW && event.event_time >= NOW.minus(Duration::from_mins(7)));
                assert_eq!(
                    (record.timestamp, record.key.as_deref()),
                    (event.event_time.0, Some(event.product_id.as_str().as_bytes()))
                );
                assert_eq!(*products.entry(event.product_id.as_str().to_owned()).or_insert(number), number);
                count += 1;
            }
        }
        assert_eq!((count, products.len()), (3_000, 40));
        assert!(
            summary.from.as_str() >= "2022-12-27T16:43:00.123Z" && summary.to.as_str() <= "2022-12-27T16:50:00.123Z"
        );
        assert!(summary.from < summary.to);
        assert_ne!(clicks(&request, NOW.plus(Duration::from_secs(1))).unwrap(), lines);
    }

    fn function(brokers: &str) -> SeedClicks {
        let settings = [
            ("BROKERS", brokers),
            ("TOPIC", "clicks"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        SeedClicks {
            settings: SeedSettings::read(&settings.into()).unwrap(),
            tls: TlsConnector::from(Arc::new(
                ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth(),
            )),
            clock: Arc::new(ManualClock::at(NOW)),
        }
    }

    #[tokio::test]
    async fn each_broker_that_can_not_be_used_is_named_with_its_reason() {
        // Nothing listens on port 1.
        let function = function("127.0.0.1:1,localhost:1");
        let deadline = NOW.plus(Duration::from_mins(1));
        let error = function.handle(&Request::default(), deadline).await.unwrap_err().to_string();
        assert!(error.starts_with("no broker can be reached: 127.0.0.1:1: Connection refused"), "{error}");
        assert!(error.contains("; localhost:1: Connection refused") && error.contains("security group"), "{error}");
        let wrong = Request { clicks: 0, ..Request::default() };
        let error = function.handle(&wrong, deadline).await.unwrap_err().to_string();
        assert!(error.starts_with("`clicks` is 0"), "{error}");
    }

    #[tokio::test]
    async fn an_invocation_ends_before_its_deadline() {
        // It takes connections and never answers.
        let broker = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let function = function(&broker.local_addr().unwrap().to_string());
        let error = function.handle(&Request::default(), NOW).await.unwrap_err();
        assert!(matches!(error, SeedError::OutOfTime { written: 0 }), "{error}");
    }
}
