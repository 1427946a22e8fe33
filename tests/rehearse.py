#!/usr/bin/env python3
"""Deploys both stacks to an AWS emulator on this machine, uses them, and deletes them: a rehearsal of the README's commands.

It proves that `sam build` and `sam deploy` take infra/template.yaml as it stands, but for three alarms (rehearse_alarms.py),
with the cluster that infra/msk.yaml made before, as far as the emulator has MSK (rehearse_msk.py); that what they deploy is
what tests/infra wants; that the functions as built for Lambda count and rank the events in events/ under nothing but the
rights of their roles; that the board's URL hands out the snapshot to who signs; that a batch delivered again moves no
count; that the alarms tell whom they should; and that `sam delete` leaves nothing of the stacks.

It does not prove what the emulator lacks: it has no Kafka poller and puts no time into the schedule's event, so the
functions are invoked directly; and it ignores the tables' TTL, encryption and recovery, and the event source's topic
and consumer group, so those are checked in the template as the emulator's CloudFormation processed it.

Nothing here can reach AWS: no setting of the caller's for AWS survives, the credentials are made up, and every service
has the emulator for an endpoint. Started by `make rehearse`, which also installs what it needs. Linux only, for the
emulator runs the functions' binaries itself.
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
    import rehearse_msk
    import sam
    import test_template as wanted
    from emulator import EMULATOR, SAM, CannotRehearse, Checks, Emulator, client, environment, free_port, run, say
except ImportError as error:
    sys.exit(f"{error}: start this with `make rehearse`, which installs what it needs")

STACK = "hot-products"
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine())
PARAMETERS = {
    "Architecture": ARCHITECTURE,
    "AlarmEmail": rehearse_alarms.EMAIL,
    # A protected table would be left, and with it the stack.
    "SnapshotProtection": "false",
    # The events are of 2022. Moving them to today would make other files of them than the ones that people are told to
    # invoke the functions with; so nothing is too old here, as in events/local.env. The defaults are the unit tests'.
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


# ── What the counts must be: a plain group-by, apart from the product's code ──────────────────────────────────────────


def no_constant(name):
    raise ValueError(name)  # NaN and Infinity are Python's JSON, nobody else's


def sort(record, now):
    """A record's outcome and, of a click, minute and product."""
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
    """What was delivered so far: each click once, whatever came twice."""

    def __init__(self):
        self.clicks = {}  # by source and offset, so that a record counts once

    def deliver(self, batch):
        """Takes a batch in. Returns the summary that count-clicks owes, and the rejects by source."""
        now = time.time() * 1000
        summary = dict.fromkeys(("records", "counted", "ignored", "stale", "rejected", "already_counted"), 0)
        rejects = collections.defaultdict(list)
        for source, records in batch["records"].items():
            for record in records:
                summary["records"] += 1
                outcome, click = sort(record, now)
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
        """Clicks, products and the order of the hour up to `end`, epoch seconds."""
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
    """The stack through the APIs that an operator has."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.functions = client("lambda")
        self.dynamodb = boto3.resource("dynamodb")
        self.logs = []

    def physical(self):
        found = client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
        return {r["LogicalResourceId"]: (r["ResourceType"], r["PhysicalResourceId"]) for r in found}

    def template(self):
        """The template as CloudFormation processed it, resolved for the cluster of tests/infra."""
        body = client("cloudformation").get_template(StackName=STACK, TemplateStage="Processed")["TemplateBody"]
        body = body if isinstance(body, dict) else sam.yaml_parse(body)
        return ProcessedTemplate(sam.Resolver(body, self.parameters | {"MskClusterArn": sam.CLUSTER}, STACK).resources())

    def invoke(self, name, event):
        """Invokes a function and returns its answer, or the error it answered with, and notes its log."""
        answer = self.functions.invoke(FunctionName=f"{STACK}-{name}", Payload=json.dumps(event), LogType="Tail")
        self.logs.append(base64.b64decode(answer.get("LogResult", "")).decode(errors="replace"))
        return answer.get("FunctionError"), json.load(answer["Payload"])

    def items(self, table):
        return self.dynamodb.Table(f"{STACK}-{table}").scan(ConsistentRead=True)["Items"]

    def counters(self):
        """The clicks by minute and product, over all shards and sources."""
        sums = collections.Counter()
        for item in self.items("minute-counters"):
            minute = calendar.timegm(time.strptime(item["bucket"].split("#")[0], "%Y-%m-%dT%H:%MZ")) // 60
            for name, clicks in item.items():
                if name.startswith("#"):
                    sums[minute, name[1:]] += int(clicks)
        return sums

    def newest(self):
        """The newest snapshot, as an app reads it."""
        answer = self.dynamodb.Table(f"{STACK}-snapshots").query(
            KeyConditionExpression=boto3.dynamodb.conditions.Key("board").eq("clicks"), ScanIndexForward=False, Limit=1
        )
        return answer["Items"][0] if answer["Items"] else None


class ProcessedTemplate:
    """A template as the checks of tests/infra take it."""

    def __init__(self, resources):
        self.resources = resources

    properties = wanted.Stack.properties
    of_type = wanted.Stack.of_type


def pick(found, keys):
    return {key: found.get(key) for key in keys}


def check_deployed(check, stack):
    """What was deployed, against the lists of tests/infra/test_template.py."""
    physical = stack.physical()
    kinds = {name: kind for name, (kind, _) in physical.items()}
    # As somebody is mailed.
    inventory = wanted.INVENTORY | {"AlarmTopic": "AWS::SNS::Topic", "AlarmTopicPolicy": "AWS::SNS::TopicPolicy"}
    check("the stack has the template's resources, no more", inventory, kinds)
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
        check(f"{name} grants what the template says, each action and resource", sorted(grants), sorted(found))
        attached = iam.list_attached_role_policies(RoleName=name_of[name])["AttachedPolicies"]
        check(f"{name} has no managed policy", [], attached)
        trust = role["AssumeRolePolicyDocument"]["Statement"]
        owed = [
            ("Allow", "sts:AssumeRole", {"Service": service}, condition) for service, condition in wanted.TRUST[name]
        ]
        trusted = [(s["Effect"], s["Action"], s["Principal"], s.get("Condition", {})) for s in trust]
        check(f"{name} trusts its one service", owed, trusted)

    for name, memory in ("CountClicks", 512), ("RankProducts", 1024), ("ReadBoard", 512):
        function = stack.functions.get_function_configuration(FunctionName=name_of[f"{name}Function"])
        runs = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Architectures": [ARCHITECTURE]}
        runs |= {"Timeout": wanted.TIMEOUTS[f"{name}Function"], "MemorySize": memory, "Role": arns[f"{name}Role"]}
        check(f"{name} runs as the template says", runs, pick(function, runs))
        settings = {key: SETTINGS.get(key, value) for key, value in wanted.SETTINGS[f"{name}Function"].items()}
        check(f"{name} has its settings, no more", settings, function["Environment"]["Variables"])
        group = name_of[f"{name}Logs"]
        logging = {"LogFormat": "Text", "LogGroup": group}
        check(f"{name} logs plain text into its group", logging, pick(function["LoggingConfig"], logging))
        groups = client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        kept = [{"logGroupName": group, "retentionInDays": 30}]
        check(f"{name} keeps its logs for 30 days", kept, [pick(g, kept[0]) for g in groups])

    sources = stack.functions.list_event_source_mappings()["EventSourceMappings"]
    check("there is one event source", 1, len(sources))
    brings = {
        "EventSourceArn": cluster,
        "FunctionArn": f"arn:aws:lambda:{wanted.ARN}:function:{STACK}-count-clicks",
        "State": "Enabled",
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10_000,
        "MaximumBatchingWindowInSeconds": 30,
    }
    check("it brings count-clicks the cluster's records, 10,000 or 30 s of them", brings, pick(sources[0], brings))
    gives_up = ("DestinationConfig", "FunctionResponseTypes", "BisectBatchOnFunctionError")
    gives_up += ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
    check("it never gives a batch up, nor a part of one", [], [key for key in gives_up if sources[0].get(key)])

    schedule = client("scheduler").get_schedule(Name=name_of["RankProductsFunctionEveryFiveMinutes"])
    runs = {"ScheduleExpression": "cron(1/5 * * * ? *)", "ScheduleExpressionTimezone": "UTC"}
    runs |= {"FlexibleTimeWindow": {"Mode": "OFF"}, "State": "ENABLED"}
    check("the schedule is a minute after each five-minute boundary, and on", runs, pick(schedule, runs))
    target = {
        "Arn": wanted.RANK_PRODUCTS,
        "RoleArn": arns["ScheduleRole"],
        "Input": '{"scheduled_time":"<aws.scheduler.scheduled-time>"}',
        "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 10},
        "DeadLetterConfig": {"Arn": wanted.DEAD_LETTERS},
    }
    check("it hands rank-products the time it was due, and keeps what it can't hand over", target, schedule["Target"])

    function = {"FunctionName": f"{STACK}-rank-products", "Qualifier": "$LATEST"}
    config = stack.functions.get_function_event_invoke_config(**function)
    failing = {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 3600}
    check("a ranking that fails is tried three times in an hour", failing, pick(config, failing))
    kept = {"Destination": wanted.DEAD_LETTERS}
    check("then it is kept", kept, config.get("DestinationConfig", {}).get("OnFailure"))

    for table, keys in wanted.TABLES.values():
        found = client("dynamodb").describe_table(TableName=table)["Table"]
        types = {a["AttributeName"]: a["AttributeType"] for a in found["AttributeDefinitions"]}
        found = [(k["AttributeName"], k["KeyType"], types[k["AttributeName"]]) for k in found["KeySchema"]]
        check(f"the table {table} has its keys", keys, found)

    # What the emulator takes and then forgets.
    template = stack.template()
    check.holds("as processed: each table has TTL, encryption, keys, and no capacity", wanted.check_tables, template)
    check.holds("as processed: the event source has topic, group, and no more", wanted.check_event_source, template)
    check.holds("as processed: nothing is public", wanted.check_nothing_public, template)


# ── The deployed stack in use ─────────────────────────────────────────────────────────────────────────────────────────


def event(name):
    return json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))


def count(check, stack, group, name, what):
    """Delivers a file's batch. count-clicks must answer what the group-by says, and the tables hold it."""
    batch = event(name)
    owed, rejects = group.deliver(batch)
    error, summary = stack.invoke("count-clicks", batch)
    check(f"{name}.json, {what}: {owed}", (None, owed), (error, {k: summary.get(k) for k in owed}))
    check(f"{name}.json, {what}: the counters are the group-by's", group.counters(), stack.counters())
    notes = {(item["source"], int(item["first_offset"])): item for item in stack.items("rejected-events")}
    for source, rejected in rejects.items():
        note = notes.get((source, min(offset for offset, _ in rejected)), {})
        check(
            f"{name}.json, {what}: what {source} had rejected is noted, offset by offset, with reasons",
            ([offset for offset, _ in rejected], collections.Counter(reason for _, reason in rejected)),
            ([int(o) for o in note.get("offsets", [])], {r: int(n) for r, n in note.get("reasons", {}).items()}),
        )
    return {key: summary.get(key, 0) for key in owed}


