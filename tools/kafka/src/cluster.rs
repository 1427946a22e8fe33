//! A cluster, and the settings of librdkafka for its clients.

use std::{fmt, fs, str::FromStr};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
};

use crate::{client::Log, iam::Iam};

/// The argument of `-X`: a setting of librdkafka, or a file of settings.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// `key=value`
    One(String, String),
    /// `@file`: one setting per line. Keeps passwords out of the list of processes.
    File(String),
}

/// Leaves out the value, which may be a password.
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

/// The settings in `text`: one `key=value` per line. Ignores empty lines and lines that begin with `#`.
fn file_settings(text: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { bail!("line {number} is not key=value") };
        settings.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(settings)
}

/// A Kafka cluster and the settings for its clients.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Some of its brokers: `host:port`, separated by commas.
    pub brokers: String,
    /// The user's settings. A later setting overrides an earlier one.
    pub settings: Vec<Setting>,
    /// Who signs in with IAM, if the brokers ask for that.
    pub iam: Option<Iam>,
}

/// The settings of clients that sign in with IAM (Amazon MSK Developer Guide, "Configure clients to use IAM access control").
/// The token is a password, so it needs TLS.
const IAM_SETTINGS: [(&str, &str); 2] = [("security.protocol", "sasl_ssl"), ("sasl.mechanisms", "OAUTHBEARER")];

/// The settings that say which certificates to trust.
const TRUST_SETTINGS: [&str; 2] = ["ssl.ca.location", "ssl.ca.pem"];

impl Cluster {
    /// librdkafka's configuration: `defaults`, then the user's settings, then `fixed`.
    ///
    /// # Errors
    /// When a file of settings can't be read, or the user sets one of `fixed`.
    pub(crate) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig> {
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
                    .with_context(|| format!("can't read Kafka settings from {file}"))?,
            };
            for (key, value) in settings {
                if matches!(key.as_str(), "bootstrap.servers" | "metadata.broker.list") {
                    bail!("can't set {key} with -X: use --brokers");
                }
                if self.iam.is_some() && (key == "sasl.mechanism" || IAM_SETTINGS.iter().any(|(set, _)| *set == key)) {
                    bail!("can't set {key} with -X: --iam sets it");
                }
                if fixed.iter().any(|(fixed, _)| *fixed == key) {
                    bail!("can't set {key} with -X: the command sets it, or has an option for it");
                }
                config.set(key, value);
            }
        }
        let iam = if self.iam.is_some() { &IAM_SETTINGS[..] } else { &[] };
        for (key, value) in fixed.iter().chain(iam) {
            config.set(*key, *value);
        }
        // OpenSSL is linked statically, and does not know where the system has its certificates.
        if TRUST_SETTINGS.iter().all(|key| config.get(key).is_none()) {
            config.set("ssl.ca.location", "probe");
        }
        config.set("bootstrap.servers", &self.brokers);
        Ok(config)
    }

    /// The context of a client for this cluster.
    pub(crate) fn log(&self) -> Log {
        Log::new(self.iam.clone())
    }
}

/// Creates a client of librdkafka.
///
/// # Errors
/// When a setting is wrong.
pub(crate) fn create<T, C>(config: &ClientConfig, context: C) -> Result<T>
where
    T: FromClientConfigAndContext<C>,
    C: ClientContext,
{
    config.create_with_context(context).map_err(|error| match error {
        // The error's own text includes the value, which may be a password.
        KafkaError::ClientConfig(_, problem, key, _) => anyhow!("the Kafka setting {key} is wrong: {problem}"),
        KafkaError::ClientCreation(problem) => anyhow!("the Kafka settings contradict each other: {problem}"),
        error => anyhow!(error),
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    fn cluster(settings: &[&str]) -> Cluster {
        Cluster {
            brokers: "127.0.0.1:9092".to_owned(),
            settings: settings.iter().map(|setting| setting.parse().unwrap()).collect(),
            iam: None,
        }
    }

    #[test]
    fn a_setting_is_a_key_and_any_value() {
        let one = |key: &str, value: &str| Setting::One(key.to_owned(), value.to_owned());
        assert_eq!("sasl.password=a=b c".parse(), Ok(one("sasl.password", "a=b c")));
        assert_eq!("debug=".parse(), Ok(one("debug", "")));
        assert_eq!("@kafka.conf".parse(), Ok(Setting::File("kafka.conf".to_owned())));
        assert!("security.protocol".parse::<Setting>().unwrap_err().contains("key=value"));
        assert!("=ssl".parse::<Setting>().unwrap_err().contains("name"));
    }

    #[test]
    fn neither_debug_output_nor_errors_show_a_value() {
        assert_eq!(format!("{:?}", "sasl.password=secret".parse::<Setting>()), "Ok(sasl.password=…)");
        let config = cluster(&["no.such.setting=secret"]).config(&[], &[]).unwrap();
        let error = create::<BaseConsumer<Log>, _>(&config, Log::new(None)).err().unwrap();
        assert!(format!("{error:#}").contains("no.such.setting"), "{error:#}");
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }

    #[test]
    fn the_users_settings_override_defaults_but_not_fixed_settings() {
        let config = cluster(&["security.protocol=ssl", "acks=1"]).config(&[("acks", "all")], &[("group.id", "g")]);
        let config = config.unwrap();
        assert_eq!(config.get("acks"), Some("1"));
        assert_eq!(config.get("security.protocol"), Some("ssl"));
        assert_eq!(config.get("group.id"), Some("g"));
        let error = cluster(&["enable.auto.commit=true"]).config(&[], &[("enable.auto.commit", "false")]).unwrap_err();
        assert!(error.to_string().starts_with("can't set enable.auto.commit with -X"), "{error}");
        assert!(cluster(&["bootstrap.servers=b:1"]).config(&[], &[]).is_err());
    }

    #[test]
    fn librdkafka_is_built_with_the_security_protocols_of_msk() {
        // librdkafka refuses these if it was built without OpenSSL.
        for settings in [
            &["security.protocol=sasl_ssl", "sasl.mechanisms=SCRAM-SHA-512", "sasl.username=u", "sasl.password=p"][..],
            &["security.protocol=ssl"],
            &["security.protocol=sasl_ssl", "sasl.mechanisms=OAUTHBEARER"],
        ] {
            let config = cluster(settings).config(&[], &[]).unwrap();
            let client = create::<BaseConsumer<Log>, _>(&config, Log::new(None));
            assert!(client.is_ok(), "{settings:?}: {:#}", client.err().unwrap());
        }
    }

    #[test]
    fn a_file_has_one_setting_per_line() {
        let text = "# MSK\nsecurity.protocol = sasl_ssl\n\nsasl.password=a=b\n";
        let settings = file_settings(text).unwrap();
        assert_eq!(
            settings,
            [("security.protocol", "sasl_ssl"), ("sasl.password", "a=b")].map(|(k, v)| (k.into(), v.into()))
        );
        assert_eq!(file_settings("acks\n").unwrap_err().to_string(), "line 1 is not key=value");
        let error = cluster(&["@no/such/file"]).config(&[], &[]).unwrap_err();
        assert!(format!("{error:#}").starts_with("can't read Kafka settings from no/such/file: "), "{error:#}");
    }
}
