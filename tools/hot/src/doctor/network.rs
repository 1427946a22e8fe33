//! The parts of the answers about the cluster and its network that the checks read.

use std::net::Ipv4Addr;

use serde::{Deserialize, de::IgnoredAny};

/// `aws kafka describe-cluster-v2`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ClusterAnswer {
    pub(crate) cluster_info: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Cluster {
    pub(crate) state: String,
    pub(crate) provisioned: Option<Provisioned>,
    pub(crate) serverless: Option<Serverless>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Provisioned {
    pub(crate) broker_node_group_info: BrokerNodes,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct BrokerNodes {
    pub(crate) client_subnets: Vec<String>,
    pub(crate) security_groups: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Serverless {
    pub(crate) vpc_configs: Vec<VpcConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VpcConfig {
    pub(crate) subnet_ids: Vec<String>,
    pub(crate) security_group_ids: Vec<String>,
}

impl Cluster {
    /// The subnets in which Lambda's poller runs, and its security groups: those of the cluster.
    pub(crate) fn network(&self) -> (Vec<String>, Vec<String>) {
        match (&self.provisioned, &self.serverless) {
            (Some(Provisioned { broker_node_group_info: nodes }), _) => {
                (nodes.client_subnets.clone(), nodes.security_groups.clone())
            }
            (None, Some(serverless)) => (
                serverless.vpc_configs.iter().flat_map(|config| config.subnet_ids.clone()).collect(),
                serverless.vpc_configs.iter().flat_map(|config| config.security_group_ids.clone()).collect(),
            ),
            (None, None) => (Vec::new(), Vec::new()),
        }
    }
}

/// `aws kafka describe-topic`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Topic {
    pub(crate) status: Option<String>,
    pub(crate) partition_count: Option<u64>,
}

/// `aws ec2 describe-subnets`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Subnets {
    pub(crate) subnets: Vec<Subnet>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Subnet {
    pub(crate) vpc_id: String,
    pub(crate) cidr_block: String,
}

/// `aws ec2 describe-route-tables`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RouteTables {
    pub(crate) route_tables: Vec<RouteTable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RouteTable {
    pub(crate) associations: Vec<Association>,
    pub(crate) routes: Vec<Route>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Association {
    pub(crate) main: bool,
    pub(crate) subnet_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Route {
    pub(crate) destination_cidr_block: Option<String>,
    pub(crate) nat_gateway_id: Option<String>,
    pub(crate) transit_gateway_id: Option<String>,
    pub(crate) network_interface_id: Option<String>,
    pub(crate) state: Option<String>,
}

impl RouteTables {
    /// Whether the subnet's default route leads to a NAT gateway, or to a network interface or transit gateway that may be one.
    /// An internet gateway is of no use, because the poller has no public address.
    pub(crate) fn leaves(&self, subnet: &str) -> bool {
        let of_subnet = |table: &&RouteTable| table.associations.iter().any(|a| a.subnet_id.as_deref() == Some(subnet));
        let table = self.route_tables.iter().find(of_subnet);
        // A subnet without a table of its own uses the main one.
        let table = table.or_else(|| self.route_tables.iter().find(|table| table.associations.iter().any(|a| a.main)));
        table.is_some_and(|table| {
            table.routes.iter().any(|route| {
                let by = [&route.nat_gateway_id, &route.transit_gateway_id, &route.network_interface_id];
                route.destination_cidr_block.as_deref() == Some("0.0.0.0/0")
                    && route.state.as_deref() != Some("blackhole")
                    && by.iter().any(|id| id.is_some())
            })
        })
    }
}

/// `aws ec2 describe-vpc-endpoints`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VpcEndpoints {
    pub(crate) vpc_endpoints: Vec<VpcEndpoint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VpcEndpoint {
    pub(crate) vpc_id: String,
    pub(crate) service_name: String,
    pub(crate) state: String,
    pub(crate) private_dns_enabled: Option<bool>,
    pub(crate) groups: Vec<GroupId>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct GroupId {
    pub(crate) group_id: String,
}

/// `aws ec2 describe-security-groups`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SecurityGroups {
    pub(crate) security_groups: Vec<SecurityGroup>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct SecurityGroup {
    pub(crate) group_id: String,
    pub(crate) ip_permissions: Vec<Permission>,
    pub(crate) ip_permissions_egress: Vec<Permission>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Permission {
    pub(crate) ip_protocol: String,
    pub(crate) from_port: Option<i64>,
    pub(crate) to_port: Option<i64>,
    pub(crate) ip_ranges: Vec<IpRange>,
    pub(crate) prefix_list_ids: Vec<IgnoredAny>,
    pub(crate) user_id_group_pairs: Vec<GroupId>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IpRange {
    pub(crate) cidr_ip: String,
}

/// The other side of a connection: members of these groups, in these subnets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peers<'a> {
    pub(crate) groups: &'a [String],
    pub(crate) subnets: &'a [Subnet],
}

impl Permission {
    /// Whether it allows TCP on `port` with one of the peers.
    pub(crate) fn allows(&self, port: i64, peers: Peers<'_>) -> bool {
        let protocol = matches!(self.ip_protocol.as_str(), "-1" | "tcp" | "6");
        let ports = self.ip_protocol == "-1"
            || self.from_port.is_none_or(|from| from <= port) && self.to_port.is_none_or(|to| port <= to);
        let from_group = self.user_id_group_pairs.iter().any(|pair| peers.groups.contains(&pair.group_id));
        let from_range = self.ip_ranges.iter().any(|range| {
            !peers.subnets.is_empty() && peers.subnets.iter().all(|subnet| contains(&range.cidr_ip, &subnet.cidr_block))
        });
        // What a prefix list contains is not asked for.
        protocol && ports && (from_group || from_range || !self.prefix_list_ids.is_empty())
    }
}

/// Whether the address range `outer` contains `inner`, both such as `10.0.0.0/24`.
fn contains(outer: &str, inner: &str) -> bool {
    let (Some((outer, length)), Some((inner, inner_length))) = (range(outer), range(inner)) else { return false };
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    length <= inner_length && outer & mask == inner & mask
}

fn range(cidr: &str) -> Option<(u32, u32)> {
    let (address, length) = cidr.split_once('/')?;
    let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
    Some((address.parse::<Ipv4Addr>().ok()?.to_bits(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_its_parts_only() {
        for (outer, inner, expected) in [
            ("10.0.0.0/24", "10.0.0.64/26", true),
            ("0.0.0.0/0", "10.0.0.64/26", true),
            ("10.0.0.0/24", "10.0.0.0/24", true),
            ("10.0.0.0/24", "10.0.1.0/26", false),
            ("10.0.0.0/28", "10.0.0.0/26", false),
            ("10.0.0.0", "10.0.0.0/26", false),
        ] {
            assert_eq!(contains(outer, inner), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn only_a_default_route_to_a_nat_gateway_leaves_a_subnet() {
        let tables = |text: &str| serde_json::from_str::<RouteTables>(text).unwrap();
        let main = r#"{"Associations": [{"Main": true}], "Routes": [{"DestinationCidrBlock": "10.0.0.0/24", "GatewayId": "local"}]}"#;
        let with = |route: &str| {
            tables(&format!(
                r#"{{"RouteTables": [{main}, {{"Associations": [{{"SubnetId": "a"}}], "Routes": [{route}]}}]}}"#
            ))
        };
        let nat = with(r#"{"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}"#);
        assert!(nat.leaves("a") && !nat.leaves("b"));
        let gone = with(r#"{"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "blackhole"}"#);
        assert!(!gone.leaves("a"), "the gateway was deleted");
        assert!(!with(r#"{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1"}"#).leaves("a"));
        assert!(!RouteTables::default().leaves("a"));
    }

    #[test]
    fn a_serverless_cluster_has_its_network_elsewhere() {
        let cluster: ClusterAnswer = serde_json::from_str(
            r#"{"ClusterInfo": {"State": "ACTIVE", "Serverless": {"VpcConfigs": [
                {"SubnetIds": ["s-1", "s-2"], "SecurityGroupIds": ["g-1"]}]}}}"#,
        )
        .unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(cluster.cluster_info.network(), (names(&["s-1", "s-2"]), names(&["g-1"])));
    }
}
