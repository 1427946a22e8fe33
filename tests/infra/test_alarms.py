"""Tests of the alarms in infra/template.yaml: metrics, thresholds and actions, and that the runbook and the dashboard cover
each alarm. tests/functions.rs checks that the functions log these metrics.
"""

import json
import re
import typing
import unittest

import sam
import test_template
from test_template import ARN, Stack

OPERATIONS = sam.INFRA.parent / "docs" / "operations.md"
TOPIC = f"arn:aws:sns:{ARN}:on-call"
EMAIL = "on-call@example.com"
EMAIL_TOPIC = f"arn:aws:sns:{ARN}:hot-products-alarms"

COUNT_CLICKS = "hot-products-count-clicks"
RANK_PRODUCTS = "hot-products-rank-products"
READ_BOARD = "hot-products-read-board"


class Metric(typing.NamedTuple):
    namespace: str
    name: str
    dimension: tuple  # names and values in turn
    statistic: str
    period: int  # seconds


class Alarm(typing.NamedTuple):
    runbook: str
    metrics: list
    expression: str | None  # None: the metric itself
    threshold: str
    periods: tuple  # datapoints to alarm, evaluation periods
    missing: str


def ours(name, function, statistic="Sum"):
    return Metric("HotProducts", name, ("function", function), statistic, 300)


def share(name):
    expression = f"IF(records > 0, 100 * {name} / records, 0)"
    metrics = [ours(name, COUNT_CLICKS), ours("records", COUNT_CLICKS)]
    return Alarm(f"{name}-share", metrics, expression, "> 1", (2, 3), "notBreaching")


def errors(function, name="Errors"):
    metric = Metric("AWS/Lambda", name, ("FunctionName", function), "Sum", 300)
    return Alarm("failed-invocations", [metric], None, "> 0", (2, 3), "notBreaching")


CLUSTER = ("Cluster Name", "shop", "Consumer Group", "hot-products-count-clicks", "Topic", "clicks")
# AWS generates the id of the event source; here, it is the resource's name.
POLLED = Metric("AWS/Lambda", "PolledEventCount", ("EventSourceMappingUUID", "CountClicksFunctionClicks"), "Maximum", 300)
POLLING = [POLLED, Metric("AWS/Lambda", "OffsetLag", ("FunctionName", COUNT_CLICKS), "Maximum", 300)]
TIME_LAG = Metric("AWS/Kafka", "EstimatedMaxTimeLag", CLUSTER, "Maximum", 300)
THROTTLED = Metric("AWS/Lambda", "Throttles", ("FunctionName", COUNT_CLICKS), "Sum", 300)
UNDELIVERED = Metric("AWS/Lambda", "DestinationDeliveryFailures", ("FunctionName", RANK_PRODUCTS), "Sum", 300)
OFFSET_LAG = Metric("AWS/Lambda", "OffsetLag", ("FunctionName", COUNT_CLICKS), "Maximum", 60)
THROTTLES = Metric("AWS/DynamoDB", "WriteThrottleEvents", ("TableName", "hot-products-minute-counters"), "Sum", 300)
LETTERS = ("QueueName", "hot-products-rank-products-dead-letters")
DEAD_LETTERS = Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", LETTERS, "Maximum", 300)
WRITTEN = ours("written", RANK_PRODUCTS)
LARGEST_ITEM = ours("largest_item_kb", COUNT_CLICKS, "Maximum")
OFFSET_FALLBACK = ours("offset_fallback", COUNT_CLICKS, "Maximum")
COUNTED_BEFORE = [ours("already_counted", COUNT_CLICKS), ours("records", COUNT_CLICKS), *errors(COUNT_CLICKS).metrics]
# The share, but none in a period with failed invocations, whose redeliveries find clicks counted.
SHARE_WITHOUT_ERRORS = "IF(FILL(errors, 0) > 0, 0, IF(records > 0, 100 * already_counted / records, 0))"

