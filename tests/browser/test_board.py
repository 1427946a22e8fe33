"""`hot board` over tables with hostile, empty, old or missing data."""

from playwright.sync_api import expect
from support import BrowserTest, Server, hot, put_snapshot

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><script>alert(1)</script>",
    '" onmouseover="alert(1)" x="',
    "javascript:alert(1)",
    "{{7*7}}${7*7}",
    "\u202ep1234 turned around",
    "\u2067\u2067\u2067never closed",
    "a" * 256,
    "wide \u3000 and\tblank",
    "Z\u0351\u036b\u0343a\u0329\u0355l\u0348\u0354g\u034eo",
    "../../hot-products",
    "..",
    "a/b?c=d#e%2F%",
    "7 caffè ☕ \"doppio\" #1",
    "__proto__",
    "constructor",
    "\u200b",
    "0",
]

# How the ids with hidden characters are shown, as in `hot top`.
HIDDEN = {
    "\u202ep1234 turned around": "\\u{202e}p1234 turned around",
    "\u2067\u2067\u2067never closed": "\\u{2067}\\u{2067}\\u{2067}never closed",
    "wide \u3000 and\tblank": "wide \u3000 and\\tblank",
    "\u200b": "\\u{200b}",
}

END = "2022-12-27T16:50:00Z"


