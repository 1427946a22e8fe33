//! A connection to one broker: TLS, the sign-in with IAM, then one request after the other.

use std::{error::Error, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    error::ParseResponseErrorCode,
    messages::{
        ApiKey, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
        SaslHandshakeResponse,
    },
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
};
use msk_iam::Token;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long to wait for a connection with its sign-in. A security group that drops packets answers nothing.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for one answer. A broker waits for the copies of a record.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest answer that is read, in bytes: much more than the metadata of a topic.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The SASL mechanism of IAM (Amazon MSK Developer Guide, "Configure clients to use IAM access control").
const MECHANISM: &str = "OAUTHBEARER";

/// The name that brokers have in their logs for this client.
const CLIENT_ID: &str = "seed-clicks";

/// Why a broker can't be used.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// No connection, or it broke.
    #[error("{broker}: {reason}")]
    Unreachable {
        /// Its address.
        broker: String,
        /// What went wrong.
        reason: String,
    },
    /// It refused the token.
    #[error(
        "{broker} refused the sign-in: {reason}; check that the role has kafka-cluster:Connect on this cluster, and that it \
         is in this region"
    )]
    NotLetIn {
        /// Its address.
        broker: String,
        /// Its words.
        reason: String,
    },
}

/// A connection that is signed in.
pub(crate) struct Connection<S = TlsStream<TcpStream>> {
    stream: S,
    broker: String,
    /// The number of the last request.
    last: i32,
}

