"""Each part as a table of Markdown, ratios first."""

from collections.abc import Callable, Iterable, Sequence

from bench.report.bounds import bound
from bench.report.goals import (
    NAMES,
    RABBITS,
    THREADED_RABBITS,
    TWO_PROCESSES,
    Goal,
    factors,
    share,
)
from bench.results import Figure, Part, Results

Rows = list[list[str]]
#: What was told of the processor when many jobs came at once.
USED = [(verb, f"CPU of {whose}") for verb in ("Push", "Drain") for whose in ("all", "the client")]
#: Durable clients of RabbitMQ: from threads, as the SDK is asked, and on an event loop.
RABBITS_ASKED = (*THREADED_RABBITS, *RABBITS)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def of_goals(goals: Iterable[Goal]) -> str:
    return table(("", "goal", "figure", "", ""), [goal.cells() for goal in goals])


def of_part(results: Results, part: Part) -> str:
    """Empty if there is nothing to show."""
    return TABLES[part.name](results, part) if part.figures else ""


def _calls(results: Results, part: Part) -> str:
    head = (
        *("store", "", "jobs a call x clients", "share of the echo's same calls"),
        *("of the bare store", "jobs/s", "spread", "CPU µs a job"),
    )
    return table(head, _beside(results, part, ("echo", "bare")))


def _streams(results: Results, part: Part) -> str:
    head = ("store", "", "jobs a message x clients", "share of the echo", "jobs/s", "spread")
    return table(head, _beside(results, part, ("echo",)))


def _beside(results: Results, part: Part, limits: Sequence[str]) -> Rows:
    rows = []
    for figure in part.figures:
        if figure.who != "broker" or figure.unit != "jobs/s":
            continue
        shares = [
            share(results, part.name, figure.run, figure.what, figure.shape, of) for of in limits
        ]
        cost = part.find(figure.run, "broker", f"{figure.what}, CPU", figure.shape)
        rows.append(
            [
                *(NAMES[figure.run], figure.what, figure.shape),
                *(f"{one:.2f}" if one and one >= 0.005 else "" for one in shares),
                *_rate(figure),
                *([_short(cost.median)] if cost else []),
            ]
        )
    return rows


def _libraries(results: Results, part: Part) -> str:
    rates = [figure for figure in part.figures if figure.what == "No-op jobs"]
    best: dict[int, Figure] = {}
    for figure in rates:
        if figure.who.startswith("Towline"):
            before = best.setdefault(_processes(figure), figure)
            best[_processes(figure)] = max(before, figure, key=lambda one: one.median)
    rows = []
    for figure in rates:
        cost = part.find(figure.run, figure.who, "CPU")
        ours = best.get(_processes(figure))
        times = f"{ours.against(figure):.1f} x" if ours else ""
        used = _short(cost.median) if cost else ""
        count = str(_processes(figure))
        rows.append([figure.who, count, times, *_rate(figure), used, figure.note])
    head = (
        *("", "processes that run jobs", "the best Towline with as many is"),
        *("jobs/s", "spread", "CPU µs a job", ""),
    )
    return table(head, rows)


def _processes(figure: Figure) -> int:
    return 2 if figure.who in TWO_PROCESSES else 1


def _brokers(results: Results, part: Part) -> str:
    columns = [
        ("Push", "100 x 8", "push, 100 x 8, jobs/s"),
        ("Drain", "100 x 8", "drain, 100 x 8, jobs/s"),
        ("One at a time", "1 x 1", "1 caller, jobs/s"),
        ("One at a time", "1 x 32", "32 callers, jobs/s"),
        ("Push to start, p50", "idle", "push to start p50, ms"),
        ("Push to start, p99", "idle", "p99, ms"),
    ]
    found = dict.fromkeys(figure.who for figure in part.figures)
    names = sorted(found, key=lambda name: not name.startswith("Towline"))
    rows = []
    for name in names:
        row = [name]
        for what, shape, _ in columns:
            figure = part.find("brokers", name, what, shape)
            ours = part.find("brokers", "Towline, file", what, shape)
            row.append(_with_ratio(figure, ours))
        rows.append(row)
    shown = [table(("", *(column[2] for column in columns)), rows)]
    if used := _bulk_used(part, names):
        head = ("processor, 100 x 8, µs a job", *(f"{verb}, {whose}" for verb, whose in USED))
        shown.append(table(head, used))
    if beside := _dispatch_beside(part):
        head = ("one at a time, times the rate of", "callers", *RABBITS_ASKED)
        shown.append(table(head, beside))
    return "\n\n".join(shown)


def _bulk_used(part: Part, names: Iterable[str]) -> Rows:
    rows = []
    for name in names:
        found = [part.find("brokers", name, f"{verb}, {whose}", "100 x 8") for verb, whose in USED]
        if any(found):
            rows.append([name, *(_short(figure.median) if figure else "" for figure in found)])
    return rows


