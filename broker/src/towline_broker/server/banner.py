"""What a broker says to a person when it has started: what it is, and what to do next."""

import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from towline.channel import DEFAULT_ADDRESS
from towline_broker.drivers.interface import Capabilities, Durability
from towline_broker.server.addresses import Address

#: Addresses to listen on that are none to connect to, and what is instead, on this machine.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- they are looked for, not listened on


def banner(version: str, address: Address, store: str, capabilities: Capabilities) -> str:
    """``store`` as ``shown_url`` shows it. Every command in it can be pasted into a shell."""
    kept = "end with it" if capabilities.durability is Durability.NONE else "stay in the store"
    towline, where = _command(), _option(address)
    return f"""
Towline broker {version}
  store       {store}
  durability  {capabilities.durability_note}

What next, in another terminal:
  store a job
    {towline} push SendEmail '{{"to": "a@b.c"}}' --queue emails{where}
  run it (app/jobs.py, which defines SendEmail, is yours to write: the README shows one)
    {towline} worker app.jobs --queue emails{where}
  see how it goes
    {towline} stats{where}
Ctrl-C drains and stops the broker; its jobs {kept}.
"""


def _command() -> str:
    beside = Path(sys.executable).with_name("towline")
    if shutil.which("towline") is None and beside.exists():
        return shlex.quote(str(beside))
    return "towline"


def _option(address: Address) -> str:
    target = str(Address(_ANY.get(address.host, address.host), address.port))
    return "" if target == DEFAULT_ADDRESS else f" --url {shlex.quote(target)}"


def shown_url(url: str) -> str:
    """Without the password, if it has one."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    with suppress(ValueError):
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))
    return parts.scheme + ":"
