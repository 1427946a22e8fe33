#!/usr/bin/env python3
"""Runs the functions for an hour at the medium load, in real time, and watches their memory and their CPU time.

The binaries are those that would be deployed. This program plays the Lambda Runtime API: it delivers each batch at the
time when Lambda would (see workload.py), and invokes rank-products every five minutes. Each minute it notes the memory of
both functions and the CPU time of count-clicks. At the end, every counter and the last snapshot must equal a group-by of the
delivered clicks; otherwise it exits with 1.

`make soak` installs the requirements and starts it. It writes soak.json, soak.md and soak.svg to target/bench.
"""

from __future__ import annotations

import argparse
import base64
import collections
import dataclasses
import datetime
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import bench
import report
from contenders import COUNTERS_TABLE
from figures import Figure, markdown
from others import TABLES
from processes import DynamoDb, Function, binary
from workload import Batch, Workload, batches

RANKING_MINUTES = 5
WINDOW_MINUTES = 60
WARM_UP_MINUTES = 5
"""Minutes at the start that are not compared: pools, buffers and the first items grow."""
MOST_GROWTH_MB = 1.0
"""By how much the memory of a function may grow from the second quarter to the last."""
MOST_DRIFT = 0.15
"""By which share the CPU time per click may rise from the second quarter to the last."""

Counts = collections.Counter[tuple[int, str]]
"""Clicks by minute, in minutes since the epoch, and product."""


@dataclasses.dataclass(frozen=True)
class Minute:
    """What one minute cost."""

    minute: int
    """Since the start."""
    clicks: int
    cpu_seconds: float
    count_megabytes: float
    rank_megabytes: float

    @property
    def cpu_seconds_per_million(self) -> float:
        """CPU seconds of count-clicks, user and system, per million clicks."""
        return self.cpu_seconds * 1e6 / self.clicks


