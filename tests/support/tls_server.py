"""Something that speaks TLS, or does not, and has nothing to offer: for tests of how it is met."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from tests.support.certificates import Authority, Certificate


@contextmanager
def tls_server(
    certificate: Certificate | None, client_ca: Authority | None = None
) -> Iterator[str]:
    """HOST:PORT of a server that has nothing to offer; certificate None: without TLS."""
    running = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
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
