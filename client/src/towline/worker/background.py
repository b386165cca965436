"""A worker beside a web application, if the environment says so."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Any

from towline.client import Client
from towline.errors import ConfigurationError
from towline.worker.options import Queues
from towline.worker.worker import Worker

__all__ = ["VARIABLE", "start_in_background"]

logger = logging.getLogger("towline.worker")

VARIABLE = "TOWLINE_WORKER"


def start_in_background(
    broker: Client | str | None = None, queues: Queues = ("default",), **options: Any
) -> Worker | None:
    """Start a worker in threads of this process if TOWLINE_WORKER is ``inline``, and return it.

    For an application that is to run its own jobs where that is enough, as on a laptop, and to
    leave them to workers elsewhere. Where the variable is missing, empty or ``off``, nothing is
    started and None returned. Arguments are those of Worker. The worker stops when the process
    exits, or by its ``stop``. Call it in the process that serves: threads do not outlive a fork.

    Raises ConfigurationError for any other value of the variable, and what Worker raises.
    """
    asked = os.environ.get(VARIABLE, "").strip().lower()
    if asked in ("", "off"):
        return None
    if asked != "inline":
        raise ConfigurationError(f'{VARIABLE}: expected "inline" or "off", got {asked!r}')
    worker = Worker(broker, queues, **options)
    worker.start()
    atexit.register(worker.stop)
    logger.info("%s=inline: jobs run in this process", VARIABLE)
    return worker
