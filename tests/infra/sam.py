"""The templates as CloudFormation sees them, without an AWS account.

`transform` applies the SAM transform, as AWS does at deployment. `Resolver` replaces parameters, pseudo parameters and
ARNs by their values, so that tests compare plain strings.
"""

import copy
import functools
import ipaddress
import logging
import os
import pathlib
import re

# Before boto3 reads it: the translator asks boto3 for a region, and the tests must not depend on the user's settings.
REGION = "eu-west-1"
os.environ["AWS_DEFAULT_REGION"] = REGION
os.environ.pop("AWS_PROFILE", None)

from samtranslator.translator.transform import transform as sam_transform  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

# The translator counts features for AWS and warns if the metrics are not collected.
logging.getLogger("samtranslator.metrics.metrics").setLevel(logging.ERROR)
# It asks a service of AWS for features that are not generally available.
logging.getLogger("samtranslator.feature_toggle").setLevel(logging.ERROR)

INFRA = pathlib.Path(__file__).resolve().parents[2] / "infra"
TEMPLATE = INFRA / "template.yaml"
MSK_TEMPLATE = INFRA / "msk.yaml"
CDN_TEMPLATE = INFRA / "cdn.yaml"
SEED_TEMPLATE = INFRA / "seed.yaml"

ACCOUNT = "123456789012"
BOARD_URL = "https://abc123.lambda-url.eu-central-1.on.aws/"
CLUSTER = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/shop/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-2"
BROKERS = f"b-1.shop.a1b2c3.c2.kafka.{REGION}.amazonaws.com:9098,b-2.shop.a1b2c3.c2.kafka.{REGION}.amazonaws.com:9098"
# The values of required parameters.
REQUIRED = {
    "MskClusterArn": CLUSTER,
    "BoardUrl": BOARD_URL,
    "BootstrapBrokers": BROKERS,
    "SubnetIds": "subnet-0a1,subnet-0b2",
    "SecurityGroupIds": "sg-0c3",
}


class NoManagedPolicies:
    """Replaces the list of AWS managed policies, which the translator would request from IAM. The templates use none."""

    def load(self):
        return {}


@functools.cache
def _parse(path):
    return yaml_parse(path.read_text(encoding="utf-8"))


def load(path=TEMPLATE):
    """The template; the caller may change it."""
    return copy.deepcopy(_parse(path))


def parameters(template, overrides=None):
    """The value of each parameter: the given one, or the default. All are strings, as in CloudFormation."""
    given = {name: value for name, value in REQUIRED.items() if name in template["Parameters"]}
    given |= overrides or {}
    unknown = given.keys() - template["Parameters"].keys()
    if unknown:
        raise ValueError(f"the template has no parameter {', '.join(sorted(unknown))}")
    values = {name: given.get(name, p.get("Default")) for name, p in template["Parameters"].items()}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ValueError(f"no value for the parameter {', '.join(sorted(missing))}")
    return {name: str(value) for name, value in values.items()}


def transform(template, overrides=None):
    """The template after the SAM transform; does not change its argument.

    The result still refers to the parameters, as in AWS, which knows their values during the transform.
    """
    template = copy.deepcopy(template)
    for resource in template["Resources"].values():
        # `sam deploy` uploads the code and sets its address before the transform.
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/code.zip"
    return sam_transform(template, parameters(template, overrides), NoManagedPolicies())


class _NoValue:
    """AWS::NoValue: removes the property that has this value."""


