"""Tests of infra/template.yaml: permissions, tables, schedule and outputs, as CloudFormation sees them after the SAM transform.

Run: python -m unittest discover tests/infra
"""

import json
import re
import unittest

import sam
from parameters import CHANGED

ARN = f"{sam.REGION}:{sam.ACCOUNT}"
COUNTERS = f"arn:aws:dynamodb:{ARN}:table/hot-products-minute-counters"
SNAPSHOTS = f"arn:aws:dynamodb:{ARN}:table/hot-products-snapshots"
REJECTS = f"arn:aws:dynamodb:{ARN}:table/hot-products-rejected-events"
DEAD_LETTERS = f"arn:aws:sqs:{ARN}:hot-products-rank-products-dead-letters"
RANK_PRODUCTS = f"arn:aws:lambda:{ARN}:function:hot-products-rank-products"
# The alias that a deployment moves to the new version.
LIVE = "live"
IN_CLUSTER = f"arn:aws:kafka:{ARN}:%s/shop/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-2/%s"


def logs(name):
    return f"arn:aws:logs:{ARN}:log-group:/aws/lambda/hot-products-{name}:*"


# All resources of the stack. A new role, policy, permission or function URL fails the test.
INVENTORY = {
    "MinuteCounters": "AWS::DynamoDB::Table",
    "HotProducts": "AWS::DynamoDB::Table",
    "RejectedEvents": "AWS::DynamoDB::Table",
    "CountClicksFunction": "AWS::Lambda::Function",
    "CountClicksFunctionVersion": "AWS::Lambda::Version",
    "CountClicksFunctionAliaslive": "AWS::Lambda::Alias",
    "CountClicksFunctionDeploymentGroup": "AWS::CodeDeploy::DeploymentGroup",
    "CountClicksFunctionClicks": "AWS::Lambda::EventSourceMapping",
    "CountClicksLogs": "AWS::Logs::LogGroup",
    "CountClicksRole": "AWS::IAM::Role",
    "RankProductsFunction": "AWS::Lambda::Function",
    "RankProductsFunctionVersion": "AWS::Lambda::Version",
    "RankProductsFunctionAliaslive": "AWS::Lambda::Alias",
    "RankProductsFunctionDeploymentGroup": "AWS::CodeDeploy::DeploymentGroup",
    "RankProductsFunctionEventInvokeConfig": "AWS::Lambda::EventInvokeConfig",
    "RankProductsFunctionEveryFiveMinutes": "AWS::Scheduler::Schedule",
    "RankProductsLogs": "AWS::Logs::LogGroup",
    "RankProductsRole": "AWS::IAM::Role",
    "RankProductsDeadLetters": "AWS::SQS::Queue",
    "ScheduleRole": "AWS::IAM::Role",
    "ReadBoardFunction": "AWS::Lambda::Function",
    "ReadBoardFunctionVersion": "AWS::Lambda::Version",
    "ReadBoardFunctionAliaslive": "AWS::Lambda::Alias",
    "ReadBoardFunctionDeploymentGroup": "AWS::CodeDeploy::DeploymentGroup",
    "ReadBoardFunctionUrl": "AWS::Lambda::Url",
    "ReadBoardLogs": "AWS::Logs::LogGroup",
    "ReadBoardRole": "AWS::IAM::Role",
    "ServerlessDeploymentApplication": "AWS::CodeDeploy::Application",
    "RolloutRole": "AWS::IAM::Role",
    "EventSourceLagAlarm": "AWS::CloudWatch::Alarm",
    "EventSourceSilentAlarm": "AWS::CloudWatch::Alarm",
    "CountingBehindAlarm": "AWS::CloudWatch::Alarm",
    "CountClicksThrottlesAlarm": "AWS::CloudWatch::Alarm",
    "FailedDeliveriesAlarm": "AWS::CloudWatch::Alarm",
    "CountClicksErrorsAlarm": "AWS::CloudWatch::Alarm",
    "RankProductsErrorsAlarm": "AWS::CloudWatch::Alarm",
    "ReadBoardErrorsAlarm": "AWS::CloudWatch::Alarm",
    "NoSnapshotAlarm": "AWS::CloudWatch::Alarm",
    "StaleShareAlarm": "AWS::CloudWatch::Alarm",
    "RejectedShareAlarm": "AWS::CloudWatch::Alarm",
    "AlreadyCountedShareAlarm": "AWS::CloudWatch::Alarm",
    "OffsetFallbackAlarm": "AWS::CloudWatch::Alarm",
    "ThrottledWritesAlarm": "AWS::CloudWatch::Alarm",
    "LargeItemsAlarm": "AWS::CloudWatch::Alarm",
    "DeadLettersAlarm": "AWS::CloudWatch::Alarm",
    "Dashboard": "AWS::CloudWatch::Dashboard",
}

# A condition that only calls by the function's code meet.
BY_CODE = '{"Null": {"lambda:SourceFunctionArn": "false"}}'

