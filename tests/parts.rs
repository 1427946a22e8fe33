//! Real services: DynamoDB Local by AWS, Apache Kafka, and the functions behind an Invoke API. Each is a process that ends with
//! the test, even if the test fails.

use std::{
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aws_sdk_dynamodb::Client;
use chrono::DateTime;
use local_aws::tables;
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::{
    group_by::Counts,
    process::{Process, cargo_lambda, free_port},
    repository,
};

/// Runs a command and returns its output.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed with {}:\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

/// The jars of a profile of `tests/real/pom.xml`. Maven downloads them if they are missing.
///
/// # Panics
/// If they can't be downloaded.
fn jars(profile: &str) -> PathBuf {
    let pom = repository("tests/real/pom.xml");
    let wanted = fs::read(&pom).expect("the pom exists");
    let real = repository("target/real");
    fs::create_dir_all(&real).expect("the build folder is writable");
    // Concurrent tests and programs download them only once.
    let lock = File::create(real.join("lock")).expect("the build folder is writable");
    lock.lock().expect("a file can be locked");
    let folder = real.join(profile);
    let stamp = folder.join("pom.xml");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        let _absent = fs::remove_dir_all(&folder);
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-P", profile, "dependency:copy-dependencies", "-f"]).arg(&pom);
        maven.arg(format!("-DoutputDirectory={}", folder.display()));
        let fetched = maven.stdin(Stdio::null()).output();
        let fetched = fetched.unwrap_or_else(|error| panic!("can't start mvn: {error}; install Maven and a JDK 17"));
        assert!(
            fetched.status.success(),
            "Maven can't download {profile}; it needs Maven Central, or a mirror in its settings.xml:\n{}",
            String::from_utf8_lossy(&fetched.stdout)
        );
        fs::write(&stamp, wanted).expect("the folder of the jars is writable");
    }
    folder
}

/// `java` with the jars of a folder, for a short run: little compilation, little memory.
fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(jars.join("*"));
    java
}

/// The AWS credentials that a [`Kafka::with_iam`] lets in, and its region.
pub const IAM: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("AWS_REGION", "eu-central-1"),
];

/// DynamoDB Local by AWS, with its data in memory.
#[derive(Debug)]
pub struct DynamoDbLocal {
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl DynamoDbLocal {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// If it can't be downloaded or does not start.
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

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client for this endpoint.
    pub fn client(&self) -> Client {
        tables::client_for(&self.endpoint())
    }
}

/// A Kafka cluster with one broker.
#[derive(Debug)]
pub struct Kafka {
    _process: Process,
    port: u16,
    iam_port: Option<u16>,
    folder: TempDir,
}

impl Kafka {
    /// Starts it on free ports, with its data in a temporary folder.
    ///
    /// # Panics
    /// If it can't be downloaded or does not start.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// As [`Kafka::start`], with another listener that takes TLS and OAUTHBEARER, and checks tokens as Amazon MSK does.
    ///
    /// # Panics
    /// As there, and if the JDK's `javac` or `keytool` is missing.
    pub fn with_iam() -> Self {
        Self::start_with(Some(free_port()))
    }

