"""Tests of infra/msk.yaml: network access and broker settings, and that infra/template.yaml accepts its cluster."""

import copy
import ipaddress
import re
import unittest

import sam
import test_template
from test_alarms import EMAIL, EMAIL_TOPIC, TOPIC, Alarm, Metric, read
from test_template import ARN

SUBNETS = ["SubnetA", "SubnetB", "SubnetC"]
CLUSTER = f"arn:aws:kafka:{ARN}:cluster/hot-products-msk/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-2"

INVENTORY = {
    "Vpc": "AWS::EC2::VPC",
    "SubnetA": "AWS::EC2::Subnet",
    "SubnetB": "AWS::EC2::Subnet",
    "SubnetC": "AWS::EC2::Subnet",
    "KafkaSecurityGroup": "AWS::EC2::SecurityGroup",
    "KafkaFromItsClients": "AWS::EC2::SecurityGroupIngress",
    "EndpointsSecurityGroup": "AWS::EC2::SecurityGroup",
    "LambdaEndpoint": "AWS::EC2::VPCEndpoint",
    "StsEndpoint": "AWS::EC2::VPCEndpoint",
    "Cluster": "AWS::MSK::Cluster",
    "Configuration": "AWS::MSK::Configuration",
    "ClickTopic": "AWS::MSK::Topic",
    "StorageTarget": "AWS::ApplicationAutoScaling::ScalableTarget",
    "StoragePolicy": "AWS::ApplicationAutoScaling::ScalingPolicy",
    "BrokerDiskAlarm": "AWS::CloudWatch::Alarm",
    "BrokerCpuAlarm": "AWS::CloudWatch::Alarm",
    "UnderReplicatedAlarm": "AWS::CloudWatch::Alarm",
    "OfflinePartitionsAlarm": "AWS::CloudWatch::Alarm",
    "ActiveControllerAlarm": "AWS::CloudWatch::Alarm",
    "IamConnectionsAlarm": "AWS::CloudWatch::Alarm",
    "BrokerLogs": "AWS::Logs::LogGroup",
}

OUTPUTS = {
    "ClusterArn": CLUSTER,
    "Topic": "clicks",
    "SecurityGroup": "KafkaSecurityGroup",
    "Subnets": "SubnetA,SubnetB,SubnetC",
    "Vpc": "Vpc",
}


def of_brokers(*names, statistic, brokers=(1, 2, 3)):
    dimensions = [("Cluster Name", "hot-products-msk", "Broker ID", str(broker)) for broker in brokers]
    return [Metric("AWS/Kafka", name, dimension, statistic, 300) for dimension in dimensions for name in names]


def of_cluster(name):
    return [Metric("AWS/Kafka", name, ("Cluster Name", "hot-products-msk"), "Maximum", 60)]


DISK = of_brokers("KafkaDataLogsDiskUsed", statistic="Maximum")
CPU = of_brokers("CpuUser", "CpuSystem", statistic="Average")
UNDER_REPLICATED = of_brokers("UnderReplicatedPartitions", statistic="Maximum")
REFUSED = of_brokers("IAMTooManyConnections", statistic="Sum")

# The limits are those of the Amazon MSK Developer Guide. A change of an alarm needs the same change here.
ALARMS = {
    "broker-disk": Alarm("broker-disk", DISK, "MAX([d1, d2, d3])", "> 85", (1, 1), "notBreaching"),
    "broker-cpu": Alarm("broker-cpu", CPU, "MAX([u1 + s1, u2 + s2, u3 + s3])", "> 60", (3, 3), "notBreaching"),
    "under-replicated-partitions": Alarm("under-replicated-partitions", UNDER_REPLICATED, "MAX([r1, r2, r3])", "> 0", (3, 3), "notBreaching"),
    "iam-connections": Alarm("iam-connections", REFUSED, "MAX([c1, c2, c3])", "> 0", (2, 3), "notBreaching"),
    "offline-partitions": Alarm("offline-partitions", of_cluster("OfflinePartitionsCount"), None, "> 0", (3, 3), "notBreaching"),
    "active-controller": Alarm("active-controller", of_cluster("ActiveControllerCount"), None, "< 1", (5, 5), "notBreaching"),
}


