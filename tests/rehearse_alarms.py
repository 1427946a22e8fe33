"""The deployed alarms and the dashboard, against the lists of tests/infra/test_alarms.py; and that they tell whom they should.

The emulator has no metric math, so alarms of an expression are deployed as plain ones, and only boto3 sees what they are. It
makes no metrics of log lines either, so each alarm is set off by hand, as an operator does to try the way to the pager. That
CloudWatch would make these metrics of what the functions log, is read from their log.
"""

import json
import time

import sam
import test_alarms
from emulator import client, say

EMAIL = test_alarms.EMAIL


def make_topic():
    """A topic as a team has one before the deployment. Returns its ARN."""
    return client("sns").create_topic(Name="on-call")["TopicArn"]


def without_expressions(built):
    """A copy, beside it, of the template that sam built: the alarms of an expression watch one metric of theirs, plainly."""
    template = sam.load(built)
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in properties:
            metric = next(m["MetricStat"] for m in properties.pop("Metrics") if "MetricStat" in m)
            properties |= metric["Metric"] | {"Statistic": metric["Stat"], "Period": metric["Period"]}
    copy = built.with_name("without-expressions.json")
    copy.write_text(json.dumps(template), encoding="utf-8")
    return copy


def deployed_alarms():
    found = client("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm"])["MetricAlarms"]
    return {alarm["AlarmName"].removeprefix("hot-products-"): alarm for alarm in found}


def check_deployed(check, stack, topic):
    found = deployed_alarms()
    check("the alarms are those of the runbook", set(test_alarms.ALARMS), set(found))
    wanted = test_alarms.alarms(test_alarms.Stack())
    for name, owed in test_alarms.ALARMS.items():
        if owed.expression is None:
            check(f"{name} watches what it should", owed, test_alarms.read(found[name]))
        else:
            # boto3 refuses what is not of the API's model. The emulator takes it, without the expression.
            properties = wanted[name] | {"Threshold": float(wanted[name]["Threshold"])}
            actions = {key: found[name][key] for key in ("AlarmActions", "OKActions")}
            client("cloudwatch").put_metric_alarm(**properties | actions)
    template = stack.template()
    email_topic = stack.physical()["AlarmTopic"][1]
    told = {name: (alarm["AlarmActions"], alarm["OKActions"]) for name, alarm in found.items()}
    check("they tell both topics", dict.fromkeys(found, ([topic, email_topic],) * 2), told)
    subscriptions = client("sns").list_subscriptions_by_topic(TopicArn=email_topic)["Subscriptions"]
    check("one of them mails", [("email", EMAIL)], [(s["Protocol"], s["Endpoint"]) for s in subscriptions])
    body = client("cloudwatch").get_dashboard(DashboardName=stack.physical()["Dashboard"][1])["DashboardBody"]
    check("the dashboard is the template's", template.properties("Dashboard")["DashboardBody"], body)
    check.holds("it shows each alarm, and what it watches", test_alarms.check_dashboard, template)


def check_they_tell(check, stack, topic):
    """Sets each alarm off and back, and reads what arrives at both topics."""
    say("setting the alarms off")
    sqs, sns, cloudwatch = client("sqs"), client("sns"), client("cloudwatch")
    queue = sqs.create_queue(QueueName="on-call")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topics = [topic, stack.physical()["AlarmTopic"][1]]
    may = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    policy = {"Version": "2012-10-17", "Statement": [may | {"Condition": {"ArnEquals": {"aws:SourceArn": topics}}}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    subscriptions = [sns.subscribe(TopicArn=t, Protocol="sqs", Endpoint=arn)["SubscriptionArn"] for t in topics]
    states = ("ALARM", "OK")
    for name in test_alarms.ALARMS:
        for state in states:
            cloudwatch.set_alarm_state(AlarmName=f"hot-products-{name}", StateValue=state, StateReason="a rehearsal")
    owed = {(t, f"hot-products-{name}", state) for t in topics for name in test_alarms.ALARMS for state in states}
    arrived, runbooks = set(), set()
    until = time.monotonic() + 60
    while not owed <= arrived and time.monotonic() < until:
        for letter in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=letter["ReceiptHandle"])
            notification = json.loads(letter["Body"])
            message = json.loads(notification["Message"])
            arrived.add((notification["TopicArn"], message["AlarmName"], message["NewStateValue"]))
            runbooks.add(message["AlarmDescription"].rpartition("#")[2])
    check("each alarm is told to both topics, and so is its end", owed, arrived)
    check("with its place in the runbook", set(test_alarms.runbook()), runbooks)
    for subscription in subscriptions:
        sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=queue)


def check_logged(check, stack, metrics):
    """That of the functions' own lines, `metrics`, CloudWatch would make all that is watched."""
    logged = {
        (group["Namespace"], definition["Name"], (group["Dimensions"][0][0], line[group["Dimensions"][0][0]]))
        for line in metrics
        for group in line["_aws"]["CloudWatchMetrics"]
        for definition in group["Metrics"]
    }
    watched = {metric[:3] for alarm in test_alarms.ALARMS.values() for metric in alarm.metrics}
    watched |= set(test_alarms.shown(test_alarms.dashboard(stack.template())))
    ours = {metric for metric in watched if metric[0] == "HotProducts"}
    check("the functions log each metric that is watched, under their names", set(), ours - logged)


def check_deleted(check, topic):
    client("sns").delete_topic(TopicArn=topic)
    check("no alarms are left", {}, deployed_alarms())
    check("no dashboards are left", [], client("cloudwatch").list_dashboards()["DashboardEntries"])
    check("no topics are left", [], client("sns").list_topics()["Topics"])
