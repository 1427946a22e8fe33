//! The cluster, the topic, and the network in which Lambda's poller runs.

use super::{list, see};
use crate::doctor::{
    facts::{ClusterFacts, NetworkFacts, Parts},
    finding::{Decided, Finding, Subject, either},
    network::{Peers, SecurityGroup, VpcEndpoint},
};

/// The port of HTTPS, for the endpoints.
const HTTPS: i64 = 443;

pub(super) fn all(parts: &Parts) -> Vec<Finding> {
    let checks = ["cluster", "topic", "network-endpoints", "network-security-groups"];
    let Some(cluster) = &parts.cluster else {
        let (found, next) = if parts.expected.parameter("BootstrapServers").is_empty() {
            ("it is not known which cluster the stack reads", "see the line `stack`")
        } else {
            (
                "the stack reads a Kafka that AWS does not manage",
                "look at it with `hot topic`, from the brokers' network",
            )
        };
        return checks.into_iter().map(|check| Finding::unknown(check, found, next)).collect();
    };
    vec![
        either(cluster_is_active(cluster)).shown_by(&cluster.cluster),
        either(topic_exists(parts, cluster)).shown_by(&cluster.topic),
        either(endpoints(parts, cluster)),
        either(security_groups(parts, cluster)),
    ]
}

fn cluster_is_active(facts: &ClusterFacts) -> Decided {
    let next = "MskClusterArn names no cluster of this account and region";
    let subject = Subject { check: "cluster", what: "the cluster", if_missing: next };
    let state = subject.answer(&facts.cluster)?.cluster_info.state.as_str();
    // API reference of the Amazon MSK resource "ClusterInfo". In the others, brokers serve clients.
    match state {
        "CREATING" => Err(Finding::unknown(subject.check, state, "repeat this when it is ACTIVE")),
        "DELETING" | "FAILED" => Err(Finding::wrong(subject.check, state, "create another: docs/operations.md#deploy")),
        _ => Ok(Finding::ok(subject.check, state)),
    }
}

fn topic_exists(parts: &Parts, facts: &ClusterFacts) -> Decided {
    let name = parts.expected.parameter("Topic");
    let what = format!("the topic {name}");
    let next = format!("create it with `aws kafka create-topic`, or correct Topic in two steps: {}", see::EVENT_SOURCE);
    let subject = Subject { check: "topic", what: &what, if_missing: &next };
    if !parts.parameters_known {
        return Err(Finding::unknown(subject.check, "the stack's parameters are not known", "see the line `stack`"));
    }
    let topic = subject.answer(&facts.topic)?;
    let partitions = topic.partition_count.unwrap_or_default();
    match topic.status.as_deref() {
        Some("DELETING") => Err(Finding::wrong(subject.check, format!("{name} is being deleted"), &next)),
        _ => Ok(Finding::ok(subject.check, format!("{name} has {partitions} partitions"))),
    }
}

/// What both checks of the network need.
struct Network<'a> {
    facts: &'a NetworkFacts,
    vpc: &'a str,
    subnets: Vec<String>,
    groups: Vec<String>,
}

fn network<'a>(check: &str, facts: &'a ClusterFacts) -> Result<Network<'a>, Finding> {
    let unknown = |found: &str| Finding::unknown(check, found, "see the line `cluster`");
    let cluster = facts.cluster.answer.as_ref().map_err(|_| unknown("the cluster is not known"))?;
    let network = facts.network.as_ref().ok_or_else(|| unknown("the cluster's subnets are not known"))?;
    let subject = Subject { check, what: "a subnet of the cluster", if_missing: "look at the cluster's network" };
    let known = &subject.answer(&network.subnets)?.subnets;
    let vpc = known.first().map(|subnet| subnet.vpc_id.as_str()).filter(|vpc| !vpc.is_empty());
    let vpc = vpc.ok_or_else(|| unknown("the cluster's network is not known").shown_by(&network.subnets))?;
    let (subnets, groups) = cluster.cluster_info.network();
    Ok(Network { facts: network, vpc, subnets, groups })
}

