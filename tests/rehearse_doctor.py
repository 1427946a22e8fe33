"""Checks `hot doctor` on the deployed stack: each part is broken in turn, and exactly its line turns wrong.

`hot` runs the AWS CLI as a user who has infra/policies/doctor.json and nothing else, and the emulator enforces it. So a command
that the policy does not allow, or that writes, would fail here.

The emulator lacks some of what the doctor asks for. A gateway in front of it adds that, and passes on everything else:
- MSK's API has neither DescribeClusterV2 nor topics. The gateway answers the first with what the emulator knows of the cluster,
  and the second from a list. The emulator's permissions do not apply to them.
- The emulator forgets the topic and the consumer group of an event source. The gateway adds those of the template, and in one
  test another topic, which no call can set. The mode of a queue has a unit test only: the AWS CLI does not print it yet.
- The gateway can give answers another date, because nobody sets this machine's clock for a test.
"""

import base64
import contextlib
import email.utils
import http.client
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import urllib.parse

from emulator import ROOT, CannotRehearse, client, say

STACK = "hot-products"
POLICY = ROOT / "infra" / "policies" / "doctor.json"
HOT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "hot"
MAPPINGS = "/2015-03-31/event-source-mappings"
NOT_KEPT = {"Connection", "Content-Length", "Date", "Keep-Alive", "Transfer-Encoding"}
# The emulator asks for the second permission where AWS asks for the first.
NAMED_OTHERWISE = {"lambda:GetAlias": "lambda:ListAliases"}
# What the doctor may call. The names of API actions that only read begin like this.
READS = ("Describe", "Get", "List", "Query")


class Gateway(http.server.ThreadingHTTPServer):
    """Passes requests on to the emulator, and adds what it lacks."""

    daemon_threads = True

    def __init__(self, port, topics):
        super().__init__(("127.0.0.1", 0), Handler)
        self.emulator = port
        self.topics = topics
        # What an event source has and the emulator forgets.
        self.source = {}
        self.seconds_ahead = 0
        # The actions that were called, and requests that are not known to read.
        self.called, self.others = set(), set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.note(body)
        path = urllib.parse.unquote(self.path)
        if match := re.fullmatch(r"/v1/clusters/(.+)/topics/([^/?]+)", path):
            status, headers, answer = self.topic(match[2])
        elif match := re.fullmatch(r"/api/v2/clusters/(.+)", path):
            status, headers, answer = self.cluster(match[1])
        else:
            status, headers, answer = self.forward(self.path, body)
            if status == 200 and path.split("?")[0].rstrip("/") == MAPPINGS:
                found = json.loads(answer)
                found["EventSourceMappings"] = [m | self.server.source for m in found["EventSourceMappings"]]
                answer = json.dumps(found).encode()
        self.send_response_only(status)
        for name, value in headers.items():
            if name.title() not in NOT_KEPT:
                self.send_header(name, value)
        self.send_header("Date", email.utils.formatdate(time.time() + self.server.seconds_ahead, usegmt=True))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = respond

    def log_message(self, *_):
        pass

    def note(self, body):
        """Notes the action of a request: from its header, its form, or the path of the protocol."""
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        action = action or urllib.parse.parse_qs(body.decode("latin-1")).get("Action", [""])[0]
        action = action or self.path.partition("/operation/")[2]
        if action:
            self.server.called.add(action)
        if not (action.startswith(READS) if action else self.command == "GET"):
            self.server.others.add(f"{self.command} {self.path} {action}")

    def forward(self, path, body=b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.emulator, timeout=60)
        with contextlib.closing(connection):
            headers = {name: value for name, value in self.headers.items() if name.title() not in NOT_KEPT}
            connection.request(self.command, path, body, headers)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()

    def topic(self, name):
        partitions = self.server.topics.get(name)
        if partitions is None:
            return self.json(404, {"message": f"The topic {name} does not exist."}, "NotFoundException")
        return self.json(200, {"topicName": name, "partitionCount": partitions, "replicationFactor": 3, "status": "ACTIVE"})

    def cluster(self, arn):
        found = client("kafka").describe_cluster(ClusterArn=arn)["ClusterInfo"]
        nodes = found["BrokerNodeGroupInfo"]
        nodes = {"clientSubnets": nodes["ClientSubnets"], "securityGroups": nodes["SecurityGroups"]}
        info = {"clusterArn": arn, "clusterName": found["ClusterName"], "state": found["State"], "clusterType": "PROVISIONED"}
        return self.json(200, {"clusterInfo": info | {"provisioned": {"brokerNodeGroupInfo": nodes}}})

    @staticmethod
    def json(status, value, error=None):
        headers = {"Content-Type": "application/json"} | ({"X-Amzn-ErrorType": error} if error else {})
        return status, headers, json.dumps(value).encode()


