//! Between the functions and DynamoDB: a proxy that loses, delays, repeats and refuses.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    dice::{chance, dice},
    report::{Fault, Tally},
};

/// What a schedule does to requests.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// How many of 100 requests meet a fault.
    pub percent: u32,
    /// The faults they meet.
    pub faults: Vec<Fault>,
}

/// What happens at one request of an invocation.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// The function is killed, before the request is delivered or after.
    Kill(Fault),
    /// The function's sources are rebalanced, and the request waits until the new poller went on.
    Rebalance,
}

/// What the proxy knows of the invocation under way in a function.
#[derive(Debug, Default)]
pub struct Running {
    /// The turn, and at which of the invocation's requests, counted from 0.
    pub turn: Option<(u32, Turn)>,
    /// Kills the function.
    pub kill: Option<oneshot::Sender<()>>,
    /// How many requests the invocation has sent.
    pub requests: u32,
}

/// A proxy with a line to DynamoDB for each poller's function.
pub struct Proxy {
    seed: u64,
    /// Whether somebody listens to [`Proxy::say`].
    pub verbose: bool,
    engine: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    rates: Rates,
    /// What stands in keys for what, so that a request has the same name in every run of a seed.
    names: HashMap<String, String>,
    rebalance: Box<dyn Fn(usize) + Send + Sync>,
    /// Faults are over.
    calm: AtomicBool,
    /// How many requests each item has had.
    nth: Mutex<HashMap<String, u64>>,
    held: Mutex<Held>,
    /// How many reasons there are for DynamoDB to be away.
    down: watch::Sender<u32>,
    /// Connections and requests under way.
    busy: watch::Sender<usize>,
    /// One a poller.
    pub running: Vec<Mutex<Running>>,
    /// The schedule's figures.
    pub tally: Mutex<Tally>,
}

/// Requests that wait for others to go by.
#[derive(Default)]
struct Held {
    passed: u64,
    waiting: Vec<Waiting>,
}

struct Waiting {
    due: u64,
    sent: Sent,
    reply: Option<oneshot::Sender<Option<Answer>>>,
}

/// A request as the function sent it.
#[derive(Clone)]
struct Sent {
    label: Arc<str>,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer as DynamoDB gave it.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Resets the connection when returned from the service.
#[derive(Debug)]
struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the schedule resets the connection")
    }
}

impl std::error::Error for Reset {}

type Body = BoxBody<Bytes, io::Error>;

/// Counts as under way while it lives.
struct Busy(Arc<Proxy>);

