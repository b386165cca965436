"""A web application that dispatches when it is loaded, and again in each request."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from towline import Client

client = Client()
client.dispatch("loaded", {"pid": os.getpid()})


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    handle = client.dispatch("requested", {"pid": os.getpid()})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {handle.id}".encode()]
