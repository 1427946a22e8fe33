//! Signing in to Amazon MSK with IAM.
//!
//! MSK accepts the SASL mechanism OAUTHBEARER. The token is the URL of a presigned request for the action
//! `kafka-cluster:Connect`, in Base64. Its format is that of AWS's signers, such as [aws-msk-iam-sasl-signer-python]. AWS's
//! signer for Rust is not used, because it brings aws-lc, which `deny.toml` bans.
//!
//! [aws-msk-iam-sasl-signer-python]: https://github.com/aws/aws-msk-iam-sasl-signer-python

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError},
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64_simd::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use hot_products::{Clock, UnixMillis};
use rdkafka::client::OAuthToken;
use thiserror::Error;
use tokio::{runtime::Handle, task::block_in_place};

use crate::invoke::causes;

/// How long a token is valid, as in AWS's signers. librdkafka asks for the next one after 80 percent of it.
const LIFETIME: Duration = Duration::from_mins(15);

/// The service that a request is signed for. IAM calls it so in the names of its actions.
const SERVICE: &str = "kafka-cluster";

/// What follows the URL's path before it is signed: the action that the broker checks.
const QUERY: &str = "Action=kafka-cluster%3AConnect";

/// Names this program to the broker. It is not signed.
const USER_AGENT: &str = concat!("hot-products/", env!("CARGO_PKG_VERSION"));

/// The name that librdkafka uses in its log. The broker does not see it.
const PRINCIPAL: &str = "iam";

/// Why there is no token to sign in with.
#[derive(Debug, Error)]
pub enum IamError {
    /// No credentials were found, or their source did not answer.
    #[error("no AWS credentials to sign in with; set AWS_PROFILE, or run `aws sso login` or `aws configure`: {0}")]
    NoCredentials(String),
    /// The credentials have expired.
    #[error("the AWS credentials expired at {0}; get new ones, for example with `aws sso login`")]
    Expired(UnixMillis),
    /// The request can't be signed.
    #[error("can't sign the token for the region {region}: {message}")]
    NotSigned {
        /// The cluster's region.
        region: String,
        /// What went wrong, with all causes.
        message: String,
    },
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

    /// A new token.
    pub(crate) fn token(&self) -> Result<OAuthToken, IamError> {
        let credentials = block_in_place(|| self.runtime.block_on(self.credentials.provide_credentials()));
        let credentials = credentials.map_err(|error: CredentialsError| IamError::NoCredentials(causes(&error)))?;
        token(&credentials, &self.region, self.clock.now())
    }
}

/// The region in the host names of MSK's brokers, such as `b-1.shop.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098`. `None`
/// if the first host has another name.
pub fn region_of(brokers: &str) -> Option<&str> {
    let host = brokers.split(',').next()?.split(':').next()?.trim();
    let (front, _) = host.split_once(".amazonaws.com")?;
    let (front, region) = front.rsplit_once('.')?;
    let service = front.rsplit('.').next()?;
    matches!(service, "kafka" | "kafka-serverless").then_some(region)
}

/// A token of `credentials` for the clusters in `region`, signed at `now`.
fn token(credentials: &Credentials, region: &str, now: UnixMillis) -> Result<OAuthToken, IamError> {
    let not_signed = |error: &(dyn std::error::Error + 'static)| IamError::NotSigned {
        region: region.to_owned(),
        message: causes(error),
    };
    // The signature has whole seconds.
    let signed = now.epoch_seconds().max(0);
    let signed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(signed as u64);
    let mut expires = UnixMillis(signed * 1000).plus(LIFETIME);
    if let Some(expiry) = credentials.expiry().and_then(unix_millis) {
        if expiry <= now {
            return Err(IamError::Expired(expiry));
        }
        expires = expires.min(expiry);
    }

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(signed_at)
        .settings(settings)
        .build()
        .map_err(|error| not_signed(&error))?
        .into();
    // AWS's signers use this host for all regions. Nobody connects to it.
    let path = format!("https://kafka.{region}.amazonaws.com/?");
    let url = format!("{path}{QUERY}");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| not_signed(&error))?;
    let (signature, _) = sign(request, &params).map_err(|error| not_signed(&error))?.into_parts();
    let mut query = Serializer::for_suffix(url, path.len());
    query.extend_pairs(signature.params()).append_pair("User-Agent", USER_AGENT);
    Ok(OAuthToken {
        token: URL_SAFE_NO_PAD.encode_to_string(query.finish()),
        principal_name: PRINCIPAL.to_owned(),
        lifetime_ms: expires.0,
    })
}