class Doctor:
    """Runs `hot doctor` as a user with a policy."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.iam = client("iam")
        self.iam.create_user(UserName="doctor")
        self.allow(POLICY.read_text(encoding="utf-8"))
        self.key = self.iam.create_access_key(UserName="doctor")["AccessKey"]

    def allow(self, document):
        for action, name in NAMED_OTHERWISE.items():
            document = document.replace(f'"{action}"', f'"{name}"')
        self.iam.put_user_policy(UserName="doctor", PolicyName="doctor", PolicyDocument=document)

    def run(self, *arguments, **variables):
        """The exit code, and what was printed on standard output and standard error."""
        environment = os.environ | {
            "AWS_ENDPOINT_URL": self.gateway.url,
            "AWS_ACCESS_KEY_ID": self.key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.key["SecretAccessKey"],
        }
        command = [HOT, "doctor", *arguments]
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    def report(self, *arguments):
        """The exit code, the lines that are wrong, those that are unknown, and the report."""
        code, out, err = self.run("--json", *arguments)
        if not out:
            return code, {}, {}, {"error": err}
        report = json.loads(out)
        by_status = {"ok": {}, "wrong": {}, "unknown": {}}
        for finding in report["findings"]:
            by_status[finding["status"]][finding["check"]] = finding
        return code, by_status["wrong"], by_status["unknown"], report

    def close(self):
        self.iam.delete_access_key(UserName="doctor", AccessKeyId=self.key["AccessKeyId"])
        self.iam.delete_user_policy(UserName="doctor", PolicyName="doctor")
        self.iam.delete_user(UserName="doctor")
        self.gateway.shutdown()
        self.gateway.server_close()


class Stack:
    """The deployed stack: what keeps it going, and what breaks and repairs its parts."""

    def __init__(self, physical, gateway, cluster):
        self.physical = physical
        self.gateway = gateway
        self.cluster = cluster
        self.lambdas, self.dynamodb, self.ec2 = client("lambda"), client("dynamodb"), client("ec2")
        self.cloudwatch, self.scheduler, self.iam = client("cloudwatch"), client("scheduler"), client("iam")
        self.offset = 1_000_000
        # The endpoint in place of a deleted one, which the stack does not know.
        self.recreated = None

    def keep_going(self):
        """A click is counted, the last window ranked, and the poller reports, as if the stack were in use."""
        now = time.time()
        value = {"event_time": int(now * 1000) - 1000, "product_id": "p1", "action": "click"}
        record = {"topic": "clicks", "partition": 0, "offset": self.offset, "timestamp": int(now * 1000)}
        record |= {"timestampType": "CREATE_TIME", "key": None, "headers": []}
        record |= {"value": base64.b64encode(json.dumps(value).encode()).decode()}
        self.offset += 1
        batch = {"eventSource": "aws:kafka", "eventSourceArn": self.cluster, "bootstrapServers": "b-1:9098"}
        self.invoke("count-clicks", batch | {"records": {"clicks-0": [record]}})
        self.invoke("rank-products", {"window_end": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))})
        # The emulator evaluates alarms with the failures that the rehearsal has caused.
        for alarm in self.cloudwatch.describe_alarms(AlarmNamePrefix=f"{STACK}-", StateValue="ALARM")["MetricAlarms"]:
            self.cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="OK", StateReason="a rehearsal")

    def invoke(self, name, event):
        function = {"FunctionName": f"{STACK}-{name}", "Qualifier": "live"}
        answer = self.lambdas.invoke(**function, Payload=json.dumps(event))
        if answer.get("FunctionError"):
            raise CannotRehearse(f"{name} failed: {answer['Payload'].read().decode()}")

    def poll(self):
        mapping = {"Name": "EventSourceMappingUUID", "Value": self.mapping()["UUID"]}
        function = {"Name": "FunctionName", "Value": f"{STACK}-count-clicks"}
        data = [
            {"MetricName": "PolledEventCount", "Dimensions": [mapping], "Value": 1},
            {"MetricName": "OffsetLag", "Dimensions": [function], "Value": 0},
        ]
        self.cloudwatch.put_metric_data(Namespace="AWS/Lambda", MetricData=data)

    def mapping(self):
        (mapping,) = self.lambdas.list_event_source_mappings(FunctionName=f"{STACK}-count-clicks")["EventSourceMappings"]
        return mapping

    # Each break is a context manager, so that it is repaired in any case.

    @contextlib.contextmanager
    def mapping_disabled(self):
        uuid = self.mapping()["UUID"]
        self.lambdas.update_event_source_mapping(UUID=uuid, Enabled=False)
        yield
        self.lambdas.update_event_source_mapping(UUID=uuid, Enabled=True)

    @contextlib.contextmanager
    def partial_failures(self):
        uuid = self.mapping()["UUID"]
        self.lambdas.update_event_source_mapping(UUID=uuid, FunctionResponseTypes=["ReportBatchItemFailures"])
        yield
        self.lambdas.update_event_source_mapping(UUID=uuid, FunctionResponseTypes=[])

    @contextlib.contextmanager
    def mapping_deleted(self):
        """Not repaired, because the emulator makes no event source for MSK by API."""
        self.lambdas.delete_event_source_mapping(UUID=self.mapping()["UUID"])
        yield

    @contextlib.contextmanager
    def source(self, **properties):
        """What only the gateway can change."""
        before = self.gateway.source
        self.gateway.source = before | properties
        yield
        self.gateway.source = before

    @contextlib.contextmanager
    def topic_deleted(self):
        topics, self.gateway.topics = self.gateway.topics, {}
        yield
        self.gateway.topics = topics

    @contextlib.contextmanager
    def clock_ahead(self, seconds):
        self.gateway.seconds_ahead = seconds
        yield
        self.gateway.seconds_ahead = 0

    def schedule(self):
        schedule = self.scheduler.get_schedule(Name=f"{STACK}-rank-products")
        kept = ("Name", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "Target", "Description")
        return {key: schedule[key] for key in kept}

    @contextlib.contextmanager
    def schedule_disabled(self):
        schedule = self.schedule()
        self.scheduler.update_schedule(**schedule, State="DISABLED")
        yield
        self.scheduler.update_schedule(**schedule, State="ENABLED")

    @contextlib.contextmanager
    def schedule_deleted(self):
        schedule = self.schedule()
        self.scheduler.delete_schedule(Name=schedule["Name"])
        yield
        self.scheduler.create_schedule(**schedule)

    def alarm(self, name):
        (alarm,) = self.cloudwatch.describe_alarms(AlarmNames=[f"{STACK}-{name}"])["MetricAlarms"]
        members = self.cloudwatch.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
        return {key: value for key, value in alarm.items() if key in members and value not in (None, [], "")}

    @contextlib.contextmanager
    def alarm_deleted(self, name):
        alarm = self.alarm(name)
        self.cloudwatch.delete_alarms(AlarmNames=[alarm["AlarmName"]])
        yield
        self.cloudwatch.put_metric_alarm(**alarm)

    @contextlib.contextmanager
    def alarm_changed(self, name, **properties):
        alarm = self.alarm(name)
        self.cloudwatch.put_metric_alarm(**alarm | properties)
        yield
        self.cloudwatch.put_metric_alarm(**alarm)

    @contextlib.contextmanager
    def alarm_actions_disabled(self, name):
        self.cloudwatch.disable_alarm_actions(AlarmNames=[f"{STACK}-{name}"])
        yield
        self.cloudwatch.enable_alarm_actions(AlarmNames=[f"{STACK}-{name}"])

    @contextlib.contextmanager
    def alarm_off(self, name):
        state = {"AlarmName": f"{STACK}-{name}", "StateReason": "a rehearsal"}
        self.cloudwatch.set_alarm_state(**state, StateValue="ALARM")
        yield
        self.cloudwatch.set_alarm_state(**state, StateValue="OK")

    @contextlib.contextmanager
    def unsubscribed(self):
        sns, topic = client("sns"), self.physical["AlarmTopic"][1]
        (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        yield
        sns.subscribe(TopicArn=topic, Protocol=subscription["Protocol"], Endpoint=subscription["Endpoint"])

    @contextlib.contextmanager
    def table_deleted(self, name):
        table = self.dynamodb.describe_table(TableName=f"{STACK}-{name}")["Table"]
        items = self.dynamodb.scan(TableName=table["TableName"])["Items"]
        self.dynamodb.delete_table(TableName=table["TableName"])
        yield
        keys = {key: table[key] for key in ("TableName", "KeySchema", "AttributeDefinitions")}
        self.dynamodb.create_table(**keys, BillingMode="PAY_PER_REQUEST")
        for item in items:
            self.dynamodb.put_item(TableName=table["TableName"], Item=item)

    @contextlib.contextmanager
    def other_layout(self):
        table = f"{STACK}-minute-counters"
        key = {"bucket": {"S": "layout"}, "source": {"S": "-"}}
        item = self.dynamodb.get_item(TableName=table, Key=key)["Item"]
        self.dynamodb.put_item(TableName=table, Item=item | {"version": {"N": "1"}})
        yield
        self.dynamodb.put_item(TableName=table, Item=item)

    @contextlib.contextmanager
    def stale_snapshots(self):
        """Without the snapshots of the last hours, the newest one is old."""
        table = f"{STACK}-snapshots"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 6 * 3600))
        names, values = {"#b": "board", "#e": "window_end"}, {":b": {"S": "clicks"}, ":e": {"S": now}}
        query = {"ExpressionAttributeNames": names, "ExpressionAttributeValues": values}
        recent = self.dynamodb.query(TableName=table, KeyConditionExpression="#b = :b AND #e > :e", **query)["Items"]
        for item in recent:
            self.dynamodb.delete_item(TableName=table, Key={key: item[key] for key in names.values()})
        yield
        for item in recent:
            self.dynamodb.put_item(TableName=table, Item=item)

    @contextlib.contextmanager
    def alias_deleted(self, name):
        alias = self.lambdas.get_alias(FunctionName=f"{STACK}-{name}", Name="live")
        self.lambdas.delete_alias(FunctionName=f"{STACK}-{name}", Name="live")
        yield
        self.lambdas.create_alias(FunctionName=f"{STACK}-{name}", Name="live", FunctionVersion=alias["FunctionVersion"])

    @contextlib.contextmanager
    def alias_moved(self, name):
        alias = self.lambdas.get_alias(FunctionName=f"{STACK}-{name}", Name="live")
        self.lambdas.update_alias(FunctionName=f"{STACK}-{name}", Name="live", FunctionVersion="$LATEST")
        yield
        self.lambdas.update_alias(FunctionName=f"{STACK}-{name}", Name="live", FunctionVersion=alias["FunctionVersion"])

    @contextlib.contextmanager
    def policy_deleted(self, role, name):
        role = self.physical[role][1]
        document = self.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        self.iam.delete_role_policy(RoleName=role, PolicyName=name)
        yield
        self.iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))

    @contextlib.contextmanager
    def policy_without(self, role, name, action):
        role = self.physical[role][1]
        document = self.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        less = [s for s in document["Statement"] if s["Action"] != action]
        policy = {"RoleName": role, "PolicyName": name}
        self.iam.put_role_policy(**policy, PolicyDocument=json.dumps(document | {"Statement": less}))
        yield
        self.iam.put_role_policy(**policy, PolicyDocument=json.dumps(document))

    @contextlib.contextmanager
    def endpoint_deleted(self, service):
        found = self.ec2.describe_vpc_endpoints()["VpcEndpoints"]
        (endpoint,) = (e for e in found if e["ServiceName"].endswith(f".{service}"))
        self.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
        yield
        kept = ("VpcId", "ServiceName", "VpcEndpointType", "SubnetIds")
        made = self.ec2.create_vpc_endpoint(**{key: endpoint[key] for key in kept})
        self.recreated = made["VpcEndpoint"]["VpcEndpointId"]

    @contextlib.contextmanager
    def rule_removed(self):
        brokers = client("kafka").describe_cluster(ClusterArn=self.cluster)["ClusterInfo"]["BrokerNodeGroupInfo"]
        (group,) = self.ec2.describe_security_groups(GroupIds=brokers["SecurityGroups"])["SecurityGroups"]
        for permission in group["IpPermissions"]:
            for pair in permission["UserIdGroupPairs"]:
                # The emulator finds a rule only without it.
                del pair["UserId"]
        rules = {"GroupId": group["GroupId"], "IpPermissions": group["IpPermissions"]}
        self.ec2.revoke_security_group_ingress(**rules)
        yield
        self.ec2.authorize_security_group_ingress(**rules)

    def breaks(self):
        """What is broken, the lines that turn wrong, and those that can't be checked then."""
        counters = {"layout", "counting"}
        return [
            ("the event source is disabled", self.mapping_disabled(), {"event-source"}, {"poller"}),
            ("the event source reads another topic", self.source(Topics=["views"]), {"event-source-reads"}, set()),
            ("the event source takes partial failures", self.partial_failures(), {"event-source-rules"}, set()),
            ("the schedule is disabled", self.schedule_disabled(), {"schedule"}, set()),
            ("the schedule is deleted", self.schedule_deleted(), {"schedule"}, set()),
            ("no window was ranked for hours", self.stale_snapshots(), {"snapshot"}, set()),
            ("an alarm is deleted", self.alarm_deleted("throttled-writes"), {"alarms"}, set()),
            ("an alarm has another limit", self.alarm_changed("event-source-lag", Threshold=1e9), {"alarms"}, set()),
            ("an alarm's actions are off", self.alarm_actions_disabled("no-snapshot"), {"alarm-actions"}, set()),
            ("an alarm went off", self.alarm_off("dead-letters"), {"alarm-states"}, set()),
            ("nobody is subscribed", self.unsubscribed(), {"alarm-email"}, set()),
            ("the table of rejects is deleted", self.table_deleted("rejected-events"), {f"table {STACK}-rejected-events"}, set()),
            ("the counters are deleted", self.table_deleted("minute-counters"), {f"table {STACK}-minute-counters"}, counters),
            ("the counters have another layout", self.other_layout(), {"layout"}, {"counting"}),
            ("an alias is deleted", self.alias_deleted("rank-products"), {f"function {STACK}-rank-products"}, set()),
            ("an alias is moved by hand", self.alias_moved("count-clicks"), {f"function {STACK}-count-clicks"}, set()),
            ("a role has lost a policy", self.policy_deleted("CountClicksRole", "function"), {"role CountClicksRole"}, set()),
            (
                "a policy has lost an action",
                self.policy_without("RankProductsRole", "function", "dynamodb:Query"),
                {"role RankProductsRole"},
                set(),
            ),
            ("the topic does not exist", self.topic_deleted(), {"topic"}, set()),
            ("an endpoint is missing", self.endpoint_deleted("sts"), {"network-endpoints"}, set()),
            ("the brokers' rule is missing", self.rule_removed(), {"network-security-groups"}, set()),
            ("this machine's clock is behind", self.clock_ahead(45), {"clock"}, set()),
        ]

    def delete_recreated(self):
        self.ec2.delete_vpc_endpoints(VpcEndpointIds=[self.recreated])


