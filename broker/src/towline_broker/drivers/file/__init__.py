"""The driver for ``file:`` URLs: the memory engine, and a journal of what has changed in it.

See docs/file-store.md for the format of the journal.
"""

from towline_broker.drivers.file.driver import FileDriver, open_file

__all__ = ["FileDriver", "open_file"]