# With the default parameters. A change of an alarm needs the same change here.
ALARMS = {
    "event-source-lag": Alarm("event-source-lag", [OFFSET_LAG], None, "> 100000", (10, 10), "missing"),
    # The data is missing if both metrics are.
    "event-source-silent": Alarm("event-source-silent", POLLING, "MAX([polledeventcount, offsetlag])", "< 0", (3, 3), "breaching"),
    "counting-behind": Alarm("counting-behind", [TIME_LAG], "100 * estimatedmaxtimelag / (24*3600)", "> 10", (2, 3), "notBreaching"),
    "count-clicks-throttles": Alarm("count-clicks-throttles", [THROTTLED], None, "> 0", (2, 3), "notBreaching"),
    "failed-deliveries": Alarm("failed-deliveries", [UNDELIVERED], None, "> 0", (1, 1), "notBreaching"),
    "count-clicks-errors": errors(COUNT_CLICKS),
    "rank-products-errors": errors(RANK_PRODUCTS),
    "read-board-errors": errors(READ_BOARD, "Url5xxCount"),
    "no-snapshot": Alarm("no-snapshot", [WRITTEN], "FILL(written, 0)", "< 1", (2, 2), "breaching"),
    "stale-share": share("stale"),
    "rejected-share": share("rejected"),
    "already-counted-share": Alarm("already-counted-share", COUNTED_BEFORE, SHARE_WITHOUT_ERRORS, "> 20", (2, 3), "notBreaching"),
    "offset-fallback": Alarm("offset-fallback", [OFFSET_FALLBACK], None, "> 20000", (1, 1), "notBreaching"),
    "throttled-writes": Alarm("throttled-writes", [THROTTLES], None, "> 0", (2, 3), "notBreaching"),
    "large-items": Alarm("large-items", [LARGEST_ITEM], None, "> 200", (1, 1), "notBreaching"),
    "dead-letters": Alarm("dead-letters", [DEAD_LETTERS], None, "> 0", (1, 1), "ignore"),
}

COMPARISONS = {"GreaterThanThreshold": ">", "LessThanThreshold": "<"}


def metric(of, statistic, period):
    dimensions = tuple(text for dimension in of["Dimensions"] for text in (dimension["Name"], dimension["Value"]))
    return Metric(of["Namespace"], of["MetricName"], dimensions, statistic, period)


def read(alarm, named_ids=True):
    """Converts the properties of an alarm to the form of the list above."""
    expression = None
    if "Metrics" in alarm:
        returned = [m for m in alarm["Metrics"] if m.get("ReturnData", True)]
        if len(returned) != 1:
            raise AssertionError("an alarm needs exactly one metric that returns data")
        expression = returned[0]["Expression"]
        others = [m for m in alarm["Metrics"] if m is not returned[0]]
        metrics = [metric(m["MetricStat"]["Metric"], m["MetricStat"]["Stat"], m["MetricStat"]["Period"]) for m in others]
        # An expression refers to metrics by their ids, which begin with a small letter.
        if named_ids and [m["Id"] for m in others] != [m.name.lower() for m in metrics]:
            raise AssertionError("an id differs from the name of its metric")
    else:
        metrics = [metric(alarm, alarm["Statistic"], alarm["Period"])]
    return Alarm(
        re.search(r"Runbook: docs/operations\.md#([a-z-]+)$", alarm["AlarmDescription"])[1],
        metrics,
        expression,
        f"{COMPARISONS[alarm['ComparisonOperator']]} {float(alarm['Threshold']):g}",
        (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]),
        alarm["TreatMissingData"],
    )


def alarms(stack):
    prefix = "hot-products-"
    found = stack.of_type("AWS::CloudWatch::Alarm").values()
    return {alarm["AlarmName"].removeprefix(prefix): alarm for alarm in found}