/// Whether the poller reaches what it calls: by interface endpoints, or by a NAT gateway (AWS Lambda Developer Guide, "Configuring
/// your Amazon MSK cluster and Amazon VPC network for Lambda").
fn endpoints(parts: &Parts, facts: &ClusterFacts) -> Decided {
    const CHECK: &str = "network-endpoints";
    // The same guide: with provisioned pollers, none are necessary.
    if !matches!(parts.expected.parameter("MinimumPollers"), "" | "0") {
        return Ok(Finding::ok(CHECK, "provisioned pollers need none"));
    }
    let network = network(CHECK, facts)?;
    let subject = Subject { check: CHECK, what: "the network", if_missing: "look at the cluster's network" };
    let routes = subject.answer(&network.facts.routes)?;
    if network.subnets.iter().all(|subnet| routes.leaves(subnet)) {
        return Ok(Finding::ok(CHECK, "each subnet of the cluster has a route to a NAT gateway"));
    }
    let mut services = vec!["lambda", "sts"];
    if parts.expected.parameter("KafkaAuthentication") != "iam" {
        services.push("secretsmanager");
    }
    let found = &subject.answer(&network.facts.endpoints)?.vpc_endpoints;
    let works = |service: &&str| {
        let suffix = format!(".{service}");
        found.iter().any(|endpoint| {
            endpoint.vpc_id == network.vpc
                && endpoint.service_name.ends_with(&suffix)
                && endpoint.state.eq_ignore_ascii_case("available")
                && endpoint.private_dns_enabled != Some(false)
        })
    };
    let missing: Vec<&str> = services.iter().copied().filter(|service| !works(service)).collect();
    if missing.is_empty() {
        return Ok(Finding::ok(CHECK, format!("{} has endpoints for {}", network.vpc, list(&services))));
    }
    let found = format!(
        "{} has no NAT route, and no available endpoint with private DNS names for {}",
        network.vpc,
        list(&missing)
    );
    Err(Finding::wrong(CHECK, found, format!("create interface endpoints or a NAT gateway: {}", see::SILENT))
        .shown_by(&network.facts.endpoints))
}

/// Whether the security groups let the poller, which uses the cluster's, reach the brokers and the endpoints.
fn security_groups(parts: &Parts, facts: &ClusterFacts) -> Decided {
    const CHECK: &str = "network-security-groups";
    let network = network(CHECK, facts)?;
    let subject = Subject { check: CHECK, what: "the network", if_missing: "look at the cluster's network" };
    let all = &subject.answer(&network.facts.groups)?.security_groups;
    let subnets = &subject.answer(&network.facts.subnets)?.subnets;
    let ours: Vec<&SecurityGroup> = all.iter().filter(|group| network.groups.contains(&group.group_id)).collect();
    if ours.is_empty() {
        return Err(Finding::unknown(CHECK, "the cluster's groups are not known", "see the command")
            .shown_by(&network.facts.groups));
    }
    // The ports of the brokers: Amazon MSK Developer Guide, "Port information".
    let port = match parts.expected.parameter("KafkaAuthentication") {
        "scram" => 9096,
        "mtls" => 9094,
        _ => 9098,
    };
    let brokers = Peers { groups: &network.groups, subnets };
    let mut blocked = Vec::new();
    if !ours.iter().any(|group| group.ip_permissions.iter().any(|rule| rule.allows(port, brokers))) {
        blocked.push(format!("{} does not accept its own members on port {port}", list(&network.groups)));
    }
    if !ours.iter().any(|group| group.ip_permissions_egress.iter().any(|rule| rule.allows(port, brokers))) {
        blocked.push(format!("{} does not let out connections to port {port}", list(&network.groups)));
    }
    let endpoints =
        network.facts.endpoints.answer.as_ref().map(|found| found.vpc_endpoints.as_slice()).unwrap_or_default();
    let called = endpoints.iter().filter(|endpoint| endpoint.vpc_id == network.vpc && is_called(endpoint));
    for endpoint in called.filter(|endpoint| !endpoint.groups.is_empty()) {
        let its_groups: Vec<String> = endpoint.groups.iter().map(|group| group.group_id.clone()).collect();
        let its_rules =
            all.iter().filter(|group| its_groups.contains(&group.group_id)).flat_map(|group| &group.ip_permissions);
        if !its_rules.into_iter().any(|rule| rule.allows(HTTPS, brokers)) {
            blocked.push(format!("the endpoint {} does not accept the poller on port {HTTPS}", endpoint.service_name));
        }
        let peers = Peers { groups: &its_groups, subnets };
        if !ours.iter().any(|group| group.ip_permissions_egress.iter().any(|rule| rule.allows(HTTPS, peers))) {
            blocked.push(format!(
                "{} does not let out connections to {}",
                list(&network.groups),
                endpoint.service_name
            ));
        }
    }
    if blocked.is_empty() {
        return Ok(Finding::ok(
            CHECK,
            format!("the poller may connect to the brokers on port {port} and to the endpoints"),
        ));
    }
    Err(Finding::wrong(CHECK, blocked.join("; "), format!("correct the rules: {}", see::SILENT))
        .shown_by(&network.facts.groups))
}