class Stack:
    """The template, optionally changed, and resolved."""

    def __init__(self, change=None, region=sam.REGION, **overrides):
        template = copy.deepcopy(sam.load(sam.MSK_TEMPLATE))
        if change:
            change({name: r.get("Properties", {}) for name, r in template["Resources"].items()}, template["Resources"])
        resolve = sam.Resolver(template, overrides, "hot-products-msk", region)
        self.resources = resolve.resources()
        self.outputs = resolve.outputs()

    properties = test_template.Stack.properties
    of_type = test_template.Stack.of_type


def zone(subnet):
    """The name or the id of a subnet's zone."""
    (named,) = subnet.keys() & {"AvailabilityZone", "AvailabilityZoneId"}
    return subnet[named]


def ports(rule):
    return rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort")


# ── Checks. Each takes a test case, for its assertions, and a stack. ──────────────────────────────────────────────────────


def check_inventory(test, stack):
    # No connection to or from the internet: no gateway, no route, no address.
    test.assertEqual(INVENTORY, {name: resource["Type"] for name, resource in stack.resources.items()})


def check_network(test, stack):
    vpc = stack.properties("Vpc")
    test.assertEqual((True, True), (vpc.get("EnableDnsSupport"), vpc.get("EnableDnsHostnames")), "the endpoints need DNS names")
    subnets = stack.of_type("AWS::EC2::Subnet")
    test.assertEqual(len(subnets), len({zone(s) for s in subnets.values()}), "two subnets in one zone")
    networks = [ipaddress.ip_network(s["CidrBlock"]) for s in subnets.values()]
    for i, network in enumerate(networks):
        test.assertTrue(network.subnet_of(ipaddress.ip_network(vpc["CidrBlock"])))
        test.assertFalse(any(network.overlaps(other) for other in networks[:i]))
    for name, subnet in subnets.items():
        test.assertFalse(subnet.get("MapPublicIpOnLaunch", False), name)


def check_security_groups(test, stack):
    kafka = stack.properties("KafkaSecurityGroup")
    test.assertNotIn("SecurityGroupIngress", kafka)
    out = [(ports(rule), rule.get("CidrIp")) for rule in kafka.get("SecurityGroupEgress", [])]
    network = stack.properties("Vpc")["CidrBlock"]
    test.assertEqual([(("tcp", 9098, 9098), network), (("tcp", 443, 443), network)], out)
    ingress = stack.properties("KafkaFromItsClients")
    test.assertEqual(("tcp", 9098, 9098), ports(ingress))
    test.assertEqual("KafkaSecurityGroup", ingress["GroupId"])
    test.assertEqual("KafkaSecurityGroup", ingress.get("SourceSecurityGroupId"))
    test.assertFalse({"CidrIp", "CidrIpv6"} & ingress.keys())
    endpoints = stack.properties("EndpointsSecurityGroup")
    (rule,) = endpoints["SecurityGroupIngress"]
    test.assertEqual((("tcp", 443, 443), "KafkaSecurityGroup"), (ports(rule), rule.get("SourceSecurityGroupId")))
    test.assertFalse({"CidrIp", "CidrIpv6"} & rule.keys())
    test.assertEqual(["127.0.0.1/32"], [rule["CidrIp"] for rule in endpoints.get("SecurityGroupEgress", [])])