GRANTS = {
    "CountClicksRole": {
        ("Allow", "dynamodb:Query", COUNTERS, ""),
        ("Allow", "dynamodb:UpdateItem", COUNTERS, ""),
        ("Allow", "dynamodb:PutItem", REJECTS, ""),
        ("Allow", "logs:CreateLogStream", logs("count-clicks"), ""),
        ("Allow", "logs:PutLogEvents", logs("count-clicks"), ""),
        # For the poller of the event source.
        ("Deny", "ec2:*", "*", BY_CODE),
        ("Deny", "kafka:*", "*", BY_CODE),
        ("Deny", "kafka-cluster:*", "*", BY_CODE),
        ("Deny", "secretsmanager:*", "*", BY_CODE),
        ("Allow", "kafka:DescribeClusterV2", sam.CLUSTER, ""),
        ("Allow", "kafka:GetBootstrapBrokers", sam.CLUSTER, ""),
        ("Allow", "ec2:CreateNetworkInterface", f"arn:aws:ec2:{ARN}:*/*", ""),
        ("Allow", "ec2:DeleteNetworkInterface", f"arn:aws:ec2:{ARN}:*/*", ""),
        ("Allow", "ec2:DescribeNetworkInterfaces", "*", ""),
        ("Allow", "ec2:DescribeSecurityGroups", "*", ""),
        ("Allow", "ec2:DescribeSubnets", "*", ""),
        ("Allow", "ec2:DescribeVpcs", "*", ""),
        ("Allow", "kafka-cluster:Connect", sam.CLUSTER, ""),
        ("Allow", "kafka-cluster:DescribeClusterDynamicConfiguration", sam.CLUSTER, ""),
        ("Allow", "kafka-cluster:DescribeTopic", IN_CLUSTER % ("topic", "clicks"), ""),
        ("Allow", "kafka-cluster:ReadData", IN_CLUSTER % ("topic", "clicks"), ""),
        ("Allow", "kafka-cluster:DescribeGroup", IN_CLUSTER % ("group", "hot-products-count-clicks"), ""),
        ("Allow", "kafka-cluster:AlterGroup", IN_CLUSTER % ("group", "hot-products-count-clicks"), ""),
    },
    "RankProductsRole": {
        ("Allow", "dynamodb:Query", COUNTERS, ""),
        ("Allow", "dynamodb:GetItem", SNAPSHOTS, ""),
        ("Allow", "dynamodb:PutItem", SNAPSHOTS, ""),
        ("Allow", "dynamodb:UpdateItem", SNAPSHOTS, ""),
        ("Allow", "logs:CreateLogStream", logs("rank-products"), ""),
        ("Allow", "logs:PutLogEvents", logs("rank-products"), ""),
        ("Allow", "sqs:SendMessage", DEAD_LETTERS, ""),
    },
    # Read only.
    "ReadBoardRole": {
        ("Allow", "dynamodb:Query", COUNTERS, ""),
        ("Allow", "dynamodb:GetItem", SNAPSHOTS, ""),
        ("Allow", "dynamodb:Query", SNAPSHOTS, ""),
        ("Allow", "logs:CreateLogStream", logs("read-board"), ""),
        ("Allow", "logs:PutLogEvents", logs("read-board"), ""),
    },
    "ScheduleRole": {
        ("Allow", "lambda:InvokeFunction", f"{RANK_PRODUCTS}:{LIVE}", ""),
        ("Allow", "sqs:SendMessage", DEAD_LETTERS, ""),
    },
    "RolloutRole": {
        ("Allow", "cloudwatch:DescribeAlarms", "*", ""),
        ("Allow", "lambda:GetAlias", f"arn:aws:lambda:{ARN}:function:hot-products-*", ""),
        ("Allow", "lambda:UpdateAlias", f"arn:aws:lambda:{ARN}:function:hot-products-*", ""),
        ("Allow", "lambda:GetProvisionedConcurrencyConfig", f"arn:aws:lambda:{ARN}:function:hot-products-*", ""),
    },
}

TRUST = {
    "CountClicksRole": [("lambda.amazonaws.com", {})],
    "RankProductsRole": [("lambda.amazonaws.com", {})],
    "ReadBoardRole": [("lambda.amazonaws.com", {})],
    "RolloutRole": [("codedeploy.amazonaws.com", {})],
    "ScheduleRole": [
        (
            "scheduler.amazonaws.com",
            {
                "StringEquals": {
                    "aws:SourceAccount": sam.ACCOUNT,
                    "aws:SourceArn": f"arn:aws:scheduler:{ARN}:schedule-group/default",
                }
            },
        )
    ],
}

TABLES = {
    "MinuteCounters": ("hot-products-minute-counters", [("bucket", "HASH", "S"), ("source", "RANGE", "S")]),
    "HotProducts": ("hot-products-snapshots", [("board", "HASH", "S"), ("window_end", "RANGE", "S")]),
    "RejectedEvents": ("hot-products-rejected-events", [("source", "HASH", "S"), ("first_offset", "RANGE", "N")]),
}

SETTINGS = {
    "CountClicksFunction": {
        "COUNTERS_TABLE": "hot-products-minute-counters",
        "REJECTS_TABLE": "hot-products-rejected-events",
        "EVENT_TIME_FIELD": "event_time",
        "EVENT_TIME_UNIT": "ms",
        "PRODUCT_FIELD": "product_id",
        "INTEGER_PRODUCT_IDS": "false",
        "ACTION_FIELD": "action",
        "COUNTED_ACTIONS": "click",
        "MAX_EVENT_AGE": "24h",
        "RETENTION": "26h",
    },
    "RankProductsFunction": {
        "COUNTERS_TABLE": "hot-products-minute-counters",
        "SNAPSHOTS_TABLE": "hot-products-snapshots",
        "TOP_N": "100",
        "MAX_EVENT_AGE": "24h",
        "RETENTION": "26h",
        "SNAPSHOT_RETENTION": "30d",
    },
    "ReadBoardFunction": {
        "COUNTERS_TABLE": "hot-products-minute-counters",
        "SNAPSHOTS_TABLE": "hot-products-snapshots",
        "BOARD_ACCESS": "iam",
    },
}

# Seconds. Users do not wait a minute for a page.
TIMEOUTS = {"CountClicksFunction": 60, "RankProductsFunction": 60, "ReadBoardFunction": 20}

OUTPUTS = {
    "MinuteCountersTable": "hot-products-minute-counters",
    "SnapshotsTable": "hot-products-snapshots",
    "RejectedEventsTable": "hot-products-rejected-events",
    "CountClicksFunctionName": "hot-products-count-clicks",
    "CountClicksFunctionArn": f"arn:aws:lambda:{ARN}:function:hot-products-count-clicks",
    "RankProductsFunctionName": "hot-products-rank-products",
    "RankProductsFunctionArn": RANK_PRODUCTS,
    "DashboardName": f"hot-products-{sam.REGION}",
    "ReadBoardFunctionName": "hot-products-read-board",
    "BoardUrl": f"https://readboardfunctionurl.lambda-url.{sam.REGION}.on.aws/",
    "RankProductsDeadLettersUrl": f"https://sqs.{sam.REGION}.amazonaws.com/{sam.ACCOUNT}/hot-products-rank-products-dead-letters",
}


class Stack:
    """The template, optionally changed, transformed and resolved."""

    def __init__(self, change=None, **overrides):
        source = sam.load()
        if change:
            change(source["Resources"])
        template = sam.transform(source, overrides)
        resolve = sam.Resolver(template, overrides)
        self.resources = resolve.resources()
        self.outputs = resolve.outputs()

    def properties(self, name):
        return self.resources[name]["Properties"]

    def of_type(self, kind):
        return {name: r["Properties"] for name, r in self.resources.items() if r["Type"] == kind}


def as_list(value):
    return value if isinstance(value, list) else [value]


def statements(role):
    # Before the parameters are known, a conditional policy is an Fn::If with the policy and nothing.
    policies = (policy["Fn::If"][1] if "Fn::If" in policy else policy for policy in role.get("Policies", []))
    return [s for policy in policies for s in policy["PolicyDocument"]["Statement"]]


def grants(role):
    """Each permission of a role: effect, action, resource, and the condition as text."""
    for s in statements(role):
        unknown = s.keys() - {"Effect", "Action", "Resource", "Condition", "Sid"}
        if unknown:  # NotAction, NotResource
            raise AssertionError(f"a statement has {', '.join(unknown)}")
        condition = json.dumps(s["Condition"], sort_keys=True) if "Condition" in s else ""
        for action in as_list(s["Action"]):
            for resource in as_list(s["Resource"]):
                yield s["Effect"], action, resource, condition


