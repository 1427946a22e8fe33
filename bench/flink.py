"""Flink on the events of the medium workload. It is not a function, so it is measured separately.

The job is a plain Java program on the jars of PyFlink's wheel, so that all CPU time is that of one process. Start and
warm-up are a large part of a short run, so the result is the difference between a long run and a short one.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from typing import Any

from processes import ROOT, TARGET, binary
from runtime_api import FunctionError

JARS = ".venv/flink/lib/python3*/site-packages/pyflink/lib"
EVENTS_A_MINUTE = 60_000
PRODUCTS = 20_000
HOURS_OF_A_CLICK = 12


def compile_job(folder: pathlib.Path) -> str:
    """Compiles the job and returns its classpath."""
    jars = next(ROOT.glob(JARS), None)
    if jars is None or shutil.which("javac") is None:
        raise SystemExit("bench: Flink needs its jars and a JDK: install Java 17, then `make bench-flink`")
    folder.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "flink" / "HotProducts.java"
    subprocess.run(["javac", "-cp", f"{jars}/*", "-d", folder, source], check=True)
    return f"{folder}:{jars}/*"


def generate(events: int, file: pathlib.Path) -> None:
    """Writes `events` events of the medium workload, all of them clicks."""
    minutes = -(-events // EVENTS_A_MINUTE)
    command = [
        str(binary("hot")),
        "generate",
        "--events",
        str(events),
        "--products",
        str(PRODUCTS),
        "--minutes",
        str(minutes),
    ]
    with file.open("wb") as out:
        subprocess.run([*command, "--ignored-share", "0", "--disorder", "2s"], stdout=out, check=True)


def run(classpath: str, file: pathlib.Path, events: int) -> dict[str, float]:
    """Runs the job on a file; it must count each event."""
    opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util")]
    command = ["java", "-Xmx1g", f"-Djava.io.tmpdir={file.parent}", *opens, "-cp", classpath, "HotProducts", str(file)]
    with tempfile.TemporaryFile() as out:
        started = time.monotonic()
        # As with the functions, the caller's environment must not change it, for example by JAVA_TOOL_OPTIONS.
        process = subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
    counted = {name: int(clicks) for name, clicks in re.findall(r"^(\w+) (\d+)$", output, re.MULTILINE)}
    if process.returncode != 0 or counted != {"minutes": events, "hours": HOURS_OF_A_CLICK * events}:
        raise FunctionError(f"Flink did not count {events} clicks: {output[-2_000:]}")
    return {
        "wall_seconds": wall,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss * 1_024 / 1e6,
    }


def measure(short: int, long: int, rounds: int) -> dict[str, Any]:
    """CPU seconds per million clicks: the difference between runs of `long` and `short` events."""
    classpath = compile_job(TARGET / "bench" / "flink")
    runs: dict[int, list[dict[str, float]]] = {short: [], long: []}
    with tempfile.TemporaryDirectory() as folder:
        files = {events: pathlib.Path(folder) / f"{events}.jsonl" for events in runs}
        for events, file in files.items():
            generate(events, file)
        for _ in range(rounds):
            for events, file in files.items():
                runs[events].append(run(classpath, file, events))
    pairs = zip(runs[short], runs[long], strict=True)
    return {
        "events": [short, long],
        "runs": list(runs.values()),
        "cpu_seconds_per_million": [(b["cpu_seconds"] - a["cpu_seconds"]) * 1e6 / (long - short) for a, b in pairs],
        "peak_megabytes": [one["peak_megabytes"] for one in runs[long]],
    }