def check_endpoints(test, stack):
    endpoints = stack.of_type("AWS::EC2::VPCEndpoint")
    services = sorted(e["ServiceName"] for e in endpoints.values())
    # Only what the event source needs with IAM authentication.
    test.assertEqual([f"com.amazonaws.{sam.REGION}.{service}" for service in ("lambda", "sts")], services)
    for name, endpoint in endpoints.items():
        test.assertEqual("Interface", endpoint.get("VpcEndpointType"), name)
        test.assertIs(True, endpoint.get("PrivateDnsEnabled"), name)
        test.assertEqual(SUBNETS, endpoint["SubnetIds"], name)
        test.assertEqual(["EndpointsSecurityGroup"], endpoint["SecurityGroupIds"], name)
        test.assertIn("PolicyDocument", endpoint, name)
        (statement,) = endpoint["PolicyDocument"]["Statement"]
        action = {"LambdaEndpoint": "lambda:InvokeFunction", "StsEndpoint": "sts:AssumeRole"}[name]
        test.assertEqual(("Allow", action), (statement["Effect"], statement["Action"]), name)
        # AWS demands all resources, so the principal is the limit.
        test.assertEqual(({"Service": "lambda.amazonaws.com"}, "*"), (statement["Principal"], statement["Resource"]), name)


def check_cluster(test, stack):
    cluster = stack.properties("Cluster")
    test.assertEqual({"Sasl": {"Iam": {"Enabled": True}}, "Unauthenticated": {"Enabled": False}}, cluster["ClientAuthentication"])
    test.assertEqual({"ClientBroker": "TLS", "InCluster": True}, cluster["EncryptionInfo"]["EncryptionInTransit"])
    brokers = cluster["BrokerNodeGroupInfo"]
    test.assertEqual((SUBNETS, ["KafkaSecurityGroup"]), (brokers["ClientSubnets"], brokers["SecurityGroups"]))
    test.assertNotIn("ConnectivityInfo", brokers, "the brokers are not public")
    test.assertEqual(0, cluster["NumberOfBrokerNodes"] % len(SUBNETS))
    logs = cluster["LoggingInfo"]["BrokerLogs"]["CloudWatchLogs"]
    test.assertEqual({"Enabled": True, "LogGroup": stack.properties("BrokerLogs")["LogGroupName"]}, logs)
    test.assertGreater(int(stack.properties("BrokerLogs").get("RetentionInDays", 0)), 0)


def check_alarms(test, stack):
    found = {a["AlarmName"].removeprefix("hot-products-msk-"): a for a in stack.of_type("AWS::CloudWatch::Alarm").values()}
    test.assertEqual(ALARMS, {name: read(alarm, named_ids=False) for name, alarm in found.items()})
    for name, alarm in found.items():
        test.assertEqual(alarm["AlarmActions"], alarm["OKActions"], name)


def check_storage_grows(test, stack):
    target, policy = stack.properties("StorageTarget"), stack.properties("StoragePolicy")
    test.assertEqual((CLUSTER, "kafka", "1000"), (target["ResourceId"], target["ServiceNamespace"], target["MaxCapacity"]))
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    test.assertEqual(("StorageTarget", True), (policy["ScalingTargetId"], tracking["DisableScaleIn"]))
    # Before the alarm on the disk.
    test.assertLess(tracking["TargetValue"], 85)


def check_no_offset_is_reused(test, stack):
    settings = dict(line.split("=") for line in stack.properties("Configuration")["ServerProperties"].split())
    expected = {
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": "2",
        "default.replication.factor": "3",
        "auto.create.topics.enable": "false",
        "log.retention.hours": "30",
    }
    test.assertEqual(expected, settings)
    used = {"Arn": f"arn:aws:kafka:{ARN}:configuration/hot-products-msk/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f902-2", "Revision": 1}
    test.assertEqual(used, stack.properties("Cluster").get("ConfigurationInfo"))
    topic = stack.properties("ClickTopic")
    test.assertEqual((CLUSTER, "clicks", 3), (topic["ClusterArn"], topic["TopicName"], topic["ReplicationFactor"]))


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]


