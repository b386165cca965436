"""Jobs as JSON and as table rows.

In JSON a duration is a number of seconds and says so in its name, a time is ISO 8601 in UTC, an
enum is its name without prefix, and a field that is unset is null: the keys are always the same.
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from towline.cli import output
from towline.cli.formats import at, enum_name, iso, length, local, span
from towline.errors import InvalidPayload
from towline.options import DISPLAY_NAME_HEADER, display_name_of
from towline.serialization import plain
from towline.serializers import read, standard, tells_anything
from towline.v1 import job_pb2 as pb


def state_name(state: int) -> str:
    return enum_name(pb.JobState, state)


def reason_name(reason: int) -> str:
    return enum_name(pb.DeadReason, reason) if reason else ""


def own_name(info: pb.JobInfo) -> str:
    """Return what the job is called besides its type; empty if it has no name."""
    name = display_name_of("", info.job.headers)
    return "" if name == info.job.type else name


def type_and_name(info: pb.JobInfo) -> str:
    """For tables."""
    name = own_name(info)
    return f"{info.job.type} ({name})" if name else info.job.type


def failure_text(info: pb.JobInfo) -> str:
    failure = info.last_failure
    return ": ".join(part for part in (failure.type, failure.message) if part)


def job_json(info: pb.JobInfo) -> dict[str, Any]:
    """Return what lists tell of a job: no payload, result or trace."""
    job, failure = info.job, info.last_failure
    return {
        "id": job.id,
        "queue": job.queue,
        "type": job.type,
        "display_name": own_name(info) or None,
        "state": state_name(info.state),
        "attempt": info.attempt,
        "priority": job.priority,
        "enqueued_at": iso(at(info, "enqueued_at")),
        "available_at": iso(at(info, "available_at")),
        "started_at": iso(at(info, "started_at")),
        "finished_at": iso(at(info, "finished_at")),
        "lease_remaining_seconds": length(info, "lease_remaining"),
        "worker_id": info.worker_id or None,
        "releases": info.releases,
        "dead_reason": reason_name(info.dead_reason) or None,
        "last_failure": {
            "type": failure.type,
            "message": failure.message,
            "failed_at": iso(at(failure, "failed_at")),
        }
        if info.HasField("last_failure")
        else None,
        "progress": {"fraction": info.progress.fraction, "message": info.progress.message}
        if info.HasField("progress")
        else None,
    }


def whole_job_json(info: pb.JobInfo) -> dict[str, Any]:
    """Return everything about a job, payload, result and trace included."""
    job = info.job
    data = job_json(info)
    if data["last_failure"] is not None:
        data["last_failure"]["trace"] = info.last_failure.trace
    return data | {
        "content_type": job.content_type,
        **opaque("payload", job.payload, job.content_type),
        **opaque("result", info.result, job.content_type),
        "headers": dict(job.headers),
        "max_attempts": job.retry.max_attempts or None,
        "timeout_seconds": length(job, "timeout"),
        "expires_in_seconds": length(job, "expires_in"),
        "retention_seconds": length(job, "retention"),
        "unique_key": job.unique_key or None,
        "unique_for_seconds": length(job, "unique_for"),
    }


def opaque(name: str, data: bytes, content_type: str) -> dict[str, Any]:
    """Return bytes as the JSON values that they say, or as base64 beside a null."""
    serializer = standard().find(content_type) if tells_anything(content_type) else None
    if data and serializer is not None:
        with contextlib.suppress(InvalidPayload):
            return {name: plain(read(data, name, serializer), name), f"{name}_base64": None}
    return {name: None, f"{name}_base64": base64.b64encode(data).decode() if data else None}


def readable(data: bytes, content_type: str) -> str:
    """Return bytes for people: JSON indented, text as it is, else how many there are."""
    shown = opaque("data", data, content_type)
    if shown["data"] is not None:
        return json.dumps(shown["data"], ensure_ascii=False, indent=2)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes of {content_type or 'data'} (--json shows them in base64)"


def print_job(info: pb.JobInfo, *, as_json: bool) -> None:
    """Print everything about a job, payload, result and trace included."""
    if as_json:
        output.document(whole_job_json(info))
        return
    job, state = info.job, state_name(info.state)
    at_most = f" of {job.retry.max_attempts}" if job.retry.max_attempts else ""
    lease = length(info, "lease_remaining")
    output.pairs(
        {
            "id": job.id,
            "queue": job.queue,
            "type": job.type,
            "name": own_name(info),
            "state": state,
            "dead because": reason_name(info.dead_reason),
            "attempts": f"{info.attempt}{at_most}" if job.type else "",
            "releases": str(info.releases) if info.releases else "",
            "priority": str(job.priority) if job.priority else "",
            "unique key": job.unique_key,
            "worker": info.worker_id,
            "lease left": "" if lease is None else span(lease),
            "progress": _progress_text(info),
            "pushed": local(at(info, "enqueued_at")),
            "ready" if state == "READY" else "due": local(at(info, "available_at")),
            "started": local(at(info, "started_at")),
            "ended": local(at(info, "finished_at")),
            "last failure": failure_text(info),
            **{
                f"header {name}": value
                for name, value in sorted(job.headers.items())
                if name != DISPLAY_NAME_HEADER
            },
        }
    )
    if job.payload:
        output.block("payload", readable(job.payload, job.content_type))
    if info.result:
        output.block("result", readable(info.result, job.content_type))
    if info.last_failure.trace:
        output.block("trace of the last failure", info.last_failure.trace)


def _progress_text(info: pb.JobInfo) -> str:
    if not info.HasField("progress"):
        return ""
    return f"{info.progress.fraction:.0%} {info.progress.message}".rstrip()