def names(findings):
    return {name: finding["found"] for name, finding in findings.items()}


def check_doctor(check, port, physical, cluster):
    """Breaks each part of the stack in turn. Afterwards, the stack is as before, but for the event source."""
    if not HOT.exists():
        raise CannotRehearse(f"{HOT} does not exist: run `make rehearse`, which builds it")
    say("asking hot doctor")
    gateway = Gateway(port, {"clicks": 6})
    group = {"ConsumerGroupId": f"{STACK}-count-clicks"}
    gateway.source = {"Topics": ["clicks"], "AmazonManagedKafkaEventSourceConfig": group}
    doctor, stack = Doctor(gateway), Stack(physical, gateway, cluster)
    stack.keep_going()

    def found(*arguments):
        code, wrong, unknown, report = doctor.report(*arguments)
        return code, names(wrong), names(unknown), report

    code, wrong, unknown, report = found()
    check("doctor: a poller that has never reported is wrong", (1, {"poller"}, {}), (code, set(wrong), unknown))
    stack.poll()
    stack.keep_going()
    code, wrong, unknown, report = found()
    check("doctor: each line is ok", (0, {}, {}), (code, wrong, unknown))
    check("doctor: there are many lines", True, report.get("ok", 0) >= 30)
    code, out, err = doctor.run()
    check("doctor: people see the same lines", (0, report.get("ok")), (code, len(re.findall(r"^ok ", out, re.MULTILINE))))
    check("doctor: nothing is said on standard error", "", err)

    def check_break(what, broken, lines, depending):
        stack.keep_going()
        with broken:
            code, wrong, unknown, report = found()
        check(f"doctor: if {what}, exactly that is wrong", (1, lines, depending), (code, set(wrong), set(unknown)))
        findings = [f for f in report.get("findings", []) if f["status"] != "ok"]
        check(f"doctor: {what}: it says what to do", True, bool(findings) and all(f.get("next") for f in findings))

    for one in stack.breaks():
        check_break(*one)
    stack.keep_going()
    code, wrong, unknown, _ = found()
    check("doctor: after the repairs, each line is ok", (0, {}, {}), (code, wrong, unknown))

    code, wrong, unknown, _ = found("--stack", f"{STACK}-nowhere")
    check("doctor: without a stack, that is the only line that is wrong", (1, {"stack"}, {}), (code, set(wrong), unknown))
    policy = json.loads(POLICY.read_text(encoding="utf-8"))
    doctor.allow(json.dumps(policy | {"Statement": [s for s in policy["Statement"] if s["Sid"] != "Schedule"]}))
    code, wrong, unknown, _ = found()
    check("doctor: a missing permission is unknown, not wrong", (3, {}, {"schedule"}), (code, wrong, set(unknown)))
    doctor.allow(json.dumps(policy))
    code, _, err = doctor.run(PATH="/nowhere")
    check("doctor: without the AWS CLI, it says so", (1, True), (code, "install it" in err))
    code, _, err = doctor.run(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    check("doctor: without credentials, it asks for them", (1, True), (code, "give AWS credentials" in err))
    # The last one, because the emulator makes no event source for MSK by API.
    unknown = {"event-source-reads", "event-source-rules", "poller"}
    check_break("the event source is deleted", stack.mapping_deleted(), {"event-source"}, unknown)

    check("doctor: it has only read", set(), gateway.others)
    check("doctor: it has asked DynamoDB and the services", True, {"Query", "DescribeTable", "DescribeStacks"} <= gateway.called)
    stack.delete_recreated()
    doctor.close()
