//! The commands, each with its arguments and a `run`.

pub(crate) mod board;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod dynamodb;
pub(crate) mod generate;
pub(crate) mod man;
pub(crate) mod product;
pub(crate) mod rejects;
pub(crate) mod replay;
pub(crate) mod scale;
pub(crate) mod status;
pub(crate) mod tables;
pub(crate) mod top;

#[cfg(feature = "kafka")]
mod audit;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod produce;
#[cfg(feature = "kafka")]
mod topic;
#[cfg(feature = "kafka")]
mod with_kafka;
// Tests build it in any case, so that it can't break unnoticed.
#[cfg(any(test, not(feature = "kafka")))]
pub(crate) mod without_kafka;

#[cfg(feature = "kafka")]
pub(crate) use with_kafka::KafkaCommand;
#[cfg(not(feature = "kafka"))]
pub(crate) use without_kafka::KafkaCommand;
