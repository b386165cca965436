"""Whether the caller may have what single items of a batch ask for.

Items are refused for themselves, so the interceptor, which refuses calls as a whole, leaves them to
the services. What is refused here it hears of all the same.
"""

from collections.abc import Sequence

from towline_broker.core import tokens
from towline_broker.domain.errors import PermissionDenied, TowlineError
from towline_broker.domain.identity import Identity, Right, note_refused_item
from towline_broker.domain.jobs import LeaseRef


def push_refused(identity: Identity, queue: str) -> TowlineError | None:
    """None: it may push there."""
    try:
        identity.require(queue, Right.PUSH)
    except PermissionDenied as error:
        note_refused_item(error)
        return error
    return None


def check_lease(identity: Identity, ref: LeaseRef) -> None:
    """Only who holds a lease may settle it. Looks at nothing but the token, so the answer does not
    tell whether there is such a lease. Raises PermissionDenied."""
    try:
        identity.require(ref.queue, Right.WORK)
        if not tokens.is_for(ref, identity.mark):
            raise PermissionDenied(
                f"{identity.name} does not hold this lease: only the identity that reserved a job "
                "may settle it",
                Right.WORK,
                ref.queue,
            )
    except PermissionDenied as error:
        note_refused_item(error)
        raise


def holds_all(identity: Identity, refs: Sequence[LeaseRef]) -> bool:
    """Whether nothing would be refused of these leases, one by one."""
    if not identity.mark:
        return True
    return all(identity.may(queue, Right.WORK) for queue in {ref.queue for ref in refs}) and all(
        tokens.is_for(ref, identity.mark) for ref in refs
    )
