"""A store that a broker must not use is refused, and nothing of it is touched."""

from pathlib import Path

import pytest

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file.store import LOCK
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard


async def refusal(url: str, folder: Path) -> str:
    """Why the store is refused; fails if it is not, or if anything in the folder changes."""
    before = _everything_in(folder)
    with pytest.raises(StoreRefused) as refused:
        await create_driver(url).open(START, Heard())
    assert _everything_in(folder) == before
    return str(refused.value)


def _everything_in(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """But for the lock of a file store, which was tried, and its spare files, which the owner may
    be making."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK and not path.name.startswith("spare-")
    }
