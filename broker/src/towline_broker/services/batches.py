"""Batches whose items stand for themselves: one that is wrong leaves the others alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from towline_broker.domain.errors import InvalidField, PermissionDenied
from towline_broker.domain.identity import current_identity
from towline_broker.domain.jobs import LeaseRef
from towline_broker.services.item_rights import check_lease


class AboutALease(Protocol):
    @property
    def ref(self) -> LeaseRef: ...


Item = TypeVar("Item")
Call = TypeVar("Call", bound=AboutALease)
Result = TypeVar("Result")


class UnknownToken(Exception):
    """Not a token that any broker gave: no such lease is known."""


#: By their place in the batch: what is wrong with an item, or None if its token is unknown.
Refusals: TypeAlias = dict[int, InvalidField | PermissionDenied | None]


def sift(
    items: Sequence[Item], path: str, read: Callable[[Item, str], Call]
) -> tuple[list[Call], Refusals]:
    """The items that can be read and are about leases of the caller, and what is to be said to the
    others."""
    identity = current_identity()
    calls: list[Call] = []
    refused: Refusals = {}
    for index, item in enumerate(items):
        try:
            call = read(item, f"{path}[{index}]")
            if identity.mark:
                check_lease(identity, call.ref)
            calls.append(call)
        except UnknownToken:
            refused[index] = None
        except (InvalidField, PermissionDenied) as error:
            refused[index] = error
    return calls, refused


def in_order(answers: Sequence[Result], refused: Mapping[int, Result]) -> list[Result]:
    """One result for each item of the batch, ``answers`` being those of the items not refused."""
    if not refused:
        return list(answers)
    rest = iter(answers)
    total = len(answers) + len(refused)
    return [refused[place] if place in refused else next(rest) for place in range(total)]
