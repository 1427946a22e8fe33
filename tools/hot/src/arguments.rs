//! The arguments that several commands share.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::Client;
use clap::Args;
use local_aws::template::{DEFAULT_STACK, TableNames};

use crate::aws::{self, StackTables};

/// How much of a file is read at once, in bytes.
const READ_BYTES: usize = 1 << 16;

/// The tables that a command works on.
#[derive(Args)]
pub(crate) struct StackArgs {
    /// The DynamoDB endpoint, such as `http://127.0.0.1:8000`; without it, AWS with the usual credentials
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// The stack whose tables to use; their names begin with it
    #[arg(long, default_value = DEFAULT_STACK)]
    pub(crate) stack: String,
}

impl StackArgs {
    pub(crate) async fn client(&self) -> Client {
        aws::client(self.endpoint_url.as_deref()).await
    }

    pub(crate) async fn tables(&self) -> StackTables {
        StackTables::new(self.client().await, TableNames::of(&self.stack))
    }
}

/// Lines from a file or from standard input.
pub(crate) struct Input {
    pub(crate) lines: Box<dyn BufRead>,
    /// The size of the file in bytes; unknown for standard input and pipes.
    pub(crate) bytes: Option<u64>,
}

impl Input {
    /// Opens `file`; `-` is standard input.
    pub(crate) fn open(file: &PathBuf) -> Result<Self> {
        if file.as_os_str() == "-" {
            return Ok(Self { lines: Box::new(BufReader::with_capacity(READ_BYTES, io::stdin())), bytes: None });
        }
        let opened = File::open(file).with_context(|| format!("can't open {}", file.display()))?;
        let metadata = opened.metadata()?;
        if metadata.is_dir() {
            bail!("{} is a folder; give a file of JSON lines, or - for standard input", file.display());
        }
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Self { lines: Box::new(BufReader::with_capacity(READ_BYTES, opened)), bytes })
    }
}

/// How to reach a Kafka cluster.
#[cfg(feature = "kafka")]
#[derive(Args)]
pub(crate) struct KafkaArgs {
    /// Brokers of the cluster, host:port, separated by commas
    #[arg(long)]
    brokers: String,
    /// A setting of librdkafka, such as security.protocol=ssl; -X @FILE reads a file with one on each line
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    settings: Vec<kafka::Setting>,
    /// Sign in to Amazon MSK with the usual AWS credentials, on the brokers' port 9098
    ///
    /// The credentials are those of the environment, a profile, single sign-on, a container or an instance. The region is
    /// that of the brokers' names, or else `AWS_REGION`. The role needs `kafka-cluster:Connect` on the cluster and
    /// `DescribeTopic` on the topic; `ReadData` to read, with `DescribeGroup` and `AlterGroup` for a consumer group;
    /// `WriteData` and `WriteDataIdempotently` to produce.
    #[arg(long)]
    iam: bool,
}

#[cfg(feature = "kafka")]
impl KafkaArgs {
    pub(crate) async fn cluster(&self) -> Result<kafka::Cluster> {
        let iam = if self.iam { Some(aws::iam(&self.brokers).await?) } else { None };
        Ok(kafka::Cluster { brokers: self.brokers.clone(), settings: self.settings.clone(), iam })
    }
}
