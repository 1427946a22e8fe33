//! The commands that talk to Kafka.

use anyhow::Result;
use clap::Subcommand;

use super::{audit, kafka, produce, topic};

#[derive(Subcommand)]
pub(crate) enum KafkaCommand {
    Kafka(kafka::SourceArgs),
    Produce(produce::ProduceArgs),
    Topic(topic::TopicArgs),
    Audit(audit::AuditArgs),
}

impl KafkaCommand {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Kafka(args) => kafka::run(&args).await,
            Self::Produce(args) => produce::run(&args).await,
            Self::Topic(args) => topic::run(&args).await,
            Self::Audit(args) => audit::run(&args).await,
        }
    }
}