def rank(check, stack, group, request, what, previous=None):
    """Invokes rank-products; the newest snapshot must be what the group-by says. Returns the snapshot."""
    time_of = request.get("window_end") or request["scheduled_time"]
    end = seconds(time_of) // 300 * 300
    end_text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
    error, summary = stack.invoke("rank-products", request)
    done = {"written": True, "window_end": end_text}
    check(f"{what}: the snapshot of {end_text} is written", (None, done), (error, pick(summary, done)))
    snapshot = stack.newest() or {}
    clicks, products, order = group.window(end)
    owed = {"window_end": end_text, "total_clicks": clicks, "distinct_products": products, "products": order}
    places = [(int(p["rank"]), p["product_id"], int(p["clicks"])) for p in snapshot.get("products", [])]
    what_newest = f"{what}: the newest snapshot is the group-by's, {clicks} clicks on {products} products"
    check(what_newest, owed, pick(snapshot, owed) | {"products": places})
    before = {p["product_id"]: p["rank"] for p in (previous or {}).get("products", [])}
    found = {p["product_id"]: p["previous_rank"] for p in snapshot.get("products", []) if "previous_rank" in p}
    check(f"{what}: {len(before)} products have the rank they had five minutes before", before, found)
    return snapshot


def use(check, stack):
    group = GroupBy()
    say("counting")
    first = count(check, stack, group, "msk-batch", "delivered")
    check("msk-batch.json holds clicks", True, first["counted"] > 0)

    say("ranking")
    scheduled = rank(check, stack, group, event("schedule"), "the schedule's event")
    check("the schedule's window holds clicks", True, scheduled.get("total_clicks", 0) > 0)

    say("delivering again")
    before = stack.items("minute-counters")
    again = count(check, stack, group, "msk-batch", "delivered again")
    check("all of it was counted already", (0, first["counted"]), (again["counted"], again["already_counted"]))
    check("no counter moved", before, stack.items("minute-counters"))
    overlap = count(check, stack, group, "msk-redelivered", "cut elsewhere")
    mixed = overlap["already_counted"] > 0 and overlap["counted"] > 0
    check("msk-redelivered.json holds clicks counted already, and more", True, mixed)
    rejects = count(check, stack, group, "msk-rejects", "delivered")
    mixed = rejects["rejected"] > 0 and rejects["counted"] > 0
    check("msk-rejects.json holds bad records, and clicks among them", True, mixed)

    say("ranking again")
    backfill = event("backfill")
    reranked = rank(check, stack, group, backfill, "the backfill")
    check("the backfill took the scheduled snapshot's place", scheduled.get("window_end"), reranked.get("window_end"))
    check("it is newer", True, reranked.get("generated_at", "") > scheduled.get("generated_at", ""))
    check("it has the clicks that came since", True, reranked.get("total_clicks", 0) > scheduled.get("total_clicks", 0))
    following = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds(backfill["window_end"]) + 300))
    newest = rank(check, stack, group, {"window_end": following}, "the window after", reranked)

    malformed = {"window_end": "yesterday"}
    error, answer = stack.invoke("rank-products", malformed)
    check("a malformed window_end is a function error", ("Unhandled", "Request"), (error, answer.get("errorType")))
    check("its message says which field", True, "`window_end`" in answer.get("errorMessage", ""))
    check("no snapshot came of it", newest, stack.newest())

    check_board(check, stack, newest)

    say("failing for good")
    stack.functions.invoke(FunctionName=f"{STACK}-rank-products", Payload=json.dumps(malformed), InvocationType="Event")
    kept = dead_letter(malformed)
    check("a ranking that failed for good is among the dead letters, with its event", malformed, kept)

    check_roles_are_needed(check, stack, backfill)
    check_logs(check, stack)


