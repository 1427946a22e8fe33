//! The command line: all commands, and what runs them.

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

#[cfg(not(feature = "kafka"))]
use crate::commands::without_kafka;
use crate::commands::{
    KafkaCommand, board, completions, cost, demo, doctor, dynamodb, generate, man, product, rejects, replay, scale,
    status, tables, top,
};

/// The hottest products of the last hour: try the functions on this machine, and watch a stack
///
/// Start with a simulated shop and a page that shows its hot products:
///
///     hot demo
///
/// Or run the functions over a file of clicks, and print the result:
///
///     hot generate --events 30000 --products 500 --minutes 90 > clicks.jsonl
///     hot replay clicks.jsonl
///
/// Or look at a deployed stack, with the usual AWS credentials:
///
///     hot doctor
///     hot status
///     hot top --watch
#[derive(Parser)]
#[command(name = "hot", version, verbatim_doc_comment, max_term_width = 110)]
#[cfg_attr(not(feature = "kafka"), command(after_help = without_kafka::HELP))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Generate(generate::GenerateArgs),
    Replay(replay::ReplayArgs),
    Dynamodb(dynamodb::DynamodbArgs),
    Tables(tables::TablesArgs),
    Top(top::TopArgs),
    Product(product::ProductArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Rejects(rejects::RejectsArgs),
    Board(board::BoardArgs),
    Demo(demo::DemoArgs),
    #[command(flatten)]
    Kafka(KafkaCommand),
    Cost(cost::CostArgs),
    Scale(scale::ScaleArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Runs the command.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Generate(args) => generate::run(&args),
            Self::Replay(args) => replay::run(&args).await,
            Self::Dynamodb(args) => dynamodb::run(&args).await,
            Self::Tables(args) => tables::run(&args).await,
            Self::Top(args) => top::run(&args).await,
            Self::Product(args) => product::run(&args).await,
            Self::Status(args) => status::run(&args).await,
            Self::Doctor(args) => doctor::run(&args).await,
            Self::Rejects(args) => rejects::run(&args).await,
            Self::Board(args) => board::run(&args).await,
            Self::Demo(args) => demo::run(&args).await,
            Self::Kafka(command) => command.run().await,
            Self::Cost(args) => cost::run(&args),
            Self::Scale(args) => scale::run(&args),
            Self::Completions(args) => completions::run(&args, Cli::command()),
            Self::Man(args) => man::run(&args, Cli::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that `hot --help` lists.
    fn commands() -> Vec<clap::Command> {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        program.clone().debug_assert();
        program.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect()
    }

    #[test]
    fn every_command_and_argument_has_help_and_every_command_has_json() {
        for command in commands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no help");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {} has no help", argument.get_id());
            }
            // These print the format of another program.
            let exempt = matches!(name, "completions" | "man");
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(json || exempt, "{name} has no --json");
        }
    }

    #[test]
    fn every_command_has_examples_and_hot_accepts_them() {
        for command in commands() {
            let name = command.get_name();
            let help = command.get_after_long_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
            let examples: Vec<Vec<&str>> = help
                .split(['\n', '|', '&'])
                .map(|part| part.split_whitespace().take_while(|word| *word != ">").collect())
                .filter(|words: &Vec<&str>| words.first() == Some(&"hot"))
                .collect();
            assert!(examples.iter().any(|words| words.get(1) == Some(&name)), "{name}: {help}");
            for words in examples {
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{words:?} is an example of {name}, but: {error}");
                }
            }
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn the_kafka_commands_are_listed_where_they_are_built() {
        let names: Vec<String> = commands().iter().map(|command| command.get_name().to_owned()).collect();
        assert!(
            ["audit", "kafka", "produce", "topic"].iter().all(|name| names.contains(&(*name).to_owned())),
            "{names:?}"
        );
        assert!(Cli::command().get_after_help().is_none());
    }

    #[cfg(not(feature = "kafka"))]
    #[tokio::test]
    async fn without_the_kafka_commands_help_and_errors_name_the_feature() {
        let names: Vec<String> = commands().iter().map(|command| command.get_name().to_owned()).collect();
        assert!(!names.iter().any(|name| name == "kafka"), "{names:?}");
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("--features kafka"), "{help}");
        for arguments in
            [&["kafka", "--help"][..], &["produce", "--brokers", "b:1", "-X", "a=b"], &["topic"], &["audit"]]
        {
            let cli = Cli::try_parse_from([&["hot"], arguments].concat()).expect("any arguments are accepted");
            let error = cli.command.run().await.expect_err("the command is not built").to_string();
            assert!(error.contains(&format!("`{}`", arguments[0])) && error.contains("--features kafka"), "{error}");
        }
    }
}
