//! The function's settings.

use aws_credential_types::Credentials;
use hot_products::settings::{AwsAccess, SettingError, Settings, wrong};

/// The settings of `seed-clicks`.
#[derive(Clone, Debug)]
pub struct SeedSettings {
    /// `BROKERS`: some of the cluster's brokers, as `host:port`.
    pub brokers: Vec<String>,
    /// `TOPIC`: the topic to write to. It must exist.
    pub topic: String,
    /// `AWS_REGION`: the cluster's region, which is the function's.
    pub region: String,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`: who signs in.
    pub credentials: Credentials,
}

impl SeedSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        let expected = "the brokers' addresses for IAM, as `aws kafka get-bootstrap-brokers` shows them";
        let brokers = settings.required("BROKERS", expected)?;
        let addresses: Vec<String> = brokers.split(',').map(|address| address.trim().to_owned()).collect();
        if !addresses.iter().all(|address| is_address(address)) {
            return Err(wrong("BROKERS", brokers, "give addresses as host:port, separated by commas"));
        }
        let topic = settings.required("TOPIC", "the topic to write to")?;
        let AwsAccess { access_key_id, secret_access_key, session_token, region } = settings.aws_access()?;
        let credentials = Credentials::new(access_key_id, secret_access_key, session_token, None, "environment");
        Ok(Self { brokers: addresses, topic, region, credentials })
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(brokers: &str, topic: &str) -> Result<SeedSettings, SettingError> {
        let settings = [
            ("BROKERS", brokers),
            ("TOPIC", topic),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ];
        SeedSettings::read(&settings.into())
    }

    #[test]
    fn brokers_are_addresses_and_the_secret_is_not_shown() {
        let settings = read("b-1.shop:9098, b-2.shop:9098", "clicks").unwrap();
        assert_eq!(settings.brokers, ["b-1.shop:9098", "b-2.shop:9098"]);
        assert!(!format!("{settings:?}").contains("hidden"), "{settings:?}");
        let message = |brokers, topic| read(brokers, topic).unwrap_err().to_string();
        for brokers in ["b-1.shop", "b-1.shop:", ":9098", "b-1.shop:9098,", "b-1.shop:99999"] {
            assert_eq!(
                message(brokers, "clicks"),
                format!("BROKERS is {brokers:?}: give addresses as host:port, separated by commas")
            );
        }
        assert!(message("", "clicks").starts_with("BROKERS is not set: set it to the brokers' addresses"));
        assert_eq!(message("b-1.shop:9098", " "), "TOPIC is not set: set it to the topic to write to");
    }
}
