"""How a broker tells that it serves: to people, to scripts, and to the process that started it."""

import json
import logging
from pathlib import Path

from towline_broker.domain.events import event
from towline_broker.drivers.interface import Durability
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.life.banner import banner
from towline_broker.server.life.ready_file import write
from towline_broker.server.particulars import Serving, StoreLine
from towline_broker.server.streams import give_up

log = logging.getLogger("towline.broker")


def announce(serving: Serving, http: str, settings: Settings, ready_file: Path | None) -> None:
    """On standard output, in the log, and in ``ready_file`` if there is one. ``http``: the url of
    figures and probes, empty if there are none. Raises FileError."""
    address = str(serving.address)
    if settings.log_format == "console":
        _say(f"listening on {address}")
        _say(
            banner(
                serving.version,
                serving.address,
                serving.stores,
                settings.processes,
                http=http,
                tls=serving.protection.tls,
                identity=serving.protection.identity,
            )
        )
    else:
        # Both streams are JSON, each for itself and together.
        facts = _facts(serving, http, settings)
        _say(json.dumps({"event": "serving", **facts}, ensure_ascii=False))
        log.info("serving", extra=event("serving", **facts))
    for store in serving.stores:
        if store.durability is not Durability.DURABLE:
            log.warning(
                "%s is not durable: %s",
                _named(store, serving),
                store.durability_note,
                extra=event(
                    "store_not_durable",
                    store=store.name,
                    durability=store.durability.name.lower(),
                    reason=store.durability_note,
                ),
            )
    if not (serving.address.is_loopback or serving.protection.complete):
        log.warning(
            "insecure: %s",
            serving.protection.danger(address),
            extra=event("insecure", address=address, reason=serving.protection.danger(address)),
        )
    if ready_file is not None:
        write(ready_file, address)


def _facts(serving: Serving, http: str, settings: Settings) -> dict[str, object]:
    """``store`` and ``durability`` are those of the default store."""
    default = serving.stores[0]
    return {
        "address": str(serving.address),
        "http": http or None,
        "store": default.url,
        "durability": default.durability.name.lower(),
        "stores": [
            {
                "name": store.name,
                "url": store.url,
                "durability": store.durability.name.lower(),
            }
            for store in serving.stores
        ],
        "processes": settings.processes,
        "tls": serving.protection.tls,
        "version": serving.version,
    }


def _named(store: StoreLine, serving: Serving) -> str:
    return "this store" if len(serving.stores) == 1 else f"store {store.name}"


def _say(text: str) -> None:
    """Whoever started the broker may have stopped to read."""
    try:
        print(text, flush=True)  # noqa: T201 -- scripts and people read it on standard output
    except OSError as error:
        reason = error.strerror
        log.warning(
            "nobody hears on standard output: %s", reason, extra=event("unheard", reason=reason)
        )
        give_up(1)