def group(batch: Batch) -> Counts:
    """A plain group-by of a batch's clicks."""
    counts: Counts = collections.Counter()
    for records in json.loads(batch.body)["records"].values():
        for record in records:
            click = json.loads(base64.b64decode(record["value"]))
            counts[click["event_time"] // 60_000, click["product_id"]] += 1
    return counts


def pages(dynamodb: DynamoDb) -> Iterator[dict[str, Any]]:
    """The items of the counters table."""
    request: dict[str, Any] = {"TableName": COUNTERS_TABLE}
    while True:
        page = dynamodb.call("Scan", request)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def counters(dynamodb: DynamoDb) -> Counts:
    """All counters, summed over topic partitions and overflow items."""
    counts: Counts = collections.Counter()
    for item in pages(dynamodb):
        # The item with the version of the layout has no bucket of a minute.
        if not (found := re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\dZ)#", item["bucket"]["S"])):
            continue
        minute = int(datetime.datetime.strptime(found[1], "%Y-%m-%dT%H:%M%z").timestamp()) // 60
        for name, value in item.items():
            if name.startswith("#"):
                counts[minute, name[1:]] += int(value["N"])
    return counts


def timestamp(minute: int) -> str:
    """The start of a minute since the epoch, in RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(60 * minute))


def snapshot_errors(dynamodb: DynamoDb, expected: Counts, end: int) -> list[str]:
    """Compares the snapshot of the hour before `end`, in minutes since the epoch, with the clicks."""
    query = {
        "TableName": TABLES["SNAPSHOTS_TABLE"],
        "KeyConditionExpression": "#b = :b AND #w = :w",
        "ExpressionAttributeNames": {"#b": "board", "#w": "window_end"},
        "ExpressionAttributeValues": {":b": {"S": "clicks"}, ":w": {"S": timestamp(end)}},
    }
    items = dynamodb.call("Query", query)["Items"]
    if len(items) != 1:
        return [f"{len(items)} snapshots of the window that ends at {timestamp(end)}"]
    sums: collections.Counter[str] = collections.Counter()
    for (minute, product), clicks in expected.items():
        if end - WINDOW_MINUTES <= minute < end:
            sums[product] += clicks
    ranked = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0]))
    found = [
        (product["M"]["product_id"]["S"], int(product["M"]["clicks"]["N"]))
        for product in items[0]["products"]["L"]
    ]
    return [] if found and found == ranked[: len(found)] else [f"the snapshot of {timestamp(end)} differs"]


@dataclasses.dataclass
class Soak:
    """A run: the functions, and what was seen so far."""

    count: Function
    rank: Function
    dynamodb: DynamoDb
    start: int
    """Its first minute, since the epoch."""
    pace: float
    """How many seconds of traffic are delivered in one second."""
    began: float = dataclasses.field(default_factory=time.monotonic)
    expected: Counts = dataclasses.field(default_factory=collections.Counter)
    minutes: list[Minute] = dataclasses.field(default_factory=list)
    clicks: int = 0
    rankings: int = 0
    _cpu_seconds: float = 0.0
    _clicks: int = 0

    def wait_until(self, milliseconds: int) -> None:
        """Waits until this much of the traffic has passed."""
        if (seconds := self.began + milliseconds / 1_000 / self.pace - time.monotonic()) > 0:
            time.sleep(seconds)

    def deliver(self, batch: Batch) -> None:
        """Invokes count-clicks with a batch."""
        answer = self.count.invoke(batch.body)
        if answer["counted"] != batch.records:
            raise SystemExit(f"soak: counted {answer['counted']} of {batch.records} clicks: {answer}")
        self.clicks += batch.records
        self.expected += group(batch)

    def end_minute(self, minute: int) -> None:
        """Notes what the minute cost, and ranks every five minutes."""
        if (minute + 1) % RANKING_MINUTES == 0:
            self.invoke_ranking(self.start + minute + 1)
        cpu = self.count.cpu_seconds()
        memory = (self.count.resident_megabytes(), self.rank.resident_megabytes())
        noted = Minute(minute, self.clicks - self._clicks, cpu - self._cpu_seconds, *memory)
        self._cpu_seconds, self._clicks = cpu, self.clicks
        if noted.clicks:
            self.minutes.append(noted)
            bench.say(
                f"minute {minute + 1}: {noted.clicks} clicks, {noted.cpu_seconds_per_million:.2f} CPU s per million, "
                f"count-clicks {noted.count_megabytes:.1f} MB, rank-products {noted.rank_megabytes:.1f} MB"
            )

    def invoke_ranking(self, end: int) -> None:
        """Ranks the hour before `end`, in minutes since the epoch."""
        end -= end % RANKING_MINUTES
        self.rank.invoke(json.dumps({"window_end": timestamp(end)}).encode())
        self.rankings += 1

    def errors(self) -> list[str]:
        """Compares the tables with the delivered clicks."""
        last = max(minute for minute, _ in self.expected) + 1
        end = last - last % RANKING_MINUTES
        self.invoke_ranking(end)
        found = counters(self.dynamodb)
        wrong = [key for key in found.keys() | self.expected.keys() if found[key] != self.expected[key]]
        counted = [f"{len(wrong)} counters differ, such as {wrong[0]}"] if wrong else []
        return counted + snapshot_errors(self.dynamodb, self.expected, end)


def run(workload: Workload, pace: float) -> tuple[Soak, list[str]]:
    """Runs the functions over the workload."""
    # All event times are in the past when they are delivered, also if the traffic is faster than time.
    start_ms = bench.traffic_start_ms(workload) if pace > 1 else int(time.time()) // 60 * 60_000
    with DynamoDb() as dynamodb:
        with (
            Function([binary("count-clicks")], dynamodb, TABLES) as count,
            Function([binary("rank-products")], dynamodb, TABLES) as rank,
        ):
            count.wait_for_poll()
            rank.wait_for_poll()
            soak = Soak(count, rank, dynamodb, start_ms // 60_000, pace)
            soak.wait_until(0)
            minute = 0
            for batch in batches(workload, start_ms):
                while batch.delivered_ms >= 60_000 * (minute + 1):
                    soak.wait_until(60_000 * (minute + 1))
                    soak.end_minute(minute)
                    minute += 1
                soak.wait_until(batch.delivered_ms)
                soak.deliver(batch)
            soak.end_minute(minute)
            return soak, soak.errors()


def quarters(minutes: list[Minute]) -> tuple[list[Minute], list[Minute]]:
    """The minutes of the second quarter and of the last, after the warm-up."""
    steady = [minute for minute in minutes if minute.minute >= WARM_UP_MINUTES] or minutes
    quarter = max(1, len(steady) // 4)
    return steady[quarter : 2 * quarter] or steady, steady[-quarter:]


def table(results: dict[str, Any]) -> str:
    """The figures of a run, and whether they stayed the same."""
    minutes = [Minute(**minute) for minute in results["minutes"]]
    earlier, later = quarters(minutes)
    rows = []
    for what, of, may_grow in (
        ("memory of count-clicks, MB", lambda minute: minute.count_megabytes, MOST_GROWTH_MB),
        ("memory of rank-products, MB", lambda minute: minute.rank_megabytes, MOST_GROWTH_MB),
        ("CPU s of count-clicks per million clicks", lambda minute: minute.cpu_seconds_per_million, None),
    ):
        before, after = (Figure.of(of(minute) for minute in some) for some in (earlier, later))
        limit = before.median * (1 + MOST_DRIFT) if may_grow is None else before.median + may_grow
        rows.append([what, str(before), str(after), "yes" if after.median <= limit else "**no**"])
    return markdown(["figure", "second quarter", "last quarter", "steady"], rows)


def page(results: dict[str, Any]) -> str:
    """The result in Markdown."""
    hours = f"{results['workload']['minutes']} minutes of the medium load"
    pace = "in real time" if results["pace"] == 1 else f"{results['pace']:g} times as fast as in real time"
    verdict = "; ".join(results["errors"]) or "every counter and the last snapshot equal a group-by of the clicks"
    return (
        f"{results['date']}, on {results['machine']}: {hours}, {pace}, {results['clicks']:,} clicks and "
        f"{results['rankings']} rankings. At the end, {verdict}.\n\n{table(results)}\n"
    )


def plot(results: dict[str, Any], path: pathlib.Path) -> None:
    """Two plots over time: memory, and CPU time per click."""
    import matplotlib.pyplot as plt

    minutes = [Minute(**minute) for minute in results["minutes"]]
    times = [minute.minute + 1 for minute in minutes]
    figure, (memory, cpu) = plt.subplots(2, 1, figsize=(8, 4.5), sharex=True, layout="constrained")
    memory.plot(times, [minute.count_megabytes for minute in minutes], label="count-clicks", color="#15803d")
    memory.plot(times, [minute.rank_megabytes for minute in minutes], label="rank-products", color="#1d4ed8")
    memory.set_ylabel("resident memory, MB", fontsize=9)
    memory.legend(fontsize=9, frameon=False)
    cpu.plot(times, [minute.cpu_seconds_per_million for minute in minutes], color=report.COLOURS["cpu"])
    cpu.set_ylabel("CPU s per million clicks", fontsize=9)
    cpu.set_xlabel("minutes since the start", fontsize=9)
    for axis in (memory, cpu):
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    report.save(figure, path)


def main() -> int:
    """Runs, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60, help="minutes of traffic; 60")
    parser.add_argument("--pace", type=float, default=1, help="seconds of traffic in one second; 1, which is real time")
    parser.add_argument("--no-build", action="store_true", help="use the existing release binaries")
    arguments = parser.parse_args()
    if not (arguments.minutes >= 1 and arguments.pace >= 1):
        parser.error("--minutes and --pace must be 1 or more")

    if not arguments.no_build:
        bench.build()
    workload = dataclasses.replace(bench.MEDIUM, minutes=arguments.minutes)
    bench.say(f"{workload}, {workload.minutes} minutes")
    soak, errors = run(workload, arguments.pace)
    results = {
        "machine": bench.machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "workload": dataclasses.asdict(workload),
        "pace": arguments.pace,
        "clicks": soak.clicks,
        "rankings": soak.rankings,
        "errors": errors,
        "minutes": [dataclasses.asdict(minute) for minute in soak.minutes],
    }
    bench.OUTPUT.mkdir(parents=True, exist_ok=True)
    (bench.OUTPUT / "soak.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (bench.OUTPUT / "soak.md").write_text(page(results), encoding="utf-8")
    plot(results, bench.OUTPUT / "soak.svg")
    bench.say(f"\n{page(results)}\nwritten to {bench.OUTPUT}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