def runbook():
    """The anchors of the alarms' entries in the runbook."""
    text = OPERATIONS.read_text(encoding="utf-8")
    section = re.search(r"^## Alarms\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)[1]
    return re.findall(r"^### ([a-z-]+)$", section, re.MULTILINE)


def dashboard(stack):
    return json.loads(stack.properties("Dashboard")["DashboardBody"])["widgets"]


def shown(widgets):
    """The metrics on the dashboard: namespace, name, dimension."""
    for widget in widgets:
        for line in widget["properties"].get("metrics", []):
            if len(line) > 1:  # not an expression
                yield line[0], line[1], tuple(text for text in line[2:] if isinstance(text, str))


# ── Checks. Each takes a test case, for its assertions, and a stack. ──────────────────────────────────────────────────────


def check_alarms(test, stack):
    test.assertEqual(ALARMS, {name: read(alarm) for name, alarm in alarms(stack).items()})


def check_alarms_notify(test, stack):
    for name, alarm in alarms(stack).items():
        notified = [TOPIC, EMAIL_TOPIC]
        test.assertEqual((notified, notified), (alarm.get("AlarmActions"), alarm.get("OKActions")), name)
        # This alarm treats missing data as missing, so it must notify of it.
        missing = notified if name == "event-source-lag" else None
        test.assertEqual(missing, alarm.get("InsufficientDataActions"), name)
        test.assertTrue(alarm.get("ActionsEnabled", True), name)


def check_topic(test, stack):
    topic = stack.properties("AlarmTopic")
    test.assertEqual([{"Protocol": "email", "Endpoint": EMAIL}], topic.get("Subscription"))
    policy = stack.properties("AlarmTopicPolicy")
    test.assertEqual([EMAIL_TOPIC], policy["Topics"])
    (statement,) = policy["PolicyDocument"]["Statement"]
    test.assertEqual(("Allow", "sns:Publish", EMAIL_TOPIC), (statement["Effect"], statement["Action"], statement["Resource"]))
    test.assertEqual({"Service": "cloudwatch.amazonaws.com"}, statement["Principal"])
    alarms_of_ours = {"aws:SourceArn": f"arn:aws:cloudwatch:{ARN}:alarm:hot-products-*"}
    condition = {"StringEquals": {"aws:SourceAccount": sam.ACCOUNT}, "ArnLike": alarms_of_ours}
    test.assertEqual(condition, statement.get("Condition"))


def check_dashboard(test, stack):
    widgets = dashboard(stack)
    (status,) = (w for w in widgets if w["type"] == "alarm")
    arns = [f"arn:aws:cloudwatch:{ARN}:alarm:hot-products-{name}" for name in ALARMS]
    test.assertEqual(sorted(arns), sorted(status["properties"]["alarms"]))
    watched = {m[:3] for alarm in ALARMS.values() for m in alarm.metrics}
    test.assertEqual(set(), watched - set(shown(widgets)), "an alarm's metric is not on the dashboard")
    taken = set()
    for w in widgets:
        cells = {(x, y) for x in range(w["x"], w["x"] + w["width"]) for y in range(w["y"], w["y"] + w["height"])}
        test.assertEqual(set(), taken & cells, f"{w['properties']['title']} overlaps another widget")
        test.assertLessEqual(w["x"] + w["width"], 24)
        taken |= cells
        if w["type"] == "metric":
            test.assertEqual(sam.REGION, w["properties"]["region"])


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]


def notifying(change=None):
    """The stack with alarms that notify a topic and an address."""
    return Stack(change, AlarmTopicArn=TOPIC, AlarmEmail=EMAIL)