def read(url, path, signed):
    """Status and body of a request to a function URL, which the emulator knows by the host's name."""
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
    """The board's URL: the snapshot for who signs, and for nobody else."""
    say("reading the board")
    config = stack.functions.get_function_url_config(FunctionName=f"{STACK}-read-board")
    check("the board's URL asks for signed requests", "AWS_IAM", config["AuthType"])
    url = config["FunctionUrl"]
    check("without a signature there is no answer", 403, read(url, "/hot-products", signed=False)[0])
    status, body = read(url, "/hot-products?limit=2", signed=True)
    check("with one there is", 200, status)
    found = json.loads(body)
    expected = json.loads(json.dumps(newest, default=int))
    fields = ("window_start", "window_end", "generated_at", "total_clicks", "distinct_products", "clicks_per_minute")
    check("it is the newest snapshot", pick(expected, fields) | {"products": expected["products"][:2]}, found)
    hottest = found["products"][0]
    status, body = read(url, f"/products/{hottest['product_id']}/clicks?to={found['window_end']}", signed=True)
    added_up = json.loads(body).get("total_clicks")
    check("an hour of minutes adds up to a product's clicks", (200, hottest["clicks"]), (status, added_up))
    status, body = read(url, "/", signed=True)
    check("the page is there", (200, True), (status, "<!doctype html>" in body))


