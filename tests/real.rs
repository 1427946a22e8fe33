//! The product with real services: DynamoDB Local compared with the embedded DynamoDB, and Apache Kafka with `hot kafka` and
//! the served functions. Run it with `make test-real`. It needs a JDK, Maven, which downloads the services, and `cargo-lambda`.

#[path = "real/audit.rs"]
mod audit;
#[path = "real/engines.rs"]
mod engines;
#[path = "real/iam.rs"]
mod iam;
#[path = "real/invoke.rs"]
mod invoke;
#[path = "real/records.rs"]
mod records;
#[path = "real/seed.rs"]
mod seed;
#[path = "real/topic.rs"]
mod topic;
