"""A Cluster: many masters, and each node knows which of them keeps which slots."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from redis.crc import key_slot

from towline_broker.drivers.redis.link.endpoint import (
    ERROR_REPLIES,
    Endpoint,
    Reply,
    Unfit,
    Unreachable,
    encode,
    hopeful,
)
from towline_broker.drivers.redis.link.server import Server
from towline_broker.drivers.redis.link.topology import OnChange, Search, endpoint
from towline_broker.drivers.redis.link.url import Address, Settings

_SLOTS = 16384
#: How many nodes are asked at once, and how many seconds further answers may take.
_MOST_ASKED, _PATIENCE = 8, 1.0
#: Seconds until they are asked again if they disagreed.
_AGREEMENT = 0.5
_WHO_KEEPS_WHAT = encode(["CLUSTER", "INFO"]) + encode(["CLUSTER", "SLOTS"])


@dataclass(frozen=True, slots=True)
class _View:
    """What one node knows of the others."""

    #: It sees a majority of the masters, and all slots served.
    ok: bool
    #: Grows with every failover that it has heard of.
    epoch: int
    #: Slots that nobody was ever told to keep.
    unassigned: int
    #: First and last slot, the master, and its replicas.
    ranges: Sequence[tuple[int, int, Address, Sequence[Address]]]

    def masters(self) -> set[Address]:
        return {master for _, _, master, _ in self.ranges}


class InCluster:
    def __init__(self, settings: Settings, on_change: OnChange) -> None:
        self._settings = settings
        self._on_change = on_change
        self._owners: list[Address | None] = [None] * _SLOTS
        self._masters: list[Address] = []
        self._replicas: list[Address] = []
        self._servers: dict[Address, Server] = {}
        self._former: set[asyncio.Task[None]] = set()
        self._slot_of: dict[int, int] = {}
        self._again: asyncio.TimerHandle | None = None
        self.refresh = Search(self._search)

    def suspect(self) -> None:
        self.refresh.start()

    def locate(self, partition: int) -> Server:
        address = self._owners[self._slot(partition)]
        if address is None:
            raise Unreachable(f"{self._settings}: no node keeps partition {partition}")
        return self.at(address)

    def moved(self, partition: int, address: Address) -> None:
        self._owners[self._slot(partition)] = address
        self.refresh.start()

    def at(self, address: Address) -> Server:
        server = self._servers.get(address)
        if server is None:
            # A replica refers a request to its master by itself.
            server = Server(endpoint(self._settings, address), must_be_master=False)
            self._servers[address] = server
        return server

    def masters(self) -> Sequence[Server]:
        return [self.at(address) for address in self._masters]

    def posts(self) -> Sequence[Endpoint]:
        """Any node hears what is published on another. Each broker has its own order of them."""
        nodes = [*self._masters, *self._replicas]
        random.shuffle(nodes)
        return [endpoint(self._settings, node) for node in nodes]

    async def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        await self.refresh.close()
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        await asyncio.gather(*self._former)

    def _slot(self, partition: int) -> int:
        slot = self._slot_of.get(partition)
        if slot is None:
            key = f"{self._settings.prefix}:{{{partition}}}:"
            slot = self._slot_of[partition] = key_slot(key.encode())
        return slot

    async def _search(self) -> None:
        """Asks several nodes at once, and goes by the one that knows most."""
        known = list(dict.fromkeys([*self._masters, *self._replicas, *self._settings.addresses]))
        asked = random.sample(known, min(len(known), _MOST_ASKED))
        tasks = [asyncio.create_task(self._view_of(address)) for address in asked]
        try:
            done, late = await asyncio.wait(tasks, timeout=_PATIENCE)
            if not done:  # this machine stood still, or the network does
                timeout = self._settings.timeout
                await asyncio.wait(late, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [answer for answer in found if isinstance(answer, BaseException)]
        views = [answer for answer in found if isinstance(answer, _View)]
        if not views:
            raise hopeful(errors, f"{self._settings}: no node answers")
        view = max(views, key=lambda view: (view.ok, view.epoch))
        if view.unassigned:
            raise Unfit(
                f"{self._settings}: {view.unassigned} of the {_SLOTS} slots are assigned to no "
                "node: assign them (redis-cli --cluster fix)"
            )
        if not self._masters and not view.ok:
            raise Unreachable(f"{self._settings}: cluster_state is not ok")
        self._use(view)
        if any(other.ok and other.masters() != view.masters() for other in views):
            # Shortly after a failover not everybody has heard of it.
            self._again = asyncio.get_running_loop().call_later(_AGREEMENT, self.refresh.start)

    async def _view_of(self, address: Address) -> _View:
        wire = await self.at(address).wire()
        info, slots = await wire.exchange(_WHO_KEEPS_WHAT, 2)
        for reply in (info, slots):
            if isinstance(reply, ERROR_REPLIES):
                raise Unfit(f"{address}: {reply} (a server of its own is written redis://)")
        said = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        return _View(
            ok=said.get("cluster_state") == "ok",
            epoch=int(said.get("cluster_current_epoch", 0)),
            unassigned=_SLOTS - int(said.get("cluster_slots_assigned", 0)),
            ranges=[_range(entry, address.host) for entry in slots],
        )

    def _use(self, view: _View) -> None:
        owners: list[Address | None] = [None] * _SLOTS
        for first, last, master, _ in view.ranges:
            owners[first : last + 1] = [master] * (last - first + 1)
        former, self._owners = self._masters, owners
        self._masters = sorted(view.masters())
        self._replicas = [replica for *_, replicas in view.ranges for replica in replicas]
        self._forget_others()
        if former and set(former) != set(self._masters):
            self._on_change()

    def _forget_others(self) -> None:
        """Closes the connections to servers that keep nothing, after what is under way there."""
        for address in self._servers.keys() - set(self._masters):
            task = asyncio.get_running_loop().create_task(self._servers.pop(address).close())
            self._former.add(task)
            task.add_done_callback(self._former.discard)


def _range(entry: Reply, asked: str) -> tuple[int, int, Address, Sequence[Address]]:
    """From an entry of CLUSTER SLOTS. A node that does not know how it is reached names no host:
    then it is where the one that was asked is."""
    first, last, *nodes = entry
    addresses = [
        Address((host or b"").decode().strip("?") or asked, port) for host, port, *_ in nodes
    ]
    return first, last, addresses[0], addresses[1:]
