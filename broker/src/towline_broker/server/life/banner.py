"""What a broker says to a person when it has started: what it is, and what to do next."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from towline.channel import DEFAULT_ADDRESS
from towline_broker.drivers.interface import Durability
from towline_broker.server.addresses import Address
from towline_broker.server.particulars import StoreLine

#: Addresses to listen on that are none to connect to, and what is instead, on this machine.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- they are looked for, not listened on


def banner(
    version: str,
    address: Address,
    stores: Sequence[StoreLine],
    processes: int = 1,
    *,
    http: str = "",
    tls: bool = False,
    identity: bool = False,
) -> str:
    """``stores``: the default one first. Every command in it can be pasted into a shell, which has
    a token if ``identity`` is asked for."""
    towline, where = _command(), _option(address, tls)
    return f"""
Towline broker {version}
{_stores(stores)}{_processes(processes)}{_http(http)}

What next, in another terminal{_credentials(identity)}:
  store a job
    {towline} push SendEmail '{{"to": "a@b.c"}}' --queue emails{where}
  run it (app/jobs.py, which defines SendEmail, is yours to write: the README shows one)
    {towline} worker app.jobs --queue emails{where}
  see how it goes
    {towline} stats{where}
Ctrl-C drains and stops the broker; its jobs {_kept(stores)}.
"""


def _stores(stores: Sequence[StoreLine]) -> str:
    lines = []
    for store in stores:
        label = "store" if len(stores) == 1 else f"store {store.name}"
        lines += [(label, store.url), ("durability", store.durability_note)]
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"  {label.ljust(width)}  {value}" for label, value in lines)


def _processes(processes: int) -> str:
    return f"\n  processes   {processes}" if processes > 1 else ""


def _http(url: str) -> str:
    return f"\n  http        {url}/metrics, /livez, /readyz" if url else ""


def _credentials(identity: bool) -> str:
    return " that has a token in TOWLINE_TOKEN, or a certificate" if identity else ""


def _kept(stores: Sequence[StoreLine]) -> str:
    lost = [
        store.name for store in stores if store.durability is Durability.NONE and not store.shared
    ]
    if not lost:
        return "stay in the store" if len(stores) == 1 else "stay in their stores"
    if len(lost) == len(stores):
        return "end with it"
    return f"stay in their stores, but those of {', '.join(lost)} end with it"


def _command() -> str:
    beside = Path(sys.executable).with_name("towline")
    if shutil.which("towline") is None and beside.exists():
        return shlex.quote(str(beside))
    return "towline"


def _option(address: Address, tls: bool) -> str:
    target = str(Address(_ANY.get(address.host, address.host), address.port))
    if tls:
        target = f"grpcs://{target}"
    return "" if target == DEFAULT_ADDRESS else f" --url {shlex.quote(target)}"
