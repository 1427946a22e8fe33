#!/usr/bin/env python3
"""Rehearses a deployment: deploys both stacks to an AWS emulator on this machine, uses them, and deletes them.

It shows that
- `sam build` and `sam deploy` accept infra/template.yaml, except for some alarms and gradual deployments
  (rehearse_alarms.py), with the cluster of infra/msk.yaml, as far as the emulator supports MSK (rehearse_msk.py);
- the deployed resources are those that tests/infra expects;
- the functions, as built for Lambda, count and rank the events in events/ with only the permissions of their roles;
- the board's URL serves the snapshot for signed requests;
- a redelivered batch does not change a count;
- the alarms notify;
- `hot doctor` finds each part that is broken (rehearse_doctor.py);
- `sam delete` deletes everything.

It does not show what the emulator does not support. It has no Kafka poller and sets no time in the schedule's event, so the
rehearsal invokes the functions directly. It ignores the tables' TTL, encryption and recovery, and the topic and consumer
group of the event source, so the rehearsal checks those in the template as processed by the emulator's CloudFormation.

The rehearsal can't reach AWS: it removes the user's settings for AWS, uses invalid credentials, and sets the emulator as the
endpoint of all services. Start it with `make rehearse`, which installs what it needs. It runs on Linux only, because the
emulator runs the functions' binaries directly.
"""

import base64
import binascii
import calendar
import collections
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "infra"))

try:
    import boto3
    import boto3.dynamodb.conditions
    import botocore.auth
    import botocore.awsrequest
    import rehearse_alarms
    import rehearse_doctor
    import rehearse_msk
    import sam
    import test_template as wanted
    from emulator import EMULATOR, SAM, CannotRehearse, Checks, Emulator, client, environment, free_port, run, say
except ImportError as error:
    sys.exit(f"{error}: start the rehearsal with `make rehearse`, which installs what it needs")

STACK = "hot-products"
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine())
PARAMETERS = {
    "Architecture": ARCHITECTURE,
    "AlarmEmail": rehearse_alarms.EMAIL,
    # With deletion protection, the stack could not be deleted.
    "SnapshotProtection": "false",
    # The events are from 2022, and the files should be the documented ones. So no event is too old, as in events/local.env.
    # Unit tests check the defaults.
    "MaxEventAge": "36500d",
    "Retention": "36501d",
    "SnapshotRetention": "36500d",
}
MAX_EVENT_AGE_MS = 36500 * 24 * 60 * 60 * 1000
SETTINGS = {
    "MAX_EVENT_AGE": PARAMETERS["MaxEventAge"],
    "RETENTION": PARAMETERS["Retention"],
    "SNAPSHOT_RETENTION": PARAMETERS["SnapshotRetention"],
}


# ── The expected counts: a plain group-by, independent of the product's code ──────────────────────────────────────────


def no_constant(name):
    raise ValueError(name)  # Python accepts NaN and Infinity, which are not JSON


def classify(record, now):
    """A record's classification and, for a click, its minute and product."""
    if record.get("value") is None:
        return "no_value", None
    try:
        value = base64.b64decode(record["value"], validate=True)
    except binascii.Error:
        return "not_base64", None
    try:
        event = json.loads(value.decode(), parse_constant=no_constant)
    except ValueError:
        return "not_json", None
    if not isinstance(event, dict):
        return "not_an_object", None
    for name, kind in ("event_time", int), ("product_id", str), ("action", str):
        if name not in event:
            return f"missing_{name}", None
        if type(event[name]) is not kind:
            return f"mistyped_{name}", None
        if name == "product_id" and not 1 <= len(event[name].encode()) <= 256:
            return "product_id_too_long" if event[name] else "empty_product_id", None
    if event["action"] != "click":
        return "ignored", None
    if event["event_time"] > now + 5 * 60 * 1000:
        return "event_time_in_future", None
    if event["event_time"] < now - MAX_EVENT_AGE_MS:
        return "stale", None
    return "counted", (event["event_time"] // 60_000, event["product_id"])


class GroupBy:
    """The clicks that were delivered so far, each once."""

    def __init__(self):
        self.clicks = {}  # by source and offset, so that a record counts once

    def deliver(self, batch):
        """Adds a batch. Returns the summary expected from count-clicks, and the rejects by source."""
        now = time.time() * 1000
        summary = dict.fromkeys(("records", "counted", "ignored", "stale", "rejected", "already_counted"), 0)
        rejects = collections.defaultdict(list)
        for source, records in batch["records"].items():
            for record in records:
                summary["records"] += 1
                outcome, click = classify(record, now)
                if outcome not in summary:
                    rejects[source].append((record["offset"], outcome))
                    outcome = "rejected"
                elif click and (source, record["offset"]) in self.clicks:
                    outcome = "already_counted"
                elif click:
                    self.clicks[source, record["offset"]] = click
                summary[outcome] += 1
        return summary, rejects

    def counters(self):
        return collections.Counter(self.clicks.values())

    def window(self, end):
        """The clicks, number of products and ranks of the hour before `end`, epoch seconds."""
        sums = collections.Counter()
        for (minute, product), clicks in self.counters().items():
            if end - 3600 <= minute * 60 < end:
                sums[product] += clicks
        order = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0].encode()))
        return sum(sums.values()), len(sums), [(rank, *entry) for rank, entry in enumerate(order[:100], 1)]