def dead_letter(wanted_event):
    """The failed event, from the queue. Others may be there, if the emulator runs the schedule meanwhile."""
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
    """That all of the above ran under the roles, and not because nobody looked: less rights, and it fails."""
    say("taking a right away")
    iam = client("iam")
    role = stack.physical()["RankProductsRole"][1]
    policy = iam.get_role_policy(RoleName=role, PolicyName="function")["PolicyDocument"]
    less = [s for s in policy["Statement"] if s["Action"] != "dynamodb:Query"]
    check("the right to read the counters is one statement", len(policy["Statement"]) - 1, len(less))
    iam.put_role_policy(RoleName=role, PolicyName="function", PolicyDocument=json.dumps(policy | {"Statement": less}))
    error, answer = stack.invoke("rank-products", request)
    check(
        "without it rank-products fails, and says so",
        ("Unhandled", "Storage", True),
        (error, answer.get("errorType"), "AccessDenied" in answer.get("errorMessage", "")),
    )
    iam.put_role_policy(RoleName=role, PolicyName="function", PolicyDocument=json.dumps(policy))
    check("with it rank-products works again", None, stack.invoke("rank-products", request)[0])


def check_logs(check, stack):
    """The functions' log lines, as far as invocations return them and as the log groups hold them."""
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
    check("both functions log metrics, under their deployed names", functions, {m.get("function") for m in metrics})
    rehearse_alarms.check_logged(check, stack, metrics)
    namespaces = {definition["Namespace"] for m in metrics for definition in m["_aws"]["CloudWatchMetrics"]}
    check("the metrics are of one namespace", {"HotProducts"}, namespaces)
    # Such as one of a right that is missing when a function starts; it works all the same, but slower.
    check("there are no warnings", [], [line for line in lines if "WARN" in line.split()[:2]])

    users = set()
    for name in "msk-batch", "msk-redelivered", "msk-rejects":
        for records in event(name)["records"].values():
            for record in records:
                with contextlib.suppress(binascii.Error):
                    value = base64.b64decode(record.get("value") or "", validate=True)
                    users.update(user.decode() for user in re.findall(rb'"user_id": ?"([^"]+)"', value))
    check("the events hold user ids", True, len(users) > 0)
    items = [repr(stack.items(table)) for table in ("minute-counters", "snapshots", "rejected-events")]
    kept = "\n".join(lines + items)
    found = sorted(user for user in users if re.search(rf"\b{re.escape(user)}\b", kept))
    check("no user id is in a log or a table", [], found)


