//! Tokens to sign in to Amazon MSK with IAM.
//!
//! MSK accepts the SASL mechanism OAUTHBEARER. The token is the URL of a presigned request for the action
//! `kafka-cluster:Connect`, in Base64. Its format is that of AWS's signers, such as [aws-msk-iam-sasl-signer-python]. AWS's
//! signer for Rust is not used, because it brings aws-lc, which `deny.toml` bans.
//!
//! [aws-msk-iam-sasl-signer-python]: https://github.com/aws/aws-msk-iam-sasl-signer-python

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64_simd::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use hot_products::UnixMillis;
use thiserror::Error;

/// How long a token is valid, as in AWS's signers.
const LIFETIME: Duration = Duration::from_mins(15);

/// The service that a request is signed for. IAM calls it so in the names of its actions.
const SERVICE: &str = "kafka-cluster";

/// What follows the URL's path before it is signed: the action that the broker checks.
const QUERY: &str = "Action=kafka-cluster%3AConnect";

/// Names this program to the broker. It is not signed.
const USER_AGENT: &str = concat!("hot-products/", env!("CARGO_PKG_VERSION"));

/// Why a token can't be made.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The credentials have expired.
    #[error("the AWS credentials expired at {0}; get new ones, for example with `aws sso login`")]
    Expired(UnixMillis),
    /// The request can't be signed.
    #[error("can't sign the token for the region {region}: {source}")]
    NotSigned {
        /// The cluster's region.
        region: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A token for the SASL mechanism OAUTHBEARER. It is a password, so it needs TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its text.
    pub text: String,
    /// When it expires: after fifteen minutes, or with its credentials.
    pub expires: UnixMillis,
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
///
/// # Errors
/// When the credentials have expired, or the request can't be signed.
pub fn token(credentials: &Credentials, region: &str, now: UnixMillis) -> Result<Token, TokenError> {
    let not_signed = |source| TokenError::NotSigned { region: region.to_owned(), source };
    // The signature has whole seconds.
    let signed = now.epoch_seconds().max(0);
    let signed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(signed as u64);
    let mut expires = UnixMillis(signed * 1000).plus(LIFETIME);
    if let Some(expiry) = credentials.expiry().and_then(unix_millis) {
        if expiry <= now {
            return Err(TokenError::Expired(expiry));
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
        .map_err(|error| not_signed(error.into()))?
        .into();
    // AWS's signers use this host for all regions. Nobody connects to it.
    let path = format!("https://kafka.{region}.amazonaws.com/?");
    let url = format!("{path}{QUERY}");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| not_signed(error.into()))?;
    let (signature, _) = sign(request, &params).map_err(|error| not_signed(error.into()))?.into_parts();
    let mut query = Serializer::for_suffix(url, path.len());
    query.extend_pairs(signature.params()).append_pair("User-Agent", USER_AGENT);
    Ok(Token { text: URL_SAFE_NO_PAD.encode_to_string(query.finish()), expires })
}

/// `None` for a time before 1970, which no credentials have.
fn unix_millis(time: SystemTime) -> Option<UnixMillis> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
            let (path, mut parameters) = parts(&ours.text);
            let (published_path, mut published_parameters) = parts(published);
            assert_eq!(published_parameters["X-Amz-Expires"], "900");
            assert_eq!(parameters.remove("User-Agent"), Some(format!("hot-products/{}", env!("CARGO_PKG_VERSION"))));
            assert!(published_parameters.remove("User-Agent").is_some());
            assert_eq!((path, parameters), (published_path, published_parameters));
            assert_eq!(ours.expires.0, 1_695_291_972_000, "as the published signer says");
        }
    }

    #[test]
    fn a_token_does_not_outlive_its_credentials() {
        let expiry = NOW.plus(Duration::from_mins(5));
        assert_eq!(token(&credentials(None, Some(expiry)), "eu-central-1", NOW).unwrap().expires, expiry);
        let error = token(&credentials(None, Some(NOW)), "eu-central-1", NOW).err().unwrap();
        assert!(error.to_string().starts_with("the AWS credentials expired at 2023-09-21T10:11:12.345Z"), "{error}");
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