class Alarms(unittest.TestCase):
    def test_pass_all_checks(self):
        stack = notifying()
        for check in CHECKS:
            with self.subTest(check.__name__):
                check(self, stack)

    def test_the_runbook_has_an_entry_for_each_and_no_other(self):
        entries = runbook()
        linked = {alarm.runbook for alarm in ALARMS.values()}
        # And those of the brokers, which test_msk.py lists.
        linked |= set(re.findall(r"Runbook: docs/operations\.md#([a-z-]+)", sam.MSK_TEMPLATE.read_text(encoding="utf-8")))
        self.assertEqual(sorted(linked), sorted(entries))

    def test_the_runbook_names_each_alarm(self):
        words = re.findall(r"[a-z-]+", OPERATIONS.read_text(encoding="utf-8"))
        self.assertEqual([], [name for name in ALARMS if name not in words])

    def test_notify_nobody_by_default(self):
        stack = Stack()
        for name, alarm in alarms(stack).items():
            self.assertEqual(([], []), (alarm["AlarmActions"], alarm["OKActions"]), name)
        self.assertEqual({}, stack.of_type("AWS::SNS::Topic"))
        self.assertNotIn("AlarmTopic", stack.outputs)

    def test_notify_a_topic_or_an_address_alone(self):
        for overrides, topics in ({"AlarmTopicArn": TOPIC}, [TOPIC]), ({"AlarmEmail": EMAIL}, [EMAIL_TOPIC]):
            stack = Stack(**overrides)
            self.assertEqual(topics, alarms(stack)["no-snapshot"]["AlarmActions"])
            self.assertEqual("AlarmEmail" in overrides, "AlarmTopic" in stack.outputs)

    def test_parameters_reach_their_alarms(self):
        stack = Stack(
            MaxOffsetLag="5",
            MaxLagPercent="50",
            MaxStalePercent="0.5",
            MaxRejectedPercent="7",
            MaxAlreadyCountedPercent="40",
            MaxOffsetFallback="300",
        )
        found = {name: read(alarm).threshold for name, alarm in alarms(stack).items()}
        self.assertEqual("> 5", found["event-source-lag"])
        self.assertEqual("> 50", found["counting-behind"])
        self.assertEqual("> 0.5", found["stale-share"])
        self.assertEqual("> 7", found["rejected-share"])
        self.assertEqual("> 40", found["already-counted-share"])
        self.assertEqual("> 300", found["offset-fallback"])
        lines = [w["properties"]["annotations"]["horizontal"] for w in dashboard(stack) if "annotations" in w["properties"]]
        self.assertIn([{"label": "MaxOffsetLag", "value": 5}], lines)

    def test_the_time_behind_is_a_share_of_the_maximum_age(self):
        for age, seconds in ("24h", 86400), ("90m", 5400), ("7d", 604800), ("30s", 30):
            expression = read(alarms(Stack(MaxEventAge=age))["counting-behind"]).expression
            self.assertRegex(expression, r"^100 \* estimatedmaxtimelag / \([0-9*]+\)$")
            # CloudWatch evaluates it like Python.
            self.assertEqual(100, eval(expression, {"estimatedmaxtimelag": seconds}), age)

    def test_without_an_event_source_no_alarm_waits_for_it(self):
        found = alarms(Stack(EventSource="absent"))
        self.assertEqual(ALARMS.keys() - found.keys(), {"event-source-silent", "counting-behind"})

    def test_a_kafka_that_is_not_msk_has_no_alarm_on_a_metric_of_msk(self):
        stack = Stack(MskClusterArn="", BootstrapServers="b:9092", KafkaAuthentication="none")
        self.assertEqual(ALARMS.keys() - alarms(stack).keys(), {"counting-behind"})
        self.assertNotIn("counting-behind", json.dumps(dashboard(stack)))
        self.assertIn("event-source-silent", json.dumps(dashboard(stack)))

    def test_two_stacks_have_no_metric_in_common(self):
        for kind, of in ("alarm", [m for alarm in ALARMS.values() for m in alarm.metrics]), ("widget", shown(dashboard(Stack()))):
            for metric in of:
                # AWS generates the ids of event sources.
                self.assertTrue("EventSourceMappingUUID" in metric[2] or any("hot-products-" in text for text in metric[2]), (kind, metric))

    def test_parameters_reject_values_that_would_fail_later(self):
        parameters = sam.load()["Parameters"]
        for name, good, bad in [
            ("AlarmEmail", ["", EMAIL], ["on-call", "a b@example.com", "@"]),
            ("AlarmTopicArn", ["", TOPIC], ["on-call", TOPIC.replace("sns", "sqs"), TOPIC + "*"]),
        ]:
            pattern = parameters[name]["AllowedPattern"]
            for value in good:
                self.assertRegex(value, pattern, name)
            for value in bad:
                self.assertNotRegex(value, pattern, name)


# ── The checks can fail ───────────────────────────────────────────────────────────────────────────────────────────────────


def properties(resources, name):
    return resources[name]["Properties"]


def query(resources, name, index):
    return properties(resources, name)["Metrics"][index]


def policy(resources):
    return properties(resources, "AlarmTopicPolicy")["PolicyDocument"]["Statement"][0]


def change_dashboard(resources, old, new):
    body = properties(resources, "Dashboard")["DashboardBody"]
    if old not in body["Fn::Sub"][0]:
        raise ValueError(f"the dashboard has no {old}")
    body["Fn::Sub"][0] = body["Fn::Sub"][0].replace(old, new)