impl Busy {
    fn new(proxy: &Arc<Proxy>) -> Self {
        proxy.busy.send_modify(|busy| *busy += 1);
        Self(Arc::clone(proxy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|busy| *busy -= 1);
    }
}

impl Proxy {
    /// A proxy to `engine` for `pollers` functions. `names` are the parts of keys that differ between runs of a seed;
    /// `rebalance` is called for the poller at whose request a rebalance is due.
    pub fn new(
        seed: u64,
        verbose: bool,
        engine: &str,
        rates: Rates,
        pollers: usize,
        names: HashMap<String, String>,
        rebalance: Box<dyn Fn(usize) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            seed,
            verbose,
            engine: engine.parse().expect("the engine's address is a URL"),
            client: Client::builder(TokioExecutor::new()).build_http(),
            rates,
            names,
            rebalance,
            calm: AtomicBool::new(false),
            nth: Mutex::default(),
            held: Mutex::default(),
            down: watch::Sender::new(0),
            busy: watch::Sender::new(0),
            running: (0..pollers).map(|_| Mutex::default()).collect(),
            tally: Mutex::default(),
        })
    }

    /// Opens the line of `poller`.
    pub fn open(self: &Arc<Self>, poller: usize) -> (SocketAddr, JoinHandle<()>) {
        // Bound and never listening, it keeps the port while nothing listens: connections are refused, and nobody else's
        // server can take the port.
        let reserved = socket(([127, 0, 0, 1], 0).into());
        let address = reserved.local_addr().expect("the proxy's address");
        let proxy = Arc::clone(self);
        let line = tokio::spawn(async move {
            proxy.line(poller, address).await;
            drop(reserved);
        });
        (address, line)
    }

    /// Tells what happens, where somebody listens.
    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", what());
        }
    }

    /// Takes DynamoDB away, for one more reason, or lets it come back for one less.
    pub fn away(&self, away: bool) {
        self.down.send_modify(|down| if away { *down += 1 } else { *down -= 1 });
    }

    /// Ends all faults, but for the requests that are held.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether the faults are over.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Waits until DynamoDB is back.
    pub async fn back(&self) {
        let mut down = self.down.subscribe();
        down.wait_for(|down| *down == 0).await.expect("the sender is ours");
    }

    /// Delivers what is still held, in any order, when all functions have ended.
    pub async fn finish(self: &Arc<Self>) {
        self.idle().await;
        loop {
            let mut waiting = std::mem::take(&mut self.held.lock().expect("no panic").waiting);
            if waiting.is_empty() {
                return;
            }
            waiting.shuffle(&mut dice(self.seed, "order of the last"));
            for held in waiting {
                self.release(held);
            }
            self.idle().await;
        }
    }

    async fn idle(&self) {
        let mut busy = self.busy.subscribe();
        busy.wait_for(|busy| *busy == 0).await.expect("the sender is ours");
    }

    async fn line(self: Arc<Self>, poller: usize, address: SocketAddr) {
        let mut down = self.down.subscribe();
        while down.wait_for(|down| *down == 0).await.is_ok() {
            let listener = socket(address).listen(1024).expect("a port for the proxy");
            loop {
                tokio::select! {
                    biased;
                    _ = down.wait_for(|down| *down > 0) => break,
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        tokio::spawn(Arc::clone(&self).connection(poller, stream, Busy::new(&self)));
                    }
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, poller: usize, stream: TcpStream, _busy: Busy) {
        // Closing it is then a reset, whatever is under way.
        stream.set_zero_linger().expect("a fresh socket has options");
        let mut down = self.down.subscribe();
        let proxy = Arc::clone(&self);
        let service = service_fn(move |request| Arc::clone(&proxy).request(poller, request));
        tokio::select! {
            _reset = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
            _ = down.wait_for(|down| *down > 0) => {}
        }
    }

    async fn request(self: Arc<Self>, poller: usize, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
        let label = self.label(&body);
        let nth = {
            let mut nth = self.nth.lock().expect("no panic");
            let nth = nth.entry(label.clone()).or_default();
            *nth += 1;
            *nth
        };
        let sent = Sent { label: label.into(), headers: head.headers, body };
        self.count(|tally| tally.requests += 1);

        let turn = {
            let mut running = self.running[poller].lock().expect("no panic");
            let number = running.requests;
            running.requests += 1;
            running.turn.take_if(|(at, _)| *at == number).map(|(_, turn)| turn)
        };
        let mut dice = dice(self.seed, format_args!("{} for the {nth} time", sent.label));
        let fault = match turn {
            Some(Turn::Kill(fault)) => Some(fault),
            Some(Turn::Rebalance) => {
                (self.rebalance)(poller);
                self.count(|tally| tally.two_pollers += 1);
                Some(Fault::Delayed)
            }
            None if self.is_calm() || !chance(&mut dice, self.rates.percent) => None,
            None => self.rates.faults.get(dice.random_range(0..self.rates.faults.len().max(1))).copied(),
        };
        let Some(fault) = fault else {
            self.say(|| format!("  poller {poller}: {} #{nth}", sent.label));
            return self.forward(sent).await.map(Answer::whole).ok_or(Reset);
        };
        self.say(|| format!("  poller {poller}: {} #{nth}: {fault:?}", sent.label));
        self.count(|tally| tally.fault(fault));
        self.inject(fault, poller, sent, &mut dice).await
    }

    async fn inject(
        self: &Arc<Self>,
        fault: Fault,
        poller: usize,
        sent: Sent,
        dice: &mut ChaCha8Rng,
    ) -> Result<Response<Body>, Reset> {
        match fault {
            Fault::Refused => {
                let proxy = Arc::clone(self);
                let moment = Duration::from_millis(dice.random_range(2..60));
                self.away(true);
                tokio::spawn(async move {
                    sleep(moment).await;
                    proxy.away(false);
                });
                Err(Reset)
            }
            Fault::ResetBefore => Err(Reset),
            Fault::ResetAfter => {
                self.forward(sent).await;
                Err(Reset)
            }
            Fault::AnswerCut => self.forward(sent).await.map(Answer::cut).ok_or(Reset),
            Fault::Error500 => Ok(internal_error()),
            Fault::Error500After => {
                self.forward(sent).await;
                Ok(internal_error())
            }
            Fault::Throttled => Ok(throttled(dice)),
            Fault::SlowAnswer => {
                self.forward(sent).await;
                // Until the function gives up, which ends the connection and this with it.
                std::future::pending().await
            }
            Fault::Delayed => {
                let (reply, replied) = oneshot::channel();
                self.hold(sent, dice.random_range(1..20), Some(reply));
                replied.await.ok().flatten().map(Answer::whole).ok_or(Reset)
            }
            Fault::Late => {
                self.hold(sent, later(dice), None);
                Err(Reset)
            }
            Fault::Twice => {
                let again = sent.clone();
                if chance(dice, 20) {
                    self.deliver(again, None);
                } else {
                    self.hold(again, later(dice), None);
                }
                self.forward(sent).await.map(Answer::whole).ok_or(Reset)
            }
            Fault::KillBefore | Fault::KillAfter => {
                if fault == Fault::KillAfter {
                    self.forward(sent).await;
                }
                if let Some(kill) = self.running[poller].lock().expect("no panic").kill.take() {
                    let _ended = kill.send(());
                }
                std::future::pending().await
            }
        }
    }

    fn hold(&self, sent: Sent, others: u64, reply: Option<oneshot::Sender<Option<Answer>>>) {
        let mut held = self.held.lock().expect("no panic");
        let due = held.passed.saturating_add(others);
        held.waiting.push(Waiting { due, sent, reply });
    }

    /// Delivers a request, whatever becomes of the function that sent it, and waits for the answer. `None` when
    /// DynamoDB gave none.
    async fn forward(self: &Arc<Self>, sent: Sent) -> Option<Answer> {
        let (reply, replied) = oneshot::channel();
        self.deliver(sent, Some(reply));
        replied.await.ok().flatten()
    }

    fn release(self: &Arc<Self>, held: Waiting) {
        self.say(|| format!("  delivered now: {}", held.sent.label));
        self.count(|tally| tally.applied_late += 1);
        self.deliver(held.sent, held.reply);
    }

    fn deliver(self: &Arc<Self>, sent: Sent, reply: Option<oneshot::Sender<Option<Answer>>>) {
        let proxy = Arc::clone(self);
        let busy = Busy::new(self);
        tokio::spawn(async move {
            let answer = proxy.send(sent).await;
            if let Some(reply) = reply {
                let _gave_up = reply.send(answer);
            }
            let due = {
                let mut held = proxy.held.lock().expect("no panic");
                held.passed += 1;
                let passed = held.passed;
                held.waiting.extract_if(.., |waiting| waiting.due <= passed).collect::<Vec<_>>()
            };
            for held in due {
                proxy.release(held);
            }
            drop(busy);
        });
    }

    async fn send(&self, sent: Sent) -> Option<Answer> {
        let mut request = Request::post(self.engine.clone()).body(Full::new(sent.body)).expect("a valid request");
        *request.headers_mut() = sent.headers;
        let (head, body) = self.client.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        if head.status == StatusCode::BAD_REQUEST && body.windows(22).any(|text| text == b"ConditionalCheckFailed") {
            self.count(|tally| tally.refused += 1);
        }
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock().expect("no panic"));
    }

    /// What a request writes to, by a name that is the same in every run of the seed.
    fn label(&self, body: &[u8]) -> String {
        #[derive(Default, Deserialize)]
        struct Text {
            #[serde(alias = "N", rename = "S")]
            text: String,
        }
        #[derive(Default, Deserialize)]
        struct Key {
            bucket: Option<Text>,
            source: Text,
            first_offset: Option<Text>,
        }
        #[derive(Deserialize)]
        struct Write {
            #[serde(alias = "Item", rename = "Key")]
            key: Key,
        }
        let Ok(write) = serde_json::from_slice::<Write>(body) else { return "?".into() };
        let Key { bucket, source, first_offset } = write.key;
        let part = bucket.or(first_offset).unwrap_or_default().text;
        let mut label = format!("{} {part}", source.text);
        for (name, stands_for) in &self.names {
            label = label.replace(name, stands_for);
        }
        label
    }
}