fn is_called(endpoint: &VpcEndpoint) -> bool {
    [".lambda", ".sts", ".secretsmanager"].iter().any(|service| endpoint.service_name.ends_with(service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        aws_cli::Reason,
        checks::testing::{answered, refused},
        finding::Status,
        testing::{ENDPOINTS, healthy},
    };

    fn statuses(parts: &Parts) -> Vec<Status> {
        all(parts).into_iter().map(|finding| finding.status).collect()
    }

    fn network_of(parts: &mut Parts) -> &mut NetworkFacts {
        parts.cluster.as_mut().unwrap().network.as_mut().unwrap()
    }

    use Status::{Ok as Fine, Unknown, Wrong};

    #[test]
    fn the_cluster_must_exist_and_the_topic_too() {
        let mut parts = healthy().parts.unwrap();
        assert_eq!(statuses(&parts), [Fine; 4], "{:?}", all(&parts));
        parts.cluster.as_mut().unwrap().topic = refused(Reason::Missing);
        assert_eq!(statuses(&parts), [Fine, Wrong, Fine, Fine]);
        parts.cluster.as_mut().unwrap().topic = refused(Reason::Other);
        assert_eq!(statuses(&parts), [Fine, Unknown, Fine, Fine], "for example a serverless cluster");
        parts.cluster.as_mut().unwrap().cluster = refused(Reason::Denied);
        assert_eq!(statuses(&parts), [Unknown; 4]);
        parts.cluster = None;
        assert_eq!(statuses(&parts), [Unknown; 4]);
        parts.expected.parameters.insert("BootstrapServers".to_owned(), "kafka.example.com:9096".to_owned());
        assert_eq!(all(&parts)[0].found, "the stack reads a Kafka that AWS does not manage");
    }

    #[test]
    fn the_poller_needs_endpoints_or_a_nat_route() {
        let mut parts = healthy().parts.unwrap();
        network_of(&mut parts).endpoints = answered(r#"{"VpcEndpoints": []}"#);
        let found = all(&parts);
        assert_eq!(statuses(&parts), [Fine, Fine, Wrong, Fine]);
        assert!(found[2].found.ends_with("for lambda, sts"), "{found:?}");
        parts.expected.parameters.insert("MinimumPollers".to_owned(), "2".to_owned());
        assert_eq!(statuses(&parts), [Fine; 4], "provisioned pollers");
        parts.expected.parameters.insert("MinimumPollers".to_owned(), "0".to_owned());
        network_of(&mut parts).routes = answered(
            r#"{"RouteTables": [{"Associations": [{"Main": true}],
                "Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}]}]}"#,
        );
        assert_eq!(statuses(&parts), [Fine; 4], "a NAT gateway");
        let mut parts = healthy().parts.unwrap();
        parts.expected.parameters.insert("KafkaAuthentication".to_owned(), "scram".to_owned());
        assert!(all(&parts)[2].found.ends_with("for secretsmanager"), "{:?}", all(&parts)[2]);
        for change in [("\"available\"", "\"pending\""), (".lambda", ".logs"), ("\"vpc-1\"", "\"vpc-2\"")] {
            let mut parts = healthy().parts.unwrap();
            network_of(&mut parts).endpoints = answered(&ENDPOINTS.replacen(change.0, change.1, 1));
            assert_eq!(statuses(&parts)[2], Wrong, "{change:?}");
        }
    }

    #[test]
    fn the_security_groups_must_allow_the_poller() {
        let groups = |ingress: &str, egress: &str, endpoints: &str| {
            let mut parts = healthy().parts.unwrap();
            network_of(&mut parts).groups = answered(&format!(
                r#"{{"SecurityGroups": [{{"GroupId": "sg-k", "IpPermissions": [{ingress}], "IpPermissionsEgress": [{egress}]}},
                    {{"GroupId": "sg-e", "IpPermissions": [{endpoints}]}}]}}"#
            ));
            all(&parts).swap_remove(3)
        };
        let rule = |protocol: &str, port: i64, peer: &str| {
            format!(r#"{{"IpProtocol": "{protocol}", "FromPort": {port}, "ToPort": {port}, {peer}}}"#)
        };
        let from = |group: &str| format!(r#""UserIdGroupPairs": [{{"GroupId": "{group}"}}]"#);
        let range = |cidr: &str| format!(r#""IpRanges": [{{"CidrIp": "{cidr}"}}]"#);
        let own = rule("tcp", 9098, &from("sg-k"));
        let out = [rule("tcp", 9098, &range("10.0.0.0/24")), rule("tcp", 443, &range("10.0.0.0/24"))].join(",");
        let https = rule("tcp", 443, &from("sg-k"));
        assert_eq!(groups(&own, &out, &https).status, Fine, "{:?}", groups(&own, &out, &https));
        let everything = r#"{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}"#;
        assert_eq!(groups(everything, everything, everything).status, Fine);
        let (other_port, other_group) = (rule("tcp", 9092, &from("sg-k")), rule("tcp", 9098, &from("sg-x")));
        for ingress in ["", &other_port, &other_group, &rule("udp", 9098, &from("sg-k"))] {
            let found = groups(ingress, &out, &https);
            assert_eq!(found.found, "sg-k does not accept its own members on port 9098", "{ingress}");
        }
        assert!(groups(&own, &rule("tcp", 443, &range("0.0.0.0/0")), &https).found.contains("to port 9098"));
        assert!(groups(&own, &out, "").found.contains("the endpoint com.amazonaws.eu-west-1.lambda does not accept"));
        assert!(
            groups(&own, &rule("tcp", 9098, &range("0.0.0.0/0")), &https).found.contains("let out connections to com")
        );
    }
}