class MskTemplate(unittest.TestCase):
    def test_passes_all_checks(self):
        stack = Stack()
        for check in CHECKS:
            with self.subTest(check.__name__):
                check(self, stack)

    def test_kafka_keeps_clicks_a_little_longer_than_they_can_be_counted(self):
        hours = int(sam.load(sam.MSK_TEMPLATE)["Parameters"]["TopicRetentionHours"]["Default"])
        retention = sam.load()["Parameters"]["Retention"]["Default"]
        self.assertTrue(int(retention.removesuffix("h")) < hours <= 48, (hours, retention))

    def test_outputs(self):
        outputs = Stack().outputs
        self.assertEqual(OUTPUTS, {name: output["Value"] for name, output in outputs.items()})
        self.assertTrue(all(output["Description"] for output in outputs.values()))

    def test_the_other_template_takes_the_cluster_and_reads_its_topic(self):
        outputs = Stack(Topic="views").outputs
        cluster, topic = (outputs[name]["Value"] for name in ("ClusterArn", "Topic"))
        self.assertRegex(cluster, sam.load()["Parameters"]["MskClusterArn"]["AllowedPattern"])
        stack = test_template.Stack(MskClusterArn=cluster, Topic=topic)
        source = stack.properties("CountClicksFunctionClicks")
        self.assertEqual((cluster, ["views"]), (source["EventSourceArn"], source["Topics"]))
        grants = test_template.grants(stack.properties("CountClicksRole"))
        self.assertIn(cluster.replace(":cluster/", ":topic/") + "/views", {resource for _, _, resource, _ in grants})
        # By default, both use the same topic.
        self.assertEqual(sam.load()["Parameters"]["Topic"]["Default"], sam.load(sam.MSK_TEMPLATE)["Parameters"]["Topic"]["Default"])

    def test_parameters_reach_their_resources(self):
        stack = Stack(
            Partitions="12",
            KafkaVersion="4.0.x.kraft",
            BrokerType="kafka.m7g.large",
            BrokerStorageGb="500",
            LogRetentionDays="7",
            VpcCidr="172.20.0.0/20",
        )
        cluster = stack.properties("Cluster")
        self.assertEqual("4.0.x.kraft", cluster["KafkaVersion"])
        self.assertEqual("kafka.m7g.large", cluster["BrokerNodeGroupInfo"]["InstanceType"])
        self.assertEqual({"EBSStorageInfo": {"VolumeSize": "500"}}, cluster["BrokerNodeGroupInfo"]["StorageInfo"])
        self.assertEqual("12", stack.properties("ClickTopic")["PartitionCount"])
        self.assertEqual("7", stack.properties("BrokerLogs")["RetentionInDays"])
        check_network(self, stack)
        check_security_groups(self, stack)

    def test_the_zones_are_ones_that_msk_accepts(self):
        def zones(**arguments):
            return [zone(s) for s in Stack(**arguments).of_type("AWS::EC2::Subnet").values()]

        self.assertEqual(["eu-west-1a", "eu-west-1b", "eu-west-1c"], zones())
        # Not use1-az3, whatever its name is in this account.
        self.assertEqual(["use1-az1", "use1-az2", "use1-az4"], zones(region="us-east-1"))
        self.assertEqual(["us-east-1b", "us-east-1d", "us-east-1f"], zones(region="us-east-1", ZoneA="us-east-1b", ZoneB="us-east-1d", ZoneC="us-east-1f"))
        self.assertEqual(["eu-west-1c", "eu-west-1b", "eu-west-1a"], zones(ZoneA="eu-west-1c", ZoneB="eu-west-1b", ZoneC="eu-west-1a"))
        incomplete = sam.Resolver(sam.load(sam.MSK_TEMPLATE), {"ZoneA": "eu-west-1a", "ZoneB": "eu-west-1b"})
        self.assertEqual(["Give ZoneB and ZoneC as well, or none of the three."], incomplete.broken_rules())
        two = Stack(region="us-west-1")
        self.assertEqual(["us-west-1a", "us-west-1b"], zones(region="us-west-1"))
        cluster = two.properties("Cluster")
        self.assertEqual((["SubnetA", "SubnetB"], 4), (cluster["BrokerNodeGroupInfo"]["ClientSubnets"], cluster["NumberOfBrokerNodes"]))
        self.assertEqual(["SubnetA", "SubnetB"], two.properties("StsEndpoint")["SubnetIds"])
        self.assertEqual("SubnetA,SubnetB", two.outputs["Subnets"]["Value"])

    def test_alarms_notify_a_topic_and_an_address(self):
        alarms = Stack(AlarmTopicArn=TOPIC, AlarmEmail=EMAIL).of_type("AWS::CloudWatch::Alarm")
        expected = [TOPIC, EMAIL_TOPIC.replace("hot-products-alarms", "hot-products-msk-alarms")]
        self.assertEqual([expected] * len(ALARMS), [alarm["AlarmActions"] for alarm in alarms.values()])

    def test_a_fourth_broker_is_watched(self):
        alarms = Stack(region="us-west-1").of_type("AWS::CloudWatch::Alarm")
        cpu = read(alarms["BrokerCpuAlarm"], named_ids=False)
        self.assertEqual("MAX([u1 + s1, u2 + s2, u3 + s3, u4 + s4])", cpu.expression)
        self.assertEqual(of_brokers("CpuUser", "CpuSystem", statistic="Average", brokers=(1, 2, 3, 4)), cpu.metrics)

    def test_parameters_refuse_what_would_fail_later(self):
        parameters = sam.load(sam.MSK_TEMPLATE)["Parameters"]
        for name, parameter in parameters.items():
            self.assertTrue(parameter.get("Description"), name)
            if "AllowedPattern" in parameter:
                self.assertRegex(parameter["Default"], parameter["AllowedPattern"], name)
        for name, good, bad in [
            ("Topic", ["clicks", "shop.clicks_v2"], ["", "*", "a/b"]),
            ("KafkaVersion", ["3.6.0", "3.9.x", "3.9.x.kraft", "4.1.x.kraft"], ["", "3.5.1", "2.8.1", "3.9.x.zookeeper"]),
            ("BrokerType", ["kafka.m7g.large", "kafka.m5.24xlarge"], ["", "t3.small", "kafka.t3.small", "express.m7g.large"]),
            ("VpcCidr", ["10.1.0.0/16", "192.168.3.0/24"], ["", "8.8.8.0/24", "10.0.0.0/8", "10.0.0.0/25", "10.0.0.0"]),
        ]:
            pattern = parameters[name]["AllowedPattern"]
            for value in good:
                self.assertRegex(value, pattern, name)
            for value in bad:
                self.assertNotRegex(value, pattern, name)

    def test_each_checkov_skip_has_a_reason(self):
        for line in sam.MSK_TEMPLATE.read_text(encoding="utf-8").splitlines():
            if "checkov:skip" in line:
                self.assertRegex(line, r"^    # checkov:skip=CKV2?_\w+: \S+ \S+ \S+")


