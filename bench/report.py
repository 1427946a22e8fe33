"""The results as a page in Markdown and as plots."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from contenders import OURS, Run, contenders
from figures import Figure, markdown, number

Results = dict[str, Any]

FLINK = "Flink, no sink"
COLOURS = {"cpu": "#c2410c", "write_units": "#1d4ed8", "ours": "#15803d", "others": "#94a3b8"}
AXES = {
    "batch_size": "batch size",
    "products": "products",
    "partitions": "partitions",
    "clicks_per_second": "clicks per second",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """The highest acceptable value of a figure."""

    what: str
    limit: float
    unit: str
    figure: Callable[[Results], Figure | None]


def _cpu(runs: list[dict[str, Any]]) -> Figure:
    return Figure.of(Run(**run).cpu_seconds_per_million for run in runs)


def _write_units(runs: list[dict[str, Any]]) -> Figure:
    return Figure.of(Run(**run).write_units_per_thousand for run in runs)


def _calls(runs: list[dict[str, Any]]) -> Figure:
    return Figure.of(Run(**run).updates_per_thousand for run in runs)


def _memory(runs: list[dict[str, Any]]) -> Figure:
    return Figure.of(run["peak_megabytes"] for run in runs)


def find_race(results: Results, name: str, key: str, window: int) -> dict[str, Any] | None:
    """The results of a workload."""
    races: list[dict[str, Any]] = results.get("contenders", [])
    for race in races:
        workload = race["workload"]
        if (workload["name"], workload["key"], workload["window_seconds"]) == (name, key, window):
            return race
    return None


def _ours(name: str, key: str, window: int, figure: Callable[[Any], Figure]) -> Callable[[Results], Figure | None]:
    def of(results: Results) -> Figure | None:
        race = find_race(results, name, key, window)
        return figure(race["runs"][OURS]) if race else None

    return of


def _of_runs(part: str, name: str) -> Callable[[Results], Figure | None]:
    return lambda results: Figure.of(run[name] for run in results[part]["runs"]) if part in results else None


def _of_functions(figure: Callable[[dict[str, Any], str], float]) -> Callable[[Results], Figure | None]:
    """The higher figure of the two functions."""

    def of(results: Results) -> Figure | None:
        if "functions" not in results:
            return None
        return Figure.of([max(figure(results["functions"], name) for name in (OURS, "rank-products"))])

    return of


def start(functions: dict[str, Any], name: str) -> float:
    """The time from a function's start to its first poll, in milliseconds."""
    return Figure.of(functions["start_milliseconds"][name]).median


def _healing_percent(results: Results) -> Figure | None:
    """The share of healing in the bill, with 0.1 % of the clicks late."""
    races = [race for race in results.get("healing", []) if race["workload"]["late_share"] == 0.001]
    return Figure.of(100 * race["bill"]["healing"] / race["bill"]["total"] for race in races) if races else None


TARGETS = [
    Target("CPU per million clicks, medium, 30 s, by product", 1.0, "s", _ours("medium", "product", 30, _cpu)),
    Target(
        "write units per 1,000 clicks, medium, 30 s, by product", 5.3, "", _ours("medium", "product", 30, _write_units)
    ),
    Target("write units per 1,000 clicks, large, 10 s, by user", 10.5, "", _ours("large", "user", 10, _write_units)),
    Target(
        "decode, classify and group a batch of 10,000 records, 2.6 MB",
        2.5,
        "ms",
        lambda results: Figure.of(results["decode"]["milliseconds"]) if "decode" in results else None,
    ),
    Target("rank an hour of 3.6 million counters: CPU", 0.8, "s", _of_runs("rank", "cpu_seconds")),
    Target("the same: peak memory", 64, "MB", _of_runs("rank", "peak_megabytes")),
    Target("rank an hour with 9,000,000 invented products: peak memory", 512, "MB", _of_runs("flood", "peak_megabytes")),
    Target("replay 2,000,000 events: wall clock", 8, "s", _of_runs("replay", "wall_seconds")),
    Target("the same: peak memory", 300, "MB", _of_runs("replay", "peak_megabytes")),
    Target(
        "replay a sparse stream: wall clock per window", 5, "ms", _of_runs("sparse_replay", "milliseconds_a_window")
    ),
    Target("healing, medium, 0.1 % of the clicks up to a day late: share of the bill", 15, "%", _healing_percent),
    Target("zip of a function", 3.1, "MB", _of_functions(lambda functions, name: functions["zip_megabytes"][name])),
    Target(
        "start to first poll, above that of an empty function",
        6.6,
        "ms",
        _of_functions(lambda functions, name: start(functions, name) - start(functions, "empty")),
    ),
]


