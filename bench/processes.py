"""The measured functions and the emulator, each in its own process. Linux only."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any, Self

from runtime_api import FunctionError, RuntimeApi

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
START_SECONDS = 60

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def binary(name: str) -> pathlib.Path:
    """A release binary of this workspace."""
    return TARGET / "release" / name


def cpu_seconds(pid: int) -> float:
    """User and system time of a process in seconds, including its finished threads."""
    # The clock that clock_getcpuclockid(3) returns for the CPU time of another process.
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


def megabytes(pid: int, name: str) -> float:
    """The memory of a process that /proc/PID/status gives under this name, in MB of 10^6 bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    if not found:
        raise FunctionError(f"process {pid} has ended")
    return int(found[1]) * 1_024 / 1e6


class Process:
    """A process that ends with its context. Errors include its output."""

    def __init__(
        self, command: list[str | os.PathLike[str]], environment: dict[str, str], cwd: pathlib.Path = ROOT
    ) -> None:
        self._log = tempfile.TemporaryFile()
        # Without the caller's environment, the process cannot reach AWS, and the measurement does not depend on it.
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **CREDENTIALS, **environment}
        self.started_ns = time.monotonic_ns()
        self._process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def output(self) -> str:
        """The output so far."""
        # `pread` does not move the file offset, which the writer shares.
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, FunctionError):
            error.add_note(f"the process printed: {self.output()[-2_000:]}")
        self.stop()


class DynamoDb(Process):
    """`hot dynamodb`: an emulator in memory, with the product's tables."""

    def __init__(self) -> None:
        super().__init__([binary("hot"), "dynamodb", "--port", "0"], {})
        deadline = time.monotonic() + START_SECONDS
        # It lists the tables when it is ready.
        while not (found := re.search(r"DynamoDB on http://([\d.]+):(\d+),.*\n(?:table .*\n){3}", self.output())):
            if self.ended() or time.monotonic() > deadline:
                output = self.output()
                self.stop()
                raise FunctionError(f"the emulator did not start: {output}")
            time.sleep(0.01)
        self._host, self._port = found[1], int(found[2])
        self._connection = http.client.HTTPConnection(self._host, self._port, timeout=60)

    @property
    def endpoint(self) -> str:
        """For `AWS_ENDPOINT_URL_DYNAMODB`."""
        return f"http://{self._host}:{self._port}"

    def call(self, operation: str, body: str | dict[str, Any]) -> Any:
        """Calls the API without the SDK, which would be slower than the emulator for millions of counters."""
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host;x-amz-date;x-amz-target, Signature=" + 64 * "0",
        }
        text = body if isinstance(body, str) else json.dumps(body)
        self._connection.request("POST", "/", text.encode(), headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise FunctionError(f"{operation}: {answer.decode(errors='replace')}")
        return json.loads(answer)


class Function(Process):
    """A Lambda function with its own Runtime API."""

    def __init__(
        self,
        command: list[str | os.PathLike[str]],
        dynamodb: DynamoDb,
        environment: dict[str, str],
        cwd: pathlib.Path = ROOT,
    ) -> None:
        self.api = RuntimeApi()
        lambdas = {
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
            "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.endpoint,
            "LAMBDA_TASK_ROOT": str(cwd),
        }
        super().__init__(command, {**lambdas, **environment}, cwd)

    def wait_for_poll(self) -> float:
        """Waits for the first poll and returns the time since the start, in milliseconds."""
        return (self.api.wait_for_poll(START_SECONDS) - self.started_ns) / 1e6

    def invoke(self, event: bytes) -> Any:
        """Invokes the function and returns its answer."""
        return self.api.invoke(event)

    def cpu_seconds(self) -> float:
        """Its CPU time so far, in seconds."""
        return cpu_seconds(self.pid)

    def peak_megabytes(self) -> float:
        """Its peak resident memory, in MB."""
        return megabytes(self.pid, "VmHWM")

    def resident_megabytes(self) -> float:
        """Its resident memory, in MB."""
        return megabytes(self.pid, "VmRSS")

    def stop(self) -> None:
        """Ends the process and its Runtime API."""
        super().stop()
        self.api.close()
