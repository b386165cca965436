"""Nobody may do what they have no right for, and everybody what they have: every RPC, in every
form, by every kind of caller, for the right queue and the wrong one."""

import logging
import re
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.access.callers import MINE, OTHER, Caller, World, world
from tests.access.forms import FORMS, Form, Outcome, outcome_of
from towline.v1 import admin_service_pb2, dead_letter_service_pb2, queue_service_pb2
from towline_broker.interceptors.authorization import rules

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
RPCS = {
    f"{service.name}/{method.name}"
    for module in (queue_service_pb2, dead_letter_service_pb2, admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_every_rpc_has_a_rule_and_is_in_the_matrix() -> None:
    assert {name.removeprefix("/towline.v1.") for name in rules("default")} == RPCS
    assert {form.rpc for form in FORMS} == RPCS


def queues_of(form: Form, caller: Caller) -> tuple[str, ...]:
    # Who is unknown is so for every queue.
    return (MINE, OTHER) if form.about_one and caller.rights is not None else (MINE,)


def cells_of(here: World) -> list[tuple[Caller, Form, str]]:
    """In an order in which everybody calls after everybody else: what one has left behind, in
    queues or in the memory of the broker, must change no answer to another."""
    cells = [
        (caller, form, queue)
        for caller in here.callers
        for form in FORMS
        for queue in queues_of(form, caller)
    ]
    Random(6).shuffle(cells)
    return cells


async def test_nobody_may_do_more_or_less_than_their_rights_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="towline.access")
    wrong: dict[str, list[str]] = {"allowed": [], "refused": [], "told": []}
    seen: Counter[Outcome] = Counter()
    async with world(tmp_path) as here:
        for caller, form, queue in cells_of(here):
            expected = form.expected(caller, queue)
            found = await outcome_of(form, here, caller, queue)
            seen[expected] += 1
            if found is not expected:
                cell = f"{caller.name}, {form.rpc} {form.name}, {queue}: {found.value}"
                wrong[_kind(found, expected)].append(f"{cell}, not {expected.value}")
    cells = seen.total()
    told = ", ".join(f"{outcome.value} {count}" for outcome, count in seen.items())
    sys.stdout.write(
        f"{cells} cells of {len(here.callers)} callers and {len(FORMS)} forms: {told}\n"
    )
    assert wrong == {"allowed": [], "refused": [], "told": []}
    assert min(seen[outcome] for outcome in Outcome) > 100
    stated = re.search(r"([\d,]+) cells", SECURITY.read_text(encoding="utf-8"))
    assert stated is not None
    assert int(stated[1].replace(",", "")) == cells, "docs/security.md says another number of cells"


def _kind(found: Outcome, expected: Outcome) -> str:
    if found is Outcome.DONE:
        return "allowed"
    return "refused" if expected is Outcome.DONE else "told"
