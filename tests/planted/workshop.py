"""A copy of the code and of its tests, in which bugs are planted one after the other."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.planted.catalogue import Bug

ROOT = Path(__file__).parents[2]
#: What the detectors need of the repository.
COPIED = ("broker/src", "client/src", "tests", "pyproject.toml")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "node_modules", ".pytest_cache", ".hypothesis")


class Workshop:
    """As a context manager it makes the copy, and removes it at the end."""

    def __enter__(self) -> Self:
        self.root = Path(tempfile.mkdtemp(prefix="towline-planted-"))
        for name in COPIED:
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=_LEFT_OUT)
            else:
                shutil.copyfile(source, target)
        self._written_at = int(time.time())
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root)

    @property
    def environment(self) -> dict[str, str]:
        """In which Python finds the copies in front of what is installed."""
        paths = (self.root / "client/src", self.root / "broker/src", self.root)
        inherited = {name: value for name, value in os.environ.items() if name[:8] != "TOWLINE_"}
        return inherited | {"PYTHONPATH": os.pathsep.join(map(str, paths))}

    @contextmanager
    def planted(self, bug: Bug) -> Iterator[None]:
        """The copy has this bug meanwhile. Raises Outdated."""
        path = self.root / bug.file
        sound = path.read_text(encoding="utf-8")
        self._write(path, bug.planted_in(sound))
        try:
            yield
        finally:
            self._write(path, sound)

    def _write(self, path: Path, text: str) -> None:
        """What Python has compiled counts as long as the second of the change and the size are the
        same: each change has a second of its own."""
        path.write_text(text, encoding="utf-8")
        self._written_at += 1
        os.utime(path, (self._written_at, self._written_at))
