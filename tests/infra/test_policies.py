"""Tests of the example policies in infra/policies: who deploys has what CloudFormation calls, and nobody has more than stated."""

import fnmatch
import json
import re
import unittest

import sam
import schemas
import test_msk
import test_template

POLICIES = sam.INFRA / "policies"
GATHER = sam.INFRA.parent / "tools" / "hot" / "src" / "doctor" / "gather.rs"
# A managed policy has at most 6,144 characters without white space (IAM User Guide, "IAM and AWS STS quotas").
LARGEST = 6144

# Actions that CloudFormation's handlers list, but that these templates do not need.
NOT_NEEDED = {
    "ec2:*SubnetCidrBlock": "one address range",
    "ec2:*VpcEncryptionControl*": "not used",
    "ec2:*VpcTenancy": "not used",
    "elasticfilesystem:*": "no file system",
    "iam:*RolePermissionsBoundary": "no boundary",
    "kinesis:*": "no stream",
    "kms:*": "no customer key",
    "s3files:*": "no file system",
    "acm-pca:*": "no mutual TLS",
    "firehose:*": "logs go to CloudWatch",
    "vpc-lattice:*": "no lattice",
    "vpce:*": "no service of our own",
}


def policy(name):
    return json.loads((POLICIES / name).read_text(encoding="utf-8"))


def actions(document):
    """The patterns of the actions that a policy allows."""
    return {action for s in document["Statement"] for action in test_template.as_list(s["Action"])}


def matches(action, patterns):
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def not_allowed(document):
    """What CloudFormation calls for the resources of both templates, and the policy does not allow."""
    kinds = set(test_template.INVENTORY.values()) | set(test_msk.INVENTORY.values())
    called = {action for kind in kinds for action in schemas.permissions(kind)}
    return {action for action in called if not matches(action, actions(document))}


def missing(document):
    return sorted(action for action in not_allowed(document) if not matches(action, NOT_NEEDED))


# Actions that no command is named after: the doctor reads the tables itself, and MSK's API describes a topic with these
# (Amazon MSK Developer Guide, "Requirements for using topic APIs").
TABLES = {"dynamodb:Query"}
TOPIC = {f"kafka-cluster:{action}" for action in ("Connect", "DescribeTopic", "DescribeTopicDynamicConfiguration")}
# Everybody may.
CALLER = "sts:GetCallerIdentity"


def asked(source=None):
    """The actions behind the commands that `hot doctor` runs, as its source has them."""
    source = GATHER.read_text(encoding="utf-8") if source is None else source
    commands = re.findall(r'\[\s*"([a-z0-9]+)",\s*"([a-z0-9-]+)"', source)
    named = {f"{service}:{''.join(word.title() for word in command.split('-'))}" for service, command in commands}
    return named - {CALLER, "kafka:DescribeTopic"} | TABLES | TOPIC


class Policies(unittest.TestCase):
    def test_the_deployer_may_do_what_cloudformation_does(self):
        self.assertEqual([], missing(policy("deployer.json")))
        left = not_allowed(policy("deployer.json"))
        self.assertEqual([], [p for p in NOT_NEEDED if not any(matches(a, [p]) for a in left)], "an exception is not used")

    def test_the_deployer_may_create_the_topic(self):
        # AWS::MSK::Topic calls Kafka with the deployer's permissions.
        needed = {f"kafka-cluster:{a}" for a in ("Connect", "CreateTopic", "DescribeTopic", "DescribeTopicDynamicConfiguration")}
        self.assertEqual(set(), needed - schemas.permissions("AWS::MSK::Topic"), "the schema has changed")
        self.assertEqual(set(), needed - actions(policy("deployer.json")))

    def test_a_missing_permission_is_noticed(self):
        document = policy("deployer.json")
        for statement in document["Statement"]:
            if statement["Sid"] == "Topics":
                statement["Action"].remove("kafka-cluster:CreateTopic")
        self.assertEqual(["kafka-cluster:CreateTopic"], missing(document))

    def test_the_deployer_reaches_only_roles_of_the_stacks(self):
        for statement in policy("deployer.json")["Statement"]:
            if any(a.startswith("iam:") for a in test_template.as_list(statement["Action"])):
                conditional = statement.get("Condition", {}).get("StringEquals", {}).get("iam:AWSServiceName")
                self.assertTrue(conditional or statement["Resource"] == "arn:*:iam::*:role/hot-products*", statement["Sid"])

    def test_policies_fit_a_managed_policy(self):
        for path in POLICIES.glob("*.json"):
            self.assertLessEqual(len("".join(path.read_text(encoding="utf-8").split())), LARGEST, path.name)
            self.assertEqual("2012-10-17", policy(path.name)["Version"])

    def test_a_producer_can_only_write_one_topic(self):
        self.assertEqual(
            {f"kafka-cluster:{a}" for a in ("Connect", "WriteDataIdempotently", "DescribeTopic", "WriteData")},
            actions(policy("producer.json")),
        )

    def test_a_reader_can_only_read(self):
        self.assertEqual(
            {"dynamodb:GetItem", "dynamodb:Query", "lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}, actions(policy("reader.json"))
        )
        # The function only through its URL, and no other table than the one of the snapshots.
        invoke = next(s for s in policy("reader.json")["Statement"] if s["Action"] == "lambda:InvokeFunction")
        self.assertEqual({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}, invoke["Condition"])
        url = test_template.Stack().properties("ReadBoardFunctionUrl")["TargetFunctionArn"]
        for statement in policy("reader.json")["Statement"]:
            name = statement["Resource"].rpartition(":*:*:")[2]
            self.assertTrue(url.endswith(name) or test_template.SNAPSHOTS.endswith(name), name)

    def test_the_doctor_may_do_what_its_commands_do_and_nothing_else(self):
        self.assertEqual(asked(), actions(policy("doctor.json")))
        reads = ("Describe", "Get", "List", "Query", "Connect")
        self.assertEqual([], [a for a in asked() if not a.partition(":")[2].startswith(reads)])

    def test_a_command_without_its_permission_is_noticed(self):
        self.assertIn("lambda:GetAlias", asked())
        self.assertEqual({"lambda:UpdateAlias"}, asked('["lambda", "update-alias", "--name"') - asked(""))

    def test_the_pipeline_trusts_one_repository(self):
        template = sam.load(sam.INFRA / "pipeline" / "role.yaml")
        resolve = sam.Resolver(template, {"Repository": "shop/hot", "PolicyArn": f"arn:aws:iam::{sam.ACCOUNT}:policy/deployer"})
        (statement,) = resolve.resources()["DeployRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        subjects = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
        environments = [f"repo:shop/hot:environment:{stage}" for stage in ("staging", "production")]
        self.assertEqual(["repo:shop/hot:ref:refs/heads/main", *environments], subjects)
        self.assertEqual("sts.amazonaws.com", statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:aud"])


if __name__ == "__main__":
    unittest.main()
