#!/usr/bin/env python3
"""Measures count-clicks and its alternatives, and everything else that has a target.

Every contender is a real Lambda function in its own process. This program plays the Lambda Runtime API and invokes all
of them with the same MSK batches (see workload.py). Each run writes to a new DynamoDB emulator in another process. Only
the contender's own CPU time is counted, user and system, from before its first batch until after its last.

`make bench` installs the requirements and starts it. It writes results.json, README.md and the plots to target/bench,
and takes about 20 minutes after the builds. To publish the tables, copy that README.md to this folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import contenders
import flink
import healing
import others
import report
from processes import ROOT, TARGET
from workload import Workload, batches

OUTPUT = TARGET / "bench"
RESULTS = OUTPUT / "results.json"
# The minimum of clicks per run, so that the function takes much more CPU than the measurement itself.
LEAST_CLICKS = 60_000

SMALL = Workload("small", clicks_per_second=50, partitions=3, products=2_000)
MEDIUM = Workload("medium", clicks_per_second=1_000, partitions=12, products=20_000)
LARGE = Workload("large", clicks_per_second=10_000, partitions=12, products=100_000)

SWEEPS: dict[str, list[int]] = {
    "batch_size": [100, 300, 1_000, 3_000, 10_000],
    "products": [200, 2_000, 20_000, 200_000],
    "partitions": [1, 3, 12, 48, 192],
    "clicks_per_second": [50, 250, 1_000, 4_000, 10_000],
}


def say(text: str) -> None:
    """Prints the progress."""
    print(text, flush=True)


def long_enough(workload: Workload) -> Workload:
    """The workload with enough minutes for `LEAST_CLICKS`."""
    minutes = max(workload.minutes, math.ceil(LEAST_CLICKS / (60 * workload.clicks_per_second)))
    return dataclasses.replace(workload, minutes=minutes)


def traffic_start_ms(workload: Workload) -> int:
    """The start of a minute from which the traffic ends within the last minute, so that events are as new as in a live topic."""
    return (int(time.time()) - workload.seconds) // 60 * 60 * 1_000


def race(workload: Workload, racers: list[contenders.Contender], rounds: int) -> dict[str, Any]:
    """Runs the contenders over one workload."""
    say(f"{workload}")
    all_batches = list(batches(workload, traffic_start_ms(workload)))
    runs = contenders.race(racers, all_batches, rounds, say)
    records = [batch.records for batch in all_batches if batch.measured]
    return {
        "workload": dataclasses.asdict(workload),
        "batches": len(records),
        "records_a_batch": sum(records) / len(records),
        "runs": {name: [dataclasses.asdict(run) for run in of_name] for name, of_name in runs.items()},
    }


def measure_contenders(quick: bool) -> list[dict[str, Any]]:
    """Runs all contenders over all workloads, with more rounds for workloads that have targets."""
    with_targets = [MEDIUM, dataclasses.replace(LARGE, key="user", window_seconds=10)]
    if quick:
        return [race(dataclasses.replace(workload, minutes=1), contenders.contenders(), 1) for workload in with_targets]
    result = []
    for size in (SMALL, MEDIUM, LARGE):
        for key in ("product", "user"):
            for window in (30, 10):
                workload = dataclasses.replace(size, key=key, window_seconds=window)
                rounds = 5 if workload in with_targets else 1
                result.append(race(long_enough(workload), contenders.contenders(), rounds))
    return result


def measure_sweeps(quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Measures how the cost of count-clicks grows with each property of the medium workload."""
    ours = [contender for contender in contenders.contenders() if contender.name == contenders.OURS]
    result: dict[str, list[dict[str, Any]]] = {}
    for name, values in SWEEPS.items():
        result[name] = []
        for value in values[1:4:2] if quick else values:
            changes: dict[str, Any] = {"name": f"medium with {value} {name}", name: value}
            workload = dataclasses.replace(MEDIUM, **changes)
            workload = dataclasses.replace(workload, minutes=1) if quick else long_enough(workload)
            result[name].append(race(workload, ours, 1 if quick else 3))
    return result


def measure_healing(quick: bool) -> list[dict[str, Any]]:
    """Simulates the bill of the medium workload with late clicks, and measures what count-clicks spends on them."""
    ours = [contender for contender in contenders.contenders() if contender.name == contenders.OURS]
    result = []
    for share in healing.SHARES:
        workload = dataclasses.replace(MEDIUM, late_share=share, name=f"medium, {100 * share:g} % late")
        measured = dataclasses.replace(workload, minutes=1) if quick else long_enough(workload)
        result.append({**race(measured, ours, 1 if quick else 3), "bill": healing.bill(healing.simulate(workload))})
    return result


