"""A plot of lines as an SVG of a few kilobytes, without a library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 420, 64, 40, 24, 84
COLOURS = ("#1f6feb", "#8b949e", "#d1242f", "#bf8700", "#1a7f37", "#8250df")


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    values: Sequence[float]


def write_svg(path: Path, title: str, unit: str, step: int, series: Sequence[Series]) -> None:
    """``values`` over steps of the unit, on a logarithmic scale."""
    lowest = math.floor(math.log10(min(min(one.values) for one in series)))
    highest = math.ceil(math.log10(max(max(one.values) for one in series)))
    longest = max(len(one.values) for one in series)

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / longest

    def y(value: float) -> float:
        share = (math.log10(value) - lowest) / (highest - lowest)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{title}</text>',
    ]
    for power in range(lowest, highest + 1):
        for factor in (1, 2, 5) if power < highest else (1,):
            at = y(factor * 10**power)
            parts.append(
                f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
                f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
                f"{factor * 10**power:g}</text>"
            )
    for tenth in range(0, 11, 2):
        at = x(longest * tenth / 10)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{longest * tenth // 10 * step:,}</text>"
        )
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 36}" text-anchor="end">{unit}</text>'
    )
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(one.values, start=1)
        )
        column, row = LEFT + 330 * (number % 2), HEIGHT - 36 + 20 * (number // 2)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{points}"/>'
            f'<path d="M{column} {row - 4}h24" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{column + 32}" y="{row}">{one.name}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>\n"]))
