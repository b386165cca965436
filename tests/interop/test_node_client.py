"""A client in another language finds every promise kept: @grpc/grpc-js with the .proto files, no
generated code and no line of Python between it and the broker."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.node_process import play
from tests.support.broker_process import BrokerProcess

INVALID_ARGUMENT = 3
NOT_FOUND = 5
CANCELLED = 1
RESOURCE_EXHAUSTED = 8

Play = Callable[[str], Any]


@pytest.fixture
def found(address: str, queue: str) -> Play:
    """Plays a scenario on a queue of its own, and hands over what it found."""
    return lambda scenario: play(address, scenario, queue)


def test_a_pushed_job_is_stored_as_it_is(found: Play, queue: str) -> None:
    assert found("push.single") == {
        "sameId": True,
        "outcome": "PUSH_OUTCOME_CREATED",
        "state": "JOB_STATE_READY",
        "queue": queue,
        "payload": [0, 255, 128],
        "contentType": "application/x-bytes",
        "headers": {"traceparent": "00-1-2-00"},
        "priority": -3,
    }


def test_the_broker_makes_the_id_that_a_producer_leaves_out(found: Play) -> None:
    job = found("push.withoutId")
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", job["jobId"])
    assert job["state"] == "JOB_STATE_READY"


def test_a_batch_of_a_thousand_jobs_is_stored_in_one_call(found: Play) -> None:
    assert found("push.batch") == {
        "outcomes": ["PUSH_OUTCOME_CREATED"],
        "sameOrder": True,
        "count": 1000,
    }


def test_a_partial_push_stores_the_good_jobs_and_names_the_field_of_each_bad_one(
    found: Play,
) -> None:
    assert found("push.partial") == {
        "outcomes": ["PUSH_OUTCOME_CREATED", "PUSH_OUTCOME_REJECTED", "PUSH_OUTCOME_CREATED"],
        "error": {"code": INVALID_ARGUMENT, "field": "jobs[1].type"},
    }


def test_a_delayed_job_waits_for_its_time(found: Play) -> None:
    assert found("push.delayed") == {
        "states": ["JOB_STATE_SCHEDULED", "JOB_STATE_SCHEDULED"],
        "dueCame": True,
        "further": 0,
    }


def test_a_repeated_push_of_one_id_stores_one_job(found: Play) -> None:
    assert found("push.twice") == {
        "outcomes": ["PUSH_OUTCOME_CREATED", "PUSH_OUTCOME_EXISTING"],
        "sameId": True,
        "stored": 1,
    }


def test_a_unique_key_is_held_until_its_job_has_ended(found: Play) -> None:
    assert found("push.uniqueKey") == {
        "whileHeld": "PUSH_OUTCOME_EXISTING",
        "namesHolder": True,
        "cancelled": "CANCEL_OUTCOME_CANCELLED",
        "afterwards": "PUSH_OUTCOME_CREATED",
    }


def test_a_parked_reserve_gets_the_job_when_it_is_pushed(found: Play) -> None:
    lease = found("reserve.parked")
    assert lease["sameJob"]
    assert lease["attempt"] == 1
    assert 25 <= lease["leaseSeconds"] <= 30
    # The wait was 20 seconds: a poll in between, however busy the machine, would show.
    assert lease["milliseconds"] < 5_000


def test_with_nothing_to_lease_reserve_answers_empty_and_in_time(found: Play) -> None:
    empty = found("reserve.nothing")
    assert [answer["leases"] for answer in empty.values()] == [0, 0, 0]
    assert empty["afterWait"]["milliseconds"] >= 990
    assert empty["beforeDeadline"]["milliseconds"] > 1_000


def test_a_repeated_reserve_gets_the_same_leases(found: Play) -> None:
    assert found("reserve.repeated") == {"count": 2, "same": True}


def test_queues_are_served_in_their_order_and_jobs_by_priority(found: Play) -> None:
    assert found("reserve.order") == ["urgent", "first", "second", "elsewhere"]


def test_jobs_of_a_mebibyte_each_travel_in_one_call(found: Play) -> None:
    assert found("reserve.large") == [True] * 8


def test_a_reserve_that_its_caller_abandoned_takes_no_job_with_it(found: Play) -> None:
    assert found("reserve.abandoned") == {
        "code": CANCELLED,
        "sameJob": True,
        "attempt": 1,
        "acked": "LEASE_OUTCOME_OK",
    }


def test_a_paused_queue_gives_nothing_until_it_is_resumed(found: Play) -> None:
    assert found("reserve.paused") == {
        "changed": [True, False, True],
        "whilePaused": {"leases": 0, "state": "JOB_STATE_READY"},
        "afterwards": True,
    }


def test_a_second_client_waits_for_the_result_of_the_job(found: Play) -> None:
    assert found("settle.resultForAnotherClient") == {
        "endedBefore": False,
        "outcome": "LEASE_OUTCOME_OK",
        "state": "JOB_STATE_SUCCEEDED",
        "result": '{"pages":12}',
    }


def test_a_repeated_ack_gets_the_same_answer_and_a_nack_comes_too_late(found: Play) -> None:
    assert found("settle.repeatedAck") == {
        "outcomes": ["LEASE_OUTCOME_OK", "LEASE_OUTCOME_OK"],
        "nackAfterwards": "LEASE_OUTCOME_ALREADY_SETTLED",
    }


def test_one_bad_item_does_not_fail_its_batch(found: Play) -> None:
    assert found("settle.oneBadItem") == ["LEASE_OUTCOME_NOT_FOUND", "LEASE_OUTCOME_OK"]


def test_a_failed_job_is_retried_by_its_policy_and_then_dead(found: Play) -> None:
    retried = found("settle.retryByPolicy")
    assert retried["between"] == "JOB_STATE_SCHEDULED"
    assert retried["milliseconds"] >= 1_000
    assert retried["attempts"] == [1, 2]
    assert retried["firstFailure"] is None
    assert retried["lastFailure"] == {"type": "IOError", "message": "disk on fire"}
    assert retried["end"] == {
        "state": "JOB_STATE_DEAD",
        "reason": "DEAD_REASON_ATTEMPTS_EXHAUSTED",
        "trace": "at line 1",
    }


def test_a_worker_can_say_when_the_job_is_to_be_retried(found: Play) -> None:
    retried = found("settle.retryAfter")
    assert retried["state"] == "JOB_STATE_SCHEDULED"
    assert 3_500 < retried["waitSeconds"] <= 3_601
    assert retried["atOnce"]
    assert retried["attempt"] == 2


def test_a_release_gives_the_attempt_back_and_says_why(found: Play) -> None:
    assert found("settle.release") == {
        "outcome": "LEASE_OUTCOME_OK",
        "attempts": [1, 1],
        "releases": 1,
        "why": "disk on fire",
        "delayed": "JOB_STATE_SCHEDULED",
    }


def test_a_rejected_job_is_dead_at_once(found: Play) -> None:
    assert found("settle.deadLetter") == {
        "outcome": "LEASE_OUTCOME_OK",
        "state": "JOB_STATE_DEAD",
        "reason": "DEAD_REASON_REJECTED",
        "ackTooLate": "LEASE_OUTCOME_ALREADY_SETTLED",
    }


def test_a_lease_that_ran_out_is_an_attempt_that_failed(found: Play) -> None:
    assert found("settle.leaseRunsOut") == {
        "reason": "DEAD_REASON_LEASE_EXPIRED",
        "ackTooLate": "LEASE_OUTCOME_LEASE_LOST",
    }


def test_a_heartbeat_prolongs_the_lease(found: Play) -> None:
    prolonged = found("heartbeat.extend")
    assert prolonged["outcomes"] == ["LEASE_OUTCOME_OK", "LEASE_OUTCOME_NOT_FOUND"]
    assert prolonged["before"] <= 20
    assert 590 <= prolonged["answered"] <= 600
    assert 590 <= prolonged["seen"] <= 600
    assert prolonged["acked"] == "LEASE_OUTCOME_OK"


def test_progress_is_seen_by_others_and_its_checkpoint_by_the_next_attempt(found: Play) -> None:
    assert found("heartbeat.progress") == {
        "seen": {"fraction": 0.5, "message": "half"},
        "handedOn": {"fraction": 0.5, "checkpoint": "row 250"},
    }


def test_a_worker_hears_what_an_operator_wants_of_it(found: Play) -> None:
    assert found("heartbeat.directives") == {
        "heard": [
            "WORKER_DIRECTIVE_NONE",
            "WORKER_DIRECTIVE_QUIET",
            "WORKER_DIRECTIVE_NONE",
            "WORKER_DIRECTIVE_STOP",
        ],
        "anonymous": "WORKER_DIRECTIVE_UNSPECIFIED",
    }


def test_the_worker_of_a_cancelled_job_hears_of_it(found: Play) -> None:
    assert found("heartbeat.cancelled") == {
        "cancelled": ["CANCEL_OUTCOME_CANCELLED", "CANCEL_OUTCOME_NOT_FOUND"],
        "heard": "LEASE_OUTCOME_CANCELLED",
        "ackTooLate": "LEASE_OUTCOME_LEASE_LOST",
    }


def test_dead_jobs_are_listed_page_by_page_and_by_filter(found: Play) -> None:
    listed = found("dead.listed")
    assert listed.pop("pages") >= 3  # of six jobs by two; a last, empty page is allowed
    assert listed == {
        "inOrder": True,
        "reason": "DEAD_REASON_REJECTED",
        "failure": "Refused",
        "basicPayload": "",
        "oddPayloads": ["number 1", "number 3"],
        "spent": [True],
    }


def test_dead_jobs_are_requeued_by_id_and_by_filter(found: Play) -> None:
    assert found("dead.requeued") == {
        "dryRun": {"matched": 4, "requeued": 0, "remaining": 4},
        "untouched": "JOB_STATE_DEAD",
        "byId": {"matched": 1, "requeued": 1, "remaining": 0},
        "again": {"sameJob": True, "attempt": 1, "why": "Refused"},
        "byFilter": {"matched": 3, "requeued": 2, "remaining": 1},
        "left": [True],
    }


def test_dead_jobs_are_discarded_by_id_and_by_filter(found: Play) -> None:
    assert found("dead.discarded") == {
        "byId": {"matched": 1, "discarded": 1, "remaining": 0},
        "again": {"matched": 0, "discarded": 0, "remaining": 0},
        "byFilter": {"matched": 2, "discarded": 2, "remaining": 0},
        "left": 0,
    }


def test_a_refused_push_names_every_wrong_field_and_stores_nothing(found: Play) -> None:
    refused = found("errors.badFields")
    failed = refused["failed"]
    assert failed["code"] == INVALID_ARGUMENT
    assert (failed["reason"], failed["domain"]) == ("INVALID_FIELD", "towline")
    assert failed["fields"] == ["jobs[1].queue", "jobs[2].id", "jobs[2].type"]
    assert "jobs[1].queue" in failed["message"]
    assert refused["goodOne"] == NOT_FOUND


@pytest.mark.parametrize(
    ("scenario", "field"), [("errors.tooLarge", "jobs[0].payload"), ("errors.tooMany", "jobs")]
)
def test_what_is_too_large_is_refused_by_its_field(found: Play, scenario: str, field: str) -> None:
    failed = found(scenario)
    assert failed["code"] == INVALID_ARGUMENT
    assert failed["fields"] == [field]


def test_a_reserve_out_of_bounds_is_refused_by_its_field(found: Play) -> None:
    refused = found("errors.outOfBounds")
    assert {failed["code"] for failed in refused.values()} == {INVALID_ARGUMENT}
    assert {case: failed["fields"] for case, failed in refused.items()} == {
        "noQueue": ["queues"],
        "wait": ["wait"],
        "lease": ["lease"],
        "maxJobs": ["max_jobs"],
        "requestId": ["request_id"],
    }


def test_what_is_not_there_is_not_found_by_its_kind(found: Play) -> None:
    missing = found("errors.notFound")
    assert {failed["code"] for failed in missing.values()} == {NOT_FOUND}
    assert {failed["domain"] for failed in missing.values()} == {"towline"}
    assert {kind: failed["reason"] for kind, failed in missing.items()} == {
        "job": "JOB_NOT_FOUND",
        "queue": "QUEUE_NOT_FOUND",
        "stats": "QUEUE_NOT_FOUND",
        "worker": "WORKER_NOT_FOUND",
    }


def test_a_full_queue_says_so_and_when_to_come_again(queue: str) -> None:
    with BrokerProcess("memory:", environment={"TOWLINE_CORE__MAX_QUEUE_DEPTH": "2"}) as broker:
        full = play(broker.address, "errors.queueFull", queue)
    failed = full.pop("failed")
    assert (failed["code"], failed["reason"]) == (RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert failed["full"] == [f"queue:{queue}"]
    assert failed["retrySeconds"] > 0
    assert full == {
        "elsewhere": "JOB_STATE_READY",
        "acked": "LEASE_OUTCOME_OK",
        "patient": "PUSH_OUTCOME_CREATED",
    }


def test_stats_count_what_was_done(found: Play, queue: str, store: str) -> None:
    stats = found("admin.stats")
    assert (stats["name"], stats["paused"]) == (queue, False)
    assert stats["depth"] == {"scheduled": 1, "ready": 1, "leased": 1, "dead": 1}
    assert {name: count for name, count in stats["totals"].items() if count} == {
        "pushed": 5,
        "started": 3,
        "completed": 1,
        "failed": 1,
        "deadLettered": 1,
    }
    assert stats["totalIsSum"]
    assert stats["successRate"] == 0.5
    assert stats["timed"] == [2, 3]
    assert stats["types"] == [["Other", 1], ["Test", 4]]
    durability = {"memory": "DURABILITY_NONE", "sqlite": "DURABILITY_DURABLE"}
    assert (stats["driver"], stats["durability"]) == (store, durability[store])


def test_a_purge_removes_what_waits_in_steps(found: Play) -> None:
    assert found("admin.purge") == {
        "dryRun": {"matched": 3, "purged": 0, "remaining": 3},
        "first": {"matched": 3, "purged": 2, "remaining": 1},
        "rest": {"matched": 1, "purged": 1, "remaining": 0},
        "state": "JOB_STATE_CANCELLED",
        "depth": {"scheduled": 0, "ready": 0, "leased": 0, "dead": 0},
    }
