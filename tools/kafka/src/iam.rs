//! Signing in to Amazon MSK with IAM: gives librdkafka the tokens of [`msk_iam`].

use std::sync::Arc;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError};
use hot_products::Clock;
pub use msk_iam::region_of;
use msk_iam::{TokenError, token};
use rdkafka::client::OAuthToken;
use thiserror::Error;
use tokio::{runtime::Handle, task::block_in_place};

use crate::invoke::causes;

/// The name that librdkafka uses in its log. The broker does not see it.
const PRINCIPAL: &str = "iam";

/// Why there is no token to sign in with.
#[derive(Debug, Error)]
pub enum IamError {
    /// No credentials were found, or their source did not answer.
    #[error("no AWS credentials to sign in with; set AWS_PROFILE, or run `aws sso login` or `aws configure`: {0}")]
    NoCredentials(String),
    /// The credentials can't be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Who signs in, and to which region's clusters.
#[derive(Clone, Debug)]
pub struct Iam {
    region: String,
    credentials: SharedCredentialsProvider,
    clock: Arc<dyn Clock>,
    runtime: Handle,
}

impl Iam {
    /// Signs in to clusters in `region` with `credentials`, which are fetched again for each token.
    ///
    /// # Panics
    /// Outside a Tokio runtime. That must have several threads: a token is made while a client is polled, on a thread that
    /// waits for the credentials.
    pub fn new(region: impl Into<String>, credentials: SharedCredentialsProvider, clock: Arc<dyn Clock>) -> Self {
        Self { region: region.into(), credentials, clock, runtime: Handle::current() }
    }

    /// A new token. librdkafka asks for the next one after 80 percent of its lifetime.
    pub(crate) fn token(&self) -> Result<OAuthToken, IamError> {
        let credentials = block_in_place(|| self.runtime.block_on(self.credentials.provide_credentials()));
        let credentials = credentials.map_err(|error: CredentialsError| IamError::NoCredentials(causes(&error)))?;
        let token = token(&credentials, &self.region, self.clock.now())?;
        Ok(OAuthToken { token: token.text, principal_name: PRINCIPAL.to_owned(), lifetime_ms: token.expires.0 })
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::{Credentials, provider::future};
    use hot_products::{ManualClock, UnixMillis};

    use super::*;

    /// 2023-09-21T10:11:12.345Z
    const NOW: UnixMillis = UnixMillis(1_695_291_072_345);

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_token_is_made_on_a_thread_of_the_runtime_and_a_missing_key_is_an_error() {
        let clock = Arc::new(ManualClock::at(NOW));
        let made = |provider| Iam::new("eu-central-1", provider, clock.clone()).token();
        let found = SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test"));
        assert_eq!(made(found).unwrap().lifetime_ms, 1_695_291_972_000);
        let error = made(SharedCredentialsProvider::new(Nobody)).err().unwrap().to_string();
        assert!(error.starts_with("no AWS credentials to sign in with; "), "{error}");
        assert!(error.contains("nobody is here") && error.contains("AWS_PROFILE"), "{error}");
    }

    /// A source without credentials.
    #[derive(Debug)]
    struct Nobody;

    impl ProvideCredentials for Nobody {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("nobody is here")))
        }
    }
}
