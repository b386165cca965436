"""Bars with their spread, as an SVG of a few kilobytes, without a library."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench.results import Figure, Results

WIDTH, LEFT, RIGHT, TOP, ROW = 860, 300, 96, 44, 24
OURS, THEIRS = "#1f6feb", "#8b949e"


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    low: float
    high: float
    ours: bool

    @classmethod
    def of(cls, name: str, figure: Figure, of: Figure | None = None) -> "Bar":
        """The figure, or its share of another."""
        values = figure.ratios(of) if of else figure.rounds
        ours = "Towline" in name or figure.who == "broker"
        return cls(name, statistics.median(values), min(values), max(values), ours)


def write_bars(path: Path, title: str, unit: str, bars: Sequence[Bar]) -> None:
    """Longest first is not made here: the order is that of ``bars``."""
    height = TOP + ROW * len(bars) + 12
    longest = max(bar.high for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)} ({escape(unit)})</text>',
    ]
    for number, bar in enumerate(bars):
        y = TOP + ROW * number
        end = LEFT + bar.value * scale
        shown = f"{bar.value:,.0f}" if bar.value >= 100 else f"{bar.value:.2f}"
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>'
            f'<rect x="{LEFT}" y="{y + 3}" width="{max(end - LEFT, 1):.1f}" height="{ROW - 8}"'
            f' fill="{OURS if bar.ours else THEIRS}"/>'
            f'<path d="M{LEFT + bar.low * scale:.1f} {y + 11}H{LEFT + bar.high * scale:.1f}"'
            ' stroke="#24292f"/>'
            f'<text x="{max(end, LEFT + bar.high * scale) + 6:.1f}" y="{y + 15}">{shown}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>\n"]))


def write_charts(results: Results, names: dict[str, str], folder: Path) -> dict[str, list[str]]:
    """The files that were written, by the part that they show."""
    charts = {
        "calls": _shares(results, names),
        "brokers": _brokers(results),
        "libraries": _libraries(results),
    }
    written: dict[str, list[str]] = {}
    for part, found in charts.items():
        for name, title, unit, bars in found:
            if bars:
                write_bars(folder / name, title, unit, bars)
                written.setdefault(part, []).append(name)
    return written


Chart = tuple[str, str, str, list[Bar]]


def _shares(results: Results, names: dict[str, str]) -> list[Chart]:
    part = results.part("calls")
    bars = []
    for figure in part.figures if part else []:
        if part and figure.who == "broker" and figure.shape == "100 x 8":
            echo = part.find(figure.run, "echo", figure.what, figure.shape)
            if echo:
                name = f"{names[figure.run].replace('`', '')}: {figure.what}"
                bars.append(Bar.of(name, figure, echo))
    return [("bench-calls.svg", "100 jobs a call, 8 clients", "share of the empty echo", bars)]


def _brokers(results: Results) -> list[Chart]:
    part = results.part("brokers")
    charts = []
    for what, file in (("Push", "bench-push.svg"), ("Drain", "bench-drain.svg")):
        bars = [
            Bar.of(figure.who, figure)
            for figure in (part.figures if part else [])
            if figure.what == what
        ]
        charts.append((file, f"{what}, 100 jobs at a time, 8 clients", "jobs/s", bars))
    return charts


def _libraries(results: Results) -> list[Chart]:
    part = results.part("libraries")
    bars = [
        Bar.of(figure.who, figure)
        for figure in (part.figures if part else [])
        if figure.what == "No-op jobs"
    ]
    return [("bench-libraries.svg", "No-op jobs", "jobs/s", bars)]
