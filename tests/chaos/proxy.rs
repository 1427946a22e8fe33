//! A proxy between the functions and DynamoDB that loses, delays, repeats, refuses and throttles requests.

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
use hot_products::{Clock, SystemClock};
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
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    capacity::{Capacity, Ceiling, write_units},
    dice::{chance, dice},
    report::{Fault, Tally},
};

/// The faults of requests in a schedule.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// The percentage of requests with a fault.
    pub percent: u32,
    /// The percentage of notes, snapshots and records of rankings with a fault. There is only one of them in hundreds of
    /// requests, so they need a higher rate.
    pub rare_percent: u32,
    /// The kinds of faults.
    pub faults: Vec<Fault>,
}

/// An event at one request of an invocation.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// The function is killed, before or after the request is delivered.
    Kill(Fault),
    /// One of the function's partitions is rebalanced, and the request waits until later requests have passed.
    Rebalance,
}

/// The state of a function's current invocation.
#[derive(Debug, Default)]
pub struct Running {
    /// The number of a request, counted from 0, and the event that happens at it.
    pub turn: Option<(u32, Turn)>,
    /// Kills the function.
    pub kill: Option<oneshot::Sender<()>>,
    /// Whether its snapshots are delivered when the step of the schedule ends, and never answered.
    pub holds_snapshots: bool,
    /// The number of requests the invocation has sent.
    pub requests: u32,
    /// The number of its updates that DynamoDB has applied.
    pub applied: u64,
}

/// The settings of a [`Proxy`].
pub struct Setup {
    /// The schedule's seed.
    pub seed: u64,
    /// Whether to print what happens.
    pub verbose: bool,
    /// The address of DynamoDB.
    pub engine: String,
    /// The faults.
    pub rates: Rates,
    /// The capacity of a table, until the faults are over.
    pub ceiling: Option<Ceiling>,
    /// The number of functions.
    pub pollers: usize,
    /// Replacements for the parts of keys that differ between runs of a seed, so that labels are the same in every run.
    pub names: HashMap<String, String>,
    /// Rebalances a partition of this poller.
    pub rebalance: Box<dyn Fn(usize) + Send + Sync>,
}

/// A proxy with a separate listener for each poller's function.
pub struct Proxy {
    seed: u64,
    /// Whether [`Proxy::log`] prints.
    pub verbose: bool,
    engine: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    rates: Rates,
    capacity: Option<Capacity>,
    names: HashMap<String, String>,
    rebalance: Box<dyn Fn(usize) + Send + Sync>,
    /// Whether the faults are over.
    calm: AtomicBool,
    /// The number of requests for each item.
    nth: Mutex<HashMap<String, u64>>,
    held: Mutex<Held>,
    /// The number of reasons for DynamoDB to be unavailable.
    down: watch::Sender<u32>,
    /// The number of open connections and running requests.
    busy: watch::Sender<usize>,
    /// The number of requests on their way to DynamoDB.
    delivering: watch::Sender<usize>,
    /// One for each poller.
    pub running: Vec<Mutex<Running>>,
    /// The schedule's figures.
    pub tally: Mutex<Tally>,
}

/// Requests that wait until others have passed.
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

/// A request from the function.
#[derive(Clone)]
struct Sent {
    poller: usize,
    label: Arc<str>,
    kind: Kind,
    headers: HeaderMap,
    body: Bytes,
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// It adds to counters.
    Update,
    /// It marks a full item as closed.
    Closing,
    /// It notes late clicks.
    Note,
    /// It writes a snapshot.
    Snapshot,
    /// It records what a ranking knew.
    Record,
    /// It reads.
    Read,
    /// Anything else.
    #[default]
    Other,
}

/// A response from DynamoDB.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// An error that makes the server reset the connection.
#[derive(Debug)]
struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the schedule resets the connection")
    }
}

impl std::error::Error for Reset {}

type Body = BoxBody<Bytes, io::Error>;

/// Counts as running until it is dropped.
struct Busy(watch::Sender<usize>);

