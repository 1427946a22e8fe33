//! The real parts: AWS's DynamoDB Local, Apache Kafka, and functions served at an Invoke API. Each is a process of its own
//! that ends with the test, whatever becomes of the test.

use std::{
    fmt::Write,
    fs::{self, DirEntry, File},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use chrono::DateTime;
use hot::tables;
use hot_products::store::{self, CallLimits};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::{
    group_by::Counts,
    process::{cargo_lambda, free_port},
    repository,
};

/// How long to wait between two looks at something that has to become ready.
const LOOK: Duration = Duration::from_millis(100);

/// How often to look: two minutes, for a machine that is busy with other things.
const LOOKS: u32 = 1200;

/// Looks until `ready` finds something.
///
/// # Panics
/// When it never does.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = ready() {
            return found;
        }
        thread::sleep(LOOK);
    }
    panic!("waited in vain for {what}");
}

/// `command` for a [`Process`]: on Linux, the system kills it when the thread that starts it has ended, so that nothing
/// lives on even where a test is killed.
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

/// A process, in a group of its own. The group is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`. What it says goes to the file `log`, and is told where it fails.
    ///
    /// # Panics
    /// When it can't be started.
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
    /// When the process ends, or nothing ever listens.
    pub fn listens(&mut self, port: u16) {
        wait_for(&format!("{} on port {port}; it said:\n{}", self.name, self.said()), || {
            if let Some(status) = self.ended() {
                panic!("{} has ended with {status}, and said:\n{}", self.name, self.said());
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// How the process ended, if it has.
    ///
    /// # Panics
    /// When the system does not know it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// What the process, and those before it with the same log, have said.
    pub fn said(&self) -> String {
        fs::read(&self.log).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
    }

    /// Kills the process and all that it has started, as a machine that dies does: nothing is put in order.
    pub fn kill(&mut self) {
        // Some of them may be in groups of their own.
        let descendants = self.descendants();
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        for pid in descendants {
            let _gone = kill_process(pid, Signal::KILL);
        }
        let _gone = self.child.wait();
    }

    /// The processes that this one has started, and those that they have. Without `/proc`, none is known.
    fn descendants(&self) -> Vec<Pid> {
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

    /// Asks the process to stop, and waits until it has.
    ///
    /// # Panics
    /// When it does not stop, or not with success.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the process is there");
        let status = wait_for(&format!("{} to stop", self.name), || self.ended());
        assert!(status.success(), "{} stopped with {status}, and said:\n{}", self.name, self.said());
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

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// When it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed with {}:\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

/// The jars of a profile of `tests/real/pom.xml`, fetched by Maven if they are not there yet.
///
/// # Panics
/// When they can't be had.
fn jars(profile: &str) -> PathBuf {
    let pom = repository("tests/real/pom.xml");
    let wanted = fs::read(&pom).expect("the pom is there");
    let real = repository("target/real");
    fs::create_dir_all(&real).expect("the build folder can be written to");
    // One fetches, whichever tests and programs want them.
    let lock = File::create(real.join("lock")).expect("the build folder can be written to");
    lock.lock().expect("a file can be locked");
    let folder = real.join(profile);
    let stamp = folder.join("pom.xml");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        let _absent = fs::remove_dir_all(&folder);
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-P", profile, "dependency:copy-dependencies", "-f"]).arg(&pom);
        maven.arg(format!("-DoutputDirectory={}", folder.display()));
        let fetched = maven.stdin(Stdio::null()).output();
        let fetched = fetched.unwrap_or_else(|error| panic!("can't start mvn: {error}; install Maven and Java 17"));
        assert!(
            fetched.status.success(),
            "Maven can't fetch {profile}; it needs Maven Central, or a mirror in its settings.xml:\n{}",
            String::from_utf8_lossy(&fetched.stdout)
        );
        fs::write(&stamp, wanted).expect("the folder of the jars can be written to");
    }
    folder
}

/// `java`, on the jars of a folder. For a short life: it compiles little, and takes little memory.
fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(jars.join("*"));
    java
}

/// AWS's DynamoDB Local, with its data in memory.
#[derive(Debug)]
pub struct DynamoDbLocal {
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl DynamoDbLocal {
    /// Starts it on a port of its own.
    ///
    /// # Panics
    /// When it can't be had or does not start.
    pub fn start() -> Self {
        let (jars, port) = (jars("dynamodb-local"), free_port());
        let folder = TempDir::new().expect("a temporary folder");
        let mut java = java(&jars);
        java.arg(format!("-Djava.library.path={}", jars.display()))
            .arg("software.amazon.dynamodb.services.local.main.ServerRunner")
            .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port", &port.to_string()]);
        let mut process = Process::start("DynamoDB Local", &java, &folder.path().join("log"));
        process.listens(port);
        Self { _process: process, port, _folder: folder }
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client for it.
    pub fn client(&self) -> Client {
        let limits = CallLimits::default();
        store::client(tables::local_region(), tables::local_credentials(), Some(self.endpoint()), &limits)
    }
}

/// A Kafka cluster of one broker.
#[derive(Debug)]
pub struct Kafka {
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl Kafka {
    /// Starts it on ports of its own, with its data in a temporary folder.
    ///
    /// # Panics
    /// When it can't be had or does not start.
    pub fn start() -> Self {
        let (jars, port, controller) = (jars("kafka"), free_port(), free_port());
        let folder = TempDir::new().expect("a temporary folder");
        let properties = folder.path().join("server.properties");
        let data = folder.path().join("data");
        let mut text = String::new();
        for (key, value) in [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}")),
            ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("log.dirs", data.display().to_string()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("offsets.topic.num.partitions", "1".to_owned()),
            // `hot` must create its topic itself.
            ("auto.create.topics.enable", "false".to_owned()),
            // A member that is killed is missed soon, and nobody waits for a group to fill.
            ("group.min.session.timeout.ms", "1000".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ] {
            writeln!(text, "{key}={value}").expect("a string takes all");
        }
        fs::write(&properties, text).expect("a temporary folder can be written to");
        // Any id will do for a cluster that nobody else ever sees.
        let format = ["kafka.tools.StorageTool", "format", "-t", "aG90LXByb2R1Y3RzLXRlcw", "-c"];
        run(java(&jars).args(format).arg(&properties));
        let mut java = java(&jars);
        let mut process = Process::start("Kafka", java.arg("kafka.Kafka").arg(&properties), &folder.path().join("log"));
        process.listens(port);
        Self { _process: process, port, _folder: folder }
    }

    /// Where it is, as `--brokers` takes it.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The functions of this workspace, served by `cargo lambda watch` at an Invoke API. It runs the binaries that
/// `cargo build --workspace` has made, for it builds with the same profile and features.
#[derive(Debug)]
pub struct Functions {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Functions {
    /// Serves the functions, with the variables `environment` on top of what Lambda would set.
    ///
    /// # Panics
    /// When `cargo lambda` is not there or does not start.
    pub fn serve(port: u16, environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut watch = cargo_lambda();
        let found = Command::new(watch.get_program()).arg("--help").output().is_ok();
        assert!(
            found,
            "there is no cargo-lambda: run the tests by `make test-real`, which installs it, or put it on the PATH"
        );
        watch
            .args(["watch", "--ignore-changes", "--quiet", "--invoke-address", "127.0.0.1", "--invoke-port"])
            .arg(port.to_string());
        for (name, value) in environment {
            watch.args(["--env-var", &format!("{name}={value}")]);
        }
        let mut process = Process::start("cargo lambda watch", &watch, &folder.path().join("log"));
        process.listens(port);
        Self { process, port, _folder: folder }
    }

    /// Where they are, as `--function` takes it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills the server and the functions.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills the function `name` alone, if it runs: the server has to notice.
    pub fn kill_function(&self, name: &str) {
        for pid in self.process.descendants() {
            let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
            if comm.trim() == name {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// All counters of a table, whoever counted them: clicks by minute and product.
///
/// # Panics
/// When the table can't be read, or holds something else.
pub async fn counted(client: &Client, table: &str) -> Counts {
    let mut counts = Counts::new();
    let mut start = None;
    loop {
        let page = client.scan().table_name(table).consistent_read(true).set_exclusive_start_key(start).send().await;
        let page = page.expect("the table can be read");
        for item in page.items() {
            let bucket = item["bucket"].as_s().expect("bucket is text");
            let (minute, _) = bucket.split_once('#').expect("a bucket is minute and shard");
            let minute = DateTime::parse_from_str(&format!("{minute}+0000"), "%Y-%m-%dT%H:%MZ%z");
            let minute = minute.expect("a minute is a time").timestamp_millis();
            for (name, value) in item {
                if let Some(product) = name.strip_prefix('#') {
                    let clicks: u64 = value.as_n().expect("a counter is a number").parse().expect("a whole one");
                    *counts.entry(minute).or_default().entry(product.to_owned()).or_default() += clicks;
                }
            }
        }
        start = page.last_evaluated_key;
        if start.is_none() {
            return counts;
        }
    }
}
