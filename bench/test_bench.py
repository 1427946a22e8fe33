"""Tests of the parts that decide the bench's figures: batches, statistics and tables. They start no process."""

import base64
import collections
import dataclasses
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import contenders
import figures
import healing
import others
import report
import soak
import workload
from workload import Workload

START_MS = 1_672_159_800_000
MEDIUM = Workload("medium", clicks_per_second=1_000, partitions=12, products=20_000)
SMALL = Workload("small", clicks_per_second=50, partitions=3, products=2_000, minutes=1)


def records(batch):
    """The records of a batch by source."""
    return json.loads(batch.body)["records"]


class Batches(unittest.TestCase):
    def test_the_same_workload_gives_the_same_bytes(self):
        def bodies(one):
            return [batch.body for batch in workload.batches(one, START_MS)]

        self.assertEqual(bodies(SMALL), bodies(SMALL))
        self.assertNotEqual(bodies(SMALL), bodies(dataclasses.replace(SMALL, seed=2)))

    def test_each_source_is_delivered_in_order_and_without_a_gap(self):
        for key in ("product", "user"):
            offsets = collections.defaultdict(lambda: 4_000_000)
            delivered = 0
            for batch in workload.batches(dataclasses.replace(SMALL, key=key), START_MS):
                self.assertGreaterEqual(batch.delivered_ms, delivered)
                delivered = batch.delivered_ms
                self.assertEqual(sum(map(len, records(batch).values())), batch.records)
                for source, of_source in records(batch).items():
                    for record in of_source:
                        self.assertEqual(source, f"{record['topic']}-{record['partition']}")
                        self.assertEqual(record["offset"], offsets[source])
                        offsets[source] += 1
            self.assertEqual(set(offsets), {"clicks-0", "clicks-1", "clicks-2"})

    def test_a_key_is_the_events_and_always_has_the_same_partition(self):
        for key, field in (("product", "product_id"), ("user", "user_id")):
            places = collections.defaultdict(set)
            for batch in workload.batches(dataclasses.replace(SMALL, key=key), START_MS):
                for source, of_source in records(batch).items():
                    for record in of_source:
                        event = json.loads(base64.b64decode(record["value"]))
                        self.assertEqual(base64.b64decode(record["key"]).decode(), event[field])
                        self.assertEqual(event["action"], "click")
                        places[event[field]].add(source)
            self.assertTrue(all(len(sources) == 1 for sources in places.values()))

    def test_events_are_delivered_within_their_window(self):
        for batch in workload.batches(SMALL, START_MS):
            for of_source in records(batch).values():
                for record in of_source:
                    time = json.loads(base64.b64decode(record["value"]))["event_time"] - START_MS
                    self.assertGreaterEqual(time, 0)
                    self.assertLessEqual(time, batch.delivered_ms)
                    self.assertLess(batch.delivered_ms - time, 30_000 + workload.DISORDER_MS + 1_000)

    def test_the_asked_share_is_late_by_up_to_a_day(self):
        late_by = []
        one = dataclasses.replace(SMALL, clicks_per_second=500, late_share=0.01)
        for arrival, event_time, _, _ in workload.clicks(one, START_MS):
            self.assertLessEqual(event_time, START_MS + arrival)
            # A batch window later it is still younger than a day.
            self.assertGreater(event_time, START_MS + arrival - workload.LATE_MS - workload.DISORDER_MS - 1)
            if event_time < START_MS + arrival - workload.DISORDER_MS:
                late_by.append(START_MS + arrival - event_time)
        clicks = one.clicks_per_second * one.seconds
        self.assertAlmostEqual(len(late_by) / clicks, 0.01, delta=0.002)
        self.assertAlmostEqual(sum(late_by) / len(late_by), workload.LATE_MS / 2, delta=workload.LATE_MS / 10)

    def test_a_batch_ends_by_its_window_or_its_size(self):
        ends = collections.Counter()
        for batch in workload.batches(dataclasses.replace(SMALL, batch_size=1_000), START_MS):
            self.assertLessEqual(batch.records, 1_000)
            ends[batch.records == 1_000] += 1
        self.assertGreater(ends[False], 0)
        small = dataclasses.replace(SMALL, partitions=1, batch_size=100)
        self.assertEqual({batch.records for batch in workload.batches(small, START_MS)}, {100})

    def test_a_batch_stays_below_lambdas_payload_limit(self):
        one = Workload("huge", 10_000, partitions=1, products=10, minutes=1, window_seconds=3, batch_size=100_000)
        first = next(workload.batches(one, START_MS))
        sizes = [len(batch.body) for batch in workload.batches(dataclasses.replace(one, window_seconds=30), START_MS)]
        self.assertLess(len(first.body), max(sizes))
        self.assertLess(max(sizes), workload.MAX_PAYLOAD_BYTES)
        self.assertGreater(max(sizes), 0.99 * workload.MAX_PAYLOAD_BYTES)

    def test_whole_minutes_are_measured_after_the_first_window(self):
        delivered = list(workload.batches(SMALL, START_MS))
        self.assertTrue(all(batch.measured == (batch.delivered_ms > 30_000) for batch in delivered))
        clicks = sum(batch.records for batch in delivered if batch.measured)
        self.assertAlmostEqual(clicks, 60 * 50, delta=200)

    def test_a_record_has_the_size_of_a_real_one(self):
        batch = next(workload.batches(MEDIUM, START_MS))
        self.assertAlmostEqual(len(batch.body) / batch.records, 260, delta=10)


