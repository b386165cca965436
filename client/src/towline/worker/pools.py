"""The pool that a worker's options ask for."""

from __future__ import annotations

from collections.abc import Callable

from towline.worker.async_pool import AsyncPool
from towline.worker.options import WorkerOptions
from towline.worker.pool import Pool
from towline.worker.processes.process_pool import ProcessPool
from towline.worker.processes.template import Template
from towline.worker.thread_pool import ThreadPool


def make_pool(
    options: WorkerOptions, template: Template | None, on_crash: Callable[[BaseException], None]
) -> Pool:
    """``template`` is that of a process pool, whose failure goes to ``on_crash``."""
    if template is not None:
        return ProcessPool(options.concurrency, template, options.child_limits, on_crash)
    return (AsyncPool if options.pool == "async" else ThreadPool)(options.concurrency)
