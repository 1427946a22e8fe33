"""Tests of infra/seed.yaml: the function can only write to one topic from within the network, and nobody else can invoke it."""

import re
import unittest

import sam
import test_msk
from test_template import ARN, grants

INVENTORY = {
    "SeedClicksFunction": "AWS::Lambda::Function",
    "SeedClicksLogs": "AWS::Logs::LogGroup",
    "SeedClicksRole": "AWS::IAM::Role",
}

TOPIC = sam.CLUSTER.replace(":cluster/", ":topic/") + "/clicks"
LOGS = f"arn:aws:logs:{ARN}:log-group:/aws/lambda/hot-products-seed-clicks:*"
INTERFACES = f"arn:aws:ec2:{ARN}:*/*"

# Each permission. A change of the role needs the same change here.
GRANTS = {
    ("Allow", "kafka-cluster:Connect", sam.CLUSTER, ""),
    ("Allow", "kafka-cluster:DescribeTopic", TOPIC, ""),
    ("Allow", "kafka-cluster:WriteData", TOPIC, ""),
    ("Allow", "logs:CreateLogStream", LOGS, ""),
    ("Allow", "logs:PutLogEvents", LOGS, ""),
    ("Allow", "ec2:CreateNetworkInterface", INTERFACES, ""),
    ("Allow", "ec2:DeleteNetworkInterface", INTERFACES, ""),
    ("Allow", "ec2:AssignPrivateIpAddresses", INTERFACES, ""),
    ("Allow", "ec2:UnassignPrivateIpAddresses", INTERFACES, ""),
    ("Allow", "ec2:DescribeNetworkInterfaces", "*", ""),
    ("Allow", "ec2:DescribeSubnets", "*", ""),
    # Not by the function's code.
    ("Deny", "ec2:*", "*", '{"Null": {"lambda:SourceFunctionArn": "false"}}'),
}


def resources(change=None, **overrides):
    source = sam.load(sam.SEED_TEMPLATE)
    if change:
        change(source["Resources"])
    template = sam.transform(source, overrides)
    return sam.Resolver(template, overrides, "hot-products-seed").resources()


def check_inventory(test, found):
    # No URL, no event source and no permission to invoke it: only who may do so by IAM.
    test.assertEqual(INVENTORY, {name: resource["Type"] for name, resource in found.items()})


def check_role(test, found):
    role = found["SeedClicksRole"]["Properties"]
    test.assertEqual(GRANTS, set(grants(role)))
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    test.assertEqual({"Service": "lambda.amazonaws.com"}, statement["Principal"])
    test.assertNotIn("ManagedPolicyArns", role)


def check_network(test, found):
    function = found["SeedClicksFunction"]["Properties"]
    test.assertEqual({"SubnetIds": ["subnet-0a1", "subnet-0b2"], "SecurityGroupIds": ["sg-0c3"]}, function.get("VpcConfig"))


def check_function(test, found):
    function = found["SeedClicksFunction"]["Properties"]
    test.assertEqual({"BROKERS": sam.BROKERS, "TOPIC": "clicks"}, function["Environment"]["Variables"])
    test.assertEqual(f"arn:aws:iam::{sam.ACCOUNT}:role/SeedClicksRole", function["Role"])
    # Its own time limit is the one of the function, and 100,000 clicks take seconds.
    test.assertTrue(60 <= function["Timeout"] <= 300, function["Timeout"])
    test.assertEqual("7", found["SeedClicksLogs"]["Properties"]["RetentionInDays"])


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]


class Seed(unittest.TestCase):
    def test_passes_all_checks(self):
        for check in CHECKS:
            with self.subTest(check.__name__):
                check(self, resources())

    def test_it_takes_the_outputs_of_the_clusters_stack(self):
        outputs = {name: output["Value"] for name, output in test_msk.Stack().outputs.items()}
        cluster, subnets, group = outputs["ClusterArn"], outputs["Subnets"], outputs["SecurityGroup"]
        found = resources(MskClusterArn=cluster, SubnetIds=subnets, SecurityGroupIds=group, Topic=outputs["Topic"])
        config = found["SeedClicksFunction"]["Properties"]["VpcConfig"]
        self.assertEqual({"SubnetIds": test_msk.SUBNETS, "SecurityGroupIds": ["KafkaSecurityGroup"]}, config)
        topic = cluster.replace(":cluster/", ":topic/") + "/clicks"
        written = {resource for _, action, resource, _ in grants(found["SeedClicksRole"]["Properties"]) if action == "kafka-cluster:WriteData"}
        self.assertEqual({topic}, written)
        # Both templates accept the same clusters.
        patterns = {sam.load(path)["Parameters"]["MskClusterArn"]["AllowedPattern"] for path in (sam.TEMPLATE, sam.SEED_TEMPLATE)}
        self.assertTrue(all(re.search(pattern, cluster) for pattern in patterns))

    def test_another_topic_is_the_only_one(self):
        found = resources(Topic="views")
        topics = {resource for _, _, resource, _ in grants(found["SeedClicksRole"]["Properties"]) if ":topic/" in resource}
        self.assertEqual({TOPIC.replace("/clicks", "/views")}, topics)
        self.assertEqual("views", found["SeedClicksFunction"]["Properties"]["Environment"]["Variables"]["TOPIC"])

    def test_parameters_refuse_what_would_fail_later(self):
        parameters = sam.load(sam.SEED_TEMPLATE)["Parameters"]
        pattern = parameters["BootstrapBrokers"]["AllowedPattern"]
        self.assertRegex(sam.BROKERS, pattern)
        for wrong in ["", "None", "b-1.shop", "b-1.shop:9098,", "b-1.shop:9098, b-2.shop:9098", "https://b-1.shop:9098"]:
            self.assertNotRegex(wrong, pattern)
        for name, parameter in parameters.items():
            self.assertTrue(parameter.get("Description"), name)

    def test_each_change_fails_its_check(self):
        def policy(found, name):
            return next(p for p in found["SeedClicksRole"]["Properties"]["Policies"] if p["PolicyName"] == name)["PolicyDocument"]["Statement"]

        changes = [
            ("a URL", check_inventory, lambda r: r["SeedClicksFunction"]["Properties"].update(FunctionUrlConfig={"AuthType": "NONE"})),
            ("every topic", check_role, lambda r: policy(r, "function")[1].update(Resource="*")),
            ("reading", check_role, lambda r: policy(r, "function")[1]["Action"].append("kafka-cluster:ReadData")),
            ("interfaces made by the code", check_role, lambda r: policy(r, "network").pop(0)),
            ("a function outside of the network", check_network, lambda r: r["SeedClicksFunction"]["Properties"].pop("VpcConfig")),
            ("another topic than the role's", check_function, lambda r: r["SeedClicksFunction"]["Properties"]["Environment"]["Variables"].update(TOPIC="other")),
        ]  # fmt: skip
        for name, check, change in changes:
            with self.subTest(name), self.assertRaises(AssertionError):
                check(self, resources(change))
        self.assertEqual(set(CHECKS), {check for _, check, _ in changes})


if __name__ == "__main__":
    unittest.main()
