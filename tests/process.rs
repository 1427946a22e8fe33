//! Programs that a test starts, and stops again however it ends.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{binary, repository};

/// A program in a process group of its own, which ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let child = command.process_group(0).stdin(Stdio::null()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("can't start {command:?}: {error}")) }
    }

    /// The next line that the program prints to its standard output, which must be piped.
    pub fn read_line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().expect("standard output is piped");
        let mut line = String::new();
        BufReader::with_capacity(1, stdout).read_line(&mut line).expect("output is text");
        line
    }

    /// Waits until something listens on `port` of 127.0.0.1.
    pub fn wait_for_port(&mut self, port: u16) {
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                panic!("the program ended before it listened on port {port}: {status}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("nothing listens on port {port} after a minute");
    }

    /// Sends `signal` to the program and waits for its end.
    pub fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        self.kill(signal);
        self.child.wait().expect("a child can be waited for")
    }

    fn kill(&self, signal: Signal) {
        let group = Pid::from_child(&self.child);
        // It may have ended by itself.
        let _gone = kill_process_group(group, signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill(Signal::KILL);
        let _reaped = self.child.wait();
    }
}

/// A port that nothing listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// `hot` with `args`.
pub fn hot(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(binary("hot"));
    command.args(args);
    // Nothing here talks to AWS, whoever runs it.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

/// `hot dynamodb` on a free port with `args`, and its endpoint.
pub fn dynamodb(args: &[&str]) -> (Running, String) {
    let mut server = Running::start(hot(["dynamodb", "--port", "0"]).args(args).stdout(Stdio::piped()));
    let line = server.read_line();
    let endpoint = line.split_whitespace().nth(2).unwrap_or_default().trim_end_matches(',');
    assert!(endpoint.starts_with("http://127.0.0.1:"), "the first line names the endpoint: {line}");
    (server, endpoint.to_owned())
}

/// `cargo lambda`, from the virtual environment that the Makefile makes, or the `PATH`.
pub fn cargo_lambda() -> Command {
    let own = repository(".venv/bin/cargo-lambda");
    let program = if own.is_file() { own } else { PathBuf::from("cargo-lambda") };
    let mut command = Command::new(program);
    command.arg("lambda").current_dir(repository(""));
    // What `cargo test` tells a test of itself, a build script would take for a change, and build the TLS library and
    // all that depends on it anew.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}
