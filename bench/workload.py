"""Traffic on a topic, and the batches that Lambda's event source mapping makes of it.

The model:

- Clicks arrive evenly, at `clicks_per_second`. Products are Zipf-distributed (product 1 is the hottest) and users
  uniformly. The event time is up to two seconds before the arrival, so clicks are slightly out of order.
- The hash of the record's key, the product or the user, decides the partition, as with Kafka producers.
- A poller reads a fixed group of partitions. There are as few pollers as keep the busiest one's batches below the batch
  size in one window, and at most one per partition.
- A batch ends when its window has passed since its first record, when it has `batch_size` records, or when it would
  grow above Lambda's 6 MB. The pollers' windows begin at different times, spread over the window.
- A share of the clicks can be late: their event time is up to 23 hours earlier.
- Traffic begins at the start of a minute. The first window is only for warm-up. After it, whole minutes are measured, so
  that every phase of a minute, and so of the growth of its items, has the same weight.

The same workload and start give the same bytes.
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
"""At this size Lambda invokes the function (AWS Lambda Developer Guide, "Batching behavior"). In bytes."""
DISORDER_MS = 2_000
LATE_MS = 23 * 60 * 60 * 1_000
"""How late a late click is at most: an hour less than a day, so that none is stale when it is delivered."""
USERS = 100_000
ENVELOPE = {
    "eventSource": "aws:kafka",
    "eventSourceArn": "arn:aws:kafka:us-east-1:123456789012:cluster/shop/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2",
    "bootstrapServers": "b-1.shop.c2.kafka.us-east-1.amazonaws.com:9098,b-2.shop.c2.kafka.us-east-1.amazonaws.com:9098",
}

Key = Literal["product", "user"]


@dataclasses.dataclass(frozen=True)
class Workload:
    """The size of a shop, and how its topic is keyed and read."""

    name: str
    clicks_per_second: int
    partitions: int
    products: int
    key: Key = "product"
    window_seconds: int = 30
    batch_size: int = 10_000
    minutes: int = 3
    """Minutes of traffic that are measured."""
    zipf: float = 1.0
    late_share: float = 0.0
    """Share of the clicks that are late."""
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.name}, keyed by {self.key}, {self.window_seconds} s"

    @property
    def seconds(self) -> int:
        """Duration of the traffic, including the warm-up."""
        return self.window_seconds + 60 * self.minutes


@dataclasses.dataclass(frozen=True)
class Batch:
    """One invocation's event."""

    body: bytes
    records: int
    delivered_ms: int
    """Time of delivery since the start of the traffic."""
    measured: bool
    """Whether it is delivered after the warm-up."""


def partition_of(key: str, partitions: int) -> int:
    """The partition that a producer sends records with this key to."""
    return zlib.crc32(key.encode()) % partitions


def zipf_weights(products: int, exponent: float) -> list[float]:
    """The click rate of each product relative to the first."""
    return [rank**-exponent for rank in range(1, products + 1)]


def partition_shares(workload: Workload) -> list[float]:
    """The share of the clicks on each partition."""
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
    """Number of pollers of the topic; partition p belongs to poller p modulo this number."""
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
        """Adds a record; the window begins with the first."""
        if self.end_ms is None:
            self.end_ms = now_ms + 1_000 * self.workload.window_seconds
        self.records.setdefault(partition, []).append(record)
        self.count += 1
        self.bytes += len(record) + 1

    def ended(self, now_ms: int) -> bool:
        """Whether the batch's window has passed."""
        return self.count > 0 and self.end_ms is not None and now_ms >= self.end_ms

    def full(self) -> bool:
        """Whether the batch is full."""
        return self.count >= self.workload.batch_size or self.bytes > MAX_PAYLOAD_BYTES - 1_024

    def batch(self, now_ms: int) -> Batch:
        """Returns the collected batch and starts a new one."""
        records = ",".join(
            f'"{TOPIC}-{partition}":[{",".join(records)}]' for partition, records in sorted(self.records.items())
        )
        body = f'{json.dumps(ENVELOPE)[:-1]},"records":{{{records}}}}}'.encode()
        # A batch at the very end of the warm-up is part of it.
        measured = now_ms > 1_000 * self.workload.window_seconds
        batch = Batch(body=body, records=self.count, delivered_ms=now_ms, measured=measured)
        self.records, self.count, self.bytes, self.end_ms = {}, 0, 0, None
        return batch


def base64(text: str) -> str:
    """Base64, the encoding of keys and values in a batch."""
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
            if workload.late_share and source.random() < workload.late_share:
                event_time -= int(source.random() * LATE_MS)
            yield arrival, event_time, product, 1 + int(source.random() * USERS)
            number += 1


def batches(workload: Workload, start_ms: int) -> Iterator[Batch]:
    """The batches in order of delivery. The traffic begins at `start_ms`, the start of a minute in epoch milliseconds."""
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
    # Records in open batch windows are left out: only whole minutes of continuous traffic are measured.
