//! Runs the AWS CLI, and sorts out why it refuses. docs/decisions/0010 says why `hot` does not use the SDK for this.

use std::{io, process::Command, sync::Arc};

use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::aws::default_credentials;

/// How many commands run at the same time. Each is a Python process that takes most of a processor.
const CONCURRENCY: usize = 4;

/// What the AWS CLI writes before the code of an error that a service has answered with.
const ERROR: &str = "An error occurred (";

/// What the AWS CLI writes if it does not know a command or an option.
const NOT_KNOWN: [&str; 3] = ["Invalid choice", "Found invalid choice", "Unknown options"];

/// Parts of the codes of missing permissions.
const DENIED: [&str; 5] = ["AccessDenied", "UnauthorizedOperation", "AuthorizationError", "Forbidden", "NotAuthorized"];

/// Parts of the codes of things that do not exist.
const MISSING: [&str; 3] = ["NotFound", "NoSuchEntity", "NonExistent"];

/// A question to AWS and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked<T> {
    /// The command, as a person can repeat it.
    pub(crate) command: String,
    /// The answer.
    pub(crate) answer: Result<T, Refusal>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The kind of reason.
    pub(crate) reason: Reason,
    /// The message of the AWS CLI or of the service.
    pub(crate) message: String,
}

/// The kind of reason why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// What was asked for does not exist.
    Missing,
    /// A permission is missing.
    Denied,
    /// The AWS CLI is not installed.
    NoCli,
    /// The AWS CLI does not have the command.
    OldCli,
    /// Anything else, such as an unreachable service.
    Other,
}

/// The AWS CLI, for one region.
#[derive(Clone, Debug)]
pub(crate) struct AwsCli {
    region: String,
    endpoint: Option<String>,
    /// Limits the number of processes.
    permits: Arc<Semaphore>,
}

impl AwsCli {
    pub(crate) fn new(region: String, endpoint: Option<String>) -> Self {
        Self { region, endpoint, permits: Arc::new(Semaphore::new(CONCURRENCY)) }
    }

    /// Runs `aws ARGUMENTS` and reads its JSON.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Asked<T> {
        let mut words = vec!["aws"];
        words.extend(arguments);
        words.extend(["--region", &self.region]);
        let command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        // It is never closed.
        let _permit = self.permits.acquire().await;
        let mut process = self.process(arguments);
        let answer = match spawn_blocking(move || process.output()).await {
            Ok(Ok(output)) if output.status.success() => serde_json::from_slice(&output.stdout).map_err(|error| {
                Refusal { reason: Reason::Other, message: format!("the answer is not as documented: {error}") }
            }),
            Ok(Ok(output)) => Err(refusal(&String::from_utf8_lossy(&output.stderr))),
            Ok(Err(error)) => Err(not_started(&error)),
            Err(error) => Err(Refusal { reason: Reason::Other, message: error.to_string() }),
        };
        Asked { command, answer }
    }

    fn process(&self, arguments: &[&str]) -> Command {
        let mut process = Command::new("aws");
        process.args(arguments).args(["--region", &self.region, "--output", "json"]);
        process.args(["--cli-connect-timeout", "5", "--cli-read-timeout", "20"]);
        // No pager, no prompt, no colours, whatever the user's configuration says.
        process.envs([("AWS_PAGER", ""), ("AWS_CLI_AUTO_PROMPT", "off"), ("AWS_MAX_ATTEMPTS", "3")]);
        if let Some(endpoint) = &self.endpoint {
            process.args(["--endpoint-url", endpoint]);
            if let Some(credentials) = default_credentials() {
                process.env("AWS_ACCESS_KEY_ID", credentials.access_key_id());
                process.env("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key());
            }
        }
        process
    }
}

fn not_started(error: &io::Error) -> Refusal {
    let reason = if error.kind() == io::ErrorKind::NotFound { Reason::NoCli } else { Reason::Other };
    Refusal { reason, message: format!("can't run `aws`: {error}") }
}

/// The reason in what the AWS CLI has written to standard error.
fn refusal(stderr: &str) -> Refusal {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.clone().find(|line| line.contains(ERROR)).or_else(|| lines.clone().next_back());
    let message = message.unwrap_or("it failed without a message").to_owned();
    let code = message.split_once(ERROR).and_then(|(_, rest)| rest.split_once(')')).map(|(code, _)| code);
    let reason = match code {
        Some(code) if DENIED.iter().any(|denied| code.contains(denied)) => Reason::Denied,
        Some(code) if MISSING.iter().any(|missing| code.contains(missing)) => Reason::Missing,
        // CloudFormation's answer for a stack that does not exist.
        Some("ValidationError") if message.contains("does not exist") => Reason::Missing,
        None if NOT_KNOWN.iter().any(|part| stderr.contains(part)) => Reason::OldCli,
        _ => Reason::Other,
    };
    Refusal { reason, message }
}

/// A word of a command for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_sorted_by_the_code_of_the_service() {
        for (stderr, reason) in [
            ("\nAn error occurred (AccessDeniedException) when calling the GetAlias operation: no\n", Reason::Denied),
            (
                "aws: [ERROR]: An error occurred (UnauthorizedOperation) when calling the X operation: no",
                Reason::Denied,
            ),
            ("An error occurred (ForbiddenException) when calling the DescribeTopic operation: no", Reason::Denied),
            ("An error occurred (NoSuchEntity) when calling the GetRolePolicy operation: no", Reason::Missing),
            ("An error occurred (NotFoundException) when calling the DescribeTopic operation: no", Reason::Missing),
            (
                "An error occurred (ValidationError) when calling the DescribeStacks operation: Stack with id x does not exist",
                Reason::Missing,
            ),
            ("An error occurred (ValidationError) when calling the X operation: a parameter is bad", Reason::Other),
            ("An error occurred (Throttling) when calling the X operation: Rate exceeded", Reason::Other),
            ("usage: aws …\n\naws: error: argument operation: Invalid choice, valid choices are: …", Reason::OldCli),
            ("Could not connect to the endpoint URL: \"https://…\"", Reason::Other),
            ("", Reason::Other),
        ] {
            assert_eq!(refusal(stderr).reason, reason, "{stderr}");
        }
        let unreachable = refusal("\nCould not connect to the endpoint URL: \"https://…\"\n\n");
        assert_eq!(unreachable.message, "Could not connect to the endpoint URL: \"https://…\"");
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(not_started(&missing).reason, Reason::NoCli);
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("Name=vpc-id,Values=vpc-1"), "Name=vpc-id,Values=vpc-1");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
