"""Three Lua scripts over a sorted set and a hash, all in one slot."""

from collections.abc import Sequence
from itertools import count

from redis.asyncio import Redis, RedisCluster

_INSERT = """
    local first = redis.call('INCRBY', KEYS[1] .. ':seq', #ARGV) - #ARGV
    for i, body in ipairs(ARGV) do
        redis.call('HSET', KEYS[1] .. ':body', first + i, body)
        redis.call('ZADD', KEYS[1] .. ':ready', first + i, first + i)
    end
"""
_CLAIM = """
    local taken = redis.call('ZPOPMIN', KEYS[1] .. ':ready', ARGV[1])
    local keys, bodies = {}, {}
    for i = 1, #taken, 2 do
        keys[#keys + 1] = tonumber(taken[i])
        redis.call('ZADD', KEYS[1] .. ':leased', 1, taken[i])
    end
    if #keys > 0 then
        bodies = redis.call('HMGET', KEYS[1] .. ':body', unpack(keys))
    end
    return {keys, bodies}
"""
_DELETE = """
    redis.call('HDEL', KEYS[1] .. ':body', unpack(ARGV))
    redis.call('ZREM', KEYS[1] .. ':leased', unpack(ARGV))
"""
_numbers = count()


class BareRedis:
    def __init__(self, url: str) -> None:
        self._url = url
        self._key = f"{{bare{next(_numbers)}}}"

    async def open(self) -> None:
        if self._url.startswith("redis+cluster://"):
            node = self._url.removeprefix("redis+cluster://").split(",")[0]
            self._redis: Redis | RedisCluster = RedisCluster.from_url(f"redis://{node}")
        else:
            self._redis = Redis.from_url(self._url)
        self._shas = [await self._redis.script_load(text) for text in (_INSERT, _CLAIM, _DELETE)]

    async def insert(self, envelopes: Sequence[bytes]) -> None:
        await self._redis.evalsha(self._shas[0], 1, self._key, *envelopes)

    async def claim(self, number: int) -> list[int]:
        keys, _ = await self._redis.evalsha(self._shas[1], 1, self._key, number)
        return list(keys)

    async def delete(self, keys: Sequence[int]) -> None:
        await self._redis.evalsha(self._shas[2], 1, self._key, *keys)

    async def close(self) -> None:
        await self._redis.aclose()