def seconds(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


# ── The deployed stack ────────────────────────────────────────────────────────────────────────────────────────────────

class Deployed:
    """The stack, as seen through the AWS APIs."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.functions = client("lambda")
        self.dynamodb = boto3.resource("dynamodb")
        self.logs = []

    def physical(self):
        found = client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
        return {r["LogicalResourceId"]: (r["ResourceType"], r["PhysicalResourceId"]) for r in found}

    def template(self):
        """The template as processed by CloudFormation, resolved for the cluster of tests/infra."""
        body = client("cloudformation").get_template(StackName=STACK, TemplateStage="Processed")["TemplateBody"]
        body = body if isinstance(body, dict) else sam.yaml_parse(body)
        return ProcessedTemplate(sam.Resolver(body, self.parameters | {"MskClusterArn": sam.CLUSTER}, STACK).resources())

    def invoke(self, name, event):
        """Invokes a function and keeps its log. Returns the error type, if any, and the response."""
        function = {"FunctionName": f"{STACK}-{name}", "Qualifier": wanted.LIVE}
        answer = self.functions.invoke(**function, Payload=json.dumps(event), LogType="Tail")
        self.logs.append(base64.b64decode(answer.get("LogResult", "")).decode(errors="replace"))
        return answer.get("FunctionError"), json.load(answer["Payload"])

    def items(self, table):
        return self.dynamodb.Table(f"{STACK}-{table}").scan(ConsistentRead=True)["Items"]

    def counter_items(self):
        """The items of the minute counters, without the notes of late clicks, which a redelivery adds to."""
        return [item for item in self.items("minute-counters") if item["bucket"][0].isdigit()]

    def counters(self):
        """The clicks by minute and product, over all shards and sources."""
        sums = collections.Counter()
        for item in self.counter_items():
            minute = calendar.timegm(time.strptime(item["bucket"].split("#")[0], "%Y-%m-%dT%H:%MZ")) // 60
            for name, clicks in item.items():
                if name.startswith("#"):
                    sums[minute, name[1:]] += int(clicks)
        return sums

    def snapshot(self, end):
        """The snapshot of the window that ends at `end`, in epoch seconds, if there is one."""
        key = {"board": "clicks", "window_end": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))}
        return self.dynamodb.Table(f"{STACK}-snapshots").get_item(Key=key).get("Item")

    def newest(self):
        """The newest snapshot, read like an app does."""
        answer = self.dynamodb.Table(f"{STACK}-snapshots").query(
            KeyConditionExpression=boto3.dynamodb.conditions.Key("board").eq("clicks"), ScanIndexForward=False, Limit=1
        )
        return answer["Items"][0] if answer["Items"] else None


class ProcessedTemplate:
    """A template for the checks of tests/infra."""

    def __init__(self, resources):
        self.resources = resources

    properties = wanted.Stack.properties
    of_type = wanted.Stack.of_type


def pick(found, keys):
    return {key: found.get(key) for key in keys}


def check_deployed(check, stack):
    """Checks the deployed resources against the lists of tests/infra/test_template.py."""
    physical = stack.physical()
    kinds = {wanted.without_hash(name): kind for name, (kind, _) in physical.items()}
    # The emulator has no CodeDeploy. With AlarmEmail, there is a topic.
    inventory = {name: kind for name, kind in wanted.INVENTORY.items() if not kind.startswith("AWS::CodeDeploy::")}
    inventory |= {"AlarmTopic": "AWS::SNS::Topic", "AlarmTopicPolicy": "AWS::SNS::TopicPolicy"}
    check("the stack has exactly the template's resources", inventory, kinds)
    name_of = {name: physical_id for name, (_, physical_id) in physical.items()}

    iam = client("iam")
    arns = {}
    cluster = stack.parameters["MskClusterArn"]
    in_cluster = sam.CLUSTER.partition("/")[2], cluster.partition("/")[2]
    for name, grants in wanted.GRANTS.items():
        grants = [(effect, action, resource.replace(*in_cluster), when) for effect, action, resource, when in grants]
        role = iam.get_role(RoleName=name_of[name])["Role"]
        arns[name] = role["Arn"]
        policies = iam.list_role_policies(RoleName=name_of[name])["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=name_of[name], PolicyName=p) for p in policies]
        found = wanted.grants({"Policies": documents})
        check(f"{name} has exactly the permissions of the template", sorted(grants), sorted(found))
        attached = iam.list_attached_role_policies(RoleName=name_of[name])["AttachedPolicies"]
        check(f"{name} has no managed policy", [], attached)
        trust = role["AssumeRolePolicyDocument"]["Statement"]
        expected = [
            ("Allow", "sts:AssumeRole", {"Service": service}, condition) for service, condition in wanted.TRUST[name]
        ]
        trusted = [(s["Effect"], s["Action"], s["Principal"], s.get("Condition", {})) for s in trust]
        check(f"{name} trusts one service only", expected, trusted)

    for name, memory in ("CountClicks", 512), ("RankProducts", 1024), ("ReadBoard", 512):
        function = stack.functions.get_function_configuration(FunctionName=name_of[f"{name}Function"])
        runs = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Architectures": [ARCHITECTURE]}
        runs |= {"Timeout": wanted.TIMEOUTS[f"{name}Function"], "MemorySize": memory, "Role": arns[f"{name}Role"]}
        check(f"{name} is configured as in the template", runs, pick(function, runs))
        settings = {key: SETTINGS.get(key, value) for key, value in wanted.SETTINGS[f"{name}Function"].items()}
        check(f"{name} has exactly its settings", settings, function["Environment"]["Variables"])
        group = name_of[f"{name}Logs"]
        logging = {"LogFormat": "Text", "LogGroup": group}
        check(f"{name} logs plain text to its log group", logging, pick(function["LoggingConfig"], logging))
        groups = client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        kept = [{"logGroupName": group, "retentionInDays": 30}]
        check(f"{name} keeps its logs for 30 days", kept, [pick(g, kept[0]) for g in groups])

    sources = stack.functions.list_event_source_mappings()["EventSourceMappings"]
    check("there is one event source", 1, len(sources))
    source = {
        "EventSourceArn": cluster,
        "FunctionArn": f"arn:aws:lambda:{wanted.ARN}:function:{STACK}-count-clicks:{wanted.LIVE}",
        "State": "Enabled",
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10_000,
        "MaximumBatchingWindowInSeconds": 30,
    }
    check("it delivers the cluster's records to count-clicks in batches of 10,000 or 30 s", source, pick(sources[0], source))
    gives_up = ("DestinationConfig", "FunctionResponseTypes", "BisectBatchOnFunctionError")
    gives_up += ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
    check("it never drops a batch or a part of one", [], [key for key in gives_up if sources[0].get(key)])

    schedule = client("scheduler").get_schedule(Name=name_of["RankProductsFunctionEveryFiveMinutes"])
    runs = {"ScheduleExpression": "cron(1/5 * * * ? *)", "ScheduleExpressionTimezone": "UTC"}
    runs |= {"FlexibleTimeWindow": {"Mode": "OFF"}, "State": "ENABLED"}
    check("the schedule is enabled and runs one minute after each five-minute boundary", runs, pick(schedule, runs))
    target = {
        "Arn": f"{wanted.RANK_PRODUCTS}:{wanted.LIVE}",
        "RoleArn": arns["ScheduleRole"],
        "Input": '{"scheduled_time":"<aws.scheduler.scheduled-time>"}',
        "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 10},
        "DeadLetterConfig": {"Arn": wanted.DEAD_LETTERS},
    }
    check("it sends the scheduled time to rank-products, and undelivered events to the queue", target, schedule["Target"])

    function = {"FunctionName": f"{STACK}-rank-products", "Qualifier": wanted.LIVE}
    config = stack.functions.get_function_event_invoke_config(**function)
    failing = {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 3600}
    check("a failed ranking is tried three times within an hour", failing, pick(config, failing))
    kept = {"Destination": wanted.DEAD_LETTERS}
    check("then its event goes to the queue", kept, config.get("DestinationConfig", {}).get("OnFailure"))

    for table, keys in wanted.TABLES.values():
        found = client("dynamodb").describe_table(TableName=table)["Table"]
        types = {a["AttributeName"]: a["AttributeType"] for a in found["AttributeDefinitions"]}
        found = [(k["AttributeName"], k["KeyType"], types[k["AttributeName"]]) for k in found["KeySchema"]]
        check(f"the table {table} has its keys", keys, found)

    # Properties that the emulator ignores.
    template = stack.template()
    check.holds("as processed: each table has TTL, encryption, keys, and on-demand capacity", wanted.check_tables, template)
    check.holds("as processed: the event source has exactly its properties", wanted.check_event_source, template)
    check.holds("as processed: nothing is public", wanted.check_nothing_public, template)


# ── The deployed stack in use ─────────────────────────────────────────────────────────────────────────────────────────


def event(name):
    return json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))


def count(check, stack, group, name, what):
    """Delivers the batch of a file. Checks the summary of count-clicks and the tables against the group-by."""
    batch = event(name)
    expected, rejects = group.deliver(batch)
    error, summary = stack.invoke("count-clicks", batch)
    check(f"{name}.json, {what}: {expected}", (None, expected), (error, {k: summary.get(k) for k in expected}))
    check(f"{name}.json, {what}: the counters equal the group-by", group.counters(), stack.counters())
    notes = {(item["source"], int(item["first_offset"])): item for item in stack.items("rejected-events")}
    for source, rejected in rejects.items():
        note = notes.get((source, min(offset for offset, _ in rejected)), {})
        check(
            f"{name}.json, {what}: the rejected records of {source} are stored with offsets and reasons",
            (sorted(rejected), collections.Counter(reason for _, reason in rejected)),
            (
                sorted((int(offset), reason) for reason, offsets in note.get("offsets", {}).items() for offset in offsets),
                {reason: int(records) for reason, records in note.get("reasons", {}).items()},
            ),
        )
    return {key: summary.get(key, 0) for key in expected}


def rank(check, stack, group, request, what):
    """Invokes rank-products and checks the newest snapshot against the group-by. Returns the snapshot."""
    time_of = request.get("window_end") or request["scheduled_time"]
    end = seconds(time_of) // 300 * 300
    end_text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
    previous = stack.snapshot(end - 300)
    error, summary = stack.invoke("rank-products", request)
    done = {"written": True, "window_end": end_text}
    check(f"{what}: the snapshot of {end_text} is written", (None, done), (error, pick(summary, done)))
    snapshot = stack.newest() or {}
    clicks, products, order = group.window(end)
    expected = {"window_end": end_text, "total_clicks": clicks, "distinct_products": products, "products": order}
    places = [(int(p["rank"]), p["product_id"], int(p["clicks"])) for p in snapshot.get("products", [])]
    what_newest = f"{what}: the newest snapshot equals the group-by, {clicks} clicks on {products} products"
    check(what_newest, expected, pick(snapshot, expected) | {"products": places})
    before = {p["product_id"]: p["rank"] for p in (previous or {}).get("products", [])}
    found = {p["product_id"]: p["previous_rank"] for p in snapshot.get("products", []) if "previous_rank" in p}
    check(f"{what}: {len(before)} products have their rank of five minutes before", before, found)
    return snapshot


def use(check, stack):
    group = GroupBy()
    say("counting")
    first = count(check, stack, group, "msk-batch", "delivered")
    check("msk-batch.json contains clicks", True, first["counted"] > 0)

    say("ranking")
    scheduled = rank(check, stack, group, event("schedule"), "the schedule's event")
    check("the schedule's window contains clicks", True, scheduled.get("total_clicks", 0) > 0)

    say("redelivering")
    before = stack.counter_items()
    again = count(check, stack, group, "msk-batch", "redelivered")
    check("all of it was already counted", (0, first["counted"]), (again["counted"], again["already_counted"]))
    check("no counter changed", before, stack.counter_items())
    overlap = count(check, stack, group, "msk-redelivered", "with other batch boundaries")
    mixed = overlap["already_counted"] > 0 and overlap["counted"] > 0
    check("msk-redelivered.json contains counted clicks and new ones", True, mixed)
    rejects = count(check, stack, group, "msk-rejects", "delivered")
    mixed = rejects["rejected"] > 0 and rejects["counted"] > 0
    check("msk-rejects.json contains bad records and clicks", True, mixed)

    say("ranking again")
    backfill = event("backfill")
    reranked = rank(check, stack, group, backfill, "the backfill")
    check("the backfill replaced the scheduled snapshot", scheduled.get("window_end"), reranked.get("window_end"))
    check("it is newer", True, reranked.get("generated_at", "") > scheduled.get("generated_at", ""))
    check("it has the clicks that were counted since", True, reranked.get("total_clicks", 0) > scheduled.get("total_clicks", 0))
    following = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds(backfill["window_end"]) + 300))
    newest = rank(check, stack, group, {"window_end": following}, "the window after")

    malformed = {"window_end": "yesterday"}
    error, answer = stack.invoke("rank-products", malformed)
    check("a malformed window_end is a function error", ("Unhandled", "Request"), (error, answer.get("errorType")))
    check("its message names the field", True, "`window_end`" in answer.get("errorMessage", ""))
    check("it wrote no snapshot", newest, stack.newest())

    check_board(check, stack, newest)

    say("failing after all retries")
    # The emulator ignores the configuration of an alias, so the newest code gets the same.
    function = f"{STACK}-rank-products"
    config = stack.functions.get_function_event_invoke_config(FunctionName=function, Qualifier=wanted.LIVE)
    config = pick(config, ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig"))
    stack.functions.put_function_event_invoke_config(FunctionName=function, Qualifier="$LATEST", **config)
    stack.functions.invoke(FunctionName=function, Payload=json.dumps(malformed), InvocationType="Event")
    kept = dead_letter(malformed)
    check("the event of a failed ranking is in the dead-letter queue", malformed, kept)

    check_roles_are_needed(check, stack, backfill)
    check_logs(check, stack)


def read(url, path, signed):
    """Status and body of a request to a function URL. The emulator finds the function by the host name."""
    request = botocore.awsrequest.AWSRequest("GET", url.rstrip("/") + path)
    if signed:
        credentials = boto3.Session().get_credentials()
        botocore.auth.SigV4Auth(credentials, "lambda", sam.REGION).add_auth(request)
    headers = dict(request.headers) | {"Host": url.split("/")[2]}
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def check_board(check, stack, newest):
    """Checks that the board's URL serves the snapshot for signed requests only."""
    say("reading the board")
    config = stack.functions.get_function_url_config(FunctionName=f"{STACK}-read-board", Qualifier=wanted.LIVE)
    check("the board's URL requires signed requests", "AWS_IAM", config["AuthType"])
    url = config["FunctionUrl"]
    check("it rejects a request without a signature", 403, read(url, "/hot-products", signed=False)[0])
    status, body = read(url, "/hot-products?limit=2", signed=True)
    check("it accepts a signed request", 200, status)
    found = json.loads(body)
    expected = json.loads(json.dumps(newest, default=int))
    fields = ("window_start", "window_end", "generated_at", "final", "counted_through", "total_clicks")
    fields += ("distinct_products", "clicks_per_minute")
    check("it serves the newest snapshot", pick(expected, fields) | {"products": expected["products"][:2]}, found)
    hottest = found["products"][0]
    status, body = read(url, f"/products/{hottest['product_id']}/clicks?to={found['window_end']}", signed=True)
    added_up = json.loads(body).get("total_clicks")
    check("the minutes of an hour add up to a product's clicks", (200, hottest["clicks"]), (status, added_up))
    status, body = read(url, "/", signed=True)
    check("it serves the page", (200, True), (status, "<!doctype html>" in body))


def dead_letter(wanted_event):
    """The failed event from the queue, which may contain others if the emulator runs the schedule."""
    sqs = client("sqs")
    queue = sqs.get_queue_url(QueueName=f"{STACK}-rank-products-dead-letters")["QueueUrl"]
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2).get("Messages", []):
            body = json.loads(message["Body"])
            if body.get("requestPayload") == wanted_event:
                return body["requestPayload"]
    return None


