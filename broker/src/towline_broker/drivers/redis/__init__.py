"""Redis and Valkey: standalone, behind Sentinel, or as a Cluster."""

from towline_broker.drivers.redis.driver import SCHEMA, RedisDriver
from towline_broker.drivers.redis.link import create_link

__all__ = ["RedisDriver", "open_redis"]


def open_redis(url: str) -> RedisDriver:
    """The driver for a url such as ``redis://host:6379/0``: see ``link/url.py``.

    Raises StoreRefused for a url that cannot be used.
    """
    return RedisDriver(create_link(url, SCHEMA))
