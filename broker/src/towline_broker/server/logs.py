"""Logs: one line for each event on standard error, for people or for machines.

They hold ids and counts, never payloads, results or tokens.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from towline_broker.domain.events import store_at_hand
from towline_broker.interceptors.requests import current_request

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

#: What every record has.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def configure_logs(level: str, form: str, *, several: bool = False) -> None:
    """``form`` is ``console`` or ``json``. Other people's loggers say only what is a warning.

    ``several``: this process is one of those that write to the same place, and says its id.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_what_is_at_hand)
    handler.setFormatter(JsonFormatter(several) if form == "json" else ConsoleFormatter(several))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("towline").setLevel(LEVELS[level])
    logging.getLogger(_GRPC).addFilter(_is_no_lost_caller)
    logging.getLogger(_HTTP).addFilter(_is_no_bad_request)


def in_json() -> bool:
    """Whether standard error is for machines: what is said there must be a line of JSON then."""
    return any(isinstance(each.formatter, JsonFormatter) for each in logging.getLogger().handlers)


#: The loggers of gRPC's server and of the HTTP server.
_GRPC, _HTTP = "grpc._cython.cygrpc", "aiohttp.server"


def _is_no_lost_caller(record: logging.LogRecord) -> bool:
    """gRPC tells of every answer that could not be sent, because its caller is gone, as of an
    error, with a traceback: whoever hangs up often enough could fill the disk."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """aiohttp tells with a traceback of every request that is not HTTP as it should be: any scan of
    the port makes some, and whoever reaches it could fill the disk."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__ != "aiohttp.http_exceptions"


def _add_what_is_at_hand(record: logging.LogRecord) -> bool:
    """Whatever is logged while a call is answered has the id of that call; what a driver logs, the
    name of its store."""
    request = current_request()
    if request is not None:
        record.request = request.id
    store = store_at_hand()
    if store and not hasattr(record, "store"):
        record.store = store
    return True


class ConsoleFormatter(logging.Formatter):
    def __init__(self, several: bool = False) -> None:
        process = "[%(process)d] " if several else ""
        super().__init__(f"%(asctime)s %(levelname)-7s {process}%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- so logging calls it
        request = getattr(record, "request", "")
        return super().formatMessage(record) + (f" [request {request}]" if request else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339), level, logger, message, process id if there are
    several, what the caller gave as ``extra``, and the exception if any."""

    def __init__(self, several: bool = False) -> None:
        super().__init__()
        self._several = several

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._several:
            event["process"] = record.process
        event |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False, default=str)