class Resolver:
    """Evaluates the intrinsic functions that the templates use; others are an error."""

    def __init__(self, template, overrides=None, stack="hot-products", region=REGION):
        self.template = template
        self.region = region
        values = parameters(template, overrides)
        lists = (name for name, p in template["Parameters"].items() if p["Type"].startswith(("CommaDelimitedList", "List<")))
        self.refs = values | {name: values[name].split(",") for name in lists} | {
            "AWS::StackName": stack,
            "AWS::AccountId": ACCOUNT,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NoValue": _NoValue,
        }

    def resources(self):
        return self._existing(self.template["Resources"])

    def outputs(self):
        return self._existing(self.template["Outputs"])

    def broken_rules(self):
        """The descriptions of the assertions that fail. With one, CloudFormation refuses the parameters."""
        applying = (r for r in self.template.get("Rules", {}).values() if self(r.get("RuleCondition", True)))
        return [a["AssertDescription"] for rule in applying for a in rule["Assertions"] if not self(a["Assert"])]

    def _existing(self, section):
        """The entries of a section whose condition holds."""
        exists = (name for name, entry in section.items() if "Condition" not in entry or self._condition(entry["Condition"]))
        return {name: self(section[name]) for name in exists}

    def __call__(self, value):
        if isinstance(value, list):
            return [v for v in map(self, value) if v is not _NoValue]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in ("Ref", "Condition") and isinstance(argument, str):
                return self._ref(argument) if name == "Ref" else self._condition(argument)
            if name.startswith("Fn::"):
                return getattr(self, "_" + name.removeprefix("Fn::").lower())(argument)
        resolved = {k: self(v) for k, v in value.items()}
        return {k: v for k, v in resolved.items() if v is not _NoValue}

    def _condition(self, name):
        return self(self.template["Conditions"][name])

    def _ref(self, name):
        if name in self.refs:
            return self.refs[name]
        kind, _, properties = self._resource(name)
        named = {
            "AWS::DynamoDB::Table": "TableName",
            "AWS::Logs::LogGroup": "LogGroupName",
            "AWS::Lambda::Function": "FunctionName",
            "AWS::CloudWatch::Dashboard": "DashboardName",
        }
        if kind in named:
            return self(properties[named[kind]])
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{self(properties['QueueName'])}"
        if kind == "AWS::Lambda::Alias":
            return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self(properties['FunctionName'])}:{properties['Name']}"
        if kind == "AWS::CloudWatch::Alarm":
            return self(properties["AlarmName"])
        if kind in ("AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"):
            return name  # AWS would generate a name
        if kind == "AWS::SNS::Topic":
            return f"arn:aws:sns:{REGION}:{ACCOUNT}:{self(properties['TopicName'])}"
        if kind.startswith("AWS::CloudFront::"):
            return f"id-of-{name}"  # AWS would generate an id
        if kind == "AWS::IAM::OIDCProvider":
            return f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
        if kind.startswith(("AWS::EC2::", "AWS::ApplicationAutoScaling::")) or kind == "AWS::Lambda::EventSourceMapping":
            return name  # AWS would generate an id
        raise NotImplementedError(f"Ref of a {kind}")

    def _resource(self, name):
        resource = self.template["Resources"][name]
        return resource["Type"], name, resource.get("Properties", {})

    def _getatt(self, argument):
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        kind, name, properties = self._resource(name)
        if (kind, attribute) == ("AWS::SQS::Queue", "QueueName"):
            return self(properties["QueueName"])
        if (kind, attribute) in (("AWS::MSK::Configuration", "LatestRevision.Revision"), ("AWS::Lambda::Version", "Version")):
            return 1
        if (kind, attribute) == ("AWS::Lambda::Url", "FunctionUrl"):
            return f"https://{name.lower()}.lambda-url.{REGION}.on.aws/"
        if kind.startswith("AWS::CloudFront::"):
            return f"{attribute.lower()}-of-{name}"
        if kind == "AWS::WAFv2::WebACL":
            return f"arn:aws:wafv2:us-east-1:{ACCOUNT}:global/webacl/{self(properties['Name'])}/1b2c3d4e"
        if attribute != "Arn":
            raise NotImplementedError(f"attribute {attribute}")
        if kind == "AWS::IAM::Role":
            return f"arn:aws:iam::{ACCOUNT}:role/{name}"
        service, path = {
            "AWS::DynamoDB::Table": ("dynamodb", "table/{TableName}"),
            "AWS::Lambda::Function": ("lambda", "function:{FunctionName}"),
            "AWS::Logs::LogGroup": ("logs", "log-group:{LogGroupName}:*"),
            "AWS::SQS::Queue": ("sqs", "{QueueName}"),
            "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm:{AlarmName}"),
            "AWS::MSK::Cluster": ("kafka", "cluster/{ClusterName}/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-2"),
            "AWS::MSK::Configuration": ("kafka", "configuration/{Name}/1b2c3d4e-5f60-7182-93a4-b5c6d7e8f902-2"),
        }[kind]
        names = {k: self(v) for k, v in properties.items() if k.endswith("Name")}
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{path.format(**names)}"

    def _sub(self, argument):
        text, variables = argument if isinstance(argument, list) else (argument, {})
        variables = self(variables)

        def replace(match):
            name = match[1]
            if name in variables:
                return variables[name]
            return self._getatt(name) if "." in name else self._ref(name)

        return re.sub(r"\$\{([^!}][^}]*)\}", replace, text)

    def _select(self, argument):
        index, values = argument
        return self(values)[int(index)]

    def _findinmap(self, argument):
        name, first, second = self(argument)
        return self.template["Mappings"][name][first][second]

    def _split(self, argument):
        separator, text = argument
        return self(text).split(separator)

    def _getazs(self, argument):
        region = self(argument) or self.region
        return [region + zone for zone in ("ab" if region == "us-west-1" else "abc")]

    def _cidr(self, argument):
        block, count, bits = argument
        subnets = ipaddress.ip_network(self(block)).subnets(new_prefix=32 - int(bits))
        return [str(subnet) for subnet, _ in zip(subnets, range(int(count)))]

    def _join(self, argument):
        separator, values = argument
        return separator.join(self(values))

    def _if(self, argument):
        condition, yes, no = argument
        return self(yes if self._condition(condition) else no)

    def _equals(self, argument):
        # CloudFormation compares strings.
        left, right = (str(self(a)) for a in argument)
        return left == right

    def _not(self, argument):
        return not self(argument[0])

    def _and(self, argument):
        return all(map(self, argument))

    def _or(self, argument):
        return any(map(self, argument))

    def _contains(self, argument):
        values, value = argument
        return self(value) in self(values)