def check_deleted(check, physical):
    """Nothing of the stack is left, by the lists of each service."""
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
        raise CannotRehearse("the emulator runs the functions' binaries itself: rehearse on Linux, x86_64 or arm64")
    port = free_port()
    cleaned = environment(os.environ, port, folder)
    os.environ.clear()
    os.environ.update(cleaned)
    tools = {"cargo": "get it from https://rustup.rs"}
    tools |= dict.fromkeys(("cargo-lambda", SAM, EMULATOR), "run `make rehearse`, which installs it")
    for tool, what_to_do in tools.items():
        if shutil.which(tool) is None:
            raise CannotRehearse(f"there is no {tool}: {what_to_do}")
    # Or sam asks PyPI, at each command, whether there is a newer one.
    (folder / "sam").mkdir()
    (folder / "sam" / "metadata.json").write_text(json.dumps({"lastVersionCheck": time.time()}), encoding="utf-8")

    infra = ROOT / "infra"
    # Not into infra/.aws-sam: what is built here is for this machine, and a deployment that follows must not take it.
    built = folder / "build"
    say("building for release; the first time that takes minutes")
    took = run(SAM, "build", "--build-dir", built, "--parameter-overrides", f"Architecture={ARCHITECTURE}", cwd=infra)
    say(f"built in {took:.0f} s")

    say("starting the emulator")
    emulator = Emulator(port, folder)
    loopback = {"0100007F"}
    try:
        check("the emulator listens on 127.0.0.1, and nowhere else", loopback, emulator.listens_on())
        # sam looks for its settings beside the template.
        built_template = rehearse_alarms.without_expressions(built / "template.yaml")
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

        say("looking at what was deployed")
        check_deployed(check, stack)
        rehearse_alarms.check_deployed(check, stack, topic)
        use(check, stack)
        rehearse_alarms.check_they_tell(check, stack, topic)
        check("it still listens nowhere else, nor do the functions", loopback, emulator.listens_on())

        physical = stack.physical()
        took = run(SAM, "delete", "--no-prompts", cwd=infra)
        say(f"deleted in {took:.0f} s")
        check_deleted(check, physical)
        rehearse_alarms.check_deleted(check, topic)
        rehearse_msk.delete(check, cluster)
    except BaseException:
        print(f"The emulator's last words:\n{emulator.tail()}", file=sys.stderr)
        raise
    finally:
        left = emulator.stop()
    check("no process of the emulator is left", [], left)


def main():
    check = Checks()
    # So that `finally` and `with` clean up also when somebody ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with tempfile.TemporaryDirectory(prefix="hot-products-rehearsal-") as folder:
        try:
            rehearse(check, pathlib.Path(folder))
        except CannotRehearse as problem:
            print(f"The rehearsal broke off: {problem}", file=sys.stderr)
            check.failed += 1
        except Exception:
            # An answer that is not AWS's, or not of the shape that the checks expect.
            traceback.print_exc()
            check.failed += 1
    say(f"{check.passed} checks passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