impl Connection {
    /// Connects to `broker`, a `host:port`, and signs in with `token`.
    pub(crate) async fn open(broker: &str, tls: &TlsConnector, token: &Token) -> Result<Self, BrokerError> {
        let unreachable = |reason: String| BrokerError::Unreachable { broker: broker.to_owned(), reason };
        let opened = timeout(OPEN_TIMEOUT, async {
            let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host).to_owned();
            let name = ServerName::try_from(host).map_err(|error| unreachable(error.to_string()))?;
            let stream = TcpStream::connect(broker).await.map_err(|error| unreachable(error.to_string()))?;
            let stream = tls.connect(name, stream).await.map_err(|error| unreachable(error.to_string()))?;
            let mut connection = Self { stream, broker: broker.to_owned(), last: 0 };
            connection.sign_in(token).await?;
            Ok(connection)
        });
        opened.await.map_err(|_| unreachable(format!("no answer within {} s", OPEN_TIMEOUT.as_secs())))?
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// RFC 7628, and the two requests of Kafka around it (KIP-43, KIP-152).
    async fn sign_in(&mut self, token: &Token) -> Result<(), BrokerError> {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(MECHANISM));
        let answer: SaslHandshakeResponse = self.ask(ApiKey::SaslHandshake, 1, &request).await?;
        if answer.error_code.err().is_some() {
            let others: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(self.not_let_in(format!("it takes {}, not {MECHANISM}", others.join(", "))));
        }
        let message = format!("n,,\x01auth=Bearer {}\x01\x01", token.text);
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
        let answer: SaslAuthenticateResponse = self.ask(ApiKey::SaslAuthenticate, 1, &request).await?;
        if let Some(error) = answer.error_code.err() {
            return Err(self.not_let_in(answer.error_message.map_or(format!("{error:?}"), |text| text.to_string())));
        }
        // A refusal is no error of Kafka, but a JSON object in its answer. An accepted token has an empty one.
        if !answer.auth_bytes.is_empty() {
            return Err(self.not_let_in(String::from_utf8_lossy(&answer.auth_bytes).into_owned()));
        }
        Ok(())
    }

    /// Sends a request of `version` and waits for its answer.
    pub(crate) async fn ask<A: Decodable + HeaderVersion, Q: Encodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> Result<A, BrokerError> {
        match timeout(ANSWER_TIMEOUT, self.exchange(key, version, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.unreachable(format!("{key:?}: {error}"))),
            Err(_) => Err(self.unreachable(format!("{key:?}: no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    async fn exchange<A: Decodable + HeaderVersion, Q: Encodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> Result<A, Box<dyn Error + Send + Sync>> {
        self.last += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.last)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        // Its length is known only at the end.
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        header.encode(&mut bytes, Q::header_version(version))?;
        request.encode(&mut bytes, version)?;
        let length = u32::try_from(bytes.len() - size_of::<i32>())?;
        bytes[..size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;

        let length = self.stream.read_u32().await? as usize;
        if length > MAX_ANSWER_BYTES {
            return Err(format!("an answer of {length} bytes is not Kafka's").into());
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, A::header_version(version))?;
        if header.correlation_id != self.last {
            return Err(format!("the answer to request {} came for {}", header.correlation_id, self.last).into());
        }
        Ok(A::decode(&mut answer, version)?)
    }

    fn unreachable(&self, reason: String) -> BrokerError {
        BrokerError::Unreachable { broker: self.broker.clone(), reason }
    }

    fn not_let_in(&self, reason: String) -> BrokerError {
        BrokerError::NotLetIn { broker: self.broker.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use hot_products::UnixMillis;
    use tokio::io::duplex;

    use super::*;

    /// What signing in says to a broker that sends these answers, each without its length.
    async fn signed_in(answers: &[&[u8]]) -> Result<(), String> {
        let (stream, mut broker) = duplex(4096);
        for answer in answers {
            broker.write_u32(answer.len() as u32).await.unwrap();
            broker.write_all(answer).await.unwrap();
        }
        let mut connection = Connection { stream, broker: "b:9098".to_owned(), last: 0 };
        let token = Token { text: "t".to_owned(), expires: UnixMillis(0) };
        let result = connection.sign_in(&token).await.map_err(|error| error.to_string());
        drop(connection);
        let mut sent = Vec::new();
        broker.read_to_end(&mut sent).await.unwrap();
        assert!(sent.starts_with(b"\0\0\0\x22\0\x11\0\x01\0\0\0\x01\0\x0bseed-clicks\0\x0bOAUTHBEARER"), "{sent:?}");
        result
    }

    /// The mechanism is accepted.
    const TAKEN: &[u8] = b"\0\0\0\x01\0\0\0\0\0\x01\0\x0bOAUTHBEARER";

    #[tokio::test]
    async fn an_empty_answer_lets_in_and_everything_else_is_an_error_with_its_reason() {
        assert_eq!(signed_in(&[TAKEN, b"\0\0\0\x02\0\0\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0"]).await, Ok(()));
        let refused = b"\0\0\0\x02\0\0\xff\xff\0\0\0\x14{\"status\":\"expired\"}\0\0\0\0\0\0\0\0";
        let failed = b"\0\0\0\x02\0\x3a\0\x0dAccess denied\0\0\0\0\0\0\0\0\0\0\0\0";
        for (answers, reason) in [
            (&[TAKEN, refused][..], "b:9098 refused the sign-in: {\"status\":\"expired\"}; check that the role"),
            (&[TAKEN, failed], "b:9098 refused the sign-in: Access denied; check that the role"),
            (
                &[b"\0\0\0\x01\0\x21\0\0\0\x01\0\x05PLAIN"],
                "b:9098 refused the sign-in: it takes PLAIN, not OAUTHBEARER",
            ),
            (&[b"\0\0\0\x07\0\0\0\0\0\0"], "b:9098: SaslHandshake: the answer to request 7 came for 1"),
            (&[TAKEN, b"\0\0\0\x02\0"], "b:9098: SaslAuthenticate: "),
        ] {
            let error = signed_in(answers).await.unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_another_protocol_is_not_read() {
        let (stream, mut broker) = duplex(4096);
        broker.write_all(b"HTTP/1.1 400 Bad Request").await.unwrap();
        let mut connection = Connection { stream, broker: "b:80".to_owned(), last: 0 };
        let token = Token { text: "t".to_owned(), expires: UnixMillis(0) };
        let error = connection.sign_in(&token).await.unwrap_err().to_string();
        assert_eq!(error, "b:80: SaslHandshake: an answer of 1213486160 bytes is not Kafka's");
    }
}