class Board(BrowserTest):
    def tables(self):
        """Starts a DynamoDB with empty tables and a board over it."""
        dynamodb = Server("dynamodb")
        self.addCleanup(dynamodb.stop)
        return dynamodb.url, self.board(dynamodb.url)

    def board(self, endpoint, port=0):
        board = Server("board", "--endpoint-url", endpoint, port=port)
        self.addCleanup(lambda: board.process.poll() is None and board.stop())
        return board

    def test_an_id_is_always_text(self):
        endpoint, board = self.tables()
        products = [(product, 100 - rank) for rank, product in enumerate(HOSTILE)]
        put_snapshot(endpoint, "2022-12-27T16:50:00Z", products)
        page = self.open(board)
        self.assert_shows(self.rows(page), board.get("/hot-products"))
        # The table shows the exact text, with hidden characters escaped.
        shown = page.locator("#products .id").all_text_contents()
        self.assertEqual(shown, [HIDDEN.get(product, product) for product in HOSTILE])
        self.assertEqual(page.locator("#products :is(img, script, a)").count(), 0)
        # The text stays in its cell, and all rows have the same height.
        heights, wide, room = page.evaluate(
            "[[...document.querySelectorAll('#products tr')].map((row) => row.offsetHeight),"
            " document.documentElement.scrollWidth, innerWidth]"
        )
        self.assertEqual(len(set(heights)), 1, heights)
        self.assertLessEqual(wide, room)
        cut = page.locator("#products .id", has_text="aaaa")
        self.assertTrue(cut.evaluate("(id) => id.scrollWidth > id.clientWidth"))
        self.assertEqual(cut.get_attribute("title"), "a" * 256)
        self.assertEqual(cut.evaluate("(id) => getComputedStyle(id).unicodeBidi"), "isolate")
        # Each has its sparkline, including .., which can't be in a URL's path.
        expect(page.locator("#products .spark")).to_have_count(len(HOSTILE))
        labels = [HIDDEN.get(product, product) for product in HOSTILE]
        for rank, (spark, label) in enumerate(zip(page.locator("#products .spark").all(), labels, strict=True)):
            said = f"{label}: 0 clicks in the last minute, between 0 and {100 - rank} a minute"
            expect(spark).to_have_attribute("aria-label", said)
        self.screenshot(page, "hostile")

    def test_a_snapshot_without_minutes_has_no_sparklines(self):
        endpoint, board = self.tables()
        put_snapshot(endpoint, "2022-12-27T16:50:00Z", [("p1", 3)])
        page = self.open(board)
        expect(page.locator("#products .spark")).to_have_count(1)
        # A snapshot from before clicks per minute were stored. The old sparklines must not stay.
        put_snapshot(endpoint, "2022-12-27T16:55:00Z", [("p1", 4)], minutes=False)
        page.evaluate("() => dispatchEvent(new Event('online'))")
        self.shows(page, "2022-12-27T16:55:00Z")
        expect(page.locator("#products .clicks")).to_have_text("4")
        expect(page.locator("#products .spark")).to_have_count(0)
        # The browser logs the 404 and nothing else.
        self.assertTrue(all("404" in said for said in self.complaints), self.complaints)
        self.complaints.clear()

    def test_it_says_whether_more_clicks_can_join_and_which_partitions_are_quiet_or_behind(self):
        endpoint, board = self.tables()
        grow, end = "May still grow: late clicks can join.", "Final: no more clicks can join."
        quiet = "{}: nothing counted since {}, quiet or behind."
        counted = {"clicks-0": "16:49", "clicks-1": "16:44", "clicks-2": "16:43", "odd\u202e-1": "15:50"}
        many = {f"clicks-{number}": "16:00" for number in range(7)}
        one = [quiet.format("clicks-2", "16:44"), quiet.format("odd\\u{202e}-1", "15:51")]
        named = [quiet.format(f"clicks-{number}", "16:01") for number in range(5)]
        put_snapshot(endpoint, END, [("p1", 3)])
        page = self.open(board)
        for final, minutes, expected in (
            # Snapshots from before this was stored.
            (None, {}, [grow]),
            (False, {"clicks-0": "16:49"}, [grow]),
            (False, counted, [grow, *one]),
            (True, counted, [end, *one]),
            (False, many, [grow, *named, "The same for 2 more partitions."]),
        ):
            put_snapshot(endpoint, END, [("p1", 3)], final=final, counted_through=minutes)
            page.reload()
            expect(page.locator("#state")).to_have_text(" ".join(expected))
            # The same words as in the terminal, where each sentence is a line.
            lines = hot("top", "--endpoint-url", endpoint).partition(" of them\n")[2].split("\n")
            said = [line for line in lines if line]
            self.assertEqual(len(said), len(expected), said)
            for line, sentence in zip(said, expected, strict=True):
                self.assertTrue(sentence.lower().startswith(line.lower()), f"{line!r} is not {sentence!r}")

    def test_before_the_first_snapshot_it_says_so(self):
        endpoint, board = self.tables()
        page = self.visit(board)
        expect(page.locator("#freshness")).to_contain_text("No snapshot yet")
        put_snapshot(endpoint, "2022-12-27T16:50:00Z", [("p1", 3)])
        expect(page.locator("#products tr")).to_have_count(1)

    def test_an_overdue_snapshot_is_shown_as_stale(self):
        endpoint, board = self.tables()
        put_snapshot(endpoint, "2022-12-27T16:50:00Z", [("p1", 3)])
        page = self.open(board)
        expect(page.locator("#freshness")).to_have_attribute("data-kind", "stale")
        expect(page.locator("#freshness")).to_contain_text("Stale")

    def test_an_hour_without_clicks_is_not_an_error(self):
        endpoint, board = self.tables()
        put_snapshot(endpoint, "2022-12-27T16:50:00Z", [])
        page = self.visit(board)
        expect(page.get_by_text("No clicks in this hour.")).to_be_visible()
        expect(page.locator("#total")).to_have_text("0")

    def test_an_unreachable_server_is_reported_and_the_page_recovers(self):
        endpoint, board = self.tables()
        put_snapshot(endpoint, "2022-12-27T16:50:00Z", [("p1", 3)])
        page = self.open(board)
        board.stop()
        # The event of a network that is back. Without it, the page would wait half a minute.
        again = "() => dispatchEvent(new Event('online'))"
        page.evaluate(again)
        expect(page.locator("#freshness")).to_contain_text("the server can’t be reached")
        self.assertEqual(self.rows(page)["rows"][0]["product"], "p1")

        self.board(endpoint, board.port)
        put_snapshot(endpoint, "2022-12-27T16:55:00Z", [("p2", 4)])
        page.evaluate(again)
        self.shows(page, "2022-12-27T16:55:00Z")
        expect(page.locator("#freshness")).to_have_attribute("data-kind", "stale")
        # The browser logs the refused connections and nothing else.
        self.assertTrue(all("ERR_CONNECTION_REFUSED" in said for said in self.complaints), self.complaints)
        self.complaints.clear()
