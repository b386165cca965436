"""A job as the text of an SQS message: one JSON object, to be read by people too."""

import json
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass, replace
from typing import Any

from towline_broker.domain.jobs import DeadReason, Failure, NewJob
from towline_broker.domain.retry import RetryPolicy
from towline_broker.domain.time import Micros

#: SQS's own bound, for one message and for a whole batch of them.
MOST_BYTES = 1_048_576
#: What a message needs beside its envelope; a failure is cut to fit.
OTHER_BYTES = 65_536
MOST_FAILURE_BYTES = 60_000
#: In base64, four letters carry three bytes.
MOST_ENVELOPE = (MOST_BYTES - OTHER_BYTES) // 4 * 3

FORM = 1


@dataclass(frozen=True, slots=True)
class Death:
    reason: DeadReason
    at: Micros
    attempt: int


@dataclass(frozen=True, slots=True)
class JobMessage:
    id: str
    type: str
    envelope: bytes
    retry: RetryPolicy
    enqueued_at: Micros
    ready_at: Micros
    failure: Failure | None = None
    #: Only in the companion queue.
    death: Death | None = None

    @staticmethod
    def of(new: NewJob, now: Micros) -> "JobMessage":
        ready_at = now if new.due_at is None else max(now, new.due_at)
        return JobMessage(new.id, new.type, new.envelope, new.retry, now, ready_at)

    def buried(self, death: Death, failure: Failure | None) -> "JobMessage":
        return replace(self, death=death, failure=failure or self.failure)

    def revived(self, now: Micros) -> "JobMessage":
        return replace(self, death=None, ready_at=now)

    def to_text(self) -> str:
        fields: dict[str, Any] = {
            "towline": FORM,
            "id": self.id,
            "type": self.type,
            "enqueued_at": self.enqueued_at,
            "ready_at": self.ready_at,
        }
        if (policy := self.retry.to_text()) is not None:
            fields["retry"] = policy
        if self.failure is not None:
            fields["failure"] = _failure_to_fields(self.failure)
        if self.death is not None:
            fields["death"] = [self.death.reason, self.death.at, self.death.attempt]
        fields["envelope"] = b64encode(self.envelope).decode()
        return json.dumps(fields, separators=(",", ":"))

    @staticmethod
    def from_text(text: str) -> "JobMessage | None":
        """None: this broker wrote no such message."""
        try:
            fields = json.loads(text)
            if fields["towline"] != FORM:
                return None
            failure, death = fields.get("failure"), fields.get("death")
            return JobMessage(
                id=fields["id"],
                type=fields["type"],
                envelope=b64decode(fields["envelope"], validate=True),
                retry=RetryPolicy.from_text(fields.get("retry")),
                enqueued_at=fields["enqueued_at"],
                ready_at=fields["ready_at"],
                failure=None if failure is None else Failure(*failure),
                death=None if death is None else Death(DeadReason(death[0]), death[1], death[2]),
            )
        except (ValueError, KeyError, TypeError, NotBase64):
            return None


def _failure_to_fields(failure: Failure) -> list[Any]:
    fields = [failure.type, failure.message, failure.trace, failure.at]
    if len(json.dumps(fields)) > MOST_FAILURE_BYTES:  # of letters that JSON writes as six
        fields[2] = ""
    return fields
