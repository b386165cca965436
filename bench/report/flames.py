"""A flame graph as an SVG: the width of a function is its share of the looks at the stack."""

import re
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH, ROW, TOP = 1_200, 17, 30
#: Narrower ones are left out: nobody could read them.
NARROWEST = 2.0
_PLACE = re.compile(r" \((.*?)(?::\d+)?\)$")
_WHOSE = (("towline_broker", "#1f6feb"), ("towline", "#1a7f37"), ("grpc", "#bf8700"))
_OTHERS = "#8b949e"


@dataclass
class _Node:
    looks: int = 0
    children: "dict[str, _Node]" = field(default_factory=dict)


def write_flames(path: Path, title: str, stacks: list[str]) -> None:
    """``stacks``: frames from the outermost, semicolons between, then how often it was seen."""
    root = _Node()
    for frames, number in _counted(stacks).items():
        node = root
        node.looks += number
        for frame in frames:
            node = node.children.setdefault(frame, _Node())
            node.looks += number
    boxes: list[str] = []
    depth = _draw(root, 0.0, 0, root.looks, boxes)
    height = TOP + depth * ROW + 10
    path.write_text(
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
                ' font-family="sans-serif" font-size="11">',
                f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
                f'<text x="8" y="20" font-size="15">{escape(title)}</text>',
                *boxes,
                "</svg>\n",
            ]
        )
    )


def _counted(stacks: list[str]) -> Counter[tuple[str, ...]]:
    counted: Counter[tuple[str, ...]] = Counter()
    for stack in stacks:
        frames, _, number = stack.rpartition(" ")
        # Not by line: a function is one box.
        counted[tuple(_PLACE.sub(r" (\1)", frame) for frame in frames.split(";"))] += int(number)
    return counted


def _draw(node: _Node, x: float, depth: int, all_looks: int, boxes: list[str]) -> int:
    """Draws what the node called; returns how deep that goes."""
    deepest = depth
    for frame, child in node.children.items():
        width = WIDTH * child.looks / all_looks
        if width >= NARROWEST:
            boxes.append(_box(frame, x, TOP + depth * ROW, width, child.looks / all_looks))
            deepest = max(deepest, _draw(child, x, depth + 1, all_looks, boxes))
        x += width
    return max(deepest, depth + 1 if node.children else depth)


def _box(frame: str, x: float, y: float, width: float, share: float) -> str:
    function, _, place = frame.partition(" (")
    colour = next((colour for name, colour in _WHOSE if f"{name}/" in place), _OTHERS)
    shown = function[: max(0, int(width / 6.2))] if width > 20 else ""
    # Where it is, from the package on: what is before that is of this machine.
    file = re.sub(r"^.*?((?:towline_broker|towline|site-packages|python3\.\d+)/)", r"\1", place)
    told = escape(f"{function} ({file.rstrip(')')}): {share:.1%}")
    return (
        f'<g><title>{told}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}"'
        f' height="{ROW - 1}" rx="2" fill="{colour}" fill-opacity="0.75"/>'
        f'<text x="{x + 3:.1f}" y="{y + 12}" fill="white">{escape(shown)}</text></g>'
    )
