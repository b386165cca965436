"""Whether a file is still the one that was read, without reading it again."""

import os
from pathlib import Path


def sign(path: str | Path) -> tuple[int, ...] | None:
    """Another one when the file has changed, or is another one behind the same name. None: there is
    none, or it cannot be looked at."""
    try:
        status = os.stat(path)  # noqa: PTH116 -- calls ask for it; a Path takes thrice as long
    except OSError:
        return None
    return status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns
