"""The function as it is usually written in Python: one counter per item, one update at a time.

Run by AWS's own runtime: `python -m awslambdaric handlers.each_click`.
"""

import base64
import collections
import datetime
import json
import os

import boto3
from botocore.exceptions import ClientError

table = boto3.resource("dynamodb").Table(os.environ["COUNTERS_TABLE"])


def clicks(event):
    """The clicks of a batch: topic partition, offset, minute and product."""
    for source, records in event["records"].items():
        for record in records:
            click = json.loads(base64.b64decode(record["value"]))
            if click["action"] == "click":
                time = datetime.datetime.fromtimestamp(click["event_time"] / 1000, datetime.UTC)
                yield source, record["offset"], time.strftime("%Y-%m-%dT%H:%MZ"), click["product_id"]


def size(event):
    """The number of records in a batch."""
    return sum(len(records) for records in event["records"].values())


def each_click(event, context):
    """Makes an unconditional update for each click; a redelivered click is counted again."""
    updates = write_units = 0
    for _, _, minute, product in clicks(event):
        answer = table.update_item(
            Key={"product_id": product, "slot": minute},
            UpdateExpression="ADD clicks :n",
            ExpressionAttributeValues={":n": 1},
            ReturnConsumedCapacity="TOTAL",
        )
        updates += 1
        write_units += answer["ConsumedCapacity"]["CapacityUnits"]
    return {"records": size(event), "updates": updates, "write_units": write_units}


def each_product(event, context):
    """Makes a conditional update for each product, minute and topic partition of the batch; it counts only new offsets."""
    offsets = collections.defaultdict(list)
    for source, offset, minute, product in clicks(event):
        offsets[product, f"{minute} {source}"].append(offset)
    updates = write_units = 0
    for (product, slot), counted in offsets.items():
        updates += 1
        try:
            answer = table.update_item(
                Key={"product_id": product, "slot": slot},
                UpdateExpression="SET last_offset = :l ADD clicks :n",
                ConditionExpression="attribute_not_exists(last_offset) OR last_offset < :f",
                ExpressionAttributeValues={":f": min(counted), ":l": max(counted), ":n": len(counted)},
                ReturnConsumedCapacity="TOTAL",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            continue  # counted by an earlier delivery
        write_units += answer["ConsumedCapacity"]["CapacityUnits"]
    return {"records": size(event), "updates": updates, "write_units": float(write_units)}
