"""What the servers are, and what they can promise."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.redis.link.endpoint import ERROR_REPLIES, Greeting, Reply, encode, pairs
from towline_broker.drivers.redis.link.interface import Facts
from towline_broker.drivers.redis.link.server import Server
from towline_broker.drivers.redis.link.url import CLUSTER, STANDALONE, Settings

_QUESTIONS = (
    ["INFO", "memory"],
    ["INFO", "persistence"],
    ["CONFIG", "GET", "*append*"],
    ["CONFIG", "GET", "save"],
)
_OLDEST = (6, 2)
Version: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one master says of itself. Managed services keep some of it to themselves."""

    where: str
    greeting: Greeting
    memory: dict[str, str]
    persistence: dict[str, str]
    appending: dict[str, str]
    #: When it makes snapshots; None: it does not tell.
    save: str | None

    @property
    def version(self) -> Version:
        numbers = [int(part) for part in re.findall(r"\d+", self.greeting.version)[:3]]
        major, minor, patch = (*numbers, 0, 0, 0)[:3]
        return major, minor, patch


async def inspect(server: Server) -> Inspection:
    """Raises Unreachable or Lost."""
    wire = await server.wire()
    request = b"".join(encode(question) for question in _QUESTIONS)
    memory, persistence, appending, save = await wire.exchange(request, len(_QUESTIONS))
    return Inspection(
        str(server.address),
        wire.greeting,
        _lines(memory),
        _lines(persistence),
        _settings(appending),
        _settings(save).get("save"),
    )


def _lines(info: Reply) -> dict[str, str]:
    if isinstance(info, ERROR_REPLIES):
        return {}
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)


def _settings(reply: Reply) -> dict[str, str]:
    return {} if isinstance(reply, ERROR_REPLIES) else pairs(reply)


# --- what is refused --------------------------------------------------------------------------


def refuse_unfit(settings: Settings, found: Iterable[Inspection]) -> None:
    """Raises StoreRefused, saying what to do, for a server that jobs cannot be kept in."""
    for server in found:
        trouble = _wrong_kind(settings, server) or _forgetful(server)
        if trouble:
            raise StoreRefused(f"{settings}: {server.where}: {trouble}")


def _wrong_kind(settings: Settings, server: Inspection) -> str | None:
    mode = server.greeting.mode
    if server.version[:2] < _OLDEST:
        said = f"is version {server.greeting.version}" if server.greeting.version else "is older"
        return f"the server {said}; Towline needs Redis 6.2 or later, or Valkey"
    if mode == "sentinel":
        return "this is a Sentinel: write redis+sentinel://host:port/service"
    if mode == "cluster" and settings.topology != CLUSTER:
        return "this is a node of a Cluster: write redis+cluster://"
    if mode == "standalone" and settings.topology == CLUSTER:
        return "this server is not part of a Cluster: write redis://"
    return None


def _forgetful(server: Inspection) -> str | None:
    """A server that would throw jobs away to make room for others."""
    policy = server.memory.get("maxmemory_policy", "noeviction")
    if server.memory.get("maxmemory", "0") == "0" or policy == "noeviction":
        return None
    return (
        f"maxmemory-policy is {policy}, so the server throws jobs away when its memory is full; "
        "say CONFIG SET maxmemory-policy noeviction, and write it into its configuration"
    )


# --- what is promised -------------------------------------------------------------------------


class Promise(NamedTuple):
    durability: Durability
    note: str


def facts(settings: Settings, found: Sequence[Inspection]) -> Facts:
    """What holds for the store as a whole: that of its weakest server."""
    weakest = min(found, key=lambda server: _promise(server).durability)
    oldest = min(found, key=lambda server: server.version)
    durability, note = _promise(weakest)
    if settings.topology != STANDALONE:
        durability = min(durability, Durability.WINDOW)
        note += _failover_note(settings)
    product = "Valkey" if "valkey" in oldest.greeting.product.lower() else "Redis"
    return Facts(product, oldest.version, settings.topology, durability, note)


def _failover_note(settings: Settings) -> str:
    if settings.wait_replicas:
        count = settings.wait_replicas
        replicas = "1 replica has it" if count == 1 else f"{count} replicas have it"
        return (
            f"; it is answered when {replicas} in memory, so a failover loses it only if another "
            "replica becomes master"
        )
    return (
        "; replication is asynchronous, so a failover may lose the changes of the last moment, "
        "although they were answered"
    )


def _promise(server: Inspection) -> Promise:
    if server.persistence.get("aof_enabled", server.appending.get("appendonly")) in ("1", "yes"):
        return _promise_of_log(server.appending)
    if server.save is None and not server.persistence:
        return Promise(
            Durability.NONE, "the server does not tell whether it keeps anything on disk"
        )
    if server.save:
        return Promise(
            Durability.WINDOW,
            f"snapshots only (save {server.save}): when the server dies, all changes since the "
            "last one are lost; set appendonly yes and appendfsync always",
        )
    return Promise(
        Durability.NONE,
        "no append-only file and no snapshots: jobs live in the server's memory and are lost when "
        "it ends; set appendonly yes and appendfsync always",
    )


def _promise_of_log(appending: dict[str, str]) -> Promise:
    match appending.get("appendfsync"):
        case "always" if appending.get("no-appendfsync-on-rewrite") == "yes":
            return Promise(
                Durability.WINDOW,
                "appendfsync always, but no-appendfsync-on-rewrite yes: while the append-only file "
                "is rewritten nothing is synced, and changes may be lost when the machine dies",
            )
        case "always":
            return Promise(
                Durability.DURABLE, "appendfsync always: each change is synced before its answer"
            )
        case "everysec":
            return Promise(
                Durability.WINDOW,
                "appendfsync everysec: about a second of answered changes may be lost when the "
                "machine dies",
            )
        case "no":
            return Promise(
                Durability.WINDOW,
                "appendfsync no: all that the system has not yet written to disk, some 30 seconds "
                "of answered changes, may be lost when the machine dies",
            )
    return Promise(
        Durability.WINDOW,
        "an append-only file, but the server does not tell how often it syncs it: answered "
        "changes may be lost when the machine dies",
    )