def check_roles_are_needed(check, stack, request):
    """Checks that the emulator enforces the roles: with fewer permissions, the function fails."""
    say("removing a permission")
    iam = client("iam")
    role = stack.physical()["RankProductsRole"][1]
    policy = iam.get_role_policy(RoleName=role, PolicyName="function")["PolicyDocument"]
    less = [s for s in policy["Statement"] if s["Action"] != "dynamodb:Query"]
    check("one statement allows to read the counters", len(policy["Statement"]) - 1, len(less))
    iam.put_role_policy(RoleName=role, PolicyName="function", PolicyDocument=json.dumps(policy | {"Statement": less}))
    error, answer = stack.invoke("rank-products", request)
    check(
        "without it, rank-products fails and reports why",
        ("Unhandled", "Storage", True),
        (error, answer.get("errorType"), "AccessDenied" in answer.get("errorMessage", "")),
    )
    iam.put_role_policy(RoleName=role, PolicyName="function", PolicyDocument=json.dumps(policy))
    check("with it, rank-products succeeds again", None, stack.invoke("rank-products", request)[0])


def check_logs(check, stack):
    """Checks the log lines of the functions, from the invocations and from the log groups."""
    say("reading the logs")
    lines = [line for log in stack.logs for line in log.splitlines()]
    for name in "count-clicks", "rank-products":
        group = f"/aws/lambda/{STACK}-{name}"
        events = client("logs").filter_log_events(logGroupName=group)["events"]
        check(f"{name} writes to its log group", True, len(events) > 0)
        lines += [line for e in events for line in e["message"].splitlines()]
    metrics = []
    for line in lines:
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict) and "_aws" in value:
                metrics.append(value)
    functions = {f"{STACK}-count-clicks", f"{STACK}-rank-products"}
    check("both functions log metrics with their deployed names", functions, {m.get("function") for m in metrics})
    rehearse_alarms.check_logged(check, stack, metrics)
    namespaces = {definition["Namespace"] for m in metrics for definition in m["_aws"]["CloudWatchMetrics"]}
    check("the metrics have one namespace", {"HotProducts"}, namespaces)
    # For example of a missing permission at start, which only makes the function slower.
    check("there are no warnings", [], [line for line in lines if "WARN" in line.split()[:2]])

    users = set()
    for name in "msk-batch", "msk-redelivered", "msk-rejects":
        for records in event(name)["records"].values():
            for record in records:
                with contextlib.suppress(binascii.Error):
                    value = base64.b64decode(record.get("value") or "", validate=True)
                    users.update(user.decode() for user in re.findall(rb'"user_id": ?"([^"]+)"', value))
    check("the events contain user ids", True, len(users) > 0)
    items = [repr(stack.items(table)) for table in ("minute-counters", "snapshots", "rejected-events")]
    kept = "\n".join(lines + items)
    found = sorted(user for user in users if re.search(rf"\b{re.escape(user)}\b", kept))
    check("no log and no table contains a user id", [], found)


