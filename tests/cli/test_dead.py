"""`towline dead`: nothing is requeued or removed beyond what was asked for."""

import uuid

import pytest

from tests.cli.conftest import Command, Line


def dead_ids(towline: Command, *filters: str) -> list[str]:
    return [job["id"] for job in towline("dead", "list", *filters, "--json").lines]


def test_list_shows_why_and_filters(towline: Command, line: Line) -> None:
    ids = line.bury(3)
    of_queue = ("--queue", line.queue)
    assert dead_ids(towline, *of_queue) == ids
    assert dead_ids(towline, *of_queue, "--type", "Stack", "--reason", "rejected") == ids
    assert dead_ids(towline, *of_queue, "--since", "1h") == ids
    assert dead_ids(towline, *of_queue, "--type", "Other") == []
    assert dead_ids(towline, *of_queue, "--reason", "lease_expired") == []
    assert dead_ids(towline, *of_queue, "--before", "1h") == []
    assert dead_ids(towline, *of_queue, "--before", "2020-01-01") == []
    shown = towline("dead", "list", *of_queue).out
    assert shown.count("REJECTED") == 3
    assert "ValueError: no such\\x1b[2J crate" in shown
    assert "Traceback" not in shown


def test_show_has_payload_and_trace(towline: Command, line: Line) -> None:
    [dead] = line.bury()
    shown = towline("dead", "show", dead)
    assert shown.code == 0
    assert "  line two" in shown.out
    assert '"n": 0' in shown.out
    document = towline("dead", "show", dead, "--json").document
    assert document["dead_reason"] == "REJECTED"
    assert document["last_failure"]["trace"].endswith("line two")


def test_show_of_a_living_job_fails(towline: Command, line: Line) -> None:
    [alive] = line.push()
    done = towline("dead", "show", alive)
    assert done.code == 1
    assert "is READY, not dead" in done.err


@pytest.mark.parametrize(("verb", "done"), [("requeue", "requeued"), ("discard", "discarded")])
def test_dry_run_counts_and_changes_nothing(
    towline: Command, line: Line, verb: str, done: str
) -> None:
    ids = line.bury(3)
    counted = towline("dead", verb, "--queue", line.queue, "--dry-run", "--json")
    assert counted.code == 0
    assert counted.document == {"matched": 3, done: 0, "dry_run": True}
    assert dead_ids(towline, "--queue", line.queue) == ids


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_nothing_happens_without_a_yes(towline: Command, line: Line, verb: str) -> None:
    ids = line.bury(2)
    refused = towline("dead", verb, "--queue", line.queue)
    assert refused.code == 2
    assert "2 dead jobs" in refused.err
    assert "add --yes, or --dry-run" in refused.err
    assert dead_ids(towline, "--queue", line.queue) == ids


def test_requeue_by_filter_makes_them_ready(towline: Command, line: Line) -> None:
    ids = line.bury(3)
    done = towline("dead", "requeue", "--queue", line.queue, "--yes")
    assert (done.code, done.out) == (0, "3 dead jobs requeued\n")
    assert dead_ids(towline, "--queue", line.queue) == []
    ready = towline("job", "list", "-q", line.queue, "--state", "ready", "--json").lines
    assert sorted(job["id"] for job in ready) == sorted(ids)


def test_requeue_by_ids_needs_no_yes_and_tells_of_those_not_dead(
    towline: Command, line: Line
) -> None:
    one, two = line.bury(2)
    done = towline("dead", "requeue", one, str(uuid.uuid4()))
    assert (done.code, done.out) == (1, "1 dead job requeued\n")
    assert "1 of 2 ids are not in the dead-letter queue" in done.err
    listed = towline("dead", "list", "-q", line.queue, "--json").out
    piped = towline("dead", "requeue", "-", stdin="\n".join(dead_ids(towline, "-q", line.queue)))
    assert two in listed
    assert (piped.code, piped.out) == (0, "1 dead job requeued\n")


def test_discard_removes_only_what_fits(towline: Command, line: Line) -> None:
    first, second, third = line.bury(3)
    by_id = towline("dead", "discard", second, "--yes", "--json")
    assert by_id.document == {"matched": 1, "discarded": 1, "dry_run": False}
    assert dead_ids(towline, "--queue", line.queue) == [first, third]
    assert towline("dead", "discard", "-q", line.queue, "--type", "Other", "--yes").code == 0
    assert dead_ids(towline, "--queue", line.queue) == [first, third]
    done = towline("dead", "discard", "-q", line.queue, "--since", "1h", "--yes")
    assert done.out == "2 dead jobs discarded\n"
    assert dead_ids(towline, "--queue", line.queue) == []


def test_all_takes_every_dead_job(towline: Command, line: Line) -> None:
    towline("dead", "discard", "--all", "--yes")
    line.bury(2)
    done = towline("dead", "discard", "--all", "--yes", "--json")
    assert done.document == {"matched": 2, "discarded": 2, "dry_run": False}
    assert dead_ids(towline) == []


def test_more_than_one_call_can_handle_is_handled(towline: Command, line: Line) -> None:
    line.push_batch(2300)
    for count in (1000, 1000, 300):
        line.reject(count)
    done = towline("dead", "discard", "--queue", line.queue, "--yes", "--json")
    assert done.document == {"matched": 2300, "discarded": 2300, "dry_run": False}


def test_what_is_meant_must_be_said(towline: Command, line: Line) -> None:
    for verb in ("requeue", "discard"):
        assert "say which: ids, filters" in towline("dead", verb).err
        assert "not both" in towline("dead", verb, "x", "--all").err
        for filters, message in (
            (("--reason", "bored"), "--reason: 'bored' is none of attempts_exhausted"),
            (("--since", "soon"), "--since: 'soon' is no time"),
            (("--queue", "a b"), "queue"),
        ):
            done = towline("dead", verb, *filters, "--yes")
            assert done.code == 2
            assert message in done.err
