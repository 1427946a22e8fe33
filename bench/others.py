"""The other figures with a target: decoding, ranking, replaying, and a function's size and start."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import zipfile
from typing import Any

from contenders import COUNTERS_TABLE
from processes import ROOT, DynamoDb, Function, binary
from runtime_api import FunctionError

BUCKETS = 8
"""The buckets of a minute."""
MINUTES = 60
FUNCTIONS = ("count-clicks", "rank-products")
TABLES = {
    "COUNTERS_TABLE": COUNTERS_TABLE,
    "REJECTS_TABLE": "hot-products-rejected-events",
    "SNAPSHOTS_TABLE": "hot-products-snapshots",
}
UNITS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def divan_median(output: str, bench: str) -> float:
    """The median of a bench in divan's table, in milliseconds. Its columns: fastest, slowest, median, mean, …"""
    found = re.search(rf"{bench}\s+[\d.]+ \S+\s+│ [\d.]+ \S+\s+│ ([\d.]+) (\S+)", output)
    if not found:
        raise ValueError(f"no bench {bench} in {output}")
    return float(found[1]) * UNITS[found[2]]


def decode(cargo: str, rounds: int) -> dict[str, Any]:
    """Runs the bench that decodes one full batch; in milliseconds."""
    command = [
        cargo,
        "bench",
        "--locked",
        "--quiet",
        "-p",
        "count-clicks",
        "--bench",
        "decode",
        "--",
        "--min-time",
        "2",
    ]
    output = [
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout for _ in range(rounds)
    ]
    return {"milliseconds": [divan_median(text, "full_batch") for text in output]}


def fill(dynamodb: DynamoDb, end: int, products: int, *, new_each_minute: bool) -> None:
    """Writes an hour of counters that ends at `end`, in epoch seconds, with `products` products in each of its minutes."""
    for minute in range(end // 60 - MINUTES, end // 60):
        name = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(minute * 60))
        prefix = f"#{minute % MINUTES}p" if new_each_minute else "#p"
        for number in range(BUCKETS):
            counters = ",".join(
                # Most products have few clicks, as in a Zipf distribution, and other counts in each minute.
                f'"{prefix}{product}":{{"N":"{1 + (products // product + minute * product) % 1_000}"}}'
                for product in range(1 + number, products + 1, BUCKETS)
            )
            dynamodb.call(
                "PutItem",
                f'{{"TableName":"{COUNTERS_TABLE}","Item":{{"bucket":{{"S":"{name}#{number}"}},'
                f'"source":{{"S":"clicks-0"}},"last_offset":{{"N":"4000000"}},"closed":{{"BOOL":false}},'
                f'"expires_at":{{"N":"{end + 26 * 3_600}"}},{counters}}}}}',
            )


def rank(products: int, rounds: int, *, new_each_minute: bool = False) -> dict[str, Any]:
    """Ranks an hour that has `products` products in each of its minutes: with all cores, and with one thread."""
    now = int(time.time())
    end = now - now % 300
    distinct = products * (MINUTES if new_each_minute else 1)
    runs: dict[str, list[dict[str, float]]] = {"runs": [], "one_thread": []}
    with DynamoDb() as dynamodb:
        fill(dynamodb, end, products, new_each_minute=new_each_minute)
        event = json.dumps({"window_end": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))}).encode()
        for _ in range(rounds):
            for name, of_name in runs.items():
                threads = {} if name == "runs" else {"TOKIO_WORKER_THREADS": "1"}
                with Function([binary("rank-products")], dynamodb, TABLES | threads) as function:
                    function.wait_for_poll()
                    before = function.cpu_seconds()
                    started = time.monotonic()
                    answer = function.invoke(event)
                    of_name.append(
                        {
                            "wall_seconds": time.monotonic() - started,
                            "cpu_seconds": function.cpu_seconds() - before,
                            "peak_megabytes": function.peak_megabytes(),
                        }
                    )
                    if answer["distinct_products"] != distinct or answer["items"] != MINUTES * BUCKETS:
                        raise FunctionError(f"not all counters were read: {answer}")
    return {"products": distinct, "counters": products * MINUTES, **runs}


def replay(events: int, minutes: int, rounds: int) -> dict[str, Any]:
    """Runs `hot replay` on a file with events of so many minutes; everything is in one process."""
    runs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "events.jsonl"
        shape = ["--events", str(events), "--products", "10000", "--minutes", str(minutes)]
        generate = [str(binary("hot")), "generate", *shape]
        with file.open("wb") as out:
            subprocess.run(generate, stdout=out, check=True)
        for _ in range(rounds):
            with (pathlib.Path(folder) / "windows.jsonl").open("w+b") as out:
                started = time.monotonic()
                process = subprocess.Popen([binary("hot"), "replay", "--json", file], stdout=out)
                _, status, usage = os.wait4(process.pid, 0)
                wall = time.monotonic() - started
                process.returncode = os.waitstatus_to_exitcode(status)
                out.seek(0)
                lines = out.read().splitlines()
            summary = json.loads(lines[-1])["summary"] if lines else {}
            if process.returncode != 0 or summary["counted"] + summary["ignored"] != events:
                raise FunctionError(f"hot replay ended with {process.returncode}: {summary}")
            runs.append(
                {
                    "wall_seconds": wall,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_megabytes": usage.ru_maxrss * 1_024 / 1e6,
                    "windows": len(lines) - 1,
                    "milliseconds_a_window": 1e3 * wall / (len(lines) - 1),
                }
            )
    return {"events": events, "runs": runs}


def zipped_megabytes(path: pathlib.Path) -> float:
    """The size of a function's zip, in MB of 10^6 bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.write(path, "bootstrap")
    return len(archive.getvalue()) / 1e6


def functions(starts: int) -> dict[str, Any]:
    """The size of the functions' zips and the time from start to first poll, with an empty function for comparison."""
    milliseconds: dict[str, list[float]] = {name: [] for name in ("empty", *FUNCTIONS)}
    with DynamoDb() as dynamodb:
        for _ in range(starts):
            for name, times in milliseconds.items():
                with Function([binary(name)], dynamodb, TABLES) as function:
                    times.append(function.wait_for_poll())
    return {
        "zip_megabytes": {name: zipped_megabytes(binary(name)) for name in milliseconds},
        "start_milliseconds": milliseconds,
    }
