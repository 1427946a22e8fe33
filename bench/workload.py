"""Traffic on a topic, and the batches that Lambda's event source mapping would make of it.

The model:

- Clicks arrive evenly, `clicks_per_second` of them; each is on a product drawn by Zipf's law (product 1 the hottest) and
  of a user drawn evenly. Its event time lies up to two seconds before its arrival, so clicks are a little out of order.
- The record's key, the product or the user, decides the partition, by a hash as producers do.
- A poller reads a fixed group of partitions. There are as few pollers as keep the busiest one's batch window below the
  batch size, and at most one a partition.
- A poller's batch ends when its window has passed since its first record, or it has `batch_size` records, or it would
  grow above Lambda's 6 MB. The pollers' windows don't begin at the same time: their phases are spread over the window.
- Traffic begins at a minute's start. What is delivered in the first window only warms up; then whole minutes are
  measured, so that every phase of a minute, and with it of its items' growth, weighs the same.

The same workload with the same start gives the same bytes.
"""

from __future__ import annotations

import binascii
import dataclasses
import itertools
import json
import random
import zlib
from collections.abc import Iterator
from typing import Literal

TOPIC = "clicks"
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Above this Lambda invokes the function with what it has (AWS Lambda Developer Guide, "Batching behavior")."""
DISORDER_MS = 2_000
USERS = 100_000
ENVELOPE = {
    "eventSource": "aws:kafka",
    "eventSourceArn": "arn:aws:kafka:us-east-1:123456789012:cluster/shop/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2",
    "bootstrapServers": "b-1.shop.c2.kafka.us-east-1.amazonaws.com:9098,b-2.shop.c2.kafka.us-east-1.amazonaws.com:9098",
}

Key = Literal["product", "user"]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A size of shop, and how its topic is keyed and read."""

    name: str
    clicks_per_second: int
    partitions: int
    products: int
    key: Key = "product"
    window_seconds: int = 30
    batch_size: int = 10_000
    minutes: int = 3
    """How many minutes of traffic are measured."""
    zipf: float = 1.0
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.name}, keyed by {self.key}, {self.window_seconds} s"

    @property
    def seconds(self) -> int:
        """How long the traffic lasts, the warming up included."""
        return self.window_seconds + 60 * self.minutes


@dataclasses.dataclass(frozen=True)
class Batch:
    """One invocation's event."""

    body: bytes
    records: int
    delivered_ms: int
    """When it is delivered, since the traffic's start."""
    measured: bool
    """Whether it comes after the warming up."""


def partition_of(key: str, partitions: int) -> int:
    """The partition that a producer sends records with this key to."""
    return zlib.crc32(key.encode()) % partitions


def zipf_weights(products: int, exponent: float) -> list[float]:
    """How often each product is clicked on, relative to the first."""
    return [rank**-exponent for rank in range(1, products + 1)]


def partition_shares(workload: Workload) -> list[float]:
    """Which share of the clicks each partition gets."""
    shares = [0.0] * workload.partitions
    if workload.key == "product":
        weights = zipf_weights(workload.products, workload.zipf)
        for number, weight in enumerate(weights, start=1):
            shares[partition_of(f"p{number}", workload.partitions)] += weight
    else:
        for number in range(1, USERS + 1):
            shares[partition_of(f"u_{number}", workload.partitions)] += 1
    total = sum(shares)
    return [share / total for share in shares]


def pollers(workload: Workload) -> int:
    """How many pollers read the topic; partition p belongs to poller p modulo that."""
    shares = partition_shares(workload)
    window = workload.clicks_per_second * workload.window_seconds
    for count in range(1, workload.partitions):
        busiest = max(sum(shares[poller::count]) for poller in range(count))
        if busiest * window < workload.batch_size:
            return count
    return workload.partitions


