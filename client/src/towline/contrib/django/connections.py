"""Database connections that last as long as a job, as they last as long as a request elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import close_old_connections, reset_queries  # type: ignore[import-untyped]


class FreshConnections:
    """Middleware for handlers that use Django's databases. ``towline_worker`` has it already.

    Before and after each job it closes connections that are broken, or older than CONN_MAX_AGE
    allows: a worker may wait for hours between two jobs, longer than a database keeps connections.
    """

    def handle(self, job: object, context: object) -> Generator[None, Any, None]:
        _where_handlers_connect(reset_queries)
        _where_handlers_connect(close_old_connections)
        try:
            yield
        finally:
            _where_handlers_connect(close_old_connections)


def _where_handlers_connect(function: Any) -> None:
    """Connections belong to threads: to this one, or, below an event loop, to that of asgiref, in
    which all that Django does for coroutines is done, one thing after another."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        function()
    else:
        SyncToAsync.single_thread_executor.submit(function)
