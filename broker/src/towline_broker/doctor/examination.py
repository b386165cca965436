"""Everything that is looked at, in the order in which it is told."""

from collections.abc import AsyncIterator

from towline_broker.doctor import addresses, machine, proofs, stores
from towline_broker.doctor.findings import Finding, ok, problem, warning
from towline_broker.server.checking import look_at
from towline_broker.server.configuration.sources import Loaded


async def examine(loaded: Loaded) -> AsyncIterator[Finding]:
    """Changes nothing but for a small file beside an embedded store, which it removes again."""
    found = await look_at(loaded)
    for refusal in found.refusals:
        yield problem("settings", refusal, "correct it; towline-broker config check")
    for told in found.warnings:
        yield warning("settings", told, "see towline-broker config show")
    if not found.refusals:
        file = f"those of {loaded.file.path} and others" if loaded.file else "no file of settings"
        yield ok("settings", f"{file}; towline-broker config show prints them")
    settings = loaded.settings
    for name, url in settings.all_stores.items():
        async for finding in stores.look_at(name, url):
            yield finding
    for finding in (*proofs.look_at(settings), *machine.look_at()):
        yield finding
    async for finding in addresses.look_at(settings):
        yield finding