# ── Checks. Each takes a test case, for its assertions, and a stack. ──────────────────────────────────────────────────────


def without_hash(name):
    """The name of a resource, without the hash of the code that SAM adds to the names of versions."""
    return re.sub(r"FunctionVersion[0-9a-f]{10}$", "FunctionVersion", name)


def check_inventory(test, stack):
    test.assertEqual(INVENTORY, {without_hash(name): resource["Type"] for name, resource in stack.resources.items()})


def check_aliases(test, stack):
    aliases = stack.of_type("AWS::Lambda::Alias")
    test.assertEqual({LIVE}, {alias["Name"] for alias in aliases.values()})
    # Everything that invokes a function invokes its alias, so that a deployment moves it.
    alias = f"arn:aws:lambda:{ARN}:function:%s:{LIVE}"
    test.assertEqual(alias % "hot-products-count-clicks", stack.properties("CountClicksFunctionClicks")["FunctionName"])
    test.assertEqual(alias % "hot-products-rank-products", stack.properties("RankProductsFunctionEveryFiveMinutes")["Target"]["Arn"])
    test.assertEqual(alias % "hot-products-read-board", stack.properties("ReadBoardFunctionUrl")["TargetFunctionArn"])
    test.assertEqual(LIVE, stack.properties("RankProductsFunctionEventInvokeConfig")["Qualifier"])


