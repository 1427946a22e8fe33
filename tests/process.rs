//! Programs that a test starts, and that are killed when it ends, even if it fails.

use std::{
    env,
    ffi::OsStr,
    fs::{self, DirEntry, File},
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process, kill_process_group},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tempfile::TempDir;

use crate::{binary, repository};

/// The time between two checks of a condition.
const LOOK: Duration = Duration::from_millis(100);

/// The maximum number of checks: two minutes, for a busy machine.
const LOOKS: u32 = 1200;

/// Waits until `ready` returns a value.
///
/// # Panics
/// If it does not return a value in time.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = ready() {
            return found;
        }
        thread::sleep(LOOK);
    }
    panic!("timed out waiting for {what}");
}

/// `command` for a [`Process`]. On Linux, the kernel kills it when the thread that started it ends, so that no process is left
/// even if a test is killed.
fn mortal(command: &Command) -> Command {
    let mut mortal = if cfg!(target_os = "linux") {
        let mut mortal = Command::new("setpriv");
        mortal.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
        mortal
    } else {
        Command::new(command.get_program())
    };
    mortal.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => mortal.env(name, value),
            None => mortal.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        mortal.current_dir(folder);
    }
    mortal
}

/// A process in its own process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`. Its output goes to the file `log`; panics show it.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(name: &str, command: &Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file can be opened");
        let both = file.try_clone().expect("a file can be shared");
        let child = mortal(command).stdin(Stdio::null()).stdout(both).stderr(file).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("can't start {name} ({command:?}): {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Waits until something listens on `port`.
    ///
    /// # Panics
    /// If the process ends, or does not listen in time.
    pub fn listens(&mut self, port: u16) {
        wait_for(&format!("{} on port {port}; its output:\n{}", self.name, self.said()), || {
            if let Some(status) = self.ended() {
                panic!("{} has ended with {status}; its output:\n{}", self.name, self.said());
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// The exit status, if the process has ended.
    ///
    /// # Panics
    /// If the status can't be read.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// The output of the process, and of earlier processes with the same log.
    pub fn said(&self) -> String {
        fs::read(&self.log).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
    }

    /// Kills the process and its descendants with SIGKILL, without a clean shutdown.
    pub fn kill(&mut self) {
        // Some of them may be in other groups.
        let descendants = self.descendants();
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        for pid in descendants {
            let _gone = kill_process(pid, Signal::KILL);
        }
        let _gone = self.child.wait();
    }

    /// The descendants of the process; none without `/proc`.
    pub fn descendants(&self) -> Vec<Pid> {
        let parents: Vec<(Pid, Pid)> =
            fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| family(&entry)).collect();
        let mut found = vec![Pid::from_child(&self.child)];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        found.split_off(1)
    }

    /// Sends SIGTERM and waits until the process has ended.
    ///
    /// # Panics
    /// If it does not end, or fails.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the process exists");
        let status = wait_for(&format!("{} to stop", self.name), || self.ended());
        assert!(status.success(), "{} stopped with {status}; its output:\n{}", self.name, self.said());
    }
}

/// A process whose output is a terminal. Dropping it kills the process.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts `command` on a terminal of 30 lines and 100 columns.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(command: &Command) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("it can be opened");
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let name = ptsname(&controller, Vec::new()).expect("it has a name").into_string().expect("a path");
        let flags = OpenptFlags::NOCTTY.bits().cast_signed();
        let screen = File::options().read(true).write(true).custom_flags(flags).open(name).expect("it can be opened");
        tcsetwinsize(&screen, size).expect("it takes a size");
        let mut mortal = mortal(command);
        mortal.env("TERM", "xterm-256color");
        mortal.stdin(Stdio::null()).stderr(screen.try_clone().expect("a file can be shared")).stdout(screen);
        let child = mortal.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        // Close this process's copies of the terminal, so that reading ends with the child.
        drop(mortal);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut output, heard) = (File::from(controller), Arc::clone(&said));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading from a closed terminal returns an error instead of the end of the file.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                heard.lock().expect("no reader panics").extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, said, reader: Some(reader) }
    }

    /// The output so far, with the terminal's line ends.
    ///
    /// # Panics
    /// If the reader has panicked.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("no reader panics")).into_owned()
    }

    /// Sends SIGINT, like Ctrl-C.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("the process exists");
    }

    /// Waits until the process has ended. Returns its status and its output.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(mut self) -> (ExitStatus, String) {
        let ended = || self.child.try_wait().expect("a child can be waited for");
        let status = wait_for("a process on a terminal to end", ended);
        self.reader.take().expect("it is joined once").join().expect("no reader panics");
        (status, self.said())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A process of `/proc` and its parent: `12 (name) S 1 …`.
fn family(entry: &DirEntry) -> Option<(Pid, Pid)> {
    let pid = entry.file_name().to_str()?.parse().ok()?;
    let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let parent = behind_name.split_whitespace().nth(1)?.parse().ok()?;
    Some((Pid::from_raw(pid)?, Pid::from_raw(parent)?))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// `hot` with `args`.
pub fn hot(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(binary("hot"));
    command.args(args);
    // No test may reach AWS, whatever the user's settings are.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    // The user's colour settings must not change the output.
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

/// `hot` with a command that serves on a free port, such as `dynamodb` or `board`.
#[derive(Debug)]
pub struct HotServer {
    process: Process,
    url: String,
    _log: TempDir,
}

impl HotServer {
    /// Starts `command` with `args` and waits until it prints its URL.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(command: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the log");
        let name = format!("hot {command}");
        let command = hot([command, "--port", "0"].iter().chain(args));
        let mut process = Process::start(&name, &command, &folder.path().join("log"));
        let url = wait_for(&format!("{name} to print its URL"), || {
            assert_eq!(process.ended(), None, "{name} has ended; its output:\n{}", process.said());
            let said = process.said();
            said.split([' ', ',']).find(|word| word.starts_with("http://127.0.0.1:")).map(str::to_owned)
        });
        Self { process, url, _log: folder }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its output.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Stops it and waits until it has ended.
    ///
    /// # Panics
    /// If it does not end, or fails.
    pub fn stop(self) {
        self.process.stop();
    }
}

/// `hot dynamodb` on a free port.
#[derive(Debug)]
pub struct HotDynamoDb(HotServer);

impl HotDynamoDb {
    /// Starts it with `args` and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(args: &[&str]) -> Self {
        Self(HotServer::start("dynamodb", args))
    }

    /// Its URL.
    pub fn endpoint(&self) -> &str {
        self.0.url()
    }

    /// Stops it and waits until it has ended.
    ///
    /// # Panics
    /// If it does not end, or fails.
    pub fn stop(self) {
        self.0.stop();
    }
}

/// `schemathesis` from the virtual environment of the Makefile, or from the `PATH`.
pub fn schemathesis() -> Command {
    let own = repository(".venv/api/bin/schemathesis");
    Command::new(if own.is_file() { own } else { PathBuf::from("schemathesis") })
}

/// `cargo lambda` from the virtual environment of the Makefile, or from the `PATH`.
pub fn cargo_lambda() -> Command {
    let own = repository(".venv/bin/cargo-lambda");
    let program = if own.is_file() { own } else { PathBuf::from("cargo-lambda") };
    let mut command = Command::new(program);
    command.arg("lambda").current_dir(repository(""));
    // Build scripts would see the variables that `cargo test` sets as a change, and the TLS library and everything that
    // depends on it would be rebuilt.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}