impl Busy {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Proxy {
    /// A proxy as `setup` describes it.
    pub fn new(setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            seed: setup.seed,
            verbose: setup.verbose,
            engine: setup.engine.parse().expect("the engine's address is a URL"),
            client: Client::builder(TokioExecutor::new()).build_http(),
            rates: setup.rates,
            capacity: setup.ceiling.map(|ceiling| Capacity::new(ceiling, SystemClock.now())),
            names: setup.names,
            rebalance: setup.rebalance,
            calm: AtomicBool::new(false),
            nth: Mutex::default(),
            held: Mutex::default(),
            down: watch::Sender::new(0),
            busy: watch::Sender::new(0),
            delivering: watch::Sender::new(0),
            running: (0..setup.pollers).map(|_| Mutex::default()).collect(),
            tally: Mutex::default(),
        })
    }

    /// Opens the listener for `poller`.
    pub fn open(self: &Arc<Self>, poller: usize) -> (SocketAddr, JoinHandle<()>) {
        // This socket is bound but never listens. It reserves the port while connections are refused.
        let reserved = socket(([127, 0, 0, 1], 0).into());
        let address = reserved.local_addr().expect("the proxy's address");
        let proxy = Arc::clone(self);
        let line = tokio::spawn(async move {
            proxy.line(poller, address).await;
            drop(reserved);
        });
        (address, line)
    }

    /// Prints a line if the schedule is verbose.
    pub fn log(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", what());
        }
    }

    /// Adds or removes a reason for DynamoDB to be unavailable.
    pub fn away(&self, away: bool) {
        self.down.send_modify(|down| if away { *down += 1 } else { *down -= 1 });
    }

    /// Ends all faults, except for requests that are still held.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether the faults are over.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Waits until DynamoDB is available.
    pub async fn back(&self) {
        let mut down = self.down.subscribe();
        down.wait_for(|down| *down == 0).await.expect("the proxy has the sender");
    }

    /// Delivers the requests that are still held, in random order, after all functions have ended.
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

    /// Delivers the requests that are still held, in random order, after all invocations have ended. Unlike
    /// [`Proxy::finish`], it does not wait until connections are closed.
    pub async fn flush(self: &Arc<Self>) {
        loop {
            let mut waiting = std::mem::take(&mut self.held.lock().expect("no panic").waiting);
            waiting.shuffle(&mut dice(self.seed, "order of the last"));
            let is_last = waiting.is_empty();
            for held in waiting {
                self.release(held);
            }
            let mut delivering = self.delivering.subscribe();
            delivering.wait_for(|delivering| *delivering == 0).await.expect("the proxy has the sender");
            if is_last {
                return;
            }
        }
    }

    async fn idle(&self) {
        let mut busy = self.busy.subscribe();
        busy.wait_for(|busy| *busy == 0).await.expect("the proxy has the sender");
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
                        tokio::spawn(Arc::clone(&self).connection(poller, stream, Busy::new(&self.busy)));
                    }
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, poller: usize, stream: TcpStream, _busy: Busy) {
        // Closing the connection then resets it.
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
        let target = head.headers.get("x-amz-target").map(|target| String::from_utf8_lossy(target.as_bytes()));
        let (label, kind) = self.label(&target.unwrap_or_default(), &body);
        let nth = {
            let mut nth = self.nth.lock().expect("no panic");
            let nth = nth.entry(label.clone()).or_default();
            *nth += 1;
            *nth
        };
        let sent = Sent { poller, label: label.into(), kind, headers: head.headers, body };
        self.count(|tally| tally.requests += 1);

        let (turn, holds_snapshots) = {
            let mut running = self.running[poller].lock().expect("no panic");
            let number = running.requests;
            running.requests += 1;
            (running.turn.take_if(|(at, _)| *at == number).map(|(_, turn)| turn), running.holds_snapshots)
        };
        let mut dice = dice(self.seed, format_args!("{} for the {nth} time", sent.label));
        let fault = match turn {
            Some(Turn::Kill(fault)) => Some(fault),
            Some(Turn::Rebalance) => {
                (self.rebalance)(poller);
                self.count(|tally| tally.two_pollers += 1);
                Some(Fault::Delayed)
            }
            None if self.is_calm() => None,
            // A schedule has only one or two of these, so they need a higher rate.
            None if sent.kind == Kind::Closing => {
                chance(&mut dice, 80).then(|| Fault::ALL[dice.random_range(0..Fault::ALL.len())])
            }
            None if matches!(sent.kind, Kind::Note | Kind::Snapshot | Kind::Record) => {
                let fault = Fault::ALL[dice.random_range(0..Fault::ALL.len())];
                chance(&mut dice, self.rates.rare_percent).then_some(fault)
            }
            // A ranking has a thousand reads, and each of them must succeed.
            None if sent.kind == Kind::Read && dice.random_range(0..200) > 0 => None,
            None if !chance(&mut dice, self.rates.percent) => None,
            None => self.rates.faults.get(dice.random_range(0..self.rates.faults.len().max(1))).copied(),
        };
        // Not its clicks per minute, which come first: without them, there would be no snapshot.
        if holds_snapshots && sent.kind == Kind::Snapshot && sent.label.starts_with("clicks ") {
            self.log(|| format!("  poller {poller}: {} #{nth}: held", sent.label));
            self.count(|tally| {
                tally.fault(Fault::Late);
                tally.rankings_met += 1;
            });
            self.hold(sent, u64::MAX, None);
            return Err(Reset);
        }
        let Some(fault) = fault else {
            self.log(|| format!("  poller {poller}: {} #{nth}", sent.label));
            return self.forward(sent).await.map(Answer::whole).ok_or(Reset);
        };
        self.log(|| format!("  poller {poller}: {} #{nth}: {fault:?}", sent.label));
        self.count(|tally| {
            tally.fault(fault);
            tally.closings_met += u64::from(sent.kind == Kind::Closing);
            tally.notes_met += u64::from(sent.kind == Kind::Note);
            tally.rankings_met += u64::from(matches!(sent.kind, Kind::Snapshot | Kind::Record));
            tally.notes_lost += u64::from(sent.kind == Kind::Note && fault == Fault::KillBefore);
        });
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
                // The function times out and closes the connection, which drops this future.
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

    /// Delivers a request, even if the function that sent it is killed, and waits for the response. `None` if DynamoDB did
    /// not respond.
    async fn forward(self: &Arc<Self>, sent: Sent) -> Option<Answer> {
        let (reply, replied) = oneshot::channel();
        self.deliver(sent, Some(reply));
        replied.await.ok().flatten()
    }

    fn release(self: &Arc<Self>, held: Waiting) {
        self.log(|| format!("  delivered now: {}", held.sent.label));
        self.count(|tally| tally.applied_late += 1);
        self.deliver(held.sent, held.reply);
    }

    fn deliver(self: &Arc<Self>, sent: Sent, reply: Option<oneshot::Sender<Option<Answer>>>) {
        let proxy = Arc::clone(self);
        let busy = (Busy::new(&self.busy), Busy::new(&self.delivering));
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
        let Sent { poller, kind, headers, body, .. } = sent;
        let capacity = self.capacity.as_ref().filter(|capacity| !self.is_calm() && capacity.limits(&table_of(&body)));
        if capacity.is_some_and(|capacity| !capacity.admit(SystemClock.now())) {
            self.count(|tally| tally.throttled += 1);
            return Some(over_the_ceiling());
        }
        let mut request = Request::post(self.engine.clone()).body(Full::new(body)).expect("a valid request");
        *request.headers_mut() = headers;
        let (head, body) = self.client.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let units = capacity.map_or(0, |capacity| {
            let units = write_units(head.status, &body);
            capacity.charge(units);
            units
        });
        let applied = head.status == StatusCode::OK;
        let refused = head.status == StatusCode::BAD_REQUEST;
        let condition_failed = refused && contains(&body, "ConditionalCheckFailed");
        self.count(|tally| {
            tally.refused += u64::from(condition_failed && !matches!(kind, Kind::Snapshot | Kind::Record));
            tally.kept += u64::from(condition_failed && kind == Kind::Snapshot);
            tally.snapshots += u64::from(applied && kind == Kind::Snapshot);
            tally.notes += u64::from(applied && kind == Kind::Note);
            tally.full += u64::from(refused && contains(&body, "Item size"));
            tally.applied += u64::from(applied && kind == Kind::Update);
            tally.closings += u64::from(applied && kind == Kind::Closing);
            tally.units += units;
            tally.refused_units += if condition_failed { units } else { 0 };
        });
        if applied && kind == Kind::Update {
            self.running[poller].lock().expect("no panic").applied += 1;
        }
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock().expect("no panic"));
    }

    /// A label for the request's key that is the same in every run of the seed, and the request's kind.
    fn label(&self, target: &str, body: &[u8]) -> (String, Kind) {
        #[derive(Default, Deserialize)]
        struct Text {
            #[serde(alias = "N", rename = "S")]
            text: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Key {
            bucket: Option<Text>,
            source: Text,
            first_offset: Option<Text>,
            board: Option<Text>,
            window_end: Text,
        }
        #[derive(Deserialize)]
        struct Request {
            #[serde(default, alias = "Item", rename = "Key")]
            key: Key,
            #[serde(default, rename = "UpdateExpression")]
            update: String,
            #[serde(default, rename = "ExpressionAttributeValues")]
            values: HashMap<String, Value>,
        }
        let Ok(Request { key, update, values }) = serde_json::from_slice(body) else {
            return ("?".into(), Kind::Other);
        };
        let Key { bucket, source, first_offset, board, window_end } = key;
        let is_note = bucket.as_ref().is_some_and(|bucket| bucket.text.starts_with("late#"));
        // A function's first request, which opens the connection, has the key `-`.
        let kind = match (board.as_ref().map(|board| board.text.as_str()), update.as_str()) {
            _ if target.ends_with(".Query") || target.ends_with(".GetItem") => Kind::Read,
            (Some(_), "") => Kind::Snapshot,
            (Some(_), _) => Kind::Record,
            (None, "") => Kind::Other,
            (None, _) if is_note => Kind::Note,
            (None, update) if update.contains("ADD ") => Kind::Update,
            (None, _) if source.text.contains('-') && source.text.len() > 1 => Kind::Closing,
            (None, _) => Kind::Other,
        };
        let part = bucket.or(first_offset).unwrap_or_default().text;
        let mut label = match (board, kind) {
            (Some(Text { text: board }), _) => format!("{board} {}", window_end.text),
            (None, Kind::Read) => format!("read {}", values.get(":b").map(Value::to_string).unwrap_or_default()),
            (None, _) => format!("{} {part}", source.text),
        };
        for (name, stands_for) in &self.names {
            label = label.replace(name, stands_for);
        }
        (label, kind)
    }
}