def measure_rank(quick: bool) -> dict[str, Any]:
    """Measures ranking a full hour."""
    say("rank-products, an hour of 60,000 products a minute")
    return others.rank(6_000 if quick else 60_000, 1 if quick else 5)


def measure_flood(quick: bool) -> dict[str, Any]:
    """Measures ranking an hour in which somebody invents products."""
    say("rank-products, an hour of 150,000 new products a minute")
    return others.rank(6_000 if quick else 150_000, 1, new_each_minute=True)


def measure_replay(quick: bool) -> dict[str, Any]:
    """Measures replaying two hours."""
    say("hot replay, 2,000,000 events")
    return others.replay(100_000 if quick else 2_000_000, 120, 1 if quick else 3)


def measure_sparse_replay(quick: bool) -> dict[str, Any]:
    """Measures replaying weeks with an event in about three minutes."""
    say("hot replay, 10,000 events in 30,000 minutes")
    return others.replay(500 if quick else 10_000, 1_500 if quick else 30_000, 1 if quick else 3)


def measure_decode(quick: bool) -> dict[str, Any]:
    """Measures decoding a full batch."""
    say("decoding a batch of 10,000 records")
    return others.decode(os.environ.get("CARGO", "cargo"), 1 if quick else 3)


def measure_functions(quick: bool) -> dict[str, Any]:
    """Measures the size and the start of the functions."""
    say("the functions' zips and starts")
    return others.functions(5 if quick else 40)


def measure_flink(quick: bool) -> dict[str, Any]:
    """Measures the stream job."""
    short, long, rounds = (100_000, 200_000, 1) if quick else (2_000_000, 8_000_000, 3)
    say(f"Flink, {short:,} and {long:,} events")
    return flink.measure(short, long, rounds)


PARTS: dict[str, Callable[[bool], Any]] = {
    "decode": measure_decode,
    "functions": measure_functions,
    "rank": measure_rank,
    "flood": measure_flood,
    "replay": measure_replay,
    "sparse_replay": measure_sparse_replay,
    "contenders": measure_contenders,
    "sweeps": measure_sweeps,
    "healing": measure_healing,
    "flink": measure_flink,
}
# Needs a large download and more time than all other parts.
ONLY_IF_ASKED = {"flink"}


def build() -> None:
    """Builds for release: the functions apart from `hot`, so that they have only the features they are deployed with."""
    cargo = os.environ.get("CARGO", "cargo")
    functions = ["-p", "count-clicks", "-p", "rank-products", "-p", "bench-contenders", "--bins"]
    for what in (functions, ["-p", "hot", "--bin", "hot"]):
        subprocess.run([cargo, "build", "--release", "--locked", *what], cwd=ROOT, check=True)


def machine() -> str:
    """Describes this machine."""
    information = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = {line.split(":", 1)[1].strip() for line in information.splitlines() if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    rust = subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[
        1
    ]
    cores = f"{os.cpu_count()} cores of {' and '.join(sorted(models)) or platform.machine()}"
    return f"{cores}, {memory:.0f} GB, Linux {platform.release().partition('-')[0]}; Rust {rust}, Python {platform.python_version()}"


def main() -> int:
    """Measures, prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="check in a minute or two that everything works; writes nothing"
    )
    parser.add_argument(
        "--only", metavar="PART", action="append", choices=PARTS, help=f"one of: {', '.join(PARTS)}; can be repeated"
    )
    parser.add_argument("--no-build", action="store_true", help="use the existing release binaries")
    arguments = parser.parse_args()

    if not arguments.no_build:
        build()
    started = time.monotonic()
    try:
        results = {} if arguments.quick else json.loads(RESULTS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        results = {}
    names = set(arguments.only or PARTS.keys() - ONLY_IF_ASKED)
    for name, part in PARTS.items():
        if name in names:
            results[name] = part(arguments.quick)
    place = {"machine": machine(), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    results = report.with_place(results, place, names - ONLY_IF_ASKED, names & ONLY_IF_ASKED)
    say(f"\n{report.summary(results)}\n\n{time.monotonic() - started:.0f} s")
    if not arguments.quick:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        report.write(results, OUTPUT)
        say(f"written to {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
