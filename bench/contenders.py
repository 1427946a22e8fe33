"""The contenders, and the runs over the batches of a workload."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from processes import ROOT, DynamoDb, Function, binary
from runtime_api import FunctionError
from workload import Batch

OURS = "count-clicks"
COUNTERS_TABLE = "hot-products-minute-counters"
SINGLE_COUNTERS_TABLE = "single-counters"


@dataclasses.dataclass(frozen=True)
class Contender:
    """A Lambda function that counts the clicks of MSK batches."""

    name: str
    title: str
    """The name in tables."""
    command: Sequence[str | os.PathLike[str]]
    environment: dict[str, str]
    cwd: pathlib.Path = ROOT
    clicks: int | None = None
    """A run ends after this many clicks; `None` for all clicks of the workload."""


def _rust(strategy: str, title: str, clicks: int) -> Contender:
    environment = {"STRATEGY": strategy, "COUNTERS_TABLE": SINGLE_COUNTERS_TABLE, "REJECTS_TABLE": "none"}
    return Contender(f"rust-{strategy}", title, [binary("one-counter-an-item")], environment, clicks=clicks)


def _python(handler: str, title: str, clicks: int) -> Contender:
    folder = ROOT / "bench" / "python"
    name = f"python-{handler.replace('_', '-')}"
    command = [sys.executable, "-m", "awslambdaric", f"handlers.{handler}"]
    return Contender(name, title, command, {"COUNTERS_TABLE": SINGLE_COUNTERS_TABLE}, folder, clicks)


def contenders() -> list[Contender]:
    """All contenders except Flink, which is not a function and is measured separately."""
    ours = {"COUNTERS_TABLE": COUNTERS_TABLE, "REJECTS_TABLE": "hot-products-rejected-events"}
    return [
        Contender(OURS, "count-clicks", [binary(OURS)], ours),
        _rust("each-product", "Rust, one update per product and batch", 100_000),
        _rust("each-click", "Rust, one update per click", 20_000),
        _python("each_product", "Python, one update per product and batch", 20_000),
        _python("each_click", "Python, one update per click", 8_000),
    ]


@dataclasses.dataclass(frozen=True)
class Run:
    """The cost of one run without its start and warm-up."""

    clicks: int
    cpu_seconds: float
    updates: int
    write_units: float
    peak_megabytes: float

    @property
    def cpu_seconds_per_million(self) -> float:
        """CPU seconds, user and system, per million clicks."""
        return self.cpu_seconds * 1e6 / self.clicks

    @property
    def write_units_per_thousand(self) -> float:
        """DynamoDB's write units per thousand clicks."""
        return self.write_units * 1e3 / self.clicks

    @property
    def updates_per_thousand(self) -> float:
        """Calls to DynamoDB per thousand clicks."""
        return self.updates * 1e3 / self.clicks


def create_table(dynamodb: DynamoDb) -> None:
    """Creates the table of the contenders with one counter per item."""
    keys = {"product_id": "HASH", "slot": "RANGE"}
    dynamodb.call(
        "CreateTable",
        {
            "TableName": SINGLE_COUNTERS_TABLE,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in keys],
            "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        },
    )


def run(contender: Contender, batches: Iterable[Batch]) -> Run:
    """Runs a new process of the contender on a new emulator over the batches, or over as many as it needs."""
    with DynamoDb() as dynamodb:
        create_table(dynamodb)
        with Function(list(contender.command), dynamodb, contender.environment, contender.cwd) as function:
            function.wait_for_poll()
            return _measure(function, batches, contender.clicks)


def _measure(function: Function, batches: Iterable[Batch], enough: int | None) -> Run:
    clicks = updates = 0
    write_units = 0.0
    before: float | None = None
    warm = False
    for batch in batches:
        if not batch.measured and warm and enough:
            continue  # one batch opens the connections; only count-clicks also needs items in their usual state
        if batch.measured and before is None:
            before = function.cpu_seconds()
        answer = function.invoke(batch.body)
        # Every record is a click and must be counted, so that no contender is fast because it drops records.
        counted = answer.get("counted", answer["records"])
        if counted != batch.records:
            raise FunctionError(f"counted {counted} of {batch.records} clicks: {answer}")
        warm = True
        if batch.measured:
            clicks += batch.records
            updates += answer["updates"]
            write_units += answer["write_units"]
        if enough and clicks >= enough:
            break
    if before is None:
        raise FunctionError("there is no batch to measure")
    return Run(clicks, function.cpu_seconds() - before, updates, write_units, function.peak_megabytes())


def race(
    contenders: Sequence[Contender], batches: Sequence[Batch], rounds: int, report_progress: Callable[[str], None]
) -> dict[str, list[Run]]:
    """Runs the contenders in turns, so that other load on the machine affects all of them."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            result = run(contender, batches)
            runs[contender.name].append(result)
            report_progress(
                f"  {number}/{rounds} {contender.title}: {result.cpu_seconds_per_million:.2f} CPU s per million clicks, "
                f"{result.write_units_per_thousand:.1f} write units and {result.updates_per_thousand:.1f} calls per "
                f"thousand, {result.peak_megabytes:.0f} MB ({result.clicks} clicks)"
            )
    return runs
