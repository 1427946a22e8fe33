//! `hot produce`, `hot topic` and `hot kafka` with `--iam`, on a broker that checks their tokens as Amazon MSK does.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hot_products_tests::{
    parts::{IAM, Kafka, run},
    process::{Process, hot, wait_for},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{invoke::InvokeApi, records::produce};

const TOPIC: &str = "signed";

/// `hot` with the arguments of the listener, and the settings of AWS in `environment` only.
fn signed(kafka: &Kafka, command: &str, more: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut hot = hot([command, "--topic", TOPIC]);
    hot.args(kafka.iam_arguments()).args(more);
    hot.envs(environment.iter().copied());
    hot
}

/// The output of `hot produce` with two lines.
fn write(kafka: &Kafka, environment: &[(&str, &str)]) -> Output {
    let mut produce = signed(kafka, "produce", &["-"], environment);
    let mut produce = produce.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails may not read its input.
    let _closed = produce.stdin.take().unwrap().write_all(b"one\ntwo\n");
    produce.wait_with_output().unwrap()
}

/// A profile whose credentials come from a program, are valid for six seconds, and leave a line in `calls`.
fn short_lived(folder: &Path, calls: &Path) -> String {
    let program = folder.join("credentials.sh");
    let [(_, key), (_, secret), _] = IAM;
    let text = format!(
        "#!/bin/sh\necho >> {}\nprintf '{{\"Version\": 1, \"AccessKeyId\": \"{key}\", \"SecretAccessKey\": \"{secret}\", \
         \"Expiration\": \"%s\"}}' \"$(date -u -d '+6 seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n",
        calls.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.join("config");
    fs::write(&config, format!("[default]\ncredential_process = {}\n", program.display())).unwrap();
    config.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_topic_and_kafka_sign_in_with_iam_and_get_new_tokens_in_time() {
    let kafka = Kafka::with_iam();
    produce(&kafka.brokers(), TOPIC, 2, b"zero\n");

    let output = write(&kafka, &IAM);
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("2 records delivered to signed (2 partitions)"), "{said}{failed}");
    let view: Value =
        serde_json::from_str(&run(&mut signed(&kafka, "topic", &["--json", "--tail", "5"], &IAM))).unwrap();
    assert_eq!((&view["topics"][0]["records"], view["newest"].as_array().unwrap().len()), (&3.into(), 3), "{view}");

    // A consumer outlives its first tokens, and still reads.
    let (folder, delivered) = (TempDir::new().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&delivered);
    let function = InvokeApi::serve(move |payload| {
        let event: Value = serde_json::from_slice(&payload).unwrap();
        let records = event["records"].as_object().unwrap().values().map(|records| records.as_array().unwrap().len());
        counted.fetch_add(records.sum(), Ordering::Relaxed);
        async { Ok("{}".to_owned()) }
    })
    .await;
    let calls = folder.path().join("calls");
    let config = short_lived(folder.path(), &calls);
    let environment = [("AWS_CONFIG_FILE", config.as_str()), ("AWS_REGION", "eu-central-1")];
    let more = ["--function", &function.endpoint(), "--window", "100ms"];
    let source = signed(&kafka, "kafka", &more, &environment);
    let source = Process::start("hot kafka", &source, &folder.path().join("log"));
    let count = |wanted| (delivered.load(Ordering::Relaxed) == wanted).then_some(());
    wait_for("the first records", || count(3));
    let asked = || fs::read_to_string(&calls).map_or(0, |calls| calls.lines().count());
    let before = asked();
    wait_for("two more tokens", || (asked() >= before + 2).then_some(()));
    assert!(write(&kafka, &IAM).status.success());
    wait_for("the records after it", || count(5));
    assert!(!source.said().contains("sign in"), "{}", source.said());
    source.stop();
}

#[test]
fn a_refused_token_and_missing_credentials_are_errors_that_say_what_to_check() {
    let kafka = Kafka::with_iam();
    produce(&kafka.brokers(), TOPIC, 1, b"zero\n");
    let wrong = |name: &str, value: &'static str| {
        let environment = IAM.map(|(known, right)| (known, if known == name { value } else { right }));
        let output = write(&kafka, &environment);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_REGION", "eu-west-1")] {
        let error = wrong(name, value);
        assert!(error.contains("can't sign in to the brokers") && error.contains("Access denied"), "{error}");
        assert!(
            error.contains("kafka-cluster:Connect") && error.contains("region") && error.contains("clock"),
            "{error}"
        );
    }
    let output = write(&kafka, &[("AWS_REGION", "eu-central-1")]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no AWS credentials to sign in with") && error.contains("AWS_PROFILE"), "{error}");
    let output = write(&kafka, &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("set AWS_REGION to that region"), "{error}");
}