    fn start_with(iam_port: Option<u16>) -> Self {
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
            // `hot` must create the topic.
            ("auto.create.topics.enable", "false".to_owned()),
            // The group notices a killed member soon, and does not wait for more members.
            ("group.min.session.timeout.ms", "1000".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ] {
            writeln!(text, "{key}={value}").expect("writing to a string succeeds");
        }
        if let Some(iam_port) = iam_port {
            text = iam_listener(&jars, folder.path(), &text, iam_port);
        }
        fs::write(&properties, text).expect("a temporary folder is writable");
        // Any cluster id works.
        let format = ["kafka.tools.StorageTool", "format", "-t", "aG90LXByb2R1Y3RzLXRlcw", "-c"];
        run(java(&jars).args(format).arg(&properties));
        let mut java = Command::new("java");
        java.args(["-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
        java.arg(format!("{}/*:{}", jars.display(), folder.path().display()));
        java.envs(IAM.map(|(name, value)| (name.replace("AWS_", "TEST_"), value)));
        let mut process = Process::start("Kafka", java.arg("kafka.Kafka").arg(&properties), &folder.path().join("log"));
        process.listens(port);
        Self { _process: process, port, iam_port, folder }
    }

    /// Its address, for `--brokers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The arguments of `hot` for the listener of [`Kafka::with_iam`].
    ///
    /// # Panics
    /// If this was started without it.
    pub fn iam_arguments(&self) -> Vec<String> {
        let certificate = format!("ssl.ca.location={}", self.certificate().display());
        vec!["--brokers".into(), self.iam_brokers(), "--iam".into(), "-X".into(), certificate]
    }

    /// The address of the listener of [`Kafka::with_iam`].
    ///
    /// # Panics
    /// If this was started without it.
    pub fn iam_brokers(&self) -> String {
        format!("localhost:{}", self.iam_port.expect("a listener for IAM"))
    }

    /// The file with the certificate of that listener.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("broker.pem")
    }

    /// Deletes the records of a partition before the offset `before`, as Kafka's retention does.
    ///
    /// # Panics
    /// If Kafka's tool fails.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let file = self.folder.path().join("delete.json");
        let json = format!(
            r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":{partition},"offset":{before}}}]}}"#
        );
        fs::write(&file, json).expect("a temporary folder is writable");
        let tool = ["org.apache.kafka.tools.DeleteRecordsCommand", "--bootstrap-server"];
        run(java(&jars("kafka")).args(tool).arg(self.brokers()).arg("--offset-json-file").arg(file));
    }
}

/// The broker's `properties` with a listener for IAM. Puts its certificate and the compiled validator into `folder`.
fn iam_listener(jars: &Path, folder: &Path, properties: &str, port: u16) -> String {
    let validator = repository("tests/real/IamValidator.java");
    run(Command::new("javac").arg("-cp").arg(jars.join("*")).arg("-d").arg(folder).arg(validator));
    let store = folder.join("broker.p12");
    let keytool = |args: &[&str]| {
        let mut command = Command::new("keytool");
        run(command.args(args).arg("-keystore").arg(&store).args(["-storepass", "changeit", "-alias", "broker"]))
    };
    let key =
        ["-genkeypair", "-keyalg", "RSA", "-validity", "2", "-dname", "CN=localhost", "-ext", "san=dns:localhost"];
    keytool(&key);
    fs::write(folder.join("broker.pem"), keytool(&["-exportcert", "-rfc"])).expect("a temporary folder is writable");
    let mut text = String::new();
    for line in properties.lines() {
        let more = if line.contains("listeners=") { format!(",IAM://localhost:{port}") } else { String::new() };
        writeln!(text, "{line}{more}").expect("writing to a string succeeds");
    }
    let oauth = "listener.name.iam.oauthbearer.sasl";
    for (key, value) in [
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,IAM:SASL_SSL"),
        ("listener.name.iam.sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("listener.name.iam.ssl.keystore.type", "PKCS12"),
        ("listener.name.iam.ssl.keystore.location", &store.display().to_string()),
        ("listener.name.iam.ssl.keystore.password", "changeit"),
        (&format!("{oauth}.server.callback.handler.class"), "IamValidator"),
        (
            &format!("{oauth}.jaas.config"),
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
        ),
    ] {
        writeln!(text, "{key}={value}").expect("writing to a string succeeds");
    }
    text
}

/// The functions of this workspace behind the Invoke API of `cargo lambda watch`. It runs the binaries of
/// `cargo build --workspace`, because it builds with the same profile and features.
#[derive(Debug)]
pub struct Functions {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Functions {
    /// Serves the functions with the additional variables `environment`.
    ///
    /// # Panics
    /// If `cargo lambda` is not installed or does not start.
    pub fn serve(port: u16, environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut watch = cargo_lambda();
        let found = Command::new(watch.get_program()).arg("--help").output().is_ok();
        assert!(
            found,
            "cargo-lambda is not installed: run the tests with `make test-real`, which installs it, or add it to the PATH"
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

    /// Their URL, for `--function`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Invokes a function with `event`, and returns its response.
    ///
    /// # Errors
    /// The function's error.
    ///
    /// # Panics
    /// If `cargo lambda` does not start.
    pub fn invoke(&self, function: &str, event: &str) -> Result<String, String> {
        let mut invoke = cargo_lambda();
        invoke.args(["invoke", function, "--invoke-address", "127.0.0.1", "--invoke-port", &self.port.to_string()]);
        let output = invoke.args(["--data-ascii", event]).output().expect("cargo lambda runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        // `cargo lambda` breaks an error into lines, also at hyphens, with a bar before each.
        let said = text(&output.stderr);
        let words: Vec<&str> = said.split_whitespace().filter(|word| *word != "│").collect();
        Err(words.join(" ").replace("- ", "-"))
    }

    /// Kills the server and the functions.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills only the function `name`, if it runs.
    pub fn kill_function(&self, name: &str) {
        for pid in self.process.descendants() {
            let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
            if comm.trim() == name {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// All counters of a table: clicks by minute and product.
///
/// # Panics
/// If the table can't be read or contains other items.
pub async fn counted(client: &Client, table: &str) -> Counts {
    let mut counts = Counts::new();
    let mut start = None;
    loop {
        let page = client.scan().table_name(table).consistent_read(true).set_exclusive_start_key(start).send().await;
        let page = page.expect("the table can be read");
        for item in page.items() {
            let bucket = item["bucket"].as_s().expect("bucket is text");
            if bucket == "layout" || bucket.starts_with("late#") {
                // The version of the layout and the notes of late clicks are in the same table.
                continue;
            }
            let (minute, _) = bucket.split_once('#').expect("a bucket is a minute and a number");
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