/// `None` for a time before 1970, which no credentials have.
fn unix_millis(time: SystemTime) -> Option<UnixMillis> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_credential_types::provider::future;
    use hot_products::ManualClock;

    use super::*;

    /// 2023-09-21T10:11:12.345Z
    const NOW: UnixMillis = UnixMillis(1_695_291_072_345);

    /// The access key of AWS's documentation.
    fn credentials(session_token: Option<&str>, expiry: Option<UnixMillis>) -> Credentials {
        Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            session_token.map(Into::into),
            expiry.map(|expiry| SystemTime::UNIX_EPOCH + Duration::from_millis(expiry.0 as u64)),
            "test",
        )
    }

    /// The host, path and parameters of the token's URL.
    fn parts(token: &str) -> (String, BTreeMap<String, String>) {
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode_to_vec(token).unwrap()).unwrap();
        let (path, query) = url.split_once('?').unwrap();
        let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let count = parameters.len();
        let parameters = BTreeMap::from_iter(parameters);
        assert_eq!(parameters.len(), count, "each parameter once: {url}");
        (path.to_owned(), parameters)
    }

    /// What aws-msk-iam-sasl-signer-python 1.0.2 (with botocore 1.43.11) made of the same credentials, region and time. The
    /// version in its user agent is the only parameter that may differ.
    const PUBLISHED: &str = "aHR0cHM6Ly9rYWZrYS5ldS1jZW50cmFsLTEuYW1hem9uYXdzLmNvbS8_QWN0aW9uPWthZmthLWNsdXN0ZXIlM0FDb25uZWN0\
        JlgtQW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJQUlPU0ZPRE5ON0VYQU1QTEUlMkYyMDIzMDkyMSUyRmV1\
        LWNlbnRyYWwtMSUyRmthZmthLWNsdXN0ZXIlMkZhd3M0X3JlcXVlc3QmWC1BbXotRGF0ZT0yMDIzMDkyMVQxMDExMTJaJlgtQW16LUV4cGlyZXM9OTAw\
        JlgtQW16LVNpZ25lZEhlYWRlcnM9aG9zdCZYLUFtei1TaWduYXR1cmU9NzlmNjg3ODA3ZTMwN2Y1MjdkNDI3NDZlZDc0OWM5NzQ1YmE1NmFlYWZiZTc5\
        OGQ2NTQxYjhmMjJjMjlkODM1MyZVc2VyLUFnZW50PWF3cy1tc2staWFtLXNhc2wtc2lnbmVyLXB5dGhvbiUyRjEuMC4y";

    /// As above, with [`SESSION`].
    const PUBLISHED_SESSION: &str = "aHR0cHM6Ly9rYWZrYS5ldS1jZW50cmFsLTEuYW1hem9uYXdzLmNvbS8_QWN0aW9uPWthZmthLWNsdXN0ZXIlM0FD\
        b25uZWN0JlgtQW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJQUlPU0ZPRE5ON0VYQU1QTEUlMkYyMDIzMDky\
        MSUyRmV1LWNlbnRyYWwtMSUyRmthZmthLWNsdXN0ZXIlMkZhd3M0X3JlcXVlc3QmWC1BbXotRGF0ZT0yMDIzMDkyMVQxMDExMTJaJlgtQW16LUV4cGly\
        ZXM9OTAwJlgtQW16LVNpZ25lZEhlYWRlcnM9aG9zdCZYLUFtei1TZWN1cml0eS1Ub2tlbj1JUW9KYjNKcFoybHVYMlZqRVhBTVBMRSUyRiUyRiUyRiUy\
        RiUyRiUyRiUyRiUyRiUyRiUyRndFYURHVjElMkJ0b2tlbiUyRndpdGglM0RzaWducyUzRCUzRCZYLUFtei1TaWduYXR1cmU9ZGUzYThlOTA3Yjc3YzVk\
        Nzg2YzlmOWMyMzkzNDI5OGQ4ZmRmNGM3YzkzY2M2ZTM2ZmYxNTcxNjhiNjY4NGM2NCZVc2VyLUFnZW50PWF3cy1tc2staWFtLXNhc2wtc2lnbmVyLXB5\
        dGhvbiUyRjEuMC4y";

    const SESSION: &str = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaDGV1+token/with=signs==";

    #[test]
    fn a_token_is_that_of_the_published_signer() {
        for (session, published) in [(None, PUBLISHED), (Some(SESSION), PUBLISHED_SESSION)] {
            let ours = token(&credentials(session, None), "eu-central-1", NOW).unwrap();
            let (path, mut parameters) = parts(&ours.token);
            let (published_path, mut published_parameters) = parts(published);
            assert_eq!(published_parameters["X-Amz-Expires"], "900");
            assert_eq!(parameters.remove("User-Agent"), Some(format!("hot-products/{}", env!("CARGO_PKG_VERSION"))));
            assert!(published_parameters.remove("User-Agent").is_some());
            assert_eq!((path, parameters), (published_path, published_parameters));
            assert_eq!(ours.lifetime_ms, 1_695_291_972_000, "as the published signer says");
        }
    }

    #[test]
    fn a_token_does_not_outlive_its_credentials() {
        let expiry = NOW.plus(Duration::from_mins(5));
        assert_eq!(token(&credentials(None, Some(expiry)), "eu-central-1", NOW).unwrap().lifetime_ms, expiry.0);
        let error = token(&credentials(None, Some(NOW)), "eu-central-1", NOW).err().unwrap();
        assert!(error.to_string().starts_with("the AWS credentials expired at 2023-09-21T10:11:12.345Z"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_token_is_made_on_a_thread_of_the_runtime_and_a_missing_key_is_an_error() {
        let clock = Arc::new(ManualClock::at(NOW));
        let made = |provider| Iam::new("eu-central-1", provider, clock.clone()).token();
        let found = SharedCredentialsProvider::new(credentials(None, None));
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

    #[test]
    fn the_region_is_that_of_the_brokers_names() {
        for (brokers, region) in [
            ("b-1.shop.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098,b-2.x:9098", Some("eu-central-1")),
            ("boot-x1y2.c1.kafka-serverless.us-east-1.amazonaws.com:9098", Some("us-east-1")),
            ("b-1.shop.a1b2c3.c2.kafka.cn-north-1.amazonaws.com.cn:9098", Some("cn-north-1")),
            ("b-1.kafka.a1b2c3.c2.kafka.us-west-2.amazonaws.com:9098", Some("us-west-2")),
            ("kafka.example.com:9098", None),
            ("127.0.0.1:9092", None),
            ("", None),
        ] {
            assert_eq!(region_of(brokers), region, "{brokers}");
        }
    }
}
