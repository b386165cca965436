"""New, empty stores."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

#: Takes a kind, and returns the url of a new store.
NewStore = Callable[[str], str]

EMBEDDED = ("sqlite", "file")

_numbers = count(1)


@pytest.fixture
def new_store(tmp_path: Path) -> NewStore:
    def make(kind: str) -> str:
        number = next(_numbers)
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/jobs-{number}.db"
        return f"file:///{tmp_path}/jobs-{number}?segment_bytes=65536"

    return make
