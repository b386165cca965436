"""What a store says of itself, written by whoever makes it: kept under ``{0}:meta``."""

import json

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.redis.link.interface import Script
from towline_broker.drivers.redis.link.url import CLUSTER, Settings

#: Into how many partitions a store in a Cluster is divided.
_PARTITIONS_OF_CLUSTER = 32

#: Of two brokers that come to a new store at once, the first makes it and the other one reads.
FOUND = Script(
    name="found",
    text="""
local kept = redis.call('GET', KEYS[1] .. 'meta')
if kept then
  return {0, kept}
end
redis.call('SET', KEYS[1] .. 'meta', ARGV[1])
return {1, ARGV[1]}
""",
    write=True,
    repeatable=True,
)

#: Does what the scripts of the store do, to find out whether the user may.
TRY_OUT = Script(
    name="try out",
    text="""
local key = KEYS[1] .. 'trial'
redis.call('DEL', key)
redis.call('HSET', key, 'a', 1)
redis.call('HDEL', key, 'a')
redis.call('ZADD', key, 1, 'a')
redis.call('ZREM', key, 'a')
redis.call('TIME')
return redis.call('PUBLISH', ARGV[1], '')
""",
    write=True,
    repeatable=True,
)


def proposal(settings: Settings, schema: int) -> str:
    """What is written if there is no store yet."""
    default = _PARTITIONS_OF_CLUSTER if settings.topology == CLUSTER else 1
    return json.dumps({"schema": schema, "partitions": settings.partitions or default})


def partitions(settings: Settings, schema: int, kept: bytes) -> int:
    """How many there are. Raises StoreRefused for a store that is not for us."""
    try:
        origin = json.loads(kept)
        found, count = int(origin["schema"]), int(origin["partitions"])
    except (ValueError, TypeError, KeyError):
        raise StoreRefused(
            f"{settings}: the key {settings.prefix}:{{0}}:meta is not Towline's; choose another "
            "?prefix= for this store"
        ) from None
    if found != schema:
        age = "a later" if found > schema else "an earlier"
        raise StoreRefused(
            f"{settings}: the store was made by {age} version of Towline (schema {found}; this one "
            f"has {schema}); use that version, or another ?prefix="
        )
    if settings.partitions not in (None, count):
        raise StoreRefused(
            f"{settings}: the store has {count} partitions, which is final, and not "
            f"{settings.partitions}: leave out the option partitions"
        )
    return count
