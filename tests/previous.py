"""Builds the functions of the previous release, for the fault schedules in which two versions take turns.

tests/previous-release names its commit. The binaries are then in target/previous/debug. Nothing is built if those of that
commit are there already.

The dependencies that both releases have in common are compiled once: the builds share the folder of intermediate files.
There, Cargo tells two copies of a package apart by its version only (rust-lang/cargo#12516), and would take the files of one
for the other. So the copy of the previous release gets a version with its commit. Nothing else in it is changed.

Run: python3 tests/previous.py
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMED = ROOT / "tests" / "previous-release"
TARGET = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target")
PREVIOUS = TARGET / "previous"
SOURCE = PREVIOUS / "source"
BINARIES = PREVIOUS / "debug"
# The commit of the binaries.
BUILT = PREVIOUS / "commit"
FUNCTIONS = ("count-clicks", "rank-products")
CARGO = os.environ.get("CARGO", "cargo")


def named_commit(text):
    """The commit that the lines of tests/previous-release name."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1 or not re.fullmatch(r"[0-9a-f]{40}", lines[0]):
        sys.exit(f"{NAMED.relative_to(ROOT)} must name one commit by its 40 hexadecimal digits, not {' '.join(lines)!r}")
    return lines[0]


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)


def find(commit):
    """Fetches the commit if this clone does not have it."""
    there = ("cat-file", "-e", f"{commit}^{{commit}}")
    if git(*there).returncode == 0:
        return
    fetched = git("fetch", "--quiet", "--depth", "1", "origin", commit)
    if git(*there).returncode != 0:
        sys.exit(
            f"the previous release, {commit}, is neither in this clone nor at its origin: clone the whole history, or correct"
            f" {NAMED.relative_to(ROOT)}. git says: {fetched.stderr.decode(errors='replace').strip()}"
        )


def extract(commit):
    """Copies the commit's files to a folder of their own."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    archive = git("archive", "--format", "tar", commit)
    if archive.returncode != 0:
        sys.exit(f"git archive {commit} failed: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(SOURCE, filter="data")


def rename(manifest, lock, commit):
    """The workspace's Cargo.toml and Cargo.lock with the commit in the version of its packages."""
    of_commit = rf"\g<1>-g{commit[:12]}\g<2>"
    manifest, changed = re.subn(r'^(\[workspace\.package\]\nversion = "[^"]+)(")', of_commit, manifest, flags=re.MULTILINE)
    if changed != 1:
        sys.exit("the previous release's Cargo.toml does not begin [workspace.package] with a version")
    # Packages of the workspace have no source.
    lock = re.sub(r'^(\[\[package\]\]\nname = "[^"]+"\nversion = "[^"]+)("\n)(?!source )', of_commit, lock, flags=re.MULTILINE)
    return manifest, lock


def build(commit):
    manifest, lock = SOURCE / "Cargo.toml", SOURCE / "Cargo.lock"
    for path, text in zip((manifest, lock), rename(manifest.read_text(), lock.read_text(), commit)):
        path.write_text(text)
    binaries = [argument for function in FUNCTIONS for argument in ("--bin", function)]
    # The same selection as in the Makefile, so that the dependencies have the same features.
    command = [CARGO, "build", "--locked", "--workspace", "--features", "hot/kafka", *binaries]
    folders = {"CARGO_TARGET_DIR": str(PREVIOUS), "CARGO_BUILD_BUILD_DIR": str(TARGET)}
    if subprocess.run(command, cwd=SOURCE, env=os.environ | folders, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"the previous release, {commit}, does not build")


def main():
    commit = named_commit(NAMED.read_text())
    if all((BINARIES / function).is_file() for function in FUNCTIONS) and BUILT.is_file() and BUILT.read_text() == commit:
        return
    find(commit)
    BUILT.unlink(missing_ok=True)
    extract(commit)
    build(commit)
    shutil.rmtree(SOURCE)
    BUILT.write_text(commit)


if __name__ == "__main__":
    main()