def targets_table(results: Results) -> str:
    """The targets and the measured figures."""
    rows = []
    for target in TARGETS:
        figure = target.figure(results)
        if figure is not None:
            met = "yes" if figure.median <= target.limit else "**no**"
            rows.append(
                [target.what, f"≤ {target.limit:g} {target.unit}".strip(), f"{figure} {target.unit}".strip(), met]
            )
    return markdown(["what", "target", "measured", "met"], rows)


def race_table(race: dict[str, Any], flink: dict[str, Any] | None = None) -> str:
    """The contenders over one workload."""
    rows = []
    for contender in contenders():
        runs = race["runs"][contender.name]
        figures = [str(figure(runs)) for figure in (_cpu, _write_units, _calls)]
        rows.append([contender.title, *figures, f"{_memory(runs).median:.0f}"])
    if flink:
        figure = Figure.of(flink["cpu_seconds_per_million"])
        rows.append([FLINK, str(figure), "–", "–", f"{Figure.of(flink['peak_megabytes']).median:.0f}"])
    header = ["contender", "CPU s per million clicks", "write units per 1,000", "calls per 1,000", "peak MB"]
    return markdown(header, rows)


def with_place(results: Results, place: dict[str, str], shared: set[str], apart: set[str]) -> Results:
    """The results with the place and date of the measurement of the named parts.

    A part in `apart` has its own place and date, so that measuring it leaves those of the other parts as they are.
    """
    own = {name: results[name] | place for name in apart}
    return (results | place if shared else place | results) | own


def flink_note(results: Results) -> str:
    """Describes the Flink job and its total cost."""
    flink = results["flink"]
    short, long = (f"{events:,}" for events in flink["events"])
    # The runs of the long file come last.
    wall, cpu = (Figure.of(run[name] for run in flink["runs"][-1]) for name in ("wall_seconds", "cpu_seconds"))
    per_million = Figure.of(flink["cpu_seconds_per_million"])
    text = (
        "Flink runs the original job on one file without a sink: key by product, minute windows, hourly sums every "
        f"five\nminutes. Its CPU, {per_million} s per million clicks, is the difference between a run over\n{long} "
        f"events and one over {short}, so without start and warm-up. The long run\ntook {wall} s, and "
        f"{cpu} s of CPU, in total (`make bench-flink`)."
    )
    if (flink["date"], flink["machine"]) != (results["date"], results["machine"]):
        text += f" Measured {flink['date']}, on\n{flink['machine']}."
    return text


def matrix(results: Results, figure: Callable[[Any], Figure]) -> str:
    """One figure of all contenders over all workloads."""
    header = ["workload", "records per batch", *(contender.title for contender in contenders())]
    rows = []
    for race in results["contenders"]:
        workload = race["workload"]
        name = f"{workload['name']}, by {workload['key']}, {workload['window_seconds']} s"
        cells = [number(figure(race["runs"][contender.name]).median) for contender in contenders()]
        rows.append([name, number(race["records_a_batch"]), *cells])
    return markdown(header, rows)


def growth_table(name: str, races: list[dict[str, Any]]) -> str:
    """The cost of count-clicks for each value of a property of the workload."""
    header = [AXES[name], "CPU s per million clicks", "write units per 1,000", "calls per 1,000"]
    rows = []
    for race in races:
        runs = race["runs"][OURS]
        rows.append([f"{race['workload'][name]:,}", *(str(figure(runs)) for figure in (_cpu, _write_units, _calls))])
    return markdown(header, rows)