class Pollers(unittest.TestCase):
    def test_there_are_as_few_as_keep_batches_below_the_batch_size(self):
        self.assertEqual(workload.pollers(SMALL), 1)
        # The hottest product alone has a tenth of the clicks, so three pollers of 10,000 on average are too few.
        self.assertEqual(workload.pollers(MEDIUM), 4)
        self.assertEqual(workload.pollers(dataclasses.replace(MEDIUM, window_seconds=10)), 2)

    def test_there_is_at_most_one_per_partition(self):
        self.assertEqual(workload.pollers(dataclasses.replace(MEDIUM, clicks_per_second=10_000)), 12)

    def test_the_shares_of_the_partitions_are_those_of_the_traffic(self):
        shares = workload.partition_shares(SMALL)
        self.assertAlmostEqual(sum(shares), 1)
        found = collections.Counter(
            workload.partition_of(f"p{product}", SMALL.partitions)
            for _, _, product, _ in workload.clicks(dataclasses.replace(SMALL, clicks_per_second=500), START_MS)
        )
        for partition, share in enumerate(shares):
            self.assertAlmostEqual(found[partition] / found.total(), share, delta=0.02)


class Figures(unittest.TestCase):
    def test_a_figure_is_the_median_with_its_spread(self):
        self.assertEqual(str(figures.Figure.of([3, 1.5, 2])), "2.00 (1.50–3.00)")
        self.assertEqual(str(figures.Figure.of([1_234.5])), "1,234")
        self.assertEqual(figures.Figure.of([1, 2, 3, 100]).median, 2.5)

    def test_a_table_is_aligned(self):
        self.assertEqual(
            figures.markdown(["what", "s"], [["a longer one", "1.25"], ["b", "10"]]),
            "| what         |    s |\n| ------------ | ---: |\n| a longer one | 1.25 |\n| b            |   10 |",
        )

    def test_divans_table_is_read(self):
        output = (
            "Timer precision: 20 ns\n"
            "decode         fastest       │ slowest       │ median        │ mean          │ samples │ iters\n"
            "╰─ full_batch  3.912 ms      │ 6.1 ms        │ 950.5 µs      │ 4.2 ms        │ 100     │ 100\n"
            "               659 MB/s      │ 500 MB/s      │ 640 MB/s      │ 600 MB/s      │         │\n"
        )
        self.assertAlmostEqual(others.divan_median(output, "full_batch"), 0.9505)
        with self.assertRaisesRegex(ValueError, "no bench other"):
            others.divan_median(output, "other")