class Poller:
    """Collects the records of its partitions until a batch is full."""

    def __init__(self, workload: Workload, first_end_ms: int) -> None:
        self.workload = workload
        self.end_ms: int | None = first_end_ms
        self.records: dict[int, list[str]] = {}
        self.count = 0
        self.bytes = 0

    def add(self, partition: int, record: str, now_ms: int) -> None:
        """Takes a record at its arrival; the window begins with the first."""
        if self.end_ms is None:
            self.end_ms = now_ms + 1_000 * self.workload.window_seconds
        self.records.setdefault(partition, []).append(record)
        self.count += 1
        self.bytes += len(record) + 1

    def ended(self, now_ms: int) -> bool:
        """Whether the batch's window has passed."""
        return self.count > 0 and self.end_ms is not None and now_ms >= self.end_ms

    def full(self) -> bool:
        """Whether the batch takes no more records."""
        return self.count >= self.workload.batch_size or self.bytes > MAX_PAYLOAD_BYTES - 1_024

    def batch(self, now_ms: int) -> Batch:
        """Hands out what was collected, and begins anew."""
        records = ",".join(
            f'"{TOPIC}-{partition}":[{",".join(records)}]' for partition, records in sorted(self.records.items())
        )
        body = f'{json.dumps(ENVELOPE)[:-1]},"records":{{{records}}}}}'.encode()
        # A batch that was delivered at the very end of the warming up belongs to it.
        measured = now_ms > 1_000 * self.workload.window_seconds
        batch = Batch(body=body, records=self.count, delivered_ms=now_ms, measured=measured)
        self.records, self.count, self.bytes, self.end_ms = {}, 0, 0, None
        return batch


def base64(text: str) -> str:
    """The text in base64, as a batch has keys and values."""
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def clicks(workload: Workload, start_ms: int) -> Iterator[tuple[int, int, int, int]]:
    """The clicks in order of arrival: arrival in milliseconds since `start_ms`, event time, product and user."""
    source = random.Random(workload.seed)
    cumulative = list(itertools.accumulate(zipf_weights(workload.products, workload.zipf)))
    products = range(1, workload.products + 1)
    number = 0
    while number < (total := workload.clicks_per_second * workload.seconds):
        some = min(10_000, total - number)
        for product in source.choices(products, cum_weights=cumulative, k=some):
            arrival = number * 1_000 // workload.clicks_per_second
            event_time = start_ms + max(0, arrival - int(source.random() * DISORDER_MS))
            yield arrival, event_time, product, 1 + int(source.random() * USERS)
            number += 1


def batches(workload: Workload, start_ms: int) -> Iterator[Batch]:
    """The batches in order of delivery. The traffic begins at `start_ms`, a minute's start, in epoch milliseconds."""
    partitions = workload.partitions
    by_product = workload.key == "product"
    names = (f"p{n}" for n in range(workload.products + 1)) if by_product else (f"u_{n}" for n in range(USERS + 1))
    keys = [(partition_of(name, partitions), base64(name)) for name in names]
    offsets = [4_000_000] * partitions
    count = pollers(workload)
    window_ms = 1_000 * workload.window_seconds
    readers = [Poller(workload, window_ms * (number + 1) // (count + 1)) for number in range(count)]
    next_end = 0
    for arrival, event_time, product, user in clicks(workload, start_ms):
        if arrival >= next_end:
            for reader in readers:
                if reader.ended(arrival):
                    yield reader.batch(arrival)
            next_end = min((reader.end_ms for reader in readers if reader.end_ms is not None), default=0)
        partition, key = keys[product if by_product else user]
        value = base64(f'{{"event_time":{event_time},"product_id":"p{product}","action":"click","user_id":"u_{user}"}}')
        record = (
            f'{{"topic":"{TOPIC}","partition":{partition},"offset":{offsets[partition]},"timestamp":{event_time},'
            f'"timestampType":"CREATE_TIME","key":"{key}","value":"{value}","headers":[]}}'
        )
        offsets[partition] += 1
        reader = readers[partition % count]
        if reader.end_ms is None:
            next_end = min(next_end, arrival + window_ms)
        reader.add(partition, record, arrival)
        if reader.full():
            yield reader.batch(arrival)
            next_end = 0
    # What the windows under way hold is left: measured are whole minutes of a traffic that goes on.
