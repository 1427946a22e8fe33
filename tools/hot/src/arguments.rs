//! The arguments that several commands share.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::Client;
use clap::Args;
use hot_products::{
    EventShape, Policy,
    click::{EventFields, FieldPath, FieldPathError, TimeUnit},
    defaults,
};
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

/// The heading of the options that say how events are written.
const EVENTS: &str = "Options for events of another shape";

/// How events are written. Each option has the name of a parameter of the stack.
#[derive(Args)]
pub(crate) struct ShapeArgs {
    /// Field with the event time; dots for nested fields: payload.ts is the field ts in the object payload
    #[arg(long, help_heading = EVENTS, value_name = "FIELD", default_value = defaults::EVENT_TIME_FIELD)]
    event_time_field: FieldPath,
    /// How it is written: ms, s or us since the Unix epoch, or rfc3339
    ///
    /// ms and us are integers. s may have a fraction, as in 1672131001.234. rfc3339 is a string with an offset or Z, as in
    /// "2022-12-27T08:50:01.234Z". What is finer than a millisecond is rounded down.
    #[arg(long, help_heading = EVENTS, value_name = "UNIT", default_value_t)]
    event_time_unit: TimeUnit,
    /// Field with the product's id
    #[arg(long, help_heading = EVENTS, value_name = "FIELD", default_value = defaults::PRODUCT_FIELD)]
    product_field: FieldPath,
    /// Take integers as product ids too: 7 is the same product as "7"; 7.0 and 7e0 are rejected
    #[arg(long, help_heading = EVENTS)]
    integer_product_ids: bool,
    /// Field with the action; none if events have no action: then every event counts
    #[arg(long, help_heading = EVENTS, value_name = "FIELD", default_value = defaults::ACTION_FIELD)]
    action_field: ActionField,
}

impl ShapeArgs {
    pub(crate) fn shape(&self) -> Result<EventShape> {
        let fields = EventFields {
            event_time: self.event_time_field.clone(),
            product: self.product_field.clone(),
            action: self.action_field.0.clone(),
        };
        Ok(EventShape::new(fields, self.event_time_unit, self.integer_product_ids)?)
    }
}

/// A field, or `none`.
#[derive(Clone)]
struct ActionField(Option<FieldPath>);

impl FromStr for ActionField {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        FieldPath::parse_optional(text).map(Self)
    }
}

/// How events are written, and which are counted.
#[derive(Args)]
pub(crate) struct EventArgs {
    /// Actions that count, separated by commas
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',', default_value = defaults::COUNTED_ACTION)]
    counted_actions: Vec<String>,
    #[command(flatten)]
    shape: ShapeArgs,
}

impl EventArgs {
    pub(crate) fn policy(&self, max_event_age: Duration) -> Result<Policy> {
        Ok(Policy { shape: self.shape.shape()?, counted_actions: self.counted_actions.clone(), max_event_age })
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
