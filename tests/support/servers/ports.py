"""Ports of loopback for servers that have to be told theirs before they start."""

import random
import socket

#: Below the range from which systems give ports to outgoing connections. A client that keeps trying
#: to reach a server which is down could otherwise be given that very port, and so block its return.
_FIRST, _LAST = 10_000, 21_999
#: A cluster node of Redis 6 talks to its like on a second port, which is so much higher.
BUS = 10_000


def free_port() -> int:
    """A port that nobody listens on; nor on the one for a cluster's bus."""
    for port in random.sample(range(_FIRST, _LAST + 1), 200):
        if _is_free(port) and _is_free(port + BUS):
            return port
    raise AssertionError("no free port on loopback")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