class Report(unittest.TestCase):
    def test_the_table_marks_a_missed_target(self):
        run = {"wall_seconds": 1.0, "cpu_seconds": 0.5, "peak_megabytes": 300.0}
        table = report.targets_table({"rank": {"runs": [run, {**run, "cpu_seconds": 0.75}]}})
        lines = table.splitlines()
        self.assertEqual(len(lines), 4, "a part without results has no row")
        self.assertRegex(lines[2], r"≤ 0\.8 s \| +0\.62 \(0\.50–0\.75\) s \| +yes")
        self.assertRegex(lines[3], r"≤ 64 MB \| +300 MB \| +\*\*no\*\*")

    def test_the_table_has_flink_only_if_it_was_measured(self):
        runs = [{"clicks": 1, "cpu_seconds": 1.0, "updates": 1, "write_units": 1.0, "peak_megabytes": 20.0}]
        race = {
            "workload": dataclasses.asdict(MEDIUM),
            "records_a_batch": 1.0,
            "runs": {contender.name: runs for contender in contenders.contenders()},
        }
        place = {"date": "2026-01-01", "machine": "2 cores"}
        results = {**place, "contenders": [race]}
        without = report.page(results)
        self.assertNotIn("| Flink", without)
        self.assertIn("`make bench-flink` adds it", without)
        self.assertNotIn("](", without.partition("## Targets")[2], "the plots are not committed")
        run = {"wall_seconds": 10.0, "cpu_seconds": 20.0, "peak_megabytes": 900.0}
        flink = {
            **place,
            "events": [2_000_000, 8_000_000],
            "runs": [[run], [{**run, "wall_seconds": 40.0, "cpu_seconds": 50.0}]],
            "cpu_seconds_per_million": [5.0],
            "peak_megabytes": [900.0],
        }
        page = report.page({**results, "flink": flink})
        self.assertRegex(page, r"\| Flink, no sink +\| +5\.00 \| +– \| +– \| +900 \|")
        self.assertIn("took 40.0 s, and 50.0 s of CPU", page)
        self.assertNotIn("Measured", page)
        self.assertIn("Measured 2026-01-02", report.page({**results, "flink": {**flink, "date": "2026-01-02"}}))
        self.assertIn("5.00 s per million", report.summary({**place, "flink": flink}), "also if it is the only part")

    def test_healing_has_a_row_for_each_share_and_a_target(self):
        lines = [
            {"what": "counters: write units", "amounts": [20.0, 100.0]},
            {"what": healing.LATE_CLICKS, "amounts": [1.5, 0.0]},
            {"what": healing.HEALING, "amounts": [4.5, 3.0]},
        ]
        bill = healing.bill({"lines": lines, "total": [26.0, 103.0]})
        self.assertEqual(bill, {"total": 26.0, "healing": 4.5, "late_clicks": 1.5})
        run = {"clicks": 1_000, "cpu_seconds": 2.0, "updates": 7, "write_units": 8.0, "peak_megabytes": 20.0}
        races = [
            {"workload": dataclasses.asdict(dataclasses.replace(MEDIUM, late_share=share)), "bill": bill, "runs": {contenders.OURS: [run]}}
            for share in healing.SHARES
        ]
        lines = report.healing_table(races).splitlines()
        self.assertEqual([line.split("|")[1].strip() for line in lines[2:]], ["0 %", "0.1 %", "1 %", "5 %"])
        self.assertRegex(lines[3], r"\| +26\.00 \| +4\.50 \| +17\.3 % \| +1\.50 \| +23\.1 % \| +8\.00 \| +7\.00 \|$")
        self.assertRegex(report.targets_table({"healing": races}), r"a day late: share of the bill \| +≤ 15 % \| +17\.3 % \| +\*\*no\*\*")
        page = report.page({"date": "2026-01-01", "machine": "2 cores", "healing": races})
        self.assertIn("## Healing\n\n", page)
        self.assertIn(lines[3], page)

    def test_rankings_have_a_row_for_all_cores_and_one_for_one_thread(self):
        run = {"wall_seconds": 1.0, "cpu_seconds": 0.5, "peak_megabytes": 30.0}
        results = {"rank": {"runs": [run], "one_thread": [{**run, "wall_seconds": 2.0}]}, "flood": {"runs": [run]}}
        lines = report.ranking_table(results).splitlines()
        self.assertEqual(len(lines), 5)
        self.assertRegex(lines[3], r"^\| 3\.6 million counters, one thread +\| +2\.00 \| +0\.50 \| +30\.0 \|$")
        self.assertIn(lines[4], report.page({"date": "2026-01-01", "machine": "2 cores", **results}))

    def test_growth_has_a_row_for_each_value(self):
        run = {"clicks": 1_000_000, "cpu_seconds": 2.0, "updates": 5_000, "write_units": 6_000.0, "peak_megabytes": 20.0}
        races = [
            {"workload": dataclasses.asdict(dataclasses.replace(MEDIUM, products=products)), "runs": {contenders.OURS: runs}}
            for products, runs in ((200, [run]), (20_000, [run, {**run, "cpu_seconds": 3.0}]))
        ]
        lines = report.growth_table("products", races).splitlines()
        self.assertEqual(len(lines), 4)
        self.assertRegex(lines[2], r"^\| 200 +\| +2\.00 \| +6\.00 \| +5\.00 \|$")
        self.assertRegex(lines[3], r"^\| 20,000 +\| +2\.50 \(2\.00–3\.00\) \|")

    def test_measuring_flink_keeps_the_place_and_date_of_the_other_parts(self):
        old = {"date": "2026-01-01", "machine": "old", "rank": {"runs": []}}
        new = {"date": "2026-01-02", "machine": "new"}
        results = report.with_place({**old, "flink": {"events": []}}, new, set(), {"flink"})
        self.assertEqual(results, {**old, "flink": {"events": [], **new}})
        self.assertEqual(report.with_place(old, new, {"rank"}, set()), {**old, **new})
        self.assertEqual(report.with_place({"flink": {}}, new, set(), {"flink"}), {**new, "flink": new})


