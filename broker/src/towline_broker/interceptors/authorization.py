"""Whether the caller has the right that a call needs. One table says which; what is not in it is
refused.

A call that names queues needs the right for each of them. One that names none either needs it for
every queue, or is kept by its service to what the caller has the right for: items of a batch are
answered for themselves, and queues, jobs and workers out of sight are as good as none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

import grpc

from towline_broker.domain.errors import PermissionDenied
from towline_broker.domain.identity import (
    Right,
    current_identity,
    hear_of_refused_items,
    refused_items,
)
from towline_broker.interceptors.refusals import Refusals
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.streaming import PUSH_STREAM, STREAMS
from towline_broker.streaming import WORK as WORK_STREAM


class Reach(Enum):
    """Of a call that names no queue."""

    #: The right has to be given for every queue.
    EVERY = "every queue"
    #: The right has to be given for some queue; the service looks at which.
    SOME = "some queue"


#: Of a request: the queues that it names, if it names any.
Asks: TypeAlias = Callable[[Any], Sequence[str] | Reach]


@dataclass(frozen=True)
class Rule:
    #: Any one of them will do.
    rights: tuple[Right, ...]
    asks: Asks
    #: Items of it can be refused while the others go through.
    by_item: bool = False


def _every(_: Any) -> Reach:
    return Reach.EVERY


def _some(_: Any) -> Reach:
    return Reach.SOME


def _its_queue(request: Any) -> Sequence[str]:
    return (request.queue,)


def _its_queue_or_every(request: Any) -> Sequence[str] | Reach:
    return (request.queue,) if request.queue else Reach.EVERY


def _queue_of_filter(request: Any) -> Sequence[str] | Reach:
    return _its_queue_or_every(request.filter)


def _queue_of_selection(request: Any) -> Sequence[str] | Reach:
    selection = request.selection
    if selection.ids and not selection.HasField("filter"):
        return Reach.SOME
    return _its_queue_or_every(selection.filter)


def _named_queues(request: Any) -> Sequence[str] | Reach:
    return list(request.queues) or Reach.SOME


def _queues_to_reserve_from(request: Any) -> Sequence[str] | Reach:
    return [choice.name for choice in request.queues] or Reach.SOME


ANY = tuple(Right)
PUSH, WORK, ADMIN = (Right.PUSH,), (Right.WORK,), (Right.ADMIN,)
QUEUES, DEAD, OPERATING = (
    f"/towline.v1.{service}/" for service in ("QueueService", "DeadLetterService", "AdminService")
)


def rules(default_queue: str) -> dict[str, Rule]:
    """By method. ``default_queue``: that of a pushed job that names none."""

    def queues_to_push_to(request: Any) -> Sequence[str] | Reach:
        if request.allow_partial:
            return Reach.SOME
        return [queue or default_queue for queue in request.queues] or Reach.SOME

    return {
        QUEUES + "Push": Rule(PUSH, queues_to_push_to, by_item=True),
        QUEUES + "GetJob": Rule(ANY, _some),
        QUEUES + "ListJobs": Rule(ADMIN, _its_queue_or_every),
        QUEUES + "CancelJob": Rule(PUSH + ADMIN, _some),
        QUEUES + "Reserve": Rule(WORK, _queues_to_reserve_from),
        QUEUES + "Ack": Rule(WORK, _some, by_item=True),
        QUEUES + "Nack": Rule(WORK, _some, by_item=True),
        QUEUES + "Heartbeat": Rule(WORK, _some, by_item=True),
        # Their messages and items are refused for themselves, and so are the queues of the first
        # message of Work.
        PUSH_STREAM: Rule(PUSH, _some, by_item=True),
        WORK_STREAM: Rule(WORK, _some, by_item=True),
        DEAD + "ListDead": Rule(ADMIN, _queue_of_filter),
        DEAD + "RequeueDead": Rule(ADMIN, _queue_of_selection),
        DEAD + "DiscardDead": Rule(ADMIN, _queue_of_selection),
        OPERATING + "Stats": Rule(ANY, _named_queues),
        OPERATING + "ResetStats": Rule(ADMIN, _every),
        OPERATING + "ListQueues": Rule(ANY, _some),
        OPERATING + "PauseQueue": Rule(ADMIN, _its_queue),
        OPERATING + "ResumeQueue": Rule(ADMIN, _its_queue),
        OPERATING + "PurgeQueue": Rule(ADMIN, _its_queue),
        OPERATING + "MoveQueue": Rule(ADMIN, _its_queue),
        OPERATING + "ListWorkers": Rule(ADMIN, _some),
        OPERATING + "StopWorker": Rule(ADMIN, _some),
    }


class Authorization(WrappingInterceptor):
    """Sees the message of a request. Raises PermissionDenied."""

    def __init__(self, rules: dict[str, Rule], refusals: Refusals) -> None:
        self._rules = rules
        self._refusals = refusals

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        rule = self._rules.get(method)

        async def permitted(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            if rule is None:
                raise PermissionDenied(f"nobody may call {method}: no right is set for it")
            _check(rule, request)
            if not rule.by_item:
                return await behaviour(request, context)
            if method in STREAMS:
                note = partial(self._note_one, method, context.peer())
                hear_of_refused_items(note)
                return await behaviour(request, context)
            refused = refused_items()
            response = await behaviour(request, context)
            if refused:
                name = current_identity().name
                self._refusals.note(method, name, refused[0], context.peer(), len(refused))
            return response

        return permitted

    def _note_one(self, method: str, peer: str, error: PermissionDenied) -> None:
        self._refusals.note(method, current_identity().name, error, peer)


def _check(rule: Rule, request: Any) -> None:
    identity = current_identity()
    if identity.may_everywhere(*rule.rights):
        return
    asked = rule.asks(request)
    if asked is Reach.EVERY:
        identity.require_everywhere(*rule.rights)
    elif asked is Reach.SOME:
        identity.require_somewhere(*rule.rights)
    else:
        for queue in asked:
            identity.require(queue, *rule.rights)
