"""Shared by the browser tests: the servers under test, the browser, and checks that hold for every page."""

import decimal
import json
import os
import pathlib
import re
import subprocess
import time
import unittest
import urllib.parse
import urllib.request

from playwright.sync_api import expect, sync_playwright

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
HOT = TARGET / "debug" / "hot"
ARTEFACTS = TARGET / "browser"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# CI runs as root, without a sandbox. The browser itself must not make requests.
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

# How long to wait for what must happen, in seconds: long enough for a busy machine.
PATIENCE = 60
expect.set_options(timeout=PATIENCE * 1000)

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 720}

# Sums the page's layout shifts and counts its animations.
OBSERVE = """
window.shifted = 0;
window.animated = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
const animate = Element.prototype.animate;
Element.prototype.animate = function (...args) {
  window.animated += 1;
  return animate.apply(this, args);
};
"""

# Reads all rows at once, because they may change between two reads.
READ_ROWS = """() => ({
  window: document.body.dataset.window,
  total: document.getElementById("total").textContent,
  distinct: document.getElementById("distinct").textContent,
  rows: [...document.querySelectorAll("#products tr")].map((row) => ({
    product: row.dataset.product,
    rank: row.querySelector(".rank").textContent,
    moved: row.querySelector(".move .hidden").textContent,
    clicks: row.querySelector(".clicks").textContent,
    share: row.querySelector(".percent").textContent,
  })),
})"""


def environment():
    """The environment without AWS settings: nothing here talks to AWS."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nobody = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return own | nobody | {"AWS_EC2_METADATA_DISABLED": "true"}


def until(what, ready):
    """Waits until `ready` returns a true value, and returns that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(0.05)
    return found


def hot(*arguments):
    """Runs `hot` and returns its output."""
    done = subprocess.run([HOT, *arguments], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"hot {arguments}: {done.stderr}")
    return done.stdout


class Server:
    """A `hot` command that serves on a free port, or on `port`."""

    def __init__(self, *arguments, port=0):
        self.name = " ".join(["hot", *arguments])
        command = [HOT, *arguments, "--port", str(port)]
        self.process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        self.said = ""
        while not self.urls():
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"{self.name} exited with {self.process.wait()} and printed {self.said!r}")
            self.said += line

    def urls(self):
        return re.findall(r"http://127\.0\.0\.1:\d+", self.said)

    @property
    def url(self):
        return self.urls()[0]

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    def get(self, path, **query):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=PATIENCE) as answer:
            return json.load(answer)

    def post(self, path):
        request = urllib.request.Request(f"{self.url}{path}", method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def stop(self):
        """Stops it, as Ctrl-C does; it must exit successfully."""
        self.process.terminate()
        status = self.process.wait(timeout=PATIENCE)
        self.process.stdout.close()
        if status != 0:
            raise AssertionError(f"{self.name} stopped with {status}")


def dynamodb(endpoint, operation, request):
    """Calls the DynamoDB at `endpoint`, which does not check signatures."""
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        "Authorization": "AWS4-HMAC-SHA256 Credential=local/20221227/us-east-1/dynamodb/aws4_request, "
        "SignedHeaders=host;x-amz-target, Signature=0",
        "X-Amz-Date": "20221227T000000Z",
    }
    call = urllib.request.Request(endpoint, json.dumps(request).encode(), headers)
    with urllib.request.urlopen(call, timeout=PATIENCE) as answer:
        return json.load(answer)