def healing_table(races: list[dict[str, Any]]) -> str:
    """The bill and the cost of count-clicks for each share of late clicks."""
    header = [
        "late clicks",
        "bill, USD",
        "healing, USD",
        "share of the bill",
        "updates of late clicks, USD",
        "share of both",
        "measured write units per 1,000",
        "calls per 1,000",
    ]
    rows = []
    for race in races:
        bill, runs = race["bill"], race["runs"][OURS]
        total, healing, late_clicks = (f"{bill[name]:.2f}" for name in ("total", "healing", "late_clicks"))
        share, both = (
            f"{100 * amount / bill['total']:.1f} %"
            for amount in (bill["healing"], bill["healing"] + bill["late_clicks"])
        )
        late = f"{100 * race['workload']['late_share']:g} %"
        counted = [str(figure(runs)) for figure in (_write_units, _calls)]
        rows.append([late, total, healing, share, late_clicks, both, *counted])
    return markdown(header, rows)


def ranking_table(results: Results) -> str:
    """Rankings with all cores, and with one thread."""
    rows = []
    for part, hour in (("rank", "3.6 million counters"), ("flood", "9,000,000 invented products")):
        for name, threads in (("runs", "all cores"), ("one_thread", "one thread")):
            if runs := results.get(part, {}).get(name):
                columns = ("wall_seconds", "cpu_seconds", "peak_megabytes")
                figures = [str(Figure.of(run[column] for run in runs)) for column in columns]
                rows.append([f"{hour}, {threads}", *figures])
    return markdown(["an hour of", "wall clock, s", "CPU, s", "peak MB"], rows)


def summary(results: Results) -> str:
    """The printed summary."""
    parts = [targets_table(results)]
    if race := find_race(results, "medium", "product", 30):
        parts.append(f"medium, keyed by product, 30 s:\n\n{race_table(race, results.get('flink'))}")
    if "flink" in results:
        parts.append(flink_note(results))
    return "\n\n".join(parts)


def page(results: Results) -> str:
    """The page in Markdown."""
    parts = [
        "# Bench results\n\nWritten by `make bench`. [`bench.py`](bench.py) describes the measurement, and "
        "[`workload.py`](workload.py) the\ntraffic. A figure is the median of its runs, followed by the lowest and the "
        "highest. The raw results and plots are not\ncommitted; `make bench` writes them to `target/bench`.",
        f"{results['date']}, on {results['machine']}.",
        f"## Targets\n\n{targets_table(results)}",
    ]
    race = find_race(results, "medium", "product", 30)
    if race:
        parts += [
            "## Compared with the alternatives\n\nMedium: 1,000 clicks/s over 12 partitions on 20,000 products, keyed "
            f"by product, batch window 30 s.\n\n{race_table(race, results.get('flink'))}",
            "The contenders in Rust decode with the code of count-clicks and differ in how they write. Those in Python run "
            "on AWS's own\nruntime. All of them write to the emulator's memory over plain HTTP, without TLS.",
        ]
        parts.append(
            flink_note(results)
            if "flink" in results
            else "Flink is not included, because it needs a download of 330 MB: `make bench-flink` adds it."
        )
    if results.get("contenders"):
        parts += [
            "## All workloads\n\nSmall: 50 clicks/s, 3 partitions, 2,000 products; large: 10,000 clicks/s, 12 partitions, "
            f"100,000 products. Zipf 1.0.\n\nCPU seconds per million clicks:\n\n{matrix(results, _cpu)}",
            f"Write units per thousand clicks:\n\n{matrix(results, _write_units)}",
            f"Calls per thousand clicks:\n\n{matrix(results, _calls)}",
        ]
    if "sweeps" in results:
        parts.append("## How it grows\n\nThe medium workload with one property changed at a time.")
        parts += [growth_table(name, races) for name, races in results["sweeps"].items()]
    if "healing" in results:
        parts += [
            "## Healing\n\nThe medium workload, keyed by product, batch window 30 s, with a growing share of clicks up to a day late. "
            "The bill is\nsimulated by `hot cost --late-share`, USD a month; the last two columns are count-clicks with clicks up to "
            f"23 hours late.\n\n{healing_table(results['healing'])}",
            "Healing is notes of late clicks, records of rankings, and repeated rankings; without late clicks, only each window's "
            "final\nranking. The updates of the late clicks are not part of it: each late click is in a minute of its own, so it "
            "shares its\nupdate with no other click.",
        ]
    if "rank" in results:
        parts.append(
            f"## Ranking\n\n{ranking_table(results)}\n\nThe emulator, which answers the queries, shares the machine's cores "
            "with the function."
        )
    if "functions" in results:
        functions = results["functions"]
        rows = [
            [name, f"{size:.2f}", str(Figure.of(functions["start_milliseconds"][name]))]
            for name, size in functions["zip_megabytes"].items()
        ]
        parts.append(f"## Size and start\n\n{markdown(['function', 'zip, MB', 'start to first poll, ms'], rows)}")
    return "\n\n".join(parts) + "\n"