# Possible changes, each with the check that must fail.
CHANGES = [
    ("a missing alarm", check_alarms, lambda r: change_dashboard(r, "${LargeItemsAlarm.Arn}", "") or r.pop("LargeItemsAlarm")),
    ("an alarm without a runbook entry", check_alarms, lambda r: properties(r, "DeadLettersAlarm").update(AlarmDescription="Runbook: docs/operations.md#letters")),
    ("another metric", check_alarms, lambda r: properties(r, "EventSourceLagAlarm").update(MetricName="IteratorAge")),
    ("a silent poller accepted", check_alarms, lambda r: properties(r, "EventSourceSilentAlarm").update(TreatMissingData="notBreaching")),
    ("the lag of another group", check_alarms, lambda r: query(r, "CountingBehindAlarm", 1)["MetricStat"]["Metric"]["Dimensions"][1].update(Value="count-clicks")),
    ("a fixed time behind", check_alarms, lambda r: query(r, "CountingBehindAlarm", 0).update(Expression="100 * estimatedmaxtimelag / 86400")),
    ("another function", check_alarms, lambda r: properties(r, "CountClicksErrorsAlarm")["Dimensions"][0].update(Value={"Ref": "RankProductsFunction"})),
    ("a metric of every stack", check_alarms, lambda r: query(r, "NoSnapshotAlarm", 1)["MetricStat"]["Metric"]["Dimensions"][0].update(Value="rank-products")),
    ("a dimension without a metric", check_alarms, lambda r: query(r, "StaleShareAlarm", 1)["MetricStat"]["Metric"]["Dimensions"][0].update(Name="FunctionName")),
    ("another share", check_alarms, lambda r: query(r, "RejectedShareAlarm", 0).update(Expression="100 * rejected")),
    ("failures not left out", check_alarms, lambda r: query(r, "AlreadyCountedShareAlarm", 0).update(Expression="IF(records > 0, 100 * already_counted / records, 0)")),
    ("another statistic", check_alarms, lambda r: properties(r, "LargeItemsAlarm").update(Statistic="Average")),
    ("another threshold", check_alarms, lambda r: properties(r, "LargeItemsAlarm").update(Threshold=400)),
    ("another comparison", check_alarms, lambda r: properties(r, "NoSnapshotAlarm").update(ComparisonOperator="GreaterThanThreshold")),
    ("more periods", check_alarms, lambda r: properties(r, "NoSnapshotAlarm").update(EvaluationPeriods=4)),
    ("missing data accepted", check_alarms, lambda r: properties(r, "NoSnapshotAlarm").update(TreatMissingData="notBreaching")),
    ("an alarm without actions", check_alarms_notify, lambda r: properties(r, "ThrottledWritesAlarm").pop("AlarmActions")),
    ("an alarm whose end does not notify", check_alarms_notify, lambda r: properties(r, "ThrottledWritesAlarm").update(OKActions=[])),
    ("actions disabled", check_alarms_notify, lambda r: properties(r, "StaleShareAlarm").update(ActionsEnabled=False)),
    ("missing data does not notify", check_alarms_notify, lambda r: properties(r, "EventSourceLagAlarm").pop("InsufficientDataActions")),
    ("a topic for any publisher", check_topic, lambda r: policy(r).update(Principal="*")),
    ("alarms of any account", check_topic, lambda r: policy(r).pop("Condition")),
    ("no subscription", check_topic, lambda r: properties(r, "AlarmTopic").pop("Subscription")),
    ("an alarm not on the dashboard", check_dashboard, lambda r: change_dashboard(r, '"${NoSnapshotAlarm.Arn}", ', "")),
    ("a metric not on the dashboard", check_dashboard, lambda r: change_dashboard(r, '"OffsetLag"', '"IteratorAge"')),
    ("overlapping widgets", check_dashboard, lambda r: change_dashboard(r, '"x": 8, "y": 3', '"x": 7, "y": 3')),
]  # fmt: skip


class ChecksCanFail(unittest.TestCase):
    def test_each_change_fails_its_check(self):
        for name, check, change in CHANGES:
            with self.subTest(name):
                stack = notifying(change)
                with self.assertRaises(AssertionError):
                    check(self, stack)

    def test_each_check_fails_for_some_change(self):
        self.assertEqual(set(CHECKS), {check for _, check, _ in CHANGES})

    def test_the_alarms_are_part_of_the_stack(self):
        kinds = [kind for kind in test_template.INVENTORY.values() if kind == "AWS::CloudWatch::Alarm"]
        self.assertEqual(len(ALARMS), len(kinds))


if __name__ == "__main__":
    unittest.main()
