"""A machine of its own for a process: a network namespace, with cables to this one.

::

    with Machine() as machine:
        store, public = machine.cable(), machine.cable()
        broker = BrokerProcess(url, address=f"{public.there}:0", run_by=machine.run_by)
        store.part(Traffic.TO_THERE)      # silently: what we send does not get there
        store.mend()

What a cut cable carries disappears without a word, as in a network that is partitioned: frames are
addressed to an interface that does not exist, each way for itself. That one is unplugged, the other
machine notices.

It takes root, iproute2, and a kernel with network namespaces and veth.
"""

import functools
import itertools
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

#: Set aside for tests between networks (RFC 2544): nobody's own network is in there.
_FIRST = (198, 18)
#: Nobody has it: locally administered, and not drawn by the kernel for us.
_NOBODY = "02:00:00:00:00:01"

#: The kernel's table of connections, of the machine on which it is read.
_CONNECTIONS = "/proc/net/tcp"

_numbers = itertools.count(1)


class Traffic(Enum):
    """What is lost on a cut cable."""

    TO_THERE = auto()
    TO_HERE = auto()
    ALL = auto()


class Cable:
    """Between this machine and another one. ``here`` and ``there`` are the addresses of its ends,
    each reachable from the other end and from its own machine."""

    def __init__(self, machine: str) -> None:
        number = next(_numbers)
        self._machine = machine
        self._ends = (f"tl{os.getpid()}n{number}", f"tl{os.getpid()}m{number}")
        self.here, self.there = _unused_addresses()
        here, there = self._ends
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", machine)
        _ip("address", "add", f"{self.here}/30", "dev", here)
        _ip("-n", machine, "address", "add", f"{self.there}/30", "dev", there)
        _ip("link", "set", here, "up")
        _ip("-n", machine, "link", "set", there, "up")
        self._macs = (_mac(here), _mac(there, machine))
        self.mend()

    def part(self, traffic: Traffic = Traffic.ALL) -> None:
        """From now on this is lost, and only this."""
        here, there = self._macs
        self._address_frames(
            to_there=_NOBODY if traffic is not Traffic.TO_HERE else there,
            to_here=_NOBODY if traffic is not Traffic.TO_THERE else here,
        )

    def mend(self) -> None:
        here, there = self._macs
        self._address_frames(to_there=there, to_here=here)

    def unplug(self) -> None:
        """Until :meth:`plug`. The other machine then knows no way here. (Ours would take another
        one: by its default route, if it were its end that is down.)"""
        _ip("-n", self._machine, "link", "set", self._ends[1], "down")

    def plug(self) -> None:
        _ip("-n", self._machine, "link", "set", self._ends[1], "up")
        self.mend()

    def _address_frames(self, *, to_there: str, to_here: str) -> None:
        here, there = self._ends
        known = ("nud", "permanent")
        _ip("neigh", "replace", self.there, "lladdr", to_there, "dev", here, *known)
        at = ("-n", self._machine)
        _ip(*at, "neigh", "replace", self.here, "lladdr", to_here, "dev", there, *known)


def parted(cable: Cable, seconds: float, traffic: Traffic | None) -> None:
    """For so long it loses that traffic; None: it is unplugged."""
    if traffic is None:
        cable.unplug()
    else:
        cable.part(traffic)
    time.sleep(seconds)
    if traffic is None:
        cable.plug()
    else:
        cable.mend()


class Machine:
    """Exists while the context lasts; what still runs in it then has no network any more."""

    def __init__(self) -> None:
        why_not = missing()
        if why_not:
            pytest.skip(f"network namespaces: {why_not}")
        self.name = f"towline-{os.getpid()}-{next(_numbers)}"
        self._cables: list[Cable] = []

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        # Its cables go with it, once the last process has left it.
        _ip("netns", "delete", self.name)

    def cable(self) -> Cable:
        cable = Cable(self.name)
        self._cables.append(cable)
        return cable

    def under_way(self) -> list[str]:
        """Of its connections by cable, at both ends, those with something nobody has confirmed.

        What was lost they may bring seconds after the cable is mended, also when their program
        has closed them.
        """
        ends = {end for cable in self._cables for end in (cable.here, cable.there)}
        theirs = _run(*self.run_by, "cat", _CONNECTIONS)
        found = [*_connections(Path(_CONNECTIONS).read_text()), *_connections(theirs)]
        return [each.line for each in found if each.address in ends and each.unconfirmed]

    @property
    def run_by(self) -> tuple[str, ...]:
        """A command that runs another one there, in its own place: the process id stays."""
        return ("ip", "netns", "exec", self.name)


@functools.cache
def missing() -> str:
    """Why there can be no machines here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can make them"
    if shutil.which("ip") is None:
        return "there is no ip (iproute2)"
    probe = f"towline-probe-{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        veth = ("type", "veth", "peer", "name", "towline-b")
        _ip("-n", probe, "link", "add", "towline-a", *veth)
    except AssertionError as error:
        return str(error)
    finally:
        with suppress(AssertionError):
            _ip("netns", "delete", probe)
    return ""


def _unused_addresses() -> tuple[str, str]:
    """Of a network of two that this machine has not."""
    known = {
        found["local"]
        for interface in json.loads(_ip("-j", "-4", "address", "show"))
        for found in interface["addr_info"]
    }
    while True:
        net = f"{_FIRST[0]}.{_FIRST[1] + random.randrange(2)}.{random.randrange(256)}"
        base = 4 * random.randrange(64)
        pair = (f"{net}.{base + 1}", f"{net}.{base + 2}")
        if not known & set(pair):
            return pair


def _mac(interface: str, machine: str | None = None) -> str:
    at = ("-n", machine) if machine is not None else ()
    found: list[dict[str, Any]] = json.loads(_ip(*at, "-j", "link", "show", interface))
    return str(found[0]["address"])


class _Connection(NamedTuple):
    #: Of its own end.
    address: str
    #: Bytes.
    unconfirmed: int
    line: str


def _connections(table: str) -> Iterator[_Connection]:
    """Of ``/proc/net/tcp`` (its manual page is proc_net(5))."""
    for line in table.splitlines()[1:]:
        _, local, _, _, queued, *_ = line.split()
        address = socket.inet_ntoa(struct.pack("=I", int(local.partition(":")[0], 16)))
        yield _Connection(address, int(queued.partition(":")[0], 16), line)


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
