//! Tools that talk to a Kafka cluster, on librdkafka.
//!
//! - [`source`] plays Lambda's event source: topic to function, with a consumer group; [`invoke`] calls the function.
//! - [`produce`] fills a topic; [`look`] looks into a cluster.
//!
//! All of them run on librdkafka and take its settings.

pub mod invoke;
pub mod look;
pub mod produce;
pub mod source;

use std::{
    fmt, fs,
    io::{self, Write},
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataTopic},
};

use terminal::text::safe;

/// How long to wait for an answer of the brokers to one question.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What `-X` takes: a setting of librdkafka, or a file of settings.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// `key=value`
    One(String, String),
    /// `@file`: a setting a line, so that passwords stay out of the list of processes.
    File(String),
}

/// Without the value, which may be a password.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(key, _) => write!(f, "{key}=…"),
            Self::File(file) => write!(f, "@{file}"),
        }
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(file) = text.strip_prefix('@') {
            return Ok(Self::File(file.to_owned()));
        }
        let (key, value) = text.split_once('=').ok_or("give a setting as key=value, or a file of them as @file")?;
        let key = key.trim();
        if key.is_empty() {
            return Err("give the setting's name before the =".to_owned());
        }
        Ok(Self::One(key.to_owned(), value.to_owned()))
    }
}

/// The settings of the file with the text `text`: a `key=value` a line; empty lines and lines that begin with `#` don't
/// count.
fn file_settings(text: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { bail!("line {number} is no key=value") };
        settings.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(settings)
}

/// A cluster, and how to reach it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Some of its brokers, `host:port` with commas between them.
    pub brokers: String,
    /// What the user sets; later ones win.
    pub settings: Vec<Setting>,
}

impl Cluster {
    /// librdkafka's configuration: `defaults`, then the user's settings, then `fixed`, which the user can't set.
    pub fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        config.set("client.id", "hot");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for setting in &self.settings {
            let settings = match setting {
                Setting::One(key, value) => vec![(key.clone(), value.clone())],
                Setting::File(file) => fs::read_to_string(file)
                    .map_err(Into::into)
                    .and_then(|text| file_settings(&text))
                    .with_context(|| format!("can't take Kafka settings from {file}"))?,
            };
            for (key, value) in settings {
                if matches!(key.as_str(), "bootstrap.servers" | "metadata.broker.list") {
                    bail!("can't set {key} by -X: use --brokers");
                }
                if fixed.iter().any(|(fixed, _)| *fixed == key) {
                    bail!("can't set {key} by -X: this command sets it itself, or has an option for it");
                }
                config.set(key, value);
            }
        }
        for (key, value) in fixed {
            config.set(*key, *value);
        }
        config.set("bootstrap.servers", &self.brokers);
        Ok(config)
    }
}

/// A client of librdkafka's.
pub fn create<T, C>(config: &ClientConfig, context: C) -> Result<T>
where
    T: FromClientConfigAndContext<C>,
    C: ClientContext,
{
    config.create_with_context(context).map_err(|error| match error {
        // The error's own text ends with the value, which may be a password.
        KafkaError::ClientConfig(_, problem, key, _) => anyhow!("the Kafka setting {key} is wrong: {problem}"),
        KafkaError::ClientCreation(problem) => anyhow!("the Kafka settings don't fit together: {problem}"),
        error => anyhow!(error),
    })
}

/// Tells on standard error what librdkafka warns of.
#[derive(Debug, Default)]
pub struct Log {
    last: Mutex<Option<String>>,
    quiet: AtomicBool,
}

impl Log {
    /// The last warning.
    pub fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on, says nothing more: the last warning is told another way.
    fn hush(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    fn say(&self, level: RDKafkaLogLevel, message: &str) {
        if level as i32 > RDKafkaLogLevel::Warning as i32 {
            return;
        }
        // `[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap: Connect to …`: the thread tells nobody anything.
        let message =
            message.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(message) && !self.quiet.load(Ordering::Relaxed) {
            tell(&format!("hot: Kafka: {message}"));
        }
        *last = Some(message.to_owned());
    }
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.say(level, message);
    }

