//! What was read about a stack. The checks decide from this alone.

use std::collections::BTreeMap;

use hot_products::UnixMillis;

use super::{
    answers::{
        Alarms, Alias, EventSourceMappings, FunctionConfiguration, Identity, RolePolicy, Schedule, StackResources,
        Stacks, Statistics, Subscriptions, TableAnswer,
    },
    aws_cli::Asked,
    expected::Expected,
    network::{ClusterAnswer, RouteTables, SecurityGroups, Subnets, Topic, VpcEndpoints},
};
use crate::status::{NewestSnapshot, SourceState};

/// The number of minutes over which metrics and counters are read.
pub(crate) const RECENT_MINUTES: u64 = 15;

/// Everything that was read.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The stack's name.
    pub(crate) stack: String,
    /// The region.
    pub(crate) region: String,
    /// The time, by AWS's clock if it is known.
    pub(crate) now: UnixMillis,
    /// How many milliseconds AWS's clock is ahead of this machine's.
    pub(crate) clock_ahead: Option<i64>,
    /// Who asks.
    pub(crate) identity: Asked<Identity>,
    /// The stack.
    pub(crate) stacks: Asked<Stacks>,
    /// The rest, unless there is no such stack.
    pub(crate) parts: Option<Parts>,
}

/// The parts of a stack.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// Whether the stack's parameters are known. If not, `expected` has the template's defaults.
    pub(crate) parameters_known: bool,
    /// What this version's template asks for under the stack's parameters.
    pub(crate) expected: Expected,
    /// What the stack consists of.
    pub(crate) resources: Asked<StackResources>,
    /// The tables, in the template's order, with their names and keys.
    pub(crate) tables: Vec<TableFacts>,
    /// What the tables contain.
    pub(crate) content: Content,
    /// The functions.
    pub(crate) functions: Vec<FunctionFacts>,
    /// The policies of each role, by the role's name in the template and the policy's name.
    pub(crate) roles: BTreeMap<String, RoleFacts>,
    /// The event source.
    pub(crate) mappings: Asked<EventSourceMappings>,
    /// The schedule of rank-products.
    pub(crate) schedule: Asked<Schedule>,
    /// The alarms.
    pub(crate) alarms: Asked<Alarms>,
    /// Who is subscribed to the stack's alarm topic, if it has one.
    pub(crate) subscriptions: Option<Asked<Subscriptions>>,
    /// What the poller reports, if there is an event source to ask for.
    pub(crate) poller: Option<PollerFacts>,
    /// The cluster, if it is known which.
    pub(crate) cluster: Option<ClusterFacts>,
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct TableFacts {
    /// Its name.
    pub(crate) name: String,
    /// The keys that it should have, partition key first: name and type.
    pub(crate) keys: Vec<(String, String)>,
    /// The table.
    pub(crate) answer: Asked<TableAnswer>,
}

/// What the tables contain. An error is a message.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// When the counters' table was marked with this version's layout; `None` before the first batch.
    pub(crate) layout: Result<Option<UnixMillis>, Unreadable>,
    /// The newest snapshot.
    pub(crate) newest: Result<Option<NewestSnapshot>, Unreadable>,
    /// How far each topic partition has counted in the last [`RECENT_MINUTES`].
    pub(crate) sources: Result<Vec<SourceState>, Unreadable>,
}

/// Why a table can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The table has another layout than this version's.
    pub(crate) other_layout: bool,
    /// The message.
    pub(crate) message: String,
}

/// A function.
#[derive(Clone, Debug)]
pub(crate) struct FunctionFacts {
    /// Its name in the template.
    pub(crate) logical: String,
    /// The alias `live`.
    pub(crate) alias: Asked<Alias>,
    /// The configuration of what the alias invokes.
    pub(crate) configuration: Asked<FunctionConfiguration>,
}

/// A role.
#[derive(Clone, Debug)]
pub(crate) struct RoleFacts {
    /// Its inline policies, by name.
    pub(crate) policies: BTreeMap<String, Asked<RolePolicy>>,
}

/// What CloudWatch has of the poller, over the last [`RECENT_MINUTES`].
#[derive(Clone, Debug)]
pub(crate) struct PollerFacts {
    /// `PolledEventCount` of the event source.
    pub(crate) polled: Asked<Statistics>,
    /// `OffsetLag` of count-clicks.
    pub(crate) lag: Asked<Statistics>,
}

/// The cluster and the network of the poller.
#[derive(Clone, Debug)]
pub(crate) struct ClusterFacts {
    /// The cluster.
    pub(crate) cluster: Asked<ClusterAnswer>,
    /// The topic.
    pub(crate) topic: Asked<Topic>,
    /// The cluster's network, if the cluster is known.
    pub(crate) network: Option<NetworkFacts>,
}

/// The network of the poller.
#[derive(Clone, Debug)]
pub(crate) struct NetworkFacts {
    /// The cluster's subnets.
    pub(crate) subnets: Asked<Subnets>,
    /// The route tables of the network.
    pub(crate) routes: Asked<RouteTables>,
    /// The endpoints of the network.
    pub(crate) endpoints: Asked<VpcEndpoints>,
    /// The security groups of the network.
    pub(crate) groups: Asked<SecurityGroups>,
}