def plot_contenders(race: dict[str, Any], flink: dict[str, Any] | None, path: pathlib.Path) -> None:
    """Bars: CPU and write units of each contender."""
    import matplotlib.pyplot as plt

    titles = [contender.title for contender in contenders()]
    runs = [race["runs"][contender.name] for contender in contenders()]
    cpu = [_cpu(of_one) for of_one in runs]
    write_units: list[Figure | None] = [_write_units(of_one) for of_one in runs]
    if flink:
        titles.append(FLINK)
        cpu.append(Figure.of(flink["cpu_seconds_per_million"]))
        write_units.append(None)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
    for axis, title, bars in (
        (axes[0], "CPU seconds per million clicks", cpu),
        (axes[1], "DynamoDB write units per thousand clicks", write_units),
    ):
        axis.set_xscale("log")
        axis.set_title(title, fontsize=10)
        for position, bar in enumerate(bars):
            if bar is None:
                continue
            colour = COLOURS["ours"] if position == 0 else COLOURS["others"]
            spread = [[bar.median - bar.low], [bar.high - bar.median]]
            axis.barh(position, bar.median, color=colour, xerr=spread, ecolor="#334155", capsize=2)
            axis.annotate(f" {number(bar.median)}", (bar.high, position), va="center", fontsize=9)
        axis.set_yticks(range(len(titles)), titles, fontsize=9)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    save(figure, path)


def plot_growth(sweeps: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """Four plots: how the cost of count-clicks grows with each property of the medium workload."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(10, 6), layout="constrained")
    for axis, (name, races) in zip(grid.flat, sweeps.items(), strict=True):
        values = [race["workload"][name] for race in races]
        axis.set_xscale("log")
        axis.set_xlabel(AXES[name], fontsize=9)
        lines = []
        for place, label, colour, of in (
            (axis, "CPU s per million clicks", COLOURS["cpu"], _cpu),
            (axis.twinx(), "write units per 1,000 clicks", COLOURS["write_units"], _write_units),
        ):
            figures = [of(race["runs"][OURS]) for race in races]
            lines += place.plot(values, [one.median for one in figures], "o-", color=colour, label=label, markersize=4)
            place.fill_between(
                values, [one.low for one in figures], [one.high for one in figures], color=colour, alpha=0.15
            )
            place.set_ylim(bottom=0)
            place.set_ylabel(label, color=colour, fontsize=8)
            place.tick_params(axis="y", labelcolor=colour, labelsize=8)
            place.spines["top"].set_visible(False)
        axis.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
        axis.minorticks_off()
    save(figure, path)


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a plot and closes it."""
    import matplotlib
    import matplotlib.pyplot as plt

    # The same results always give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "hot-products"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(results: Results, folder: pathlib.Path) -> None:
    """Writes the page and its plots to `folder`."""
    if race := find_race(results, "medium", "product", 30):
        plot_contenders(race, results.get("flink"), folder / "contenders.svg")
    if "sweeps" in results:
        plot_growth(results["sweeps"], folder / "growth.svg")
    (folder / "README.md").write_text(page(results), encoding="utf-8")
