"""Connections to Redis or Valkey, in every topology, behind one interface (``interface.py``)."""

from towline_broker.drivers.redis.link.interface import Link
from towline_broker.drivers.redis.link.link import RedisLink
from towline_broker.drivers.redis.link.url import parse_url

__all__ = ["create_link"]


def create_link(url: str, schema: int) -> Link:
    """The connections to the store of this url, not yet opened.

    ``schema`` is the version of what is kept there. Raises StoreRefused for a url that is wrong.
    """
    return RedisLink(parse_url(url), schema)