def _dispatch_beside(part: Part) -> Rows:
    """The SDK, beside every durable client of RabbitMQ with as many callers."""
    rows = []
    for ours in [f for f in part.figures if f.who.startswith("Towline SDK")]:
        others = [part.find(ours.run, who, ours.what, ours.shape) for who in RABBITS_ASKED]
        if any(others):
            cells = [f"{ours.median / other.median:.2f}" if other else "" for other in others]
            rows.append([ours.who, ours.shape.removeprefix("1 x "), *cells])
    return sorted(rows, key=lambda row: row[0])


def _with_ratio(figure: Figure | None, ours: Figure | None) -> str:
    """The figure, and in brackets what it is of ours over the file store."""
    if figure is None:
        return ""
    if ours is None or figure is ours:
        return _short(figure.median)
    return f"{_short(figure.median)} ({figure.against(ours):.2f})"


def _dispatching(results: Results, part: Part) -> str:
    rows = []
    for figure in part.figures:
        if figure.unit == "jobs/s":
            cost = part.find(figure.run, "SDK", "Dispatch, CPU", figure.shape)
            used = _short(cost.median) if cost else ""
            rows.append([NAMES[figure.run], figure.shape, *_rate(figure), used])
    return table(("store", "", "jobs/s", "spread", "CPU of the client, µs a job"), rows)


def _starting(results: Results, part: Part) -> str:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for figure in part.figures:
        key = NAMES[figure.run], figure.who, figure.shape
        rows.setdefault(key, []).append(f"{figure.median:.2f}")
        if figure.what.endswith("p99.9"):
            rows[key].append(figure.note)
    head = ("store", "taken by", "beside", "p50, ms", "p99", "p99.9", "p99.9 is of")
    return table(head, [[*key, *cells] for key, cells in rows.items()])


def _scale(results: Results, part: Part) -> str:
    rows = []
    groups = dict.fromkeys((figure.run, figure.who) for figure in part.figures)
    for store, kind in groups:
        found = [f for f in part.figures if (f.run, f.who) == (store, kind)]
        shapes = list(dict.fromkeys(figure.shape for figure in found))
        times = factors(results, store, kind)
        for shape in shapes:
            cells = [f"{figure.median:.2f}" for figure in found if figure.shape == shape]
            rows.append([NAMES[store], f"{shape} {kind}", f"{times[shape]:.2f}", *cells])
    return table(("store", "beside", "cost", "Push(100), ms", "Reserve(100)", "Ack(100)"), rows)


def _room(results: Results, part: Part) -> str:
    rows = []
    for store in dict.fromkeys(figure.run for figure in part.figures):
        cells = []
        for who, what in (("broker", "Memory"), ("store", "Room")):
            found = [f for f in part.figures if (f.run, f.who, f.what) == (store, who, what)]
            cells.append(f"{found[0].median:,.0f}" if found else "")
        rows.append([NAMES[store], *cells])
    return table(("store", "memory of the broker, bytes a job", "room in the store"), rows)


def _profile(results: Results, part: Part) -> str:
    stores = dict.fromkeys(figure.run for figure in part.figures)
    return "\n\n".join(_profile_of(store, part) for store in stores)


def _profile_of(store: str, part: Part) -> str:
    figures = [figure for figure in part.figures if figure.run == store]
    columns = list(dict.fromkeys((figure.what, figure.shape) for figure in figures))
    rows = []
    for room in dict.fromkeys(figure.who for figure in figures):
        found = [part.find(store, room, *column) for column in columns]
        rows.append([room, *(_short(figure.median) if figure else "" for figure in found)])
    bounds = [bound(part, store, *column) for column in columns]
    if any(bounds):
        ours = [_short(one.ours) if one else "" for one in bounds]
        shares = [f"{one.share:.2f}" if one else "" for one in bounds]
        alone = [f"{one.alone:.2f}" if one else "" for one in bounds]
        rows += [
            ["ours, if nobody looked", *ours],
            ["*share of the echo, by the processor*", *shares],
            ["*the same, if ours took nothing*", *alone],
        ]
    head = f"{NAMES[store]}: µs a job"
    return table((head, *(f"{what}, {shape}" for what, shape in columns)), rows)


def _rate(figure: Figure) -> list[str]:
    low, high = figure.spread
    return [_short(figure.median), f"{_short(low)} to {_short(high)}"]


def _short(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


TABLES: dict[str, Callable[[Results, Part], str]] = {
    "calls": _calls,
    "streams": _streams,
    "brokers": _brokers,
    "libraries": _libraries,
    "dispatch": _dispatching,
    "start": _starting,
    "scale": _scale,
    "room": _room,
    "profile": _profile,
}