    /// What comes here was logged too, or comes as the answer to a call.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Log {}

/// Writes a line to standard error, safe on a terminal; that nobody reads it is no reason to stop.
pub(crate) fn tell(line: &str) {
    let _nobody_reads = writeln!(io::stderr(), "{}", safe(line));
}

/// What the brokers know of `topic`, or of all topics. Fails where there is no such topic; creates none.
pub(crate) fn metadata(client: &BaseConsumer<Log>, topic: Option<&str>) -> Result<Metadata> {
    let metadata = match client.fetch_metadata(topic, ANSWER_TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => {
            // Why the brokers can't be reached stands in the log alone, which comes when it is asked for.
            client.context().hush();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(settings: &[&str]) -> Cluster {
        Cluster {
            brokers: "127.0.0.1:9092".to_owned(),
            settings: settings.iter().map(|setting| setting.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_setting_is_a_key_and_a_value_that_may_hold_anything() {
        let one = |key: &str, value: &str| Setting::One(key.to_owned(), value.to_owned());
        assert_eq!("sasl.password=a=b c".parse(), Ok(one("sasl.password", "a=b c")));
        assert_eq!("debug=".parse(), Ok(one("debug", "")));
        assert_eq!("@kafka.conf".parse(), Ok(Setting::File("kafka.conf".to_owned())));
        assert!("security.protocol".parse::<Setting>().unwrap_err().contains("key=value"));
        assert!("=ssl".parse::<Setting>().unwrap_err().contains("name"));
    }

    #[test]
    fn a_value_shows_nowhere() {
        assert_eq!(format!("{:?}", "sasl.password=secret".parse::<Setting>()), "Ok(sasl.password=…)");
        let config = cluster(&["no.such.setting=secret"]).config(&[], &[]).unwrap();
        let error = create::<BaseConsumer<Log>, _>(&config, Log::default()).err().unwrap();
        assert!(format!("{error:#}").contains("no.such.setting"), "{error:#}");
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }

    #[test]
    fn the_users_settings_beat_defaults_but_not_what_a_command_relies_on() {
        let config = cluster(&["security.protocol=ssl", "acks=1"]).config(&[("acks", "all")], &[("group.id", "g")]);
        let config = config.unwrap();
        assert_eq!(config.get("acks"), Some("1"));
        assert_eq!(config.get("security.protocol"), Some("ssl"));
        assert_eq!(config.get("group.id"), Some("g"));
        let error = cluster(&["enable.auto.commit=true"]).config(&[], &[("enable.auto.commit", "false")]).unwrap_err();
        assert!(error.to_string().starts_with("can't set enable.auto.commit by -X"), "{error}");
        assert!(cluster(&["bootstrap.servers=b:1"]).config(&[], &[]).is_err());
    }

    #[test]
    fn this_program_can_speak_what_msk_asks_for() {
        // TLS with SASL/SCRAM, and TLS with certificates: librdkafka refuses them where it was built without OpenSSL.
        for settings in [
            &["security.protocol=sasl_ssl", "sasl.mechanisms=SCRAM-SHA-512", "sasl.username=u", "sasl.password=p"][..],
            &["security.protocol=ssl"],
            &["security.protocol=sasl_ssl", "sasl.mechanisms=OAUTHBEARER"],
        ] {
            let config = cluster(settings).config(&[], &[]).unwrap();
            let client = create::<BaseConsumer<Log>, _>(&config, Log::default());
            assert!(client.is_ok(), "{settings:?}: {:#}", client.err().unwrap());
        }
    }

    #[test]
    fn a_file_holds_a_setting_a_line() {
        let text = "# MSK\nsecurity.protocol = sasl_ssl\n\nsasl.password=a=b\n";
        let settings = file_settings(text).unwrap();
        assert_eq!(
            settings,
            [("security.protocol", "sasl_ssl"), ("sasl.password", "a=b")].map(|(k, v)| (k.into(), v.into()))
        );
        assert_eq!(file_settings("acks\n").unwrap_err().to_string(), "line 1 is no key=value");
        let error = cluster(&["@no/such/file"]).config(&[], &[]).unwrap_err();
        assert!(format!("{error:#}").starts_with("can't take Kafka settings from no/such/file: "), "{error:#}");
    }
}
