//! `seed-clicks`: writes invented clicks to the topic, from within the cluster's network.
//!
//! For a new stack, whose topic nobody writes to yet: the cluster of `infra/msk.yaml` accepts clients in its network only, and
//! only with IAM. The function is no part of the stack that counts; `infra/seed.yaml` deploys it.
//!
//! Start reading at [`SeedClicks::handle`]. A [`Request`] says how many clicks to write.

mod broker;
mod handler;
pub mod partition;
mod request;
pub mod settings;
mod topic;

pub use broker::BrokerError;
pub use handler::{SeedClicks, SeedError, SeedSummary};
pub use request::{Request, RequestError};
pub use settings::SeedSettings;
