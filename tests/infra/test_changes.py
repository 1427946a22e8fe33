"""What a changed parameter does to a deployed stack, from CloudFormation's schemas, and that docs/configuration.md says it.

Each parameter is changed in the template, and what differs in the resources is looked up in their schemas:

- in place: CloudFormation updates the resources, or adds and removes conditional ones;
- replaces: a resource without a name of its own is replaced;
- two steps: the event source would be replaced, which fails, because Lambda has it already, or Lambda can't change the
  property. It has to be removed first, with EventSource=absent;
- never: a named resource would be replaced, which CloudFormation refuses.
"""

import copy
import json
import re
import unittest

import boto3

import sam
import schemas
from parameters import CHANGED

CONFIGURATION = sam.INFRA.parent / "docs" / "configuration.md"

# The properties that name a resource. Two of one name can't exist, so a replacement that keeps the name fails.
NAMES = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::MSK::Cluster": "ClusterName",
    "AWS::MSK::Configuration": "Name",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::Scheduler::Schedule": "Name",
}
EVENT_SOURCE = "AWS::Lambda::EventSourceMapping"


def updatable(client=boto3.client("lambda", region_name=sam.REGION, aws_access_key_id="none", aws_secret_access_key="none")):
    """The properties of an event source that Lambda's API can change. Topics and the consumer group are not among them."""
    return set(client.meta.service_model.operation_model("UpdateEventSourceMapping").input_shape.members)


class Template:
    """A template that is transformed for each set of parameters, as AWS does."""

    def __init__(self, name, change=None):
        self.source = sam.load(sam.INFRA / name)
        if change:
            change(self.source)

    def resources(self, overrides):
        source = copy.deepcopy(self.source)
        transformed = sam.transform(source, overrides) if "Transform" in source else source
        return sam.Resolver(transformed, overrides, "hot-products").resources(), transformed["Resources"]


def value_at(value, path):
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def refers(value, names):
    """True if a value of the template refers to one of the resources."""
    text = json.dumps(value)
    found = re.findall(r'"Ref": "(\w+)"|"Fn::GetAtt": (?:\["(\w+)"|"(\w+)\.)|\$\{(\w+)[.}]', text)
    return any(name in names for match in found for name in match)


def consequence(template, parameter, value):
    """What the change of one parameter does: one of the classes above."""
    before, written = template.resources({})
    after, _ = template.resources({parameter: value})
    both = before.keys() & after.keys()
    replaced = set()
    while True:
        found = {name for name in both - replaced if is_replaced(name, before, after, written, replaced)}
        if not found:
            break
        replaced |= found
    kinds = {before[name]["Type"] for name in replaced}
    if EVENT_SOURCE in kinds or any(lambda_refuses(before[name], after[name]) for name in both):
        return "two steps"
    if any(keeps_its_name(before[name], after[name]) for name in replaced):
        return "never"
    # A new version of a function is what should be published, and the alias moves to it.
    return "replaces" if kinds - {"AWS::Lambda::Version"} else "in place"


def is_replaced(name, before, after, written, replaced):
    old, new = before[name].get("Properties", {}), after[name].get("Properties", {})
    for path in schemas.create_only(before[name]["Type"]):
        if value_at(old, path) != value_at(new, path):
            return True
        # The id of a replaced resource changes, although the reference to it does not.
        if refers(value_at(written[name].get("Properties", {}), path), replaced):
            return True
    return False


def keeps_its_name(old, new):
    name = NAMES.get(old["Type"])
    return name in old["Properties"] and old["Properties"][name] == new["Properties"][name]


def lambda_refuses(old, new):
    if old["Type"] != EVENT_SOURCE:
        return False
    changed = {key for key in old["Properties"].keys() | new["Properties"].keys() if old["Properties"].get(key) != new["Properties"].get(key)}
    return bool(changed - updatable())


def documented(name):
    """The column `change` of the table of a template's parameters."""
    section = CONFIGURATION.read_text(encoding="utf-8").split(f"\n## Parameters of `infra/{name}`\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    column = rows[0].index("change")
    return {row[0].strip("`"): row[column] for row in rows[2:]}


class Changes(unittest.TestCase):
    def test_the_page_says_what_a_change_does(self):
        for name, values in CHANGED.items():
            template = Template(name)
            self.assertEqual(template.source["Parameters"].keys(), values.keys(), "a parameter has no other value here")
            found = {parameter: consequence(template, parameter, value) for parameter, value in values.items()}
            self.assertEqual(found, documented(name), name)

    def test_no_change_replaces_a_table_or_a_function(self):
        template = Template("template.yaml")
        for parameter, value in CHANGED["template.yaml"].items():
            self.assertNotIn(consequence(template, parameter, value), ("never", "replaces"), parameter)

    def test_an_event_source_can_be_removed_and_made_anew(self):
        template = Template("template.yaml")
        absent, _ = template.resources({"EventSource": "absent"})
        self.assertNotIn(EVENT_SOURCE, {resource["Type"] for resource in absent.values()})
        # In the second step, everything else is updated in place.
        changed, _ = template.resources({"Topic": "views", "ConsumerGroupId": "other", "StartingPosition": "LATEST"})
        alarms = {"EventSourceSilentAlarm", "CountingBehindAlarm"}
        self.assertEqual({"CountClicksFunctionClicks"} | alarms, changed.keys() - absent.keys())

    def test_kafka_data_is_kept(self):
        _, written = Template("msk.yaml").resources({})
        self.assertEqual("Retain", written["ClickTopic"]["UpdateReplacePolicy"])
        self.assertEqual("RetainExceptOnCreate", written["ClickTopic"]["DeletionPolicy"])
        self.assertEqual("Retain", written["Cluster"]["UpdateReplacePolicy"])


class ChecksCanFail(unittest.TestCase):
    def test_another_name_of_a_table_is_noticed(self):
        def rename(source):
            source["Resources"]["MinuteCounters"]["Properties"]["TableName"] = {"Ref": "Topic"}

        self.assertEqual("two steps", consequence(Template("template.yaml"), "Topic", "views"))
        self.assertEqual("in place", consequence(Template("template.yaml"), "TopN", "5"))
        self.assertEqual("replaces", consequence(Template("template.yaml", without_source(rename)), "Topic", "views"))

    def test_another_key_of_a_table_is_noticed(self):
        def change(source):
            table = source["Resources"]["HotProducts"]["Properties"]
            table["KeySchema"][0]["AttributeName"] = {"Ref": "CountedActions"}

        self.assertEqual("never", consequence(Template("template.yaml", change), "CountedActions", "view"))

    def test_a_replaced_subnet_replaces_the_endpoint(self):
        def unnamed(source):
            source["Resources"]["Cluster"]["Properties"]["ClusterName"] = {"Fn::Sub": "cluster-${VpcCidr}"}

        # The cluster's name can't exist twice. With another name, the change would replace the network and the cluster.
        self.assertEqual("replaces", consequence(Template("msk.yaml", unnamed), "VpcCidr", "10.1.0.0/24"))


def without_source(change):
    def both(source):
        source["Parameters"]["EventSource"]["Default"] = "absent"
        change(source)

    return both


if __name__ == "__main__":
    unittest.main()
