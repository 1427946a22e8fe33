"""Starts and stops an AWS emulator on this machine, runs commands against it, and counts checks, for the rehearsal.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

import boto3
import sam

ROOT = pathlib.Path(__file__).resolve().parents[1]
# In this Python's environment.
EMULATOR = str(pathlib.Path(sys.executable).with_name("ministack"))
# The pinned version, in a separate environment.
SAM = str(ROOT / ".venv" / "sam" / "bin" / "sam")

client = boto3.client


# ── Output ────────────────────────────────────────────────────────────────────────────────────────────────────────────

START = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)


class Checks:
    """Counts passed and failed checks. A failed check does not end the rehearsal."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, expected, found):
        if expected == found:
            self.passed += 1
            print(f"  ok      {what}", flush=True)
        else:
            self.failed += 1
            print(f"  FAILED  {what}\n    expected {expected!r}\n    found    {found!r}", flush=True)

    def holds(self, what, check, *arguments):
        """Runs a check of tests/infra, which raises an exception if it fails."""
        try:
            check(unittest.TestCase(), *arguments)
        except AssertionError as error:
            self(what, "no difference", str(error))
        else:
            self(what, True, True)


class CannotRehearse(Exception):
    """A requirement is missing. The message says which one and what to do."""


# ── The emulator ──────────────────────────────────────────────────────────────────────────────────────────────────────


def environment(outer, port, folder):
    """The environment of this program and its subprocesses: `outer` without the user's settings for AWS and SAM."""
    kept = {k: v for k, v in outer.items() if not k.upper().startswith(("AWS_", "SAM_CLI_", "__SAM_CLI_"))}
    # Only Cargo's downloads use a proxy.
    not_proxied = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1", "localhost"]))
    # First on the path: the pinned cargo-lambda, and the Python in which it finds its linker, zig. Then the pinned AWS CLI.
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), str(ROOT / ".venv" / "aws" / "bin"), kept.get("PATH", "")])
    return kept | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_REGION": sam.REGION,
        "AWS_DEFAULT_REGION": sam.REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(folder / "sam"),
        "NO_PROXY": not_proxied,
        "no_proxy": not_proxied,
        "PATH": path,
    }


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Emulator:
    """ministack, with its state in a temporary folder and its own session, so that all of its processes can be stopped."""

    def __init__(self, port, folder):
        self.log = folder / "emulator.log"
        scratch = folder / "emulator"
        scratch.mkdir()
        # Nothing else: the functions inherit it, and all of their settings should come from the template.
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME") or k.startswith("AWS_")}
        settings = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            # Other servers of the emulator, which ignore BIND_HOST.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            # Check the caller's policies for each call. The calls of a function have its role.
            "AUTH": "true",
            # The account and region of tests/infra, so that ARNs are equal.
            "MINISTACK_ACCOUNT_ID": sam.ACCOUNT,
            "MINISTACK_REGION": sam.REGION,
            "TMPDIR": str(scratch),
            "STATE_DIR": str(scratch / "state"),
            "S3_DATA_DIR": str(scratch / "s3"),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [EMULATOR], env=inherited | settings, cwd=scratch, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait(f"http://127.0.0.1:{port}/_ministack/ready")
        except BaseException:
            self.stop()
            raise

    def _wait(self, url):
        for _ in range(600):
            if self.process.poll() is not None:
                raise CannotRehearse(f"the emulator exited:\n{self.tail()}")
            with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
                return
            time.sleep(0.1)
        raise CannotRehearse(f"the emulator is not ready after a minute:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def processes(self):
        """The processes of its session: the emulator and the functions that it runs."""
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The name, in parentheses, may contain spaces.
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return found

    def listens_on(self):
        """The local addresses of its TCP listeners and UDP sockets, as the kernel writes them."""
        inodes = set()
        for pid in self.processes():
            for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
        addresses = set()
        for table, waiting in ("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"):
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == waiting and fields[9] in inodes:
                        addresses.add(fields[1].split(":")[0])
        return addresses

    def stop(self):
        """Stops all of its processes; returns those that are still running."""
        for order in signal.SIGTERM, signal.SIGKILL:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, order)
            until = time.monotonic() + 10
            while self.processes() and time.monotonic() < until:
                time.sleep(0.1)
        self.process.poll()
        return self.processes()


def run(*command, cwd):
    """Runs a command, shows its output, and reports every 30 s that it is still running."""
    name = " ".join([pathlib.Path(command[0]).name, *map(str, command[1:])])
    say(f"$ {name}")
    start = time.monotonic()
    # In its own session, so that its subprocesses can be stopped with it.
    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            try:
                code = process.wait(timeout=30)
                break
            except subprocess.TimeoutExpired:
                say(f"… running for {time.monotonic() - start:.0f} s")
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if code != 0:
        raise CannotRehearse(f"`{name}` exited with code {code}; see its output above")
    return time.monotonic() - start
