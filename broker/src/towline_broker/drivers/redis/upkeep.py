"""What has to happen because time passes."""

from collections import Counter

from towline_broker.domain.jobs import LeaseRecord
from towline_broker.domain.time import Micros
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.link.interface import Call, Script
from towline_broker.drivers.redis.looking import stored_jobs
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore, together


class Upkeep(PartitionedStore):
    async def promote(self, now: Micros, limit: int) -> int:
        return await self._move_due(scripts.PROMOTE, "due", now, limit)

    async def expire(self, now: Micros, limit: int) -> int:
        return await self._move_due(scripts.EXPIRE, "exp", now, limit)

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        shares = await self._shares("run", now, limit)
        calls = [
            Call(scripts.EXPIRED_LEASES, partition, [now, share])
            for partition, share in shares.items()
        ]
        found = [
            job.lease_record()
            for blob in await self._link.run_all(calls)
            for job in stored_jobs(blob)
        ]
        return sorted(found, key=lambda lease: lease.lease_until)

    async def forget(self, now: Micros, limit: int) -> int:
        gone = 0
        able = list(self._partitions)
        while able and gone < limit:
            asked, able = able[: limit - gone], able[limit - gone :]
            share = min((limit - gone) // len(asked), MOST)
            counts = await self._link.run_all(
                [Call(scripts.FORGET, each, ["", "", now, share]) for each in asked]
            )
            gone += sum(counts)
            able += [each for each, number in zip(asked, counts, strict=True) if number >= share]
        return gone

    async def next_due(self) -> Micros | None:
        times = [int(reply) for reply in await self._ask(scripts.NEXT_DUE) if reply]
        return min(times, default=None)

    async def _move_due(self, script: Script, agenda: str, now: Micros, limit: int) -> int:
        moved = 0
        while moved < limit:
            step = min(limit - moved, MOST)
            shares = await self._shares(agenda, now, step)
            replies = await together(
                self._change(script, partition, now, share) for partition, share in shares.items()
            )
            number = sum(reply[0] for reply in replies)
            moved += number
            if number < step:
                break
        return moved

    async def _shares(self, agenda: str, now: Micros, limit: int) -> dict[int, int]:
        """How many of the first ``limit`` that are due lie in which partition."""
        if self._link.partitions == 1:
            return {0: limit}
        replies = await self._ask(scripts.TIMES, agenda, now, limit)
        due = [
            (int(time), partition)
            for partition, lines in enumerate(replies)
            for time in lines.split()
        ]
        return Counter(partition for _, partition in sorted(due)[:limit])