def put_snapshot(endpoint, window_end, products, *, minutes=True, final=None, counted_through=()):
    """Writes a snapshot of `products`, pairs of id and clicks, hottest first. All clicks are in the first minute.

    `counted_through` has the newest minute of each topic partition, as `16:49`. Snapshots from before that was stored say
    neither that nor whether they are `final`.
    """
    day, hour = window_end[:10], int(window_end[11:13])
    whole = lambda number: {"N": str(number)}
    ranked = [
        {"M": {"rank": whole(rank), "product_id": {"S": product}, "clicks": whole(clicks)}}
        for rank, (product, clicks) in enumerate(products, 1)
    ]
    item = {
        "board": {"S": "clicks"},
        "window_end": {"S": window_end},
        "window_start": {"S": f"{day}T{hour - 1:02}{window_end[13:]}"},
        "generated_at": {"S": window_end.replace("00Z", "30.000Z")},
        "total_clicks": whole(sum(clicks for _, clicks in products)),
        "distinct_products": whole(len(products)),
        "products": {"L": ranked},
        "expires_at": whole(99_999_999_999),
    }
    if final is not None:
        item["final"] = {"BOOL": final}
    if counted_through:
        newest = {name: {"S": f"{day}T{minute}:00Z"} for name, minute in counted_through.items()}
        item["counted_through"] = {"M": newest}
    if minutes:
        per_minute = [
            {"M": {"product_id": {"S": product}, "clicks_per_minute": {"L": [whole(clicks)] + [whole(0)] * 59}}}
            for product, clicks in products
        ]
        own = {"board": {"S": "clicks#minutes"}, "products": {"L": per_minute}}
        shared = ("window_end", "window_start", "generated_at", "expires_at")
        put(endpoint, own | {name: item[name] for name in shared})
    put(endpoint, item)


def put(endpoint, item):
    dynamodb(endpoint, "PutItem", {"TableName": "hot-products-snapshots", "Item": item})


class BrowserTest(unittest.TestCase):
    """A test with a browser. No page may send requests to other hosts or write to the console."""

    @classmethod
    def setUpClass(cls):
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        # Playwright starts the browser with a new profile.
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        cls.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.complaints = []

    @classmethod
    def serve(cls, *arguments, **options):
        """Starts a server for all tests of the class."""
        server = Server(*arguments, **options)
        cls.addClassCleanup(server.stop)
        return server

    def open(self, server, **options):
        """Opens the page of `server` in a browser with `options`, and waits for its products."""
        page = self.visit(server, **options)
        expect(page.locator("#products tr").first).to_be_visible()
        return page

    def visit(self, server, *, viewport=None, **options):
        context = self.browser.new_context(viewport=viewport or DESKTOP, **options)
        requested = []
        self.addCleanup(self.close, context, server.url, requested)
        context.set_default_timeout(PATIENCE * 1000)
        context.add_init_script(OBSERVE)
        context.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        context.on("request", lambda request: requested.append(request.url))
        page = context.new_page()
        page.goto(server.url)
        return page

    def close(self, context, url, requested):
        context.close()
        self.assertEqual(self.complaints, [])
        foreign = [asked for asked in requested if not asked.startswith((f"{url}/", "data:"))]
        self.assertEqual(foreign, [])

    def rows(self, page):
        return page.evaluate(READ_ROWS)

    def shows(self, page, window):
        """Waits until the page shows the window that ended at `window`."""
        expect(page.locator(f'body[data-window="{window}"]')).to_be_attached()

    def assert_shows(self, seen, snapshot):
        """Checks that the page, as :meth:`rows` read it, shows exactly this snapshot."""
        self.assertEqual(seen["window"], snapshot["window_end"])
        self.assertEqual(seen["total"], f"{snapshot['total_clicks']:,}")
        self.assertEqual(seen["distinct"], f"{snapshot['distinct_products']:,}")
        self.assertTrue(seen["rows"])
        expected = [row(product, snapshot["total_clicks"]) for product in snapshot["products"][: len(seen["rows"])]]
        self.assertEqual(seen["rows"], expected)

    def screenshot(self, page, name):
        page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True, animations="disabled")


def percent(share):
    """A share as the browser rounds it: the exact value of the floating-point number, half up."""
    return decimal.Decimal(share * 100).quantize(decimal.Decimal("0.1"), decimal.ROUND_HALF_UP)


def row(product, total):
    """A product of a snapshot as the table shows it."""
    rank, before = product["rank"], product.get("previous_rank")
    places = None if before is None else before - rank
    if places is None:
        moved = "new"
    elif places == 0:
        moved = "same rank"
    else:
        moved = f"{'up' if places > 0 else 'down'} {abs(places)} place{'s' if abs(places) > 1 else ''}"
    return {
        "product": product["product_id"],
        "rank": str(rank),
        "moved": moved,
        "clicks": f"{product['clicks']:,}",
        "share": f"{percent(product['clicks'] / total)} %",
    }
