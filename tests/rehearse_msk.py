"""The first of two deployments to an empty account: the network and the cluster of infra/msk.yaml.

The emulator's CloudFormation supports the network, but neither the resources of MSK nor a separate rule of a security group.
So `sam deploy` deploys the rest of the template, and the rehearsal creates the others through the APIs, with the template's
properties, which boto3 validates. The emulator does not support topics at all.
"""

import json
import re

import botocore.exceptions
import rehearse_alarms
import sam
import test_msk
from emulator import ROOT, SAM, client, run, say

STACK = "hot-products-msk"
# Types that the emulator does not support. If it supports more in a later version, a check below fails.
MISSING = {"AWS::EC2::SecurityGroupIngress", "AWS::MSK::Cluster", "AWS::MSK::Configuration", "AWS::MSK::Topic"}
MISSING |= {"AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy"}


def refused(template):
    """The resource types that the emulator's CloudFormation reports as unsupported."""
    try:
        client("cloudformation").validate_template(TemplateBody=json.dumps(template))
    except botocore.exceptions.ClientError as error:
        return set(re.findall(r"AWS(?:::\w+){2}", str(error)))
    return set()


def without(template, types):
    resources = {name: r for name, r in template["Resources"].items() if r["Type"] not in types}
    gone = template["Resources"].keys() - resources.keys()
    outputs = {
        name: output
        for name, output in template["Outputs"].items()
        if not any(f'"{name_gone}' in json.dumps(output["Value"]) for name_gone in gone)
    }
    return template | {"Resources": resources, "Outputs": outputs}


def with_ids(value, ids):
    """Replaces the names that the resolver gives resources by the ids of the deployed ones."""
    if isinstance(value, list):
        return [with_ids(v, ids) for v in value]
    if isinstance(value, dict):
        return {k: with_ids(v, ids) for k, v in value.items()}
    return ids.get(value, value) if isinstance(value, str) else value


def deploy(check, folder):
    """Deploys the stack and creates the cluster. Returns the cluster's ARN, for the second deployment."""
    template = sam.load(sam.MSK_TEMPLATE)
    check("the emulator rejects only the resources of msk.yaml that are created by API", MISSING, refused(template))
    path = folder / "msk.json"
    deployed = without(template, MISSING)
    rehearse_alarms.remove_expressions(deployed)
    path.write_text(json.dumps(deployed), encoding="utf-8")
    infra = ROOT / "infra"
    deployment = ("deploy", "--config-env", "msk", "--config-file", infra / "samconfig.toml", "--template-file", path)
    took = run(SAM, *deployment, "--no-confirm-changeset", "--no-progressbar", cwd=infra)
    say(f"deployed the network in {took:.0f} s")

    found = client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    kinds = {r["LogicalResourceId"]: r["ResourceType"] for r in found}
    expected = {name: kind for name, kind in test_msk.INVENTORY.items() if kind not in MISSING}
    check("the stack of the network has exactly the template's resources", expected, kinds)
    ids = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in found}
    resolved = sam.Resolver(template, stack=STACK).resources()
    expected = {name: with_ids(resource.get("Properties", {}), ids) for name, resource in resolved.items()}
    check_network(check, ids, expected)
    check("the brokers' alarms are deployed", set(test_msk.ALARMS), set(rehearse_alarms.deployed_alarms(STACK)))
    return make_cluster(check, expected)