# ── The checks can fail ───────────────────────────────────────────────────────────────────────────────────────────────────


def replace_setting(properties, old, new):
    configuration = properties["Configuration"]
    text = configuration["ServerProperties"]
    text["Fn::Sub"], n = re.subn(re.escape(old), new, text["Fn::Sub"])
    if n != 1:
        raise ValueError(f"there is no {old}")


# Possible changes, each with the check that must fail. A change gets the resources' properties, and the resources.
CHANGES = [
    ("an internet gateway", check_inventory, lambda p, r: r.update(Internet={"Type": "AWS::EC2::InternetGateway", "Properties": {}})),
    ("endpoints without DNS names", check_network, lambda p, r: p["Vpc"].pop("EnableDnsHostnames")),
    ("two subnets in one zone", check_network, lambda p, r: p["SubnetB"].update(AvailabilityZone=p["SubnetA"]["AvailabilityZone"])),
    ("public addresses", check_network, lambda p, r: p["SubnetC"].update(MapPublicIpOnLaunch=True)),
    ("brokers open to the network", check_security_groups, lambda p, r: p["KafkaSecurityGroup"].update(SecurityGroupIngress=[{"IpProtocol": "-1", "CidrIp": "10.0.0.0/8"}])),
    ("brokers open to all", check_security_groups, lambda p, r: p["KafkaFromItsClients"].update(CidrIp="0.0.0.0/0")),
    ("another port", check_security_groups, lambda p, r: p["KafkaFromItsClients"].update(FromPort=9092)),
    ("clients with unlimited egress", check_security_groups, lambda p, r: p["KafkaSecurityGroup"].pop("SecurityGroupEgress")),
    ("endpoints open to all", check_security_groups, lambda p, r: p["EndpointsSecurityGroup"]["SecurityGroupIngress"][0].update(CidrIp="0.0.0.0/0")),
    ("no endpoint for STS", check_endpoints, lambda p, r: r.pop("StsEndpoint")),
    ("an endpoint without private DNS", check_endpoints, lambda p, r: p["LambdaEndpoint"].update(PrivateDnsEnabled=False)),
    ("an endpoint for every call", check_endpoints, lambda p, r: p["StsEndpoint"].pop("PolicyDocument")),
    ("an endpoint for everybody", check_endpoints, lambda p, r: p["LambdaEndpoint"]["PolicyDocument"]["Statement"][0].update(Principal="*")),
    ("an endpoint for some resources", check_endpoints, lambda p, r: p["StsEndpoint"]["PolicyDocument"]["Statement"][0].update(Resource="arn:aws:iam::123456789012:role/*")),
    ("an endpoint in one zone", check_endpoints, lambda p, r: p["LambdaEndpoint"]["SubnetIds"].pop()),
    ("plain text", check_cluster, lambda p, r: p["Cluster"]["EncryptionInfo"]["EncryptionInTransit"].update(ClientBroker="TLS_PLAINTEXT")),
    ("plain text among brokers", check_cluster, lambda p, r: p["Cluster"]["EncryptionInfo"]["EncryptionInTransit"].update(InCluster=False)),
    ("unauthenticated clients", check_cluster, lambda p, r: p["Cluster"]["ClientAuthentication"]["Unauthenticated"].update(Enabled=True)),
    ("public brokers", check_cluster, lambda p, r: p["Cluster"]["BrokerNodeGroupInfo"].update(ConnectivityInfo={"PublicAccess": {"Type": "SERVICE_PROVIDED_EIPS"}})),
    ("four brokers in three zones", check_cluster, lambda p, r: p["Cluster"].update(NumberOfBrokerNodes=4)),
    ("logs without retention", check_cluster, lambda p, r: p["BrokerLogs"].pop("RetentionInDays")),
    ("a broker that is not watched", check_alarms, lambda p, r: p["BrokerDiskAlarm"]["Metrics"].pop(1)),
    ("a fuller disk accepted", check_alarms, lambda p, r: p["BrokerDiskAlarm"].update(Threshold=95)),
    ("volumes that do not grow", check_storage_grows, lambda p, r: p["StorageTarget"].update(MaxCapacity=100)),
    ("unclean leader election", check_no_offset_is_reused, lambda p, r: replace_setting(p, "unclean.leader.election.enable=false", "unclean.leader.election.enable=true")),
    ("records acknowledged by one broker", check_no_offset_is_reused, lambda p, r: replace_setting(p, "min.insync.replicas=2", "min.insync.replicas=1")),
    ("MSK's default settings", check_no_offset_is_reused, lambda p, r: p["Cluster"].pop("ConfigurationInfo")),
    ("a topic on one broker", check_no_offset_is_reused, lambda p, r: p["ClickTopic"].update(ReplicationFactor=1)),
]  # fmt: skip


class ChecksCanFail(unittest.TestCase):
    def test_each_change_fails_its_check(self):
        for name, check, change in CHANGES:
            with self.subTest(name):
                stack = Stack(change)
                with self.assertRaises(AssertionError):
                    check(self, stack)

    def test_each_check_fails_for_some_change(self):
        self.assertEqual(set(CHECKS), {check for _, check, _ in CHANGES})


if __name__ == "__main__":
    unittest.main()
