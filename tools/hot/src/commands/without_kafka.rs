//! What stands in for the commands that talk to Kafka in a program built without them: an error that says how to get them.

use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

/// What `hot --help` says about them.
pub(crate) const HELP: &str = "\
The commands kafka, produce, topic and audit are not in this build. They need the cargo feature `kafka`.
Its build needs a C compiler, make and perl:

  cargo run --package hot --features kafka -- kafka --help";

#[derive(Subcommand)]
pub(crate) enum KafkaCommand {
    #[command(hide = true, disable_help_flag = true, about = HELP)]
    Kafka(AnyArgs),
    #[command(hide = true, disable_help_flag = true, about = HELP)]
    Produce(AnyArgs),
    #[command(hide = true, disable_help_flag = true, about = HELP)]
    Topic(AnyArgs),
    #[command(hide = true, disable_help_flag = true, about = HELP)]
    Audit(AnyArgs),
}

#[derive(Args)]
pub(crate) struct AnyArgs {
    /// Any arguments, so that the error is about the command and not about them
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

impl KafkaCommand {
    #[expect(clippy::unused_async, reason = "the commands it stands in for are asynchronous")]
    pub(crate) async fn run(self) -> Result<()> {
        let name = match self {
            Self::Kafka(_) => "kafka",
            Self::Produce(_) => "produce",
            Self::Topic(_) => "topic",
            Self::Audit(_) => "audit",
        };
        bail!(
            "this build of hot has no command `{name}`, which needs the cargo feature `kafka` (and a C compiler, make and \
             perl): cargo run --package hot --features kafka -- {name} …"
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        command: KafkaCommand,
    }

    #[tokio::test]
    async fn each_command_fails_with_the_name_of_the_feature_whatever_its_arguments_are() {
        for arguments in
            [&["kafka", "--help"][..], &["produce", "--brokers", "b:1", "-X", "a=b"], &["topic"], &["audit"]]
        {
            let program = Program::try_parse_from([&["hot"], arguments].concat());
            let program = program.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            let error = program.command.run().await.unwrap_err().to_string();
            assert!(error.contains(&format!("no command `{}`", arguments[0])), "{error}");
            assert!(error.contains(&format!("--features kafka -- {} ", arguments[0])), "{error}");
        }
        assert!(HELP.contains("kafka, produce, topic and audit") && HELP.contains("--features kafka"));
    }
}