impl Answer {
    fn whole(self) -> Response<Body> {
        self.response(|body| Full::new(body).map_err(|never| match never {}).boxed())
    }

    /// Half of it.
    fn cut(self) -> Response<Body> {
        self.response(|body| {
            let half = Ok(Frame::data(body.slice(..body.len() / 2)));
            let reset = Err(io::Error::other(Reset));
            BodyExt::boxed(StreamBody::new(stream::iter([half, reset])))
        })
    }

    fn response(self, body: impl FnOnce(Bytes) -> Body) -> Response<Body> {
        let length = self.body.len();
        let mut response = Response::new(body(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert("content-length", length.into());
        response.headers_mut().remove("transfer-encoding");
        response
    }
}

/// How many other requests go by first: a few, many, or all there will ever be.
fn later(dice: &mut ChaCha8Rng) -> u64 {
    match dice.random_range(0..10) {
        0..=4 => dice.random_range(1..5),
        5..=7 => dice.random_range(5..60),
        _ => u64::MAX,
    }
}

fn internal_error() -> Response<Body> {
    failure(StatusCode::INTERNAL_SERVER_ERROR, "com.amazonaws.dynamodb.v20120810#InternalServerError")
}

fn throttled(dice: &mut ChaCha8Rng) -> Response<Body> {
    let kinds = [
        "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "com.amazonaws.dynamodb.v20120810#RequestLimitExceeded",
        "com.amazon.coral.availability#ThrottlingException",
    ];
    failure(StatusCode::BAD_REQUEST, kinds[dice.random_range(0..kinds.len())])
}

/// An error as DynamoDB writes it.
fn failure(status: StatusCode, kind: &str) -> Response<Body> {
    let body = Bytes::from(format!(r#"{{"__type":"{kind}","message":"injected"}}"#));
    let headers = HeaderMap::from_iter([(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/x-amz-json-1.0"),
    )]);
    Answer { status, headers, body }.whole()
}

/// A socket bound to `address`, beside others of ours.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a fresh socket has options");
    socket.set_reuseport(true).expect("a fresh socket has options");
    socket.bind(address).expect("a port for the proxy");
    socket
}
