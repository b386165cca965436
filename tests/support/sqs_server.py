"""Amazon SQS as moto plays it, on a free port of loopback.

One call at a time: moto's queues bear no threads, though its own server uses them. All stores live
in one server: each test takes a prefix of its own for the names of its queues.
"""

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

#: Found by boto3 in the environment, as an operator would set them. moto asks for none of them.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-west-1",
    # Nothing of the machine's own account may come in.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}

_numbers = itertools.count(1)


class SqsServer:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def new_url(self, **options: str) -> str:
        """The url of a new, empty store."""
        given = {
            "endpoint": self.endpoint,
            "prefix": f"t{os.getpid()}-{next(_numbers)}-",
            **options,
        }
        return "sqs:///?" + "&".join(f"{name}={value}" for name, value in given.items())

    def client(self) -> Any:
        """boto3's own, to look behind the driver."""
        return boto3.client("sqs", endpoint_url=self.endpoint, region_name="eu-west-1")


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def running_sqs() -> Iterator[SqsServer]:
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    thread.start()
    try:
        yield SqsServer(f"http://127.0.0.1:{server.port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
