"""The health of a worker over HTTP: GET /livez and /readyz, for the probes of Kubernetes.

Either answers 200 if it is so and 503 if it is not, with towline.worker.health.Health as JSON.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from towline.errors import ConfigurationError
from towline.worker.health import Health

CLIENT_PATIENCE = 5.0
"""Seconds after which a connection without a request is closed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two workers on one port would answer for each other.
    allow_reuse_port = False
    ask: Callable[[], Health]

    def handle_error(self, request: object, client_address: object) -> None:
        """A probe that goes away in the middle is nothing to be told of."""


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_PATIENCE
    server: _Server
    server_version = "towline"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path not in ("/livez", "/readyz"):
            self.send_error(404, "there are /livez and /readyz")
            return
        health = self.server.ask()
        body = health.to_json()
        self.send_response(200 if (health.live if path == "/livez" else health.ready) else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base class asks for this name

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds."""


class HealthServer:
    """Listens from the start. Raises ConfigurationError when it cannot."""

    def __init__(self, host: str, port: int, ask: Callable[[], Health]) -> None:
        try:
            self._server = _Server((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(
                f"health_port: cannot listen on {host}:{port}: {why}"
            ) from None
        self._server.ask = ask
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        )
        self._thread.name = "towline-health"
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
