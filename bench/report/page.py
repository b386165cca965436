"""The part of ``docs/performance.md`` that ``make bench`` writes."""

import importlib
import inspect
from pathlib import Path

from bench.parts import PARTS
from bench.report.charts import write_charts
from bench.report.goals import NAMES, goals
from bench.report.tables import of_goals, of_part
from bench.results import Part, Results

PAGE = Path("docs") / "performance.md"
SUM = "[0058](decisions/0058-what-is-out-of-reach.md)"
GOALS = (
    "A share is held against an empty gRPC server (the echo) with the same messages, or the bare "
    "store, measured by turns, and is the median of the shares of each round. Reserve + Ack with "
    "one job a call has two rows with one goal: against the echo's Push, of which there is one for "
    "each job, half is the most that two calls can reach; against the echo's own Reserve + Ack, as "
    "in the table below, like is held against like. Where a goal is not met, the last column names "
    f"the decision that tells what the time goes into, and {SUM} what would change it."
)
QUICK = (
    " Some of these figures are of quick runs beside other work, and say little: see below which."
)
BEGIN, END = "<!-- written by make bench -->", "<!-- up to here -->"


def write(results: Results, page: Path = PAGE) -> None:
    """The charts go beside the page. Raises ValueError if the page has no place for it."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} needs two lines: {BEGIN} and {END}")
    charts = write_charts(results, NAMES, page.parent)
    page.write_text(f"{before}{BEGIN}\n\n{text(results, charts)}\n\n{END}{after}")


def text(results: Results, charts: dict[str, list[str]]) -> str:
    parts = [part for name in PARTS if (part := results.part(name)) is not None]
    sections = [_section(results, part, charts.get(part.name, [])) for part in parts]
    told = GOALS + (QUICK if any(part.quick for part in parts) else "")
    return "\n\n".join(["## Goals", told, of_goals(goals(results)), *sections])


def _section(results: Results, part: Part, charts: list[str]) -> str:
    module = importlib.import_module(PARTS[part.name])
    asked = part.asked or f"--only {part.name}{' --quick --write' if part.quick else ''}"
    made = f'    make bench ARGS="{asked}"'
    where = f"{_extent(part)} Commit {part.commit}, {part.when}; {part.machine}."
    if not part.asked:
        where += " With which other options it was asked for was not kept."
    if part.quick:
        where += " A quick run, beside other work: it shows orders of magnitude."
    pieces = [f"## {TITLES[part.name]}", made, inspect.cleandoc(module.__doc__ or ""), where]
    pieces += [f"![{TITLES[part.name]}]({chart})" for chart in charts]
    if part.name == "profile" and not part.quick:
        pieces.append("As flame graphs: [Push](flame-push.svg), [Reserve and Ack](flame-work.svg).")
    pieces.append(of_part(results, part))
    if part.missing:
        pieces.append("Not measured: " + "; ".join(part.missing) + ".")
    if part.failed:
        pieces.append("Failed, and not measured: " + "; ".join(part.failed) + ".")
    return "\n\n".join(piece for piece in pieces if piece)


def _extent(part: Part) -> str:
    """Stores as ``--store`` takes them."""
    runs = dict.fromkeys(figure.run for figure in part.figures)
    stores = ", ".join(run for run in runs if run in NAMES)
    return f"Rounds: {part.rounds}{f'; stores: {stores}' if stores else ''}."


TITLES = {
    "calls": "Calls, beside an empty echo and the bare store",
    "streams": "Streams, beside an empty echo",
    "dispatch": "Dispatching with the SDK",
    "libraries": "Jobs that do nothing, beside other libraries",
    "brokers": "Beside other brokers",
    "start": "From push to start",
    "scale": "Beside very many",
    "room": "What a waiting job takes",
    "profile": "Where the time goes",
}