def check_rollbacks(test, stack):
    groups = stack.of_type("AWS::CodeDeploy::DeploymentGroup")
    watched = {
        name.removesuffix("FunctionDeploymentGroup"): [a["Name"] for a in group.get("AlarmConfiguration", {}).get("Alarms", [])]
        for name, group in groups.items()
    }
    expected = {
        "CountClicks": ["count-clicks-errors", "rejected-share", "stale-share"],
        "RankProducts": ["rank-products-errors", "no-snapshot"],
        "ReadBoard": ["read-board-errors"],
    }
    test.assertEqual({name: [f"hot-products-{alarm}" for alarm in alarms] for name, alarms in expected.items()}, watched)
    for name, group in groups.items():
        test.assertIn("DEPLOYMENT_STOP_ON_ALARM", group["AutoRollbackConfiguration"]["Events"], name)
        test.assertEqual("CodeDeployDefault.LambdaLinear10PercentEvery3Minutes", group["DeploymentConfigName"], name)
        test.assertTrue(group["ServiceRoleArn"].endswith(":role/RolloutRole"), name)
        alias = stack.resources[name.replace("DeploymentGroup", "Aliaslive")]
        test.assertEqual({"ServerlessDeploymentApplication", name}, set(alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"].values()))


def check_roles(test, stack):
    roles = stack.of_type("AWS::IAM::Role")
    test.assertEqual(GRANTS.keys(), roles.keys())
    for name, role in roles.items():
        found = list(grants(role))
        test.assertEqual(GRANTS[name], set(found), name)
        test.assertEqual(len(GRANTS[name]), len(found), f"{name} has a duplicate permission")
        test.assertNotIn("ManagedPolicyArns", role, name)
        trust = role["AssumeRolePolicyDocument"]["Statement"]
        test.assertEqual([("Allow", "sts:AssumeRole")] * len(trust), [(s["Effect"], s["Action"]) for s in trust], name)
        test.assertTrue(all(s["Principal"].keys() == {"Service"} for s in trust), name)
        test.assertEqual(TRUST[name], [(s["Principal"]["Service"], s.get("Condition", {})) for s in trust], name)


def check_functions_use_their_roles(test, stack):
    used = {name: f["Role"].rsplit("/", 1)[1] for name, f in stack.of_type("AWS::Lambda::Function").items()}
    test.assertEqual({f"{name}Function": f"{name}Role" for name in ("CountClicks", "RankProducts", "ReadBoard")}, used)


def check_nothing_public(test, stack):
    for name, permission in stack.of_type("AWS::Lambda::Permission").items():
        test.assertNotEqual("*", permission["Principal"], name)
    for name, url in stack.of_type("AWS::Lambda::Url").items():
        test.assertEqual("AWS_IAM", url["AuthType"], name)
    for name, resource in stack.resources.items():
        # Nor does a queue, a table or a log group have a resource policy. test_alarms.py checks that of the alarms' topic.
        if resource["Type"] not in ("AWS::IAM::Role", "AWS::SNS::TopicPolicy"):
            test.assertNotIn('"Principal"', json.dumps(resource), name)


def check_tables(test, stack):
    tables = stack.of_type("AWS::DynamoDB::Table")
    test.assertEqual(TABLES.keys(), tables.keys())
    for name, table in tables.items():
        table_name, keys = TABLES[name]
        types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
        found = [(k["AttributeName"], k["KeyType"], types.pop(k["AttributeName"])) for k in table["KeySchema"]]
        test.assertEqual((table_name, keys, {}), (table["TableName"], found, types), name)
        test.assertEqual("PAY_PER_REQUEST", table["BillingMode"], name)
        test.assertEqual({"AttributeName": "expires_at", "Enabled": True}, table["TimeToLiveSpecification"], name)
        # DynamoDB's own key, which other accounts can be allowed to read with.
        test.assertEqual({"SSEEnabled": False}, table["SSESpecification"], name)


def check_snapshots_are_kept(test, stack):
    table = stack.properties("HotProducts")
    test.assertEqual({"PointInTimeRecoveryEnabled": True}, table.get("PointInTimeRecoverySpecification"))
    test.assertIs(True, table.get("DeletionProtectionEnabled"))
    # With Retain, the old table would block the name for the next deployment.
    test.assertEqual("Delete", stack.resources["HotProducts"]["DeletionPolicy"])


def check_logs(test, stack):
    for name, group in stack.of_type("AWS::Logs::LogGroup").items():
        test.assertGreater(int(group.get("RetentionInDays", 0)), 0, f"{name} keeps its logs forever")
    groups = {g["LogGroupName"] for g in stack.of_type("AWS::Logs::LogGroup").values()}
    for name, function in stack.of_type("AWS::Lambda::Function").items():
        logging = function.get("LoggingConfig", {})
        test.assertIn(logging.get("LogGroup"), groups, f"{name} logs to a group of Lambda, without retention")
        test.assertEqual("Text", logging.get("LogFormat"), name)


def check_event_source(test, stack):
    sources = stack.of_type("AWS::Lambda::EventSourceMapping")
    test.assertEqual(["CountClicksFunctionClicks"], list(sources))
    # All properties: a destination, a response type, a limit on retries or age, or splitting would be another one.
    test.assertEqual(
        {
            "FunctionName": f"arn:aws:lambda:{ARN}:function:hot-products-count-clicks:{LIVE}",
            "EventSourceArn": sam.CLUSTER,
            "Topics": ["clicks"],
            "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "hot-products-count-clicks"},
            "StartingPosition": "TRIM_HORIZON",
            "BatchSize": "10000",
            "MaximumBatchingWindowInSeconds": "30",
            "MetricsConfig": {"Metrics": ["EventCount", "ErrorCount", "KafkaMetrics"]},
        },
        sources["CountClicksFunctionClicks"],
    )


def check_schedule(test, stack):
    schedule = stack.properties("RankProductsFunctionEveryFiveMinutes")
    target = schedule["Target"]
    test.assertEqual("cron(1/5 * * * ? *)", schedule["ScheduleExpression"])
    test.assertEqual("UTC", schedule["ScheduleExpressionTimezone"])
    test.assertEqual({"Mode": "OFF"}, schedule["FlexibleTimeWindow"])
    test.assertEqual("ENABLED", schedule.get("State", "ENABLED"))
    test.assertEqual(f"{RANK_PRODUCTS}:{LIVE}", target["Arn"])
    test.assertTrue(target["RoleArn"].endswith(":role/ScheduleRole"))
    test.assertEqual({"scheduled_time": "<aws.scheduler.scheduled-time>"}, json.loads(target["Input"]))
    test.assertEqual({"Arn": DEAD_LETTERS}, target["DeadLetterConfig"])
    test.assertGreater(target["RetryPolicy"]["MaximumRetryAttempts"], 0)


def check_failed_rankings_are_kept(test, stack):
    config = stack.properties("RankProductsFunctionEventInvokeConfig")
    test.assertEqual("hot-products-rank-products", config["FunctionName"])
    test.assertEqual(2, config["MaximumRetryAttempts"])
    test.assertEqual({"OnFailure": {"Destination": DEAD_LETTERS}}, config["DestinationConfig"])
    queue = stack.properties("RankProductsDeadLetters")
    test.assertTrue(queue.get("SqsManagedSseEnabled"))
    test.assertEqual(14 * 24 * 60 * 60, queue["MessageRetentionPeriod"])


def check_functions(test, stack):
    for name, function in stack.of_type("AWS::Lambda::Function").items():
        test.assertEqual(SETTINGS[name], function["Environment"]["Variables"], name)
        test.assertEqual(("provided.al2023", "bootstrap"), (function["Runtime"], function["Handler"]), name)
        test.assertEqual(TIMEOUTS[name], int(function["Timeout"]), name)
        test.assertEqual(["arm64"], function["Architectures"], name)
        test.assertNotIn("ReservedConcurrentExecutions", function, name)


def check_outputs(test, stack):
    test.assertEqual(OUTPUTS, {name: output["Value"] for name, output in stack.outputs.items()})
    test.assertTrue(all(output["Description"] for output in stack.outputs.values()))


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]


class Template(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()

    def test_passes_all_checks(self):
        for check in CHECKS:
            with self.subTest(check.__name__):
                check(self, self.stack)

    def test_parameters_reach_their_resources(self):
        stack = Stack(
            Topic="views",
            ConsumerGroupId="other",
            SourceEpoch="2",
            CountersWriteUnitCeiling="500",
            SnapshotProtection="false",
            Architecture="x86_64",
            LogRetentionDays="7",
            TopN="20",
            TableEncryption="kms",
            CountConcurrency="12",
        )
        self.assertEqual("12", stack.properties("CountClicksFunction")["ReservedConcurrentExecutions"])
        for table in stack.of_type("AWS::DynamoDB::Table").values():
            self.assertEqual({"SSEEnabled": True}, table["SSESpecification"])
        function = stack.properties("CountClicksFunction")
        self.assertEqual(["x86_64"], function["Architectures"])
        self.assertEqual("2", function["Environment"]["Variables"]["SOURCE_EPOCH"])
        self.assertEqual({"MaxWriteRequestUnits": "500"}, stack.properties("MinuteCounters")["OnDemandThroughput"])
        self.assertIs(False, stack.properties("HotProducts")["DeletionProtectionEnabled"])
        self.assertEqual("7", stack.properties("RankProductsLogs")["RetentionInDays"])
        self.assertEqual("20", stack.properties("RankProductsFunction")["Environment"]["Variables"]["TOP_N"])
        source = stack.properties("CountClicksFunctionClicks")
        self.assertEqual((["views"], {"ConsumerGroupId": "other"}), (source["Topics"], source["AmazonManagedKafkaEventSourceConfig"]))
        # The role may read that topic in that group only.
        kafka = {r for _, action, r, _ in grants(stack.properties("CountClicksRole")) if action.startswith("kafka-cluster:")}
        self.assertEqual({"*", sam.CLUSTER, IN_CLUSTER % ("topic", "views"), IN_CLUSTER % ("group", "other")}, kafka)

    def test_a_ceiling_of_zero_means_no_limit(self):
        self.assertNotIn("OnDemandThroughput", self.stack.properties("MinuteCounters"))

    def test_only_its_parameter_makes_the_board_public(self):
        stack = Stack(BoardAccess="public", BoardConcurrency="5")
        self.assertEqual("NONE", stack.properties("ReadBoardFunctionUrl")["AuthType"])
        # Lambda requires both. The second allows invocations only through the URL.
        expected = [
            {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
            {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
        ]
        everybody = {"Principal": "*", "FunctionName": f"arn:aws:lambda:{ARN}:function:hot-products-read-board:{LIVE}"}
        found = list(stack.of_type("AWS::Lambda::Permission").values())
        self.assertEqual([permission | everybody for permission in expected], found)
        # Nothing else is public. Shared caches may store its responses.
        found = {without_hash(name) for name in stack.resources}
        self.assertEqual(INVENTORY.keys(), found - {"PublicBoardUrl", "PublicBoardInvocation"})
        function = stack.properties("ReadBoardFunction")
        self.assertEqual("public", function["Environment"]["Variables"]["BOARD_ACCESS"])
        self.assertEqual("5", function["ReservedConcurrentExecutions"])
        roles = stack.of_type("AWS::IAM::Role")
        self.assertEqual(self.stack.of_type("AWS::IAM::Role"), roles)

    def test_a_stack_without_a_board_has_nothing_of_it(self):
        stack = Stack(BoardAccess="none")
        board = {"ReadBoardFunction", "ReadBoardFunctionUrl", "ReadBoardLogs", "ReadBoardRole", "ReadBoardErrorsAlarm"}
        board |= {"ReadBoardFunctionVersion", "ReadBoardFunctionAliaslive", "ReadBoardFunctionDeploymentGroup"}
        self.assertEqual(INVENTORY.keys() - board, {without_hash(name) for name in stack.resources})
        self.assertEqual(OUTPUTS.keys() - {"ReadBoardFunctionName", "BoardUrl"}, stack.outputs.keys())
        self.assertNotIn("read-board-errors", json.loads(stack.properties("Dashboard")["DashboardBody"])["widgets"][0]["properties"]["alarms"])

    def test_a_changed_setting_publishes_a_version(self):
        def published(stack, name):
            function = dict(stack.properties(name))
            function.pop("ReservedConcurrentExecutions", None)  # of the function, not of a version
            (version,) = (n for n in stack.resources if without_hash(n) == f"{name}Version")
            return function, (version, stack.properties(version)["Description"])

        changed = set()
        for parameter, value in CHANGED["template.yaml"].items():
            if parameter == "BoardAccess":
                value = "public"
            stack = Stack(**{parameter: value})
            for name in ("CountClicksFunction", "RankProductsFunction", "ReadBoardFunction"):
                (before, old), (after, new) = published(self.stack, name), published(stack, name)
                self.assertEqual(before != after, old != new, f"{parameter} and {name}")
                if before != after:
                    changed.add(parameter)
                self.assertLessEqual(len(new[1]), 256)
        expected = {"MaxEventAge", "SourceEpoch", "TopN", "BoardAccess", "Architecture", "Tracing"}
        expected |= {"EventTimeField", "EventTimeUnit", "ProductField", "IntegerProductIds", "ActionField"}
        self.assertLessEqual(expected, changed)

    def test_a_version_can_be_described_with_the_longest_settings(self):
        longest = {"MaxEventAge": "1440000m", "Retention": "1560000m", "SourceEpoch": "9" * 9, "EventTimeUnit": "rfc3339"}
        longest |= {"IntegerProductIds": "false", "Architecture": "x86_64", "Tracing": "xray"}
        for name in ("EventTimeField", "ProductField", "ActionField", "CountedActions"):
            longest[name] = name[0] * int(sam.load()["Parameters"][name]["MaxLength"])
        stack = Stack(**longest)
        (version,) = (n for n in stack.resources if without_hash(n) == "CountClicksFunctionVersion")
        self.assertIn(longest["ActionField"], stack.properties(version)["Description"])
        self.assertLessEqual(len(stack.properties(version)["Description"]), 256)

    def test_the_roles_may_trace_only_if_the_parameter_says_so(self):
        traced = Stack(Tracing="xray")
        self.assertEqual({"Mode": "Active"}, traced.properties("CountClicksFunction")["TracingConfig"])
        actions = {("Allow", f"xray:{a}", "*", "") for a in ("PutTraceSegments", "PutTelemetryRecords")}
        for name in ("CountClicksRole", "RankProductsRole", "ReadBoardRole"):
            self.assertEqual(GRANTS[name] | actions, set(grants(traced.properties(name))), name)

    def test_a_public_board_needs_a_limit(self):
        for overrides, refused in [
            ({"BoardAccess": "public"}, True),
            ({"BoardAccess": "public", "BoardConcurrency": "5"}, False),
            ({"BoardAccess": "iam"}, False),
            ({"BoardAccess": "none"}, False),
        ]:
            broken = sam.Resolver(sam.load(), overrides).broken_rules()
            self.assertEqual(refused, any("BoardConcurrency" in description for description in broken), overrides)

    def test_only_its_distribution_may_call_the_board(self):
        distribution = CHANGED["template.yaml"]["BoardDistributionArn"]
        stack = Stack(BoardDistributionArn=distribution)
        self.assertEqual("AWS_IAM", stack.properties("ReadBoardFunctionUrl")["AuthType"])
        common = {"Principal": "cloudfront.amazonaws.com", "SourceArn": distribution}
        common |= {"FunctionName": f"arn:aws:lambda:{ARN}:function:hot-products-read-board:{LIVE}"}
        expected = [
            common | {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "AWS_IAM"},
            common | {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
        ]
        self.assertEqual(expected, list(stack.of_type("AWS::Lambda::Permission").values()))
        self.assertEqual({}, Stack(BoardDistributionArn=distribution, BoardAccess="none").of_type("AWS::Lambda::Permission"))

    def test_clusters_without_iam(self):
        secret, key = f"arn:aws:secretsmanager:{ARN}:secret:AmazonMSK_clicks-a1b2c3", f"arn:aws:kms:{ARN}:key/1b2c3d4e"
        for authentication, kind in ("scram", "SASL_SCRAM_512_AUTH"), ("mtls", "CLIENT_CERTIFICATE_TLS_AUTH"):
            stack = Stack(KafkaAuthentication=authentication, KafkaSecretArn=secret, KafkaSecretKeyArn=key)
            source = stack.properties("CountClicksFunctionClicks")
            self.assertEqual([{"Type": kind, "URI": secret}], source["SourceAccessConfigurations"])
            more = {("Allow", "secretsmanager:GetSecretValue", secret, ""), ("Allow", "kms:Decrypt", key, "")}
            self.assertEqual(GRANTS["CountClicksRole"] | more, set(grants(stack.properties("CountClicksRole"))))
        broken = sam.Resolver(sam.load(), {"KafkaAuthentication": "scram"}).broken_rules()
        self.assertEqual(["KafkaAuthentication=scram, scram256, plain and mtls need KafkaSecretArn."], broken)

    def test_kafka_that_is_not_msk(self):
        servers, secret, root = (CHANGED["template.yaml"][name] for name in ("BootstrapServers", "KafkaSecretArn", "KafkaRootCaSecretArn"))
        given = {"MskClusterArn": "", "BootstrapServers": servers}
        stack = Stack(KafkaAuthentication="none", **given)
        source = stack.properties("CountClicksFunctionClicks")
        self.assertEqual({"Endpoints": {"KafkaBootstrapServers": servers.split(",")}}, source["SelfManagedEventSource"])
        # In order of the offsets: counting relies on it.
        config = {"ConsumerGroupId": "hot-products-count-clicks", "ConsumptionMode": "Stream"}
        self.assertEqual(config, source["SelfManagedKafkaEventSourceConfig"])
        for absent in "EventSourceArn", "AmazonManagedKafkaEventSourceConfig", "SourceAccessConfigurations":
            self.assertNotIn(absent, source)
        # Everything else is as with MSK.
        ours = {"SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"}
        msk = self.stack.properties("CountClicksFunctionClicks")
        same = {name: value for name, value in source.items() if name not in ours}
        self.assertEqual({name: value for name, value in msk.items() if name in same}, same)
        # The role has nothing of MSK.
        without_msk = {g for g in GRANTS["CountClicksRole"] if g[0] == "Deny" or not g[1].startswith(("kafka:", "kafka-cluster:"))}
        self.assertEqual(without_msk, set(grants(stack.properties("CountClicksRole"))))

        for authentication, kind in [
            ("scram", "SASL_SCRAM_512_AUTH"),
            ("scram256", "SASL_SCRAM_256_AUTH"),
            ("plain", "BASIC_AUTH"),
            ("mtls", "CLIENT_CERTIFICATE_TLS_AUTH"),
        ]:
            stack = Stack(
                KafkaAuthentication=authentication,
                KafkaSecretArn=secret,
                KafkaRootCaSecretArn=root,
                KafkaSubnetA="subnet-0a1",
                KafkaSubnetB="subnet-0b2",
                KafkaSecurityGroupId="sg-0c3",
                **given,
            )
            expected = [
                (kind, secret),
                ("SERVER_ROOT_CA_CERTIFICATE", root),
                ("VPC_SUBNET", "subnet:subnet-0a1"),
                ("VPC_SUBNET", "subnet:subnet-0b2"),
                ("VPC_SECURITY_GROUP", "security_group:sg-0c3"),
            ]
            found = stack.properties("CountClicksFunctionClicks")["SourceAccessConfigurations"]
            self.assertEqual(expected, [(access["Type"], access["URI"]) for access in found])
            secrets = {("Allow", "secretsmanager:GetSecretValue", arn, "") for arn in (secret, root)}
            self.assertEqual(without_msk | secrets, set(grants(stack.properties("CountClicksRole"))))
        for count in 1, 2, 3:
            subnets = ["subnet-0a1", "subnet-0b2", "subnet-0d3"][:count]
            network = {f"KafkaSubnet{name}": subnet for name, subnet in zip("ABC", subnets)} | {"KafkaSecurityGroupId": "sg-0c3"}
            found = Stack(KafkaAuthentication="none", **network, **given).properties("CountClicksFunctionClicks")
            self.assertEqual([f"subnet:{s}" for s in subnets], [a["URI"] for a in found["SourceAccessConfigurations"] if a["Type"] == "VPC_SUBNET"])

    def test_either_msk_or_another_kafka(self):
        def broken(**parameters):
            return [text.split(".")[0] for text in sam.Resolver(sam.load(), parameters).broken_rules()]

        servers = {"MskClusterArn": "", "BootstrapServers": "b:9092"}
        network = {"KafkaSubnetA": "subnet-0a1", "KafkaSecurityGroupId": "sg-0c3"}
        self.assertEqual([], broken())
        self.assertEqual([], broken(KafkaAuthentication="none", **servers))
        self.assertEqual([], broken(KafkaAuthentication="none", **servers, **network))
        one = ["Give either MskClusterArn, or BootstrapServers for a Kafka that is not Amazon MSK"]
        self.assertEqual(one, broken(MskClusterArn=""))
        self.assertEqual(one, broken(BootstrapServers="b:9092", KafkaAuthentication="mtls", KafkaSecretArn="arn"))
        self.assertEqual(["IAM is for Amazon MSK"], broken(**servers))
        for wrong in "none", "plain", "scram256":
            expected = ["Lambda signs in to Amazon MSK with KafkaAuthentication=iam, scram or mtls"]
            self.assertEqual(expected, broken(KafkaAuthentication=wrong, KafkaSecretArn="arn"))
        together = ["KafkaSubnetA and KafkaSecurityGroupId belong together, and to BootstrapServers"]
        self.assertEqual(together, broken(**network))
        for alone in {"KafkaSubnetA": "subnet-0a1"}, {"KafkaSubnetB": "subnet-0b2"}, {"KafkaSecurityGroupId": "sg-0c3"}:
            self.assertEqual(together, broken(KafkaAuthentication="none", **servers, **alone))

    def test_options_of_the_event_source(self):
        stack = Stack(
            StartingPosition="AT_TIMESTAMP",
            StartingPositionTimestamp="1672131001",
            FilterField="action",
            CountedActions="click,view",
            MinimumPollers="2",
            MaximumPollers="6",
        )
        source = stack.properties("CountClicksFunctionClicks")
        self.assertEqual(("AT_TIMESTAMP", "1672131001"), (source["StartingPosition"], source["StartingPositionTimestamp"]))
        (pattern,) = (json.loads(f["Pattern"]) for f in source["FilterCriteria"]["Filters"])
        self.assertEqual({"value": {"action": ["click", "view"]}}, pattern)
        self.assertEqual({"MinimumPollers": "2", "MaximumPollers": "6"}, source["ProvisionedPollerConfig"])
        broken = sam.Resolver(sam.load(), {"StartingPosition": "AT_TIMESTAMP"}).broken_rules()
        self.assertEqual(["StartingPosition=AT_TIMESTAMP needs StartingPositionTimestamp."], broken)

    def test_events_of_another_shape(self):
        shape = {"EventTimeField": "payload.ts", "EventTimeUnit": "s", "ProductField": "payload.item_id", "ActionField": "behavior"}
        stack = Stack(**shape, IntegerProductIds="true", FilterField="behavior", CountedActions="pv,buy")
        variables = stack.properties("CountClicksFunction")["Environment"]["Variables"]
        expected = {"EVENT_TIME_FIELD": "payload.ts", "EVENT_TIME_UNIT": "s", "PRODUCT_FIELD": "payload.item_id"}
        expected |= {"INTEGER_PRODUCT_IDS": "true", "ACTION_FIELD": "behavior", "COUNTED_ACTIONS": "pv,buy"}
        self.assertLessEqual(expected.items(), variables.items())
        (criterion,) = stack.properties("CountClicksFunctionClicks")["FilterCriteria"]["Filters"]
        self.assertEqual({"value": {"behavior": ["pv", "buy"]}}, json.loads(criterion["Pattern"]))

    def test_rules_refuse_fields_that_can_not_be_read_or_filtered_on(self):
        def broken(**overrides):
            return sam.Resolver(sam.load(), overrides).broken_rules()

        for good in {}, {"ActionField": "none"}, {"FilterField": "action"}, {"ActionField": "type", "FilterField": "type"}:
            self.assertEqual([], broken(**good), good)
        for bad in (
            {"FilterField": "behavior"},
            {"ActionField": "payload.action", "FilterField": "action"},
            {"ActionField": "none", "FilterField": "action"},
            {"ActionField": "none", "FilterField": "none"},
        ):
            self.assertEqual(["FilterField"], [description.split()[0] for description in broken(**bad)], bad)
        for one, other in ("EventTimeField", "ProductField"), ("EventTimeField", "ActionField"), ("ProductField", "ActionField"):
            self.assertEqual([f"{one} and {other} must differ."], broken(**{one: "a.b", other: "a.b"}))

    def test_two_stacks_on_one_cluster_read_it_in_their_own_groups(self):
        template = sam.transform(sam.load())
        for overrides, expected in ({}, ["hot-products-count-clicks", "staging-count-clicks"]), ({"ConsumerGroupId": "one"}, ["one", "one"]):
            found = []
            for stack in ("hot-products", "staging"):
                resources = sam.Resolver(template, overrides, stack).resources()
                source = resources["CountClicksFunctionClicks"]["Properties"]
                found.append(source["AmazonManagedKafkaEventSourceConfig"]["ConsumerGroupId"])
                # And may join no other.
                joined = {r for _, a, r, _ in grants(resources["CountClicksRole"]["Properties"]) if a == "kafka-cluster:AlterGroup"}
                self.assertEqual({IN_CLUSTER % ("group", found[-1])}, joined)
            self.assertEqual(expected, found)

    def test_two_stacks_have_no_name_in_common(self):
        template = sam.transform(sam.load())
        names = []
        for stack in ("hot-products", "rehearsal"):
            resources = sam.Resolver(template, {"AlarmEmail": "on-call@example.com"}, stack).resources().values()
            # An alias belongs to its function.
            resources = [r for r in resources if r["Type"] != "AWS::Lambda::Alias"]
            naming = ("TableName", "FunctionName", "LogGroupName", "QueueName", "Name", "RoleName", "AlarmName")
            naming += ("DashboardName", "TopicName")
            names.append({r["Properties"][n] for r in resources for n in naming if n in r["Properties"]})
        self.assertEqual(len(names[0]), len(names[1]))
        self.assertEqual(set(), names[0] & names[1])

    def test_parameters_reject_values_that_would_fail_later(self):
        parameters = sam.load()["Parameters"]
        for name, parameter in parameters.items():
            self.assertTrue(parameter.get("Description"), name)
            if "AllowedPattern" in parameter and "Default" in parameter:
                self.assertRegex(parameter["Default"], parameter["AllowedPattern"], name)
            if "AllowedValues" in parameter:
                self.assertIn(parameter["Default"], parameter["AllowedValues"], name)
        serverless = "arn:aws-cn:kafka:cn-north-1:123456789012:cluster/shop/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-s1"
        for name, good, bad in [
            # An asterisk would be a wildcard in the role.
            ("MskClusterArn", ["", sam.CLUSTER, serverless], ["shop", sam.CLUSTER[:-1] + "*", sam.CLUSTER.replace("shop", "*")]),
            ("BootstrapServers", ["", "b-1.shop:9092", "10.0.0.1:9092,b:9093"], ["b-1.shop", "b:9092,", "b:9092, c:9092", ",".join(["b:9092"] * 11)]),
            ("KafkaSubnetA", ["", "subnet-0a1"], ["subnet", "subnet-0a1,subnet-0b2"]),
            ("KafkaSecurityGroupId", ["", "sg-0a1"], ["0a1", "sg-0a1,sg-0b2"]),
            ("Topic", ["clicks", "shop.clicks_v2"], ["", "*", "a/b"]),
            ("ConsumerGroupId", ["", "hot-products"], ["*", "a/b"]),
            ("SourceEpoch", ["", "1", "20"], ["0", "-1", "02", "x"]),
            ("CountedActions", ["click", "click,view"], ["", "click, view", ",", "click,"]),
            ("ProductField", ["item_id", "payload.item-id", "@id", "a.b.c.d.e.f.g.h"], ["", "a..b", ".a", "a.", "a b", 'a"b', "a,b", "a.b.c.d.e.f.g.h.i"]),
            # A pattern with a dot would match nothing, and Lambda would drop all records.
            ("FilterField", ["", "action"], ["payload.action", 'a"']),
            ("MaxEventAge", ["90m", "2h"], ["", "2", "0h", "2 hours", "-1h"]),
        ]:
            pattern = parameters[name]["AllowedPattern"]
            for value in good:
                self.assertRegex(value, pattern, name)
            for value in bad:
                self.assertNotRegex(value, pattern, name)

    def test_each_checkov_skip_has_a_reason(self):
        lines = sam.TEMPLATE.read_text(encoding="utf-8").splitlines()
        skips = [line for line in lines if "checkov:skip" in line]
        self.assertTrue(skips)
        for line in skips:
            self.assertRegex(line, r"^    # checkov:skip=CKV2?_\w+: \S+ \S+ \S+")


# ── The checks can fail ───────────────────────────────────────────────────────────────────────────────────────────────────


def statement(resources, role, action):
    return next(s for s in statements(resources[role]["Properties"]) if action in as_list(s["Action"]))


def click_event(resources):
    return resources["CountClicksFunctionClicks"]["Properties"]


def schedule_event(resources):
    return resources["RankProductsFunction"]["Properties"]["Events"]["EveryFiveMinutes"]["Properties"]


def properties(resources, name):
    return resources[name]["Properties"]


# Possible changes, each with the check that must fail.
CHANGES = [
    ("an additional action", check_roles, lambda r: statement(r, "RankProductsRole", "dynamodb:GetItem")["Action"].append("dynamodb:DeleteItem")),
    ("a missing action", check_roles, lambda r: statement(r, "RankProductsRole", "dynamodb:GetItem")["Action"].pop()),
    ("any table", check_roles, lambda r: statement(r, "CountClicksRole", "dynamodb:UpdateItem").update(Resource="*")),
    ("another table", check_roles, lambda r: statement(r, "CountClicksRole", "dynamodb:UpdateItem").update(Resource={"Fn::GetAtt": "HotProducts.Arn"})),
    ("any topic", check_roles, lambda r: statement(r, "CountClicksRole", "kafka-cluster:ReadData").update(Resource={"Ref": "MskClusterArn"})),
    ("NotAction instead of Action", check_roles, lambda r: statement(r, "RankProductsRole", "dynamodb:Query").update(NotAction="iam:*")),
    ("the poller's permissions for the code", check_roles, lambda r: statement(r, "CountClicksRole", "ec2:*").update(Effect="Allow")),
    ("the poller's permissions without their condition", check_roles, lambda r: statement(r, "CountClicksRole", "ec2:*").pop("Condition")),
    ("a managed policy", check_roles, lambda r: properties(r, "CountClicksRole").update(ManagedPolicyArns=["arn:aws:iam::aws:policy/AdministratorAccess"])),
    ("a role that everybody may assume", check_roles, lambda r: properties(r, "RankProductsRole")["AssumeRolePolicyDocument"]["Statement"][0].update(Principal={"AWS": "*"})),
    ("a role for schedules of other accounts", check_roles, lambda r: properties(r, "ScheduleRole")["AssumeRolePolicyDocument"]["Statement"][0].pop("Condition")),
    ("SAM's default role", check_roles, lambda r: properties(r, "CountClicksFunction").pop("Role")),
    ("SAM's default role for the schedule", check_inventory, lambda r: schedule_event(r).pop("RoleArn")),
    ("the role of the other function", check_functions_use_their_roles, lambda r: properties(r, "RankProductsFunction").update(Role={"Fn::GetAtt": "CountClicksRole.Arn"})),
    ("a policy outside the roles", check_inventory, lambda r: r.update(More={"Type": "AWS::IAM::Policy", "Properties": {"PolicyName": "more", "PolicyDocument": {}}})),
    ("a public function", check_nothing_public, lambda r: r.update(Open={"Type": "AWS::Lambda::Permission", "Properties": {"Principal": "*", "Action": "lambda:InvokeFunction", "FunctionName": "f"}})),
    ("a public function URL", check_nothing_public, lambda r: properties(r, "RankProductsFunction").update(FunctionUrlConfig={"AuthType": "NONE"})),
    ("a public board", check_nothing_public, lambda r: properties(r, "ReadBoardFunction").update(FunctionUrlConfig={"AuthType": "NONE"})),
    ("a permission without its condition", check_inventory, lambda r: r["PublicBoardInvocation"].pop("Condition")),
    ("a board with write access", check_roles, lambda r: statement(r, "ReadBoardRole", "dynamodb:GetItem")["Action"].append("dynamodb:PutItem")),
    ("a public table", check_nothing_public, lambda r: properties(r, "HotProducts").update(ResourcePolicy={"PolicyDocument": {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "dynamodb:*", "Resource": "*"}]}})),
    ("a table with a key that only this account can use", check_tables, lambda r: properties(r, "RejectedEvents")["SSESpecification"].update(SSEEnabled=True)),
    ("a table without expiry", check_tables, lambda r: properties(r, "MinuteCounters")["TimeToLiveSpecification"].update(Enabled=False)),
    ("a table with provisioned capacity", check_tables, lambda r: properties(r, "MinuteCounters").update(BillingMode="PROVISIONED")),
    ("another key", check_tables, lambda r: properties(r, "HotProducts")["AttributeDefinitions"][1].update(AttributeType="N")),
    ("no point-in-time recovery", check_snapshots_are_kept, lambda r: properties(r, "HotProducts").pop("PointInTimeRecoverySpecification")),
    ("no deletion protection", check_snapshots_are_kept, lambda r: properties(r, "HotProducts").update(DeletionProtectionEnabled=False)),
    ("a retained table", check_snapshots_are_kept, lambda r: r["HotProducts"].update(DeletionPolicy="Retain")),
    ("logs without retention", check_logs, lambda r: properties(r, "CountClicksLogs").pop("RetentionInDays")),
    ("logs in another group", check_logs, lambda r: properties(r, "CountClicksFunction").pop("LoggingConfig")),
    ("an on-failure destination", check_event_source, lambda r: click_event(r).update(DestinationConfig={"OnFailure": {"Type": "SQS", "Destination": {"Fn::GetAtt": "RankProductsDeadLetters.Arn"}}})),
    ("partial batch responses", check_event_source, lambda r: click_event(r).update(FunctionResponseTypes=["ReportBatchItemFailures"])),
    ("a limit on retries", check_event_source, lambda r: click_event(r).update(MaximumRetryAttempts=3)),
    ("split batches", check_event_source, lambda r: click_event(r).update(BisectBatchOnFunctionError=True)),
    ("a queue without order", check_event_source, lambda r: click_event(r).update(SelfManagedKafkaEventSourceConfig={"ConsumptionMode": "Queue"})),
    ("another Kafka beside MSK", check_event_source, lambda r: click_event(r).update(SelfManagedEventSource=click_event(r)["SelfManagedEventSource"]["Fn::If"][1])),
    ("one consumer group for all stacks", check_event_source, lambda r: click_event(r)["AmazonManagedKafkaEventSourceConfig"]["Fn::If"][1].update(ConsumerGroupId="count-clicks")),
    ("no consumer group", check_event_source, lambda r: click_event(r).pop("AmazonManagedKafkaEventSourceConfig")),
    ("a schedule at another time", check_schedule, lambda r: schedule_event(r).update(ScheduleExpression="rate(5 minutes)")),
    ("a schedule in local time", check_schedule, lambda r: schedule_event(r).update(ScheduleExpressionTimezone="Europe/Berlin")),
    ("a schedule without the scheduled time", check_schedule, lambda r: schedule_event(r).update(Input="{}")),
    ("failed invocations without a destination", check_failed_rankings_are_kept, lambda r: properties(r, "RankProductsFunction")["EventInvokeConfig"].pop("DestinationConfig")),
    ("an unencrypted dead-letter queue", check_failed_rankings_are_kept, lambda r: properties(r, "RankProductsDeadLetters").update(SqsManagedSseEnabled=False)),
    ("a missing setting", check_functions, lambda r: properties(r, "CountClicksFunction")["Environment"]["Variables"].pop("MAX_EVENT_AGE")),
    ("settings swapped", check_functions, lambda r: properties(r, "RankProductsFunction")["Environment"]["Variables"].update(SNAPSHOTS_TABLE={"Ref": "RejectedEvents"})),
    ("an event source of the newest code", check_aliases, lambda r: click_event(r).update(FunctionName={"Ref": "CountClicksFunction"})),
    ("a deployment that no alarm stops", check_rollbacks, lambda r: properties(r, "RankProductsFunction")["DeploymentPreference"].pop("Alarms")),
    ("another alarm", check_rollbacks, lambda r: properties(r, "CountClicksFunction")["DeploymentPreference"].update(Alarms=[{"Ref": "LargeItemsAlarm"}])),
    ("reserved concurrency", check_functions, lambda r: properties(r, "CountClicksFunction").update(ReservedConcurrentExecutions=1)),
]  # fmt: skip


class ChecksCanFail(unittest.TestCase):
    def test_each_change_fails_its_check(self):
        for name, check, change in CHANGES:
            with self.subTest(name):
                stack = Stack(change)
                with self.assertRaises(AssertionError):
                    check(self, stack)

    def test_each_check_fails_for_some_change(self):
        # Outputs are not resources: the test below covers that check.
        self.assertEqual(set(CHECKS) - {check_outputs}, {check for _, check, _ in CHANGES})

    def test_a_missing_output_fails_its_check(self):
        stack = Stack()
        del stack.outputs["SnapshotsTable"]
        with self.assertRaises(AssertionError):
            check_outputs(self, stack)


if __name__ == "__main__":
    unittest.main()