impl Answer {
    fn whole(self) -> Response<Body> {
        self.response(|body| Full::new(body).map_err(|never| match never {}).boxed())
    }

    /// The first half of the body, then a reset.
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

/// The number of requests to wait for: a few, many, or all of the schedule.
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

/// DynamoDB's response above the maximum throughput of an on-demand table (Amazon DynamoDB Developer Guide, "On-demand
/// maximum throughput exceeded").
fn over_the_ceiling() -> Answer {
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
        "message": "Throughput exceeds the maximum OnDemandThroughput configured on table or index",
        "ThrottlingReasons": [{"reason": "TableWriteMaxOnDemandThroughputExceeded"}],
    });
    error(StatusCode::BAD_REQUEST, &body)
}

/// An injected error in DynamoDB's format.
fn failure(status: StatusCode, kind: &str) -> Response<Body> {
    error(status, &json!({"__type": kind, "message": "injected"})).whole()
}

fn error(status: StatusCode, body: &Value) -> Answer {
    let headers = HeaderMap::from_iter([(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/x-amz-json-1.0"),
    )]);
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}

/// The table that a request is for.
fn table_of(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Table {
        table_name: String,
    }
    serde_json::from_slice::<Table>(body).unwrap_or_default().table_name
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A socket bound to `address`, which other sockets of this process may share.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a fresh socket has options");
    socket.set_reuseport(true).expect("a fresh socket has options");
    socket.bind(address).expect("a port for the proxy");
    socket
}