def check_network(check, ids, expected):
    ec2 = client("ec2")
    here = [{"Name": "vpc-id", "Values": [ids["Vpc"]]}]
    subnets = ec2.describe_subnets(Filters=here)["Subnets"]
    found = sorted((s["SubnetId"], s["AvailabilityZone"], s["CidrBlock"]) for s in subnets)
    wanted = sorted((ids[n], expected[n]["AvailabilityZone"], expected[n]["CidrBlock"]) for n in test_msk.SUBNETS)
    check("there are three subnets in three zones", wanted, found)
    for attribute in "enableDnsSupport", "enableDnsHostnames":
        answer = ec2.describe_vpc_attribute(VpcId=ids["Vpc"], Attribute=attribute)
        check(f"the network has {attribute}", {"Value": True}, answer[attribute[0].upper() + attribute[1:]])
    gateways = ec2.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [ids["Vpc"]]}])
    check("the network has no internet gateway", [], gateways["InternetGateways"])
    endpoints = {e["ServiceName"]: e for e in ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]}
    services = {f"com.amazonaws.{sam.REGION}.{service}" for service in ("lambda", "sts")}
    check("the endpoints are those of Lambda and STS", services, set(endpoints))
    places = {(e["VpcEndpointType"], *sorted(e["SubnetIds"])) for e in endpoints.values()}
    check("each has an interface in each subnet", {("Interface", *sorted(ids[n] for n in test_msk.SUBNETS))}, places)
    (group,) = ec2.describe_security_groups(GroupIds=[ids["EndpointsSecurityGroup"]])["SecurityGroups"]
    rules = [(r["FromPort"], r["ToPort"], [p["GroupId"] for p in r["UserIdGroupPairs"]]) for r in group["IpPermissions"]]
    check("Kafka clients have access to the endpoints by HTTPS", [(443, 443, [ids["KafkaSecurityGroup"]])], rules)


def make_cluster(check, expected):
    rule = expected["KafkaFromItsClients"]
    pair = {"GroupId": rule["SourceSecurityGroupId"], "Description": rule["Description"]}
    ports = {"IpProtocol": rule["IpProtocol"], "FromPort": rule["FromPort"], "ToPort": rule["ToPort"]}
    client("ec2").authorize_security_group_ingress(
        GroupId=rule["GroupId"], IpPermissions=[ports | {"UserIdGroupPairs": [pair]}]
    )
    kafka = client("kafka")
    configuration = kafka.create_configuration(**expected["Configuration"])
    properties = expected["Cluster"]
    brokers = dict(properties["BrokerNodeGroupInfo"])
    # CloudFormation uses another name, and strings for all parameters.
    storage = brokers.pop("StorageInfo")["EBSStorageInfo"]
    brokers["StorageInfo"] = {"EbsStorageInfo": {"VolumeSize": int(storage["VolumeSize"])}}
    used = {"Arn": configuration["Arn"], "Revision": configuration["LatestRevision"]["Revision"]}
    arn = kafka.create_cluster(**properties | {"BrokerNodeGroupInfo": brokers, "ConfigurationInfo": used})["ClusterArn"]
    cluster = kafka.describe_cluster(ClusterArn=arn)["ClusterInfo"]
    check("the brokers are as in the template", brokers, cluster["BrokerNodeGroupInfo"])
    check("clients authenticate with IAM", properties["ClientAuthentication"], cluster["ClientAuthentication"])
    return arn


def delete(check, arn):
    kafka = client("kafka")
    configuration = kafka.describe_cluster(ClusterArn=arn)["ClusterInfo"]["CurrentBrokerSoftwareInfo"]["ConfigurationArn"]
    kafka.delete_cluster(ClusterArn=arn)
    took = run(SAM, "delete", "--no-prompts", "--stack-name", STACK, cwd=ROOT / "infra")
    say(f"deleted the network in {took:.0f} s")
    ec2 = client("ec2")
    check("only the default network is left", [True], [v["IsDefault"] for v in ec2.describe_vpcs()["Vpcs"]])
    check("no endpoints are left", [], ec2.describe_vpc_endpoints()["VpcEndpoints"])
    left = client("logs").describe_log_groups(logGroupNamePrefix="/aws/vendedlogs/msk/")["logGroups"]
    check("no log group of the brokers is left", [], left)
    check("no cluster is left", [], kafka.list_clusters()["ClusterInfoList"])
    check("the cluster used the configuration", True, ":configuration/" in configuration)
