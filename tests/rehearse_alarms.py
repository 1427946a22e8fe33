"""Checks the deployed alarms and the dashboard against the lists of tests/infra/test_alarms.py, and that alarms notify.

The emulator has no metric math, so alarms with an expression are deployed with a plain metric, and only boto3 validates the
expression. The emulator does not extract metrics from logs either, so the rehearsal sets the state of each alarm by API, and
checks in the logs that the functions log the metrics.
"""

import json
import time

import sam
import test_alarms
from emulator import client, say

EMAIL = test_alarms.EMAIL


def make_topic():
    """Creates a topic that exists before the deployment. Returns its ARN."""
    return client("sns").create_topic(Name="on-call")["TopicArn"]


def deployable(built):
    """Copies the built template without what the emulator does not support: it has one plain metric instead of each alarm's
    expression, and no CodeDeploy. Returns the copy's path."""
    template = sam.load(built)
    remove_expressions(template)
    for resource in template["Resources"].values():
        resource.get("Properties", {}).pop("DeploymentPreference", None)
    copy = built.with_name("deployable.json")
    copy.write_text(json.dumps(template), encoding="utf-8")
    return copy


def remove_expressions(template):
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in properties:
            metric = next(m["MetricStat"] for m in properties.pop("Metrics") if "MetricStat" in m)
            properties |= metric["Metric"] | {"Statistic": metric["Stat"], "Period": metric["Period"]}


def deployed_alarms(stack="hot-products"):
    """The alarms of one of the two stacks, by name without the stack's."""
    found = {alarm["AlarmName"]: alarm for alarm in client("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm"])["MetricAlarms"]}
    of_brokers = {name for name in found if name.startswith("hot-products-msk-")}
    names = of_brokers if stack == "hot-products-msk" else found.keys() - of_brokers
    return {name.removeprefix(f"{stack}-"): found[name] for name in names}


def check_deployed(check, stack, topic):
    found = deployed_alarms()
    check("the alarms are those of the list", set(test_alarms.ALARMS), set(found))
    wanted = test_alarms.alarms(test_alarms.Stack())
    for name, expected in test_alarms.ALARMS.items():
        if expected.expression is None:
            check(f"{name} is as in the list", expected, test_alarms.read(found[name]))
        else:
            # boto3 validates it by the API's model. The emulator accepts it, and ignores the expression.
            properties = wanted[name] | {"Threshold": float(wanted[name]["Threshold"])}
            actions = {key: found[name][key] for key in ("AlarmActions", "OKActions")}
            client("cloudwatch").put_metric_alarm(**properties | actions)
    template = stack.template()
    email_topic = stack.physical()["AlarmTopic"][1]
    notified = {name: (alarm["AlarmActions"], alarm["OKActions"]) for name, alarm in found.items()}
    check("the alarms notify both topics", dict.fromkeys(found, ([topic, email_topic],) * 2), notified)
    subscriptions = client("sns").list_subscriptions_by_topic(TopicArn=email_topic)["Subscriptions"]
    check("one of the topics sends e-mail", [("email", EMAIL)], [(s["Protocol"], s["Endpoint"]) for s in subscriptions])
    body = client("cloudwatch").get_dashboard(DashboardName=stack.physical()["Dashboard"][1])["DashboardBody"]
    # The template is resolved for another cluster, and with the resource's name instead of the event source's id.
    expected = template.properties("Dashboard")["DashboardBody"].replace("CountClicksFunctionClicks", stack.physical()["CountClicksFunctionClicks"][1])
    cluster = stack.parameters["MskClusterArn"].split("/")[1]
    expected = expected.replace('"Cluster Name", "shop"', f'"Cluster Name", "{cluster}"')
    check("the dashboard is as in the template", expected, body)
    check.holds("the dashboard shows each alarm and its metrics", test_alarms.check_dashboard, template)


def check_notifications(check, stack, topic):
    """Sets the state of each alarm to ALARM and to OK, and reads what both topics receive."""
    say("setting the states of the alarms")
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
    expected = {(t, f"hot-products-{name}", state) for t in topics for name in test_alarms.ALARMS for state in states}
    arrived, runbooks = set(), set()
    until = time.monotonic() + 60
    while not expected <= arrived and time.monotonic() < until:
        for letter in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=letter["ReceiptHandle"])
            notification = json.loads(letter["Body"])
            message = json.loads(notification["Message"])
            arrived.add((notification["TopicArn"], message["AlarmName"], message["NewStateValue"]))
            runbooks.add(message["AlarmDescription"].rpartition("#")[2])
    check("both topics receive each alarm, and its end", expected, arrived)
    check("with its link to the runbook", {alarm.runbook for alarm in test_alarms.ALARMS.values()}, runbooks)
    for subscription in subscriptions:
        sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=queue)


def check_logged(check, stack, metrics):
    """Checks that `metrics`, the lines of embedded metrics, contain each metric of an alarm or the dashboard."""
    logged = {
        (group["Namespace"], definition["Name"], (group["Dimensions"][0][0], line[group["Dimensions"][0][0]]))
        for line in metrics
        for group in line["_aws"]["CloudWatchMetrics"]
        for definition in group["Metrics"]
    }
    watched = {metric[:3] for alarm in test_alarms.ALARMS.values() for metric in alarm.metrics}
    watched |= set(test_alarms.shown(test_alarms.dashboard(stack.template())))
    ours = {metric for metric in watched if metric[0] == "HotProducts"}
    check("the functions log each metric of the alarms and the dashboard", set(), ours - logged)


def check_deleted(check, topic):
    client("sns").delete_topic(TopicArn=topic)
    check("no alarms are left", {}, deployed_alarms())
    check("no dashboards are left", [], client("cloudwatch").list_dashboards()["DashboardEntries"])
    check("no topics are left", [], client("sns").list_topics()["Topics"])
