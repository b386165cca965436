"""Several broker processes, as the HTTP server of the one that looks after them shows them.

What stores tell is asked of one process, for all tell the same. What processes count is asked of
each, and shown with its number, which whoever replaces it takes over.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import msgspec

from towline_broker.server.asking import Answers, Asked
from towline_broker.server.http.one_process import PROBE_PATIENCE, OneProcess
from towline_broker.server.http.watched import Health, NotYet
from towline_broker.server.metrics import families
from towline_broker.server.metrics.exposition import PATIENCE
from towline_broker.server.metrics.families import Family, Row, Rows
from towline_broker.server.metrics.rendering import render

HEALTH, FIGURES, STORES = "health", "figures", "stores"

#: Seconds for an answer: more than a process gives to its stores.
FIGURES_PATIENCE = PATIENCE + 2.0
HEALTH_PATIENCE = PROBE_PATIENCE + 0.5

#: As it travels from process to process.
Sent = list[tuple[Family, list[Row]]]

_figures = msgspec.msgpack.Decoder(Sent)
_health = msgspec.msgpack.Decoder(Health)


def answers_of(process: OneProcess) -> Answers:
    """What a process can be asked."""

    async def health(_: str) -> bytes:
        return msgspec.msgpack.encode(await process.health())

    async def figures(_: str) -> bytes:
        rows = await process.figures.of_process()
        return msgspec.msgpack.encode([(family, list(its)) for family, its in rows])

    async def stores(_: str) -> bytes:
        return await process.figures.of_stores()

    return {HEALTH: health, FIGURES: figures, STORES: stores}


class SeveralProcesses:
    def __init__(self, members: Callable[[], Mapping[int, Asked]]) -> None:
        """``members``: those that serve, by number."""
        self._members = members
        #: When the certificate that serves over HTTP runs out, if one does.
        self.web_certificate: Callable[[], Mapping[str, float]] = dict

    async def metrics(self) -> bytes:
        """Raises NotYet."""
        members = self._members()
        if not members:
            raise NotYet
        told = await _ask_all(members, FIGURES, FIGURES_PATIENCE)
        figures = {
            number: [] if said is None else _figures.decode(said) for number, said in told.items()
        }
        return await self._of_stores(members, told) + await render(
            _merged(figures, self.web_certificate())
        )

    async def _of_stores(
        self, members: Mapping[int, Asked], told: Mapping[int, bytes | None]
    ) -> bytes:
        for number, member in members.items():
            if told[number] is not None:
                said = await member.ask(STORES, FIGURES_PATIENCE)
                if said is not None:
                    return said
        return b""

    async def health(self) -> Health:
        members = self._members()
        if not members:
            return Health(["no broker process serves"], [])
        told = await _ask_all(members, HEALTH, HEALTH_PATIENCE)
        healths = {
            number: Health(["gives no answer"], []) if said is None else _health.decode(said)
            for number, said in told.items()
        }
        lines = [
            f"process {number}: {line}"
            for number, health in healths.items()
            for line in (*health.problems, *health.notes)
        ]
        # New connections come to the others, too.
        if any(health.ready for health in healths.values()):
            return Health([], lines)
        return Health(lines, [])


async def _ask_all(
    members: Mapping[int, Asked], question: str, patience: float
) -> dict[int, bytes | None]:
    asked = (member.ask(question, patience) for member in members.values())
    return dict(zip(members, await asyncio.gather(*asked), strict=True))


def _merged(figures: Mapping[int, Sent], web_certificate: Mapping[str, float]) -> Iterable[Rows]:
    """With the number of the process behind the other labels; what serves over HTTP has none."""
    merged: dict[str, tuple[Family, list[Row]]] = {
        families.PROCESS_UP.name: (_numbered(families.PROCESS_UP), [])
    }
    for number, told in figures.items():
        if not told:
            merged[families.PROCESS_UP.name][1].append(Row((str(number),), 0))
        for family, rows in told:
            known = merged.setdefault(family.name, (_numbered(family), []))
            known[1].extend(Row((*row.labels, str(number)), row.value) for row in rows)
    certificates = families.CERTIFICATE_EXPIRES
    known = merged.setdefault(certificates.name, (_numbered(certificates), []))
    known[1].extend(Row((name, ""), end) for name, end in web_certificate.items())
    return merged.values()


def _numbered(family: Family) -> Family:
    return replace(family, labels=(*family.labels, "process"))
