"""Something that speaks TLS, or does not, and has nothing to offer: for tests of how it is met."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tests.support.certificates import Authority, Certificate


@contextmanager
def tls_server(
    certificate: Certificate | None,
    client_ca: Authority | None = None,
    handler: Callable[[bytes, grpc.ServicerContext], bytes] | None = None,
) -> Iterator[str]:
    """HOST:PORT of a server that has nothing to offer, or ``handler`` for AdminService.Stats;
    certificate None: without TLS."""
    running = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    if handler is not None:
        methods: Any = {"Stats": grpc.unary_unary_rpc_method_handler(handler)}
        running.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("towline.v1.AdminService", methods)]
        )
    if certificate is None:
        port = running.add_insecure_port("127.0.0.1:0")
    else:
        credentials = grpc.ssl_server_credentials(
            [(certificate.key, certificate.cert)],
            None if client_ca is None else client_ca.pem,
            require_client_auth=client_ca is not None,
        )
        port = running.add_secure_port("127.0.0.1:0", credentials)
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait()
