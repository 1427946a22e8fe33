"""CloudFormation's schemas of resources, as cfn-lint ships them: which regions have a type, and what can be changed in place."""

import functools

import cfnlint.helpers
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER, ResourceNotFoundError

import sam

REGIONS = sorted(cfnlint.helpers.REGIONS)


@functools.cache
def schema(kind, region=sam.REGION):
    return PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, kind).schema


def supports(kind, region):
    """True if CloudFormation has this type of resource in the region."""
    try:
        schema(kind, region)
    except ResourceNotFoundError:
        return False
    return True


def permissions(kind):
    """The IAM actions that CloudFormation calls with the deployer's permissions to create, change, read and delete it."""
    handlers = schema(kind).get("handlers", {})
    return {action for name, handler in handlers.items() if name != "list" for action in handler["permissions"]}


def create_only(kind):
    """The paths of the properties that CloudFormation can only change by a replacement, such as ("KeySchema",)."""
    read = schema(kind)
    paths = read.get("createOnlyProperties", []) + read.get("conditionalCreateOnlyProperties", [])
    return [tuple(path.removeprefix("/properties/").split("/")) for path in paths]