def check_deleted(check, physical):
    """Checks that no service lists a resource of the stack."""
    name_of = {name: physical_id for name, (_, physical_id) in physical.items()}
    functions = client("lambda")
    ours = {name_of[name] for name in wanted.GRANTS}
    left = {
        "stacks": [
            s["StackName"]
            for s in client("cloudformation").list_stacks()["StackSummaries"]
            if s["StackName"] == STACK and s["StackStatus"] != "DELETE_COMPLETE"
        ],
        "functions": [f["FunctionName"] for f in functions.list_functions()["Functions"]],
        "event sources": functions.list_event_source_mappings()["EventSourceMappings"],
        "tables": client("dynamodb").list_tables()["TableNames"],
        "roles": [r["RoleName"] for r in client("iam").list_roles()["Roles"] if r["RoleName"] in ours],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "schedules": client("scheduler").list_schedules()["Schedules"],
        "log groups": [
            g["logGroupName"]
            for g in client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{STACK}")["logGroups"]
        ],
    }
    for what, found in left.items():
        check(f"no {what} are left", [], found)


# ── The rehearsal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def rehearse(check, folder):
    if ARCHITECTURE is None or not sys.platform.startswith("linux"):
        raise CannotRehearse("the rehearsal needs Linux on x86_64 or arm64: the emulator runs the functions' binaries")
    port = free_port()
    cleaned = environment(os.environ, port, folder)
    os.environ.clear()
    os.environ.update(cleaned)
    tools = {"cargo": "get it from https://rustup.rs"}
    tools |= dict.fromkeys(("cargo-lambda", "aws", SAM, EMULATOR), "run `make rehearse`, which installs it")
    for tool, what_to_do in tools.items():
        if shutil.which(tool) is None:
            raise CannotRehearse(f"{tool} is not installed: {what_to_do}")
    # Without it, each sam command asks PyPI for a newer version.
    (folder / "sam").mkdir()
    (folder / "sam" / "metadata.json").write_text(json.dumps({"lastVersionCheck": time.time()}), encoding="utf-8")

    infra = ROOT / "infra"
    # Not in infra/.aws-sam: this build is for this machine, and a later deployment must not use it.
    built = folder / "build"
    say("building for release; the first build takes minutes")
    took = run(SAM, "build", "--build-dir", built, "--parameter-overrides", f"Architecture={ARCHITECTURE}", cwd=infra)
    say(f"built in {took:.0f} s")

    say("starting the emulator")
    emulator = Emulator(port, folder)
    loopback = {"0100007F"}
    try:
        check("the emulator listens on 127.0.0.1 only", loopback, emulator.listens_on())
        # sam searches for its settings next to the template.
        built_template = rehearse_alarms.deployable(built / "template.yaml")
        template = ("--template-file", built_template, "--config-file", infra / "samconfig.toml")
        plain = ("--no-confirm-changeset", "--no-progressbar")
        say("deploying to an empty account: first the network and the cluster")
        cluster, topic = rehearse_msk.deploy(check, folder), rehearse_alarms.make_topic()
        parameters = PARAMETERS | {"MskClusterArn": cluster, "AlarmTopicArn": topic}
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        say("then the stack of the functions")
        took = run(SAM, "deploy", "--resolve-s3", *template, *plain, "--parameter-overrides", *overrides, cwd=infra)
        say(f"deployed in {took:.0f} s")
        stack = Deployed(parameters)
        for name in "count-clicks", "rank-products", "read-board":
            size = stack.functions.get_function_configuration(FunctionName=f"{STACK}-{name}")["CodeSize"]
            say(f"{name}: {size / 1e6:.2f} MB zipped")

        say("checking the deployed resources")
        check_deployed(check, stack)
        rehearse_alarms.check_deployed(check, stack, topic)
        use(check, stack)
        rehearse_alarms.check_notifications(check, stack, topic)
        rehearse_doctor.check_doctor(check, port, stack.physical(), cluster)
        check("the emulator and the functions still listen on 127.0.0.1 only", loopback, emulator.listens_on())

        physical = stack.physical()
        took = run(SAM, "delete", "--no-prompts", cwd=infra)
        say(f"deleted in {took:.0f} s")
        check_deleted(check, physical)
        rehearse_alarms.check_deleted(check, topic)
        rehearse_msk.delete(check, cluster)
    except BaseException:
        print(f"The end of the emulator's log:\n{emulator.tail()}", file=sys.stderr)
        raise
    finally:
        left = emulator.stop()
    check("no process of the emulator is left", [], left)


def main():
    check = Checks()
    # So that `finally` and `with` also clean up after SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with tempfile.TemporaryDirectory(prefix="hot-products-rehearsal-") as folder:
        try:
            rehearse(check, pathlib.Path(folder))
        except CannotRehearse as problem:
            print(f"The rehearsal can't continue: {problem}", file=sys.stderr)
            check.failed += 1
        except Exception:
            # A response that differs from AWS, or from what the checks expect.
            traceback.print_exc()
            check.failed += 1
    say(f"{check.passed} checks passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
