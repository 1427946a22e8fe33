"""The Lambda Runtime API for one function, which polls it for invocations and posts the answers to it.

AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import http.server
import json
import queue
import threading
import time
from typing import Any

INVOCATION_SECONDS = 15 * 60


class FunctionError(Exception):
    """The function answered with an error, or did not answer."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocations: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[tuple[bool, bytes]] = queue.Queue()
        self.polled = threading.Event()
        self.first_poll_ns = 0
        self.number = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores errors: the poll of a function that has ended cannot be answered."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""

    def do_GET(self) -> None:
        """`/runtime/invocation/next`."""
        if not self.server.polled.is_set():
            self.server.first_poll_ns = time.monotonic_ns()
            self.server.polled.set()
        body = self.server.invocations.get()
        self.server.number += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Lambda-Runtime-Aws-Request-Id", f"00000000-0000-4000-8000-{self.server.number:012}")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + INVOCATION_SECONDS) * 1_000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:bench")
        self.send_header("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Parent=0;Sampled=0")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """`/runtime/invocation/ID/response`, `/runtime/invocation/ID/error` or `/runtime/init/error`."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Reply before the next invocation is queued: the function polls for it only after this reply.
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.answers.put((self.path.endswith("/response"), body))


class RuntimeApi:
    """Serves one function until it is closed."""

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """For `AWS_LAMBDA_RUNTIME_API`."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def wait_for_poll(self, seconds: float) -> int:
        """Waits for the function's first poll and returns its time on the monotonic clock, in nanoseconds."""
        if not self._server.polled.wait(seconds):
            raise FunctionError(f"the function did not poll within {seconds} s")
        return self._server.first_poll_ns

    def invoke(self, event: bytes, seconds: float = INVOCATION_SECONDS) -> Any:
        """Invokes the function with the event and returns its answer."""
        self._server.invocations.put(event)
        try:
            good, body = self._server.answers.get(timeout=seconds)
        except queue.Empty:
            raise FunctionError(f"no answer within {seconds} s") from None
        if not good:
            raise FunctionError(body.decode(errors="replace"))
        return json.loads(body)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
