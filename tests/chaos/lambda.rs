//! Lambda's side: the real binary in its own process, invoked through a Runtime API.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use hot_products::{Clock, SystemClock};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::sleep,
};

/// How an invocation ended.
#[derive(Debug)]
pub enum Ended {
    /// The function responded.
    Response(Bytes),
    /// The function reported an error.
    Error(Bytes),
    /// The deadline passed, and Lambda killed the function.
    TimedOut,
    /// The schedule killed the function.
    Killed,
    /// The process exited, which is always a failure.
    Died(ExitStatus),
}

/// A function process and the Runtime API that it polls.
#[derive(Debug)]
pub struct Function {
    child: Child,
    runtime: Arc<Runtime>,
    server: JoinHandle<()>,
    invocations: u64,
}

#[derive(Debug)]
struct Runtime {
    /// The name of the deployed function.
    name: String,
    next: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    send: mpsc::Sender<Invocation>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Ended>>>,
}

#[derive(Debug)]
struct Invocation {
    id: String,
    time: Duration,
    event: Bytes,
    started: oneshot::Sender<()>,
}

impl Function {
    /// Starts the function `binary` with the environment variables of Lambda and `settings`.
    pub async fn start(binary: &Path, settings: &[(&str, String)], verbose: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port for the Runtime API");
        let address = listener.local_addr().expect("the Runtime API's address");
        let (send, next) = mpsc::channel(1);
        let name = format!("hot-products-{}", binary.file_name().unwrap_or_default().display());
        let runtime = Arc::new(Runtime { name, next: next.into(), send, waiting: Mutex::default() });
        let server = tokio::spawn(serve(listener, Arc::clone(&runtime)));
        let output = || if verbose { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new(binary)
            .env_clear()
            .envs(environment(address, &runtime.name))
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("can't start {}: {error}", binary.display()));
        Self { child, runtime, server, invocations: 0 }
    }

    /// Invokes the function and kills it after `time`, or earlier through `kill`.
    pub async fn invoke(&mut self, event: Bytes, time: Duration, kill: oneshot::Receiver<()>) -> Ended {
        self.invocations += 1;
        let id = format!("00000000-0000-0000-0000-{:012}", self.invocations);
        let (answer, mut answered) = oneshot::channel();
        self.runtime.waiting.lock().expect("no panic").insert(id.clone(), answer);
        let (start, started) = oneshot::channel();
        let invocation = Invocation { id, time, event, started: start };
        self.runtime.send.send(invocation).await.expect("the Runtime API is served");
        let times_out = async {
            // The time starts after a cold start.
            let _never_started = started.await;
            sleep(time).await;
        };
        let ended = tokio::select! {
            // A response counts even if the function is killed at the same time.
            biased;
            ended = &mut answered => ended.expect("the Runtime API is served"),
            Ok(()) = kill => Ended::Killed,
            status = self.child.wait() => Ended::Died(status.expect("the function is a child process")),
            () = times_out => Ended::TimedOut,
        };
        if matches!(ended, Ended::Killed | Ended::TimedOut) {
            self.kill().await;
        }
        ended
    }

    /// Whether the process has ended.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the process with SIGKILL and waits until it has ended.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the function can be killed");
        self.server.abort();
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The variables that Lambda sets (AWS Lambda Developer Guide, "Defined runtime environment variables").
fn environment(runtime_api: SocketAddr, name: &str) -> [(&'static str, String); 10] {
    [
        ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".into()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "2022/12/27/[$LATEST]0".into()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into()),
        ("AWS_REGION", "us-east-1".into()),
        ("AWS_ACCESS_KEY_ID", "local".into()),
        ("AWS_SECRET_ACCESS_KEY", "local".into()),
    ]
}

async fn serve(listener: TcpListener, runtime: Arc<Runtime>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let runtime = Arc::clone(&runtime);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&runtime), request));
            // A killed function breaks its connection.
            let _reset = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(runtime: Arc<Runtime>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    let status = match (request.method(), path.as_slice()) {
        (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => {
            // Only one poller invokes a process, so there is no other waiter.
            let Some(invocation) = runtime.next.lock().await.recv().await else { return Ok(empty(StatusCode::GONE)) };
            let _killed = invocation.started.send(());
            let response = Response::builder()
                .header("lambda-runtime-aws-request-id", invocation.id)
                .header("lambda-runtime-deadline-ms", SystemClock.now().plus(invocation.time).0)
                .header(
                    "lambda-runtime-invoked-function-arn",
                    format!("arn:aws:lambda:us-east-1:123456789012:function:{}", runtime.name),
                )
                .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
                .header("content-type", "application/json")
                .body(Full::new(invocation.event));
            return Ok(response.expect("valid headers"));
        }
        (&Method::POST, ["2018-06-01", "runtime", "invocation", id, kind @ ("response" | "error")]) => {
            let waiting = runtime.waiting.lock().expect("no panic").remove(*id);
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            match (waiting, body) {
                (Some(waiting), Ok(body)) => {
                    // After the deadline, the receiver is gone.
                    let _late = waiting.send(if *kind == "error" { Ended::Error(body) } else { Ended::Response(body) });
                    StatusCode::ACCEPTED
                }
                _ => StatusCode::BAD_REQUEST,
            }
        }
        // The process exits afterwards, which `invoke` notices.
        (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => StatusCode::ACCEPTED,
        _ => StatusCode::NOT_FOUND,
    };
    Ok(empty(status))
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
