"""The code of a page of documentation, run as one program against a real broker."""

import re
import subprocess
import sys
from pathlib import Path

ADDRESS = "127.0.0.1:7480"
"""The address that pages name; in the program it is that of the broker."""

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_WORKER = """
import towline

_worker = towline.Worker({address!r}, queues={queues!r}, concurrency=2)
_worker.start()
"""
_STOP = """
_worker.stop(0)
"""


def run_page(page: str, address: str, folder: Path, *, queues: list[str]) -> None:
    """Run the Python blocks of a page, in their order, beside a worker of these queues, within
    the folder."""
    blocks = _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks, f"{page} has no code"
    text = "".join([_WORKER.format(address=address, queues=queues), *blocks, _STOP])
    program = folder / "page.py"
    program.write_text(text.replace(ADDRESS, address), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
