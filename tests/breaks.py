"""Breaks counting and healing on purpose, and reports how soon the tests notice.

Each patch in tests/breaks changes the product's code, not a copy of it. For each of them, this program copies the
repository to target/breaks, applies the patch, and runs

- a model, which reports the shortest way to an error that it finds: tests/model.rs for a break of the protocol and
  tests/healing_model.rs for any other, and
- fault schedules, tests/chaos.rs, until the first error.

It exits with 1 if a patch does not apply, or if neither notices the break. It takes some minutes a break, most of
them to build. One break alone: python3 tests/breaks.py no-condition
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "breaks" / "source"
TARGET = ROOT / "target" / "breaks" / "target"
SCHEDULES = int(os.environ.get("N") or 100)
CARGO = os.environ.get("CARGO", "cargo")


def run(*command, **environment):
    """Runs a command in the copy and returns whether it succeeded, and what it printed."""
    result = subprocess.run(
        [*map(str, command)],
        cwd=COPY,
        env=os.environ | {"CARGO_TARGET_DIR": str(TARGET), "CARGO_TERM_COLOR": "never"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode == 0, result.stdout


def copy():
    """Copies what git tracks, and what it would track, with the times of the files."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)


def model_of(patch):
    """The model that runs the code which a patch changes, or code next to it."""
    text = patch.read_text()
    return "model" if "/src/protocol.rs" in text or "/src/store/counters.rs" in text else "healing_model"


def steps_of_the_model(model):
    """The number of steps of the model's counterexample; None if it found none."""
    _, output = run(
        CARGO, "test", "--locked", "--workspace", "--features", "hot/kafka", "--test", model, "every_",
        "--", "--nocapture", BROKEN="1",
    )
    found = re.search(r"InTheCode: .* after (\d+) states; (\d+) steps", output)
    if not found and "goes unnoticed" not in output:
        sys.exit(f"the model did not run:\n{output[-3000:]}")
    return int(found[2]) if found else None


def schedules_of_chaos(healing_every):
    """After how many fault schedules the first error showed; None if none did."""
    selection = ("--locked", "--workspace", "--features", "hot/kafka")
    built, output = run(CARGO, "build", *selection, "--bin", "count-clicks")
    if not built:
        sys.exit(f"the broken code does not build:\n{output[-3000:]}")
    _, output = run(
        CARGO, "test", *selection, "--test", "chaos", N=str(SCHEDULES),
        HEALING_EVERY=str(healing_every), FAIL_FAST="1",
    )
    found = re.search(r"FAILED, the (\d+)th to end", output)
    if not found and "test result: " not in output:
        sys.exit(f"the fault schedules did not run:\n{output[-3000:]}")
    return int(found[1]) if found else None


def main():
    patches = sorted((ROOT / "tests" / "breaks").glob("*.patch"))
    wanted = sys.argv[1:]
    if unknown := set(wanted) - {patch.stem for patch in patches}:
        sys.exit(f"no such break: {', '.join(sorted(unknown))}; there are {', '.join(patch.stem for patch in patches)}")
    unnoticed = []
    print(f"{'break':<24} {'model':>10} {'fault schedules':>16}")
    for patch in patches:
        if wanted and patch.stem not in wanted:
            continue
        copy()
        applied = subprocess.run(["git", "apply", "--unsafe-paths", f"--directory={COPY}", str(patch)], cwd="/")
        if applied.returncode != 0:
            sys.exit(f"{patch.name} does not apply: the code has changed, make the break anew")
        model = model_of(patch)
        # More of the schedules that are about healing.
        steps, schedules = steps_of_the_model(model), schedules_of_chaos(2 if model == "healing_model" else 8)
        if steps is None and schedules is None:
            unnoticed.append(patch.stem)
        shown = ("–" if steps is None else f"{steps} steps", "–" if schedules is None else f"{schedules} of {SCHEDULES}")
        print(f"{patch.stem:<24} {shown[0]:>10} {shown[1]:>16}", flush=True)
    shutil.rmtree(COPY, ignore_errors=True)
    if unnoticed:
        sys.exit(f"not noticed: {', '.join(unnoticed)}")


if __name__ == "__main__":
    main()
