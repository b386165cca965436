"""The jobs of the census. `towline worker census`, run in this folder, works on them."""

import ast
from collections import Counter
from pathlib import Path

from towline import Job, job

NOT_STANDARD = {"site-packages", "dist-packages", "__pycache__"}


@job(queue="census")
def list_sources(folder: str) -> list[str]:
    """Find the Python files below a folder; whoever dispatched this awaits the list."""
    found = Path(folder).rglob("*.py")
    return sorted(str(path) for path in found if not NOT_STANDARD.intersection(path.parts))


class CountFile(Job):
    """Count what one file holds. A file that does not parse raises, is retried, and dies."""

    queue = "census"
    max_attempts = 3
    backoff = 0.3
    retention = 600  # the results are collected at the end, all at once
    path: str

    def handle(self) -> dict[str, int]:
        file = Path(self.path)
        source = file.read_bytes()
        nodes = Counter(type(node) for node in ast.walk(ast.parse(source, file.name)))
        return {
            "lines": source.count(b"\n"),
            "functions": nodes[ast.FunctionDef] + nodes[ast.AsyncFunctionDef],
            "classes": nodes[ast.ClassDef],
        }
