"""`hot demo`: its page shows what is in the tables, and its controls work."""

import json
import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from support import PHONE, BrowserTest, hot, until


def number(text):
    return float(text.replace(",", ""))


class Demo(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.demo = cls.serve("demo", "--products", "400", "--clicks-per-second", "4")
        cls.dynamodb = cls.demo.get("/demo/pipeline")["dynamodb"]

    def setUp(self):
        super().setUp()
        self.demo.post("/demo/resume")

    def top(self, window):
        return json.loads(hot("top", "--json", "--at", window, "--endpoint-url", self.dynamodb))

    def figures(self, page):
        names = ["records", "counted", "ignored", "already_counted", "stale", "rejected"]
        return {name: number(page.locator(f"#{name}").text_content()) for name in names}

    def pause(self, page):
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()

    def shows_newest(self, page):
        """Waits until the page of a paused demo shows the newest snapshot, and returns its end."""
        newest = self.demo.get("/hot-products")["window_end"]
        self.shows(page, newest)
        return newest

    def test_the_numbers_equal_those_of_hot_top(self):
        page = self.open(self.demo)
        seen = self.rows(page)
        self.assertEqual(len(seen["rows"]), 20)
        self.assert_shows(seen, self.top(seen["window"]))
        for shown in [40, 60, 80, 100]:
            page.get_by_role("button", name="Show 20 more").click()
            expect(page.locator("#products tr")).to_have_count(shown)
        seen = self.rows(page)
        self.assert_shows(seen, self.top(seen["window"]))
        expect(page.get_by_role("button", name="Show")).to_be_hidden()

    def test_it_follows_the_snapshots(self):
        page = self.open(self.demo)
        for _ in range(2):
            seen = self.rows(page)
            self.assert_shows(seen, self.top(seen["window"]))
            expect(page.locator(f'body:not([data-window="{seen["window"]}"])')).to_be_attached()
        expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
        expect(page.get_by_text("Demo: time runs 60 times as fast as real time")).to_be_visible()

    def test_the_minutes_equal_the_counters(self):
        page = self.open(self.demo)
        self.pause(page)
        window = self.shows_newest(page)
        snapshot = self.top(window)

        page.get_by_text("The numbers as a table").click()
        minutes = [number(text) for text in page.locator("#chart-rows td").all_text_contents()]
        self.assertEqual(minutes, snapshot["clicks_per_minute"])
        self.assertEqual(sum(minutes), snapshot["total_clicks"])
        expect(page.locator("#chart rect.bar")).to_have_count(60)

        for place, product in enumerate(snapshot["products"][:20]):
            name, clicks = product["product_id"], product["clicks"]
            each = self.demo.get(f"/products/{name}/clicks", minutes=60, to=window)
            self.assertEqual(each["total_clicks"], clicks)
            counts = [minute["clicks"] for minute in each["minutes"]]
            last = f"{counts[-1]} click{'' if counts[-1] == 1 else 's'} in the last minute"
            label = f"{name}: {last}, between {min(counts)} and {max(counts)} a minute"
            spark = page.locator("#products tr").nth(place).get_by_role("img")
            spark.scroll_into_view_if_needed()
            expect(spark).to_have_attribute("aria-label", label)

    def test_the_slider_goes_to_the_past_and_back(self):
        page = self.open(self.demo)
        snapshots = self.demo.get("/hot-products/history", limit=1)["snapshots"]
        first = snapshots[0]["window_end"]
        slider = page.get_by_role("slider", name="Snapshot")
        live = page.get_by_role("button", name="Live", exact=True)
        expect(live).to_have_attribute("aria-pressed", "true")

        slider.focus()
        page.keyboard.press("Home")
        self.shows(page, first)
        self.assert_shows(self.rows(page), self.top(first))
        expect(live).to_have_attribute("aria-pressed", "false")
        expect(page.locator("#freshness")).to_contain_text("Past snapshot")
        expect(slider).to_have_attribute("aria-valuetext", re.compile(f"the hour to {first[11:16]} UTC"))

        page.keyboard.press("ArrowRight")
        second = snapshots[1]["window_end"]
        self.shows(page, second)
        page.get_by_role("button", name="Later snapshot").click()
        self.shows(page, snapshots[2]["window_end"])
        page.get_by_role("button", name="Earlier snapshot").click()
        self.shows(page, second)
        self.assert_shows(self.rows(page), self.top(second))

        # The page stays at the chosen snapshot while new ones are made.
        length = int(slider.get_attribute("max"))
        until("a newer snapshot", lambda: int(slider.get_attribute("max")) > length)
        self.assertEqual(self.rows(page)["window"], second)

        live.click()
        expect(live).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
        seen = self.rows(page)
        self.assertGreater(seen["window"], snapshots[-1]["window_end"])
        self.assert_shows(seen, self.top(seen["window"]))

    def test_neither_button_changes_a_count(self):
        page = self.open(self.demo)
        self.pause(page)
        window = self.shows_newest(page)
        expect(page.locator("#sources tr")).to_have_count(4)
        expect(page.locator("#sources td:last-child")).to_have_text(["0"] * 4)
        rows, before = self.rows(page), self.figures(page)
        products = [row["product"] for row in rows["rows"]]
        minutes = lambda: [self.demo.get(f"/products/{product}/clicks", minutes=90) for product in products]
        counters = minutes()

        page.get_by_role("button", name="Redeliver the last batch").click()
        expect(page.get_by_role("status").filter(has_text="again: 0 counted")).to_be_visible()
        again = self.figures(page)
        self.assertEqual(again["counted"], before["counted"])
        self.assertEqual(again["rejected"], before["rejected"])
        delivered = again["records"] - before["records"]
        self.assertGreater(delivered, 0)
        skipped = again["already_counted"] - before["already_counted"]
        self.assertEqual(skipped, delivered - (again["ignored"] - before["ignored"]))
        self.assertGreater(skipped, 0)

        page.get_by_role("button", name="Send garbage").click()
        expect(page.get_by_role("status").filter(has_text="200 records of garbage: 0 counted")).to_be_visible()
        after = self.figures(page)
        self.assertEqual((after["counted"], after["already_counted"]), (again["counted"], again["already_counted"]))
        self.assertEqual(after["rejected"] - again["rejected"] + after["stale"] - again["stale"], 200)
        reasons = page.locator("#reasons tr").all_text_contents()
        self.assertTrue(any(reason.startswith("event time in future") for reason in reasons), reasons)

        self.assertEqual(minutes(), counters)
        self.assertEqual(self.rows(page), rows)
        self.assert_shows(self.rows(page), self.top(window))

        # After the demo is resumed, no later snapshot has the skipped and rejected records.
        page.get_by_role("button", name="Resume").click()
        expect(page.locator(f'body:not([data-window="{window}"])')).to_be_attached()
        seen = self.rows(page)
        snapshot = self.top(seen["window"])
        self.assert_shows(seen, snapshot)
        for product in snapshot["products"][:20]:
            each = self.demo.get(f"/products/{product['product_id']}/clicks", minutes=60, to=seen["window"])
            self.assertEqual(each["total_clicks"], product["clicks"])

    def test_hot_board_shows_the_same(self):
        page = self.open(self.demo)
        self.pause(page)
        self.shows_newest(page)
        board = self.serve("board", "--endpoint-url", self.dynamodb)
        shown = self.rows(page)
        other = self.open(board)
        self.assertEqual(self.rows(other), shown)
        expect(other.locator("#pipeline")).to_be_hidden()
        self.draw_all(other)
        self.screenshot(other, "tables-only")
        self.accessible(other)

    def test_light_dark_and_phone(self):
        # A paused demo in which both actions have run, so that everything is shown.
        for done in ["pause", "garbage", "redeliver"]:
            self.demo.post(f"/demo/{done}")
        backgrounds = set()
        for name, options in {
            "light": {"color_scheme": "light"},
            "dark": {"color_scheme": "dark"},
            "phone": {"color_scheme": "light", "viewport": PHONE, "is_mobile": True, "has_touch": True},
            "narrow": {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}},
        }.items():
            with self.subTest(name):
                page = self.open(self.demo, **options)
                self.draw_all(page)
                backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
                wide, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                self.assertLessEqual(wide, room)
                self.screenshot(page, name)
                self.accessible(page)
                self.assertLess(page.evaluate("window.shifted"), 0.1)
        self.assertEqual(len(backgrounds), 2)

    def test_rows_are_animated_only_without_reduced_motion(self):
        for motion, glides in {"reduce": False, "no-preference": True}.items():
            with self.subTest(motion):
                page = self.open(self.demo, reduced_motion=motion)
                slider = page.get_by_role("slider", name="Snapshot")

                def order(key):
                    """The products after a press of the key, which shows another snapshot."""
                    window = self.rows(page)["window"]
                    slider.press(key)
                    expect(page.locator(f'body:not([data-window="{window}"])')).to_be_attached()
                    return [row["product"] for row in self.rows(page)["rows"]]

                # A slow machine may not have a snapshot yet in which the ranks have changed.
                until("a snapshot with other ranks", lambda: order("Home") != order("End"))
                order("Home")
                self.assertEqual(page.evaluate("window.animated") > 0, glides)

    def test_the_keyboard_reaches_all_controls_and_the_focus_is_visible(self):
        self.demo.post("/demo/pause")
        page = self.open(self.demo)
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            at, outline = page.evaluate(
                "[document.activeElement.id || document.activeElement.tagName,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            if at in reached or at == "BODY":
                break
            reached.append(at)
            self.assertNotEqual(outline, "none", f"{at} shows that it has the focus")
        order = ["earlier", "slider", "later", "live", "SUMMARY", "more", "redeliver", "garbage", "pause", "A"]
        self.assertEqual(reached, order)

        page.locator("#more").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#products tr")).to_have_count(40)
        self.assertEqual(page.evaluate("document.activeElement.textContent"), "21")
        page.locator("#garbage").focus()
        page.keyboard.press("Space")
        expect(page.get_by_role("status").filter(has_text="of garbage")).to_be_visible()

    def draw_all(self, page):
        """Waits until all sparklines are drawn."""
        for row in page.locator("#products tr").all():
            expect(row.get_by_role("img")).to_be_visible()

    def accessible(self, page):
        """Checks that axe-core finds no problems, also in the folded details."""
        page.locator("details").evaluate_all("all => all.forEach((details) => { details.open = true; })")
        found = Axe().run(page).response["violations"]
        problems = [f"{rule['id']}: {rule['help']}: {node['html']}" for rule in found for node in rule["nodes"]]
        self.assertEqual(problems, [])
