//! The product on real parts: AWS's DynamoDB Local beside the embedded DynamoDB, and Apache Kafka with `hot kafka` and the
//! served function. Run it by `make test-real`: it needs Java and Maven, which fetches the parts, and `cargo-lambda`.

#[path = "real/engines.rs"]
mod engines;
#[path = "real/topic.rs"]
mod topic;
