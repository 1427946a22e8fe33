"""What it costs that snapshots heal: the bill that `hot cost` simulates, for a growing share of late clicks."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from processes import binary
from workload import Workload

SHARES = [0.0, 0.001, 0.01, 0.05]
"""Shares of the clicks that arrive up to a day late."""
HEALING = "healing: notes, records, repeated rankings"
LATE_CLICKS = "counters: write units of late clicks"


def simulate(workload: Workload) -> Any:
    """The answer of `hot cost` for the workload, whose late clicks are up to a day late."""
    arguments = {
        "clicks-per-second": workload.clicks_per_second,
        "partitions": workload.partitions,
        "products": workload.products,
        "keyed-by": workload.key,
        "window": f"{workload.window_seconds}s",
        "late-share": workload.late_share,
    }
    options = [f"--{name}={value}" for name, value in arguments.items()]
    command = [binary("hot"), "cost", *options, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bill(answer: Any) -> dict[str, float]:
    """A month of this product, of what `hot cost` answered: all of it, healing, and the updates of the late clicks."""
    # The amounts of each line are those of `ways`, and this product is the first.
    amounts = {line["what"]: line["amounts"][0] for line in answer["lines"]}
    return {"total": answer["total"][0], "healing": amounts[HEALING], "late_clicks": amounts[LATE_CLICKS]}
