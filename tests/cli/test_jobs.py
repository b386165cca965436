"""`towline job`."""

import uuid

import msgpack  # type: ignore[import-untyped]

from tests.cli.conftest import Command, Line

LIST_KEYS = {
    "id",
    "queue",
    "type",
    "display_name",
    "state",
    "attempt",
    "priority",
    "enqueued_at",
    "available_at",
    "started_at",
    "finished_at",
    "lease_remaining_seconds",
    "worker_id",
    "releases",
    "dead_reason",
    "last_failure",
    "progress",
}


def test_show_tells_everything(towline: Command, line: Line) -> None:
    [job] = line.push(headers={"trace": "abc"}, retention=60)
    line.succeed()
    done = towline("job", "show", job)
    assert done.code == 0
    for expected in ("state         SUCCEEDED", "header trace  abc", '"n": 0', '"sum": 3'):
        assert expected in done.out
    shown = towline("job", "show", job, "--json").document
    assert shown.keys() > LIST_KEYS
    assert (shown["state"], shown["result"], shown["attempt"]) == ("SUCCEEDED", {"sum": 3}, 1)
    assert shown["headers"] == {"trace": "abc"}
    assert shown["enqueued_at"].endswith("Z")


def test_a_display_name_is_shown_wherever_jobs_are(towline: Command, line: Line) -> None:
    [named] = line.push(display_name="Welcome mail to Ann")
    [plain] = line.push()
    shown = towline("job", "show", named)
    assert "name      Welcome mail to Ann" in shown.out
    assert "towline-display-name" not in shown.out
    assert " (Welcome mail to Ann)" in towline("job", "list", "--queue", line.queue).out
    listed = towline("job", "list", "--queue", line.queue, "--json").lines
    names = {job["id"]: job["display_name"] for job in listed}
    assert names == {named: "Welcome mail to Ann", plain: None}
    line.reject(2)
    assert " (Welcome mail to Ann)" in towline("dead", "list", "--queue", line.queue).out


def test_messagepack_is_shown_as_the_json_that_it_says(towline: Command, line: Line) -> None:
    arguments, result = msgpack.packb({"n": 7, "raw": b"x"}), msgpack.packb({"sum": 3})
    handle = line.client.push_raw(
        line.queue, "t", arguments, content_type="application/msgpack", retention=60
    )
    line.succeed(result=result)
    document = towline("job", "show", handle.id, "--json").document
    assert (document["payload"], document["result"]) == ({"n": 7, "raw": "eA=="}, {"sum": 3})
    assert '"n": 7' in towline("job", "show", handle.id).out


def test_show_waits_no_longer_than_asked_for(towline: Command, line: Line) -> None:
    [job] = line.push()
    done = towline("job", "show", job, "--wait", "200ms", "--json")
    assert (done.code, done.document["state"]) == (4, "READY")


def test_a_job_that_is_not_there_is_exit_code_1(towline: Command, line: Line) -> None:
    for command in (("job", "show"), ("dead", "show")):
        done = towline(*command, str(uuid.uuid4()))
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("towline: ")


def test_an_id_that_is_none_is_exit_code_2(towline: Command, line: Line) -> None:
    done = towline("job", "show", "7")
    assert done.code == 2
    assert "id: " in done.err


def test_list_filters_and_pages_and_shows_no_payload(towline: Command, line: Line) -> None:
    ids = line.push(5)
    line.reserve(2)
    listed = towline("job", "list", "--queue", line.queue, "--json").lines
    assert [job["id"] for job in listed] == ids
    assert all(job.keys() == LIST_KEYS for job in listed)
    ready = towline("job", "list", "-q", line.queue, "--state", "ready", "--json").lines
    assert len(ready) == 3
    held = ("--state", "leased", "--state", "scheduled", "--type", "Stack")
    assert len(towline("job", "list", "-q", line.queue, *held, "--json").lines) == 2
    first = towline("job", "list", "-q", line.queue, "--limit", "2", "--json")
    assert [job["id"] for job in first.lines] == ids[:2]
    assert "there are more: raise --limit" in first.err
    whole = towline("job", "list", "-q", line.queue, "--limit", "5")
    assert "there are more" not in whole.err
    assert whole.out.splitlines()[0].split() == [
        *("ID", "QUEUE", "TYPE", "STATE", "ATTEMPT", "PUSHED"),
        *("LAST", "FAILURE"),
    ]
    assert len(whole.out.splitlines()) == 6


def test_an_empty_list_is_no_failure(towline: Command, line: Line) -> None:
    done = towline("job", "list", "-q", line.queue)
    assert (done.code, done.out, done.err) == (0, "", "no jobs\n")
    assert towline("job", "list", "-q", line.queue, "--json").out == ""


def test_cancel_tells_what_came_of_each(towline: Command, line: Line) -> None:
    waiting, ended = line.push(2)
    [dead] = line.bury(priority=9)
    del ended
    missing = str(uuid.uuid4())
    done = towline("job", "cancel", waiting, dead, missing, "--json")
    assert done.code == 1
    assert "2 of 3 jobs could not be cancelled" in done.err
    assert [(each["id"], each["outcome"]) for each in done.lines] == [
        (waiting, "CANCELLED"),
        (dead, "ALREADY_ENDED"),
        (missing, "NOT_FOUND"),
    ]
    again = towline("job", "cancel", "-", stdin=f"{waiting}\n")
    assert (again.code, again.out) == (0, f"{waiting}  cancelled\n")


def test_wrong_options_are_refused(towline: Command, line: Line) -> None:
    assert "--state: 'gone' is none of" in towline("job", "list", "--state", "gone").err
    assert towline("job", "list", "--limit", "0").code == 2
    assert "--wait: 'x' is no duration" in towline("job", "show", "x", "--wait", "x").err