class Soak(unittest.TestCase):
    def minutes(self, **last):
        steady = {"clicks": 60_000, "cpu_seconds": 0.06, "count_megabytes": 20.0, "rank_megabytes": 9.0}
        late = [soak.Minute(minute, **{**steady, **last}) for minute in range(45, 60)]
        return [soak.Minute(minute, **steady) for minute in range(45)] + late

    def test_growth_and_drift_are_marked(self):
        def marks(minutes):
            results = {"minutes": [dataclasses.asdict(minute) for minute in minutes]}
            return [line.split("|")[-2].strip() for line in soak.table(results).splitlines()[2:]]

        self.assertEqual(marks(self.minutes()), ["yes", "yes", "yes"])
        self.assertEqual(marks(self.minutes(count_megabytes=22.0)), ["**no**", "yes", "yes"])
        self.assertEqual(marks(self.minutes(rank_megabytes=11.0, cpu_seconds=0.08)), ["yes", "**no**", "**no**"])

    def test_a_batch_is_grouped_by_minute_and_product(self):
        batch = next(workload.batches(SMALL, START_MS))
        counts = soak.group(batch)
        self.assertEqual(sum(counts.values()), batch.records)
        self.assertLessEqual({minute for minute, _ in counts}, {START_MS // 60_000, START_MS // 60_000 + 1})

    def test_counters_are_summed_over_items_and_pages(self):
        minute = "2022-12-27T16:50Z"
        pages = [
            {"Items": [{"bucket": {"S": "layout"}, "#p": {"N": "9"}}], "LastEvaluatedKey": {}},
            {"Items": [{"bucket": {"S": f"{minute}#{number}"}, "last_offset": {"N": "7"}, "#p": {"N": "2"}} for number in (0, 4)]},
        ]

        class Table:
            def call(self, operation, request):
                return pages["ExclusiveStartKey" in request]

        self.assertEqual(soak.counters(Table()), {(START_MS // 60_000, "p"): 4})


if __name__ == "__main__":
    unittest.main()
