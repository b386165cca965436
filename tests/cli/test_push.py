"""`towline push`."""

import threading
import uuid
from pathlib import Path

from tests.cli.conftest import Command, Line


def test_push_prints_only_the_id_and_the_job_is_there(towline: Command, line: Line) -> None:
    done = towline("push", "Stack", '{"n": 1}', "--queue", line.queue, "--priority", "-3")
    assert (done.code, done.err) == (0, "")
    job_id = done.out.strip()
    assert str(uuid.UUID(job_id)) == job_id
    shown = towline("job", "show", job_id, "--json").document
    assert shown["payload"] == {"n": 1}
    assert shown["content_type"] == "application/json"
    assert (shown["type"], shown["queue"], shown["priority"]) == ("Stack", line.queue, -3)
    assert shown["state"] == "READY"


def test_json_comes_from_a_file_or_standard_input(
    towline: Command, line: Line, tmp_path: Path
) -> None:
    file = tmp_path / "arguments.json"
    file.write_text('{"from": "file"}')
    for argument, expected in ((f"@{file}", "file"), ("-", "input")):
        done = towline("push", "Stack", argument, "-q", line.queue, stdin='{"from": "input"}')
        shown = towline("job", "show", done.out.strip(), "--json").document
        assert shown["payload"] == {"from": expected}


def test_a_delayed_job_is_scheduled(towline: Command, line: Line) -> None:
    done = towline("push", "Stack", "-q", line.queue, "--delay", "1h30m", "--json")
    assert done.document["outcome"] == "CREATED"
    shown = towline("job", "show", done.document["id"], "--json").document
    assert shown["state"] == "SCHEDULED"
    assert shown["payload"] == {}


def test_a_second_push_of_an_id_or_key_stores_nothing_and_says_so(
    towline: Command, line: Line
) -> None:
    job_id = str(uuid.uuid4())
    options = ("-q", line.queue, "--id", job_id, "--unique-key", "k", "--json")
    assert towline("push", "Stack", *options).document["outcome"] == "CREATED"
    again = towline("push", "Stack", *options)
    assert again.document == {"id": job_id, "outcome": "EXISTING"}
    assert "nothing was stored" in again.err
    by_key = towline("push", "Stack", "-q", line.queue, "--unique-key", "k")
    assert (by_key.code, by_key.out) == (0, f"{job_id}\n")


def test_wait_prints_the_result(towline: Command, line: Line) -> None:
    helper = threading.Thread(target=_succeed_when_pushed, args=(line,))
    helper.start()
    done = towline("push", "Stack", "-q", line.queue, "--wait", "--wait-timeout", "30s")
    helper.join()
    assert done.code == 0
    assert done.out == '{\n  "sum": 3\n}\n'


def _succeed_when_pushed(line: Line) -> None:
    from towline.v1 import queue_service_pb2 as pb

    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=line.queue)])
    request.wait.FromSeconds(20)
    [lease] = line.stub.Reserve(request, timeout=25).leases
    ack = pb.Ack(lease_token=lease.lease_token, result=b'{"sum":3}')
    line.stub.Ack(pb.AckRequest(acks=[ack]), timeout=10)


def test_waiting_for_a_dead_job_fails_with_the_reason(towline: Command, line: Line) -> None:
    [dead] = line.bury()
    done = towline("push", "Stack", "-q", line.queue, "--id", dead, "--wait")
    assert (done.code, done.out) == (1, "")
    assert "is dead: REJECTED: ValueError: no such\\x1b[2J crate" in done.err


def test_waiting_no_longer_than_asked_for(towline: Command, line: Line) -> None:
    done = towline("push", "Stack", "-q", line.queue, "--wait", "--wait-timeout", "200ms")
    assert done.code == 4
    assert "has not ended: it is READY" in done.err


def test_what_the_broker_or_the_command_refuses_is_named(towline: Command, line: Line) -> None:
    for arguments, message in (
        (("Stack", '{"n": }'), "JSON: not valid JSON at line 1, column 7"),
        (("Sta ck",), "type: expected a name"),
        (("S" * 200,), "type: "),
        (("Stack", "--queue", "a b"), "Stack.queue: expected a name"),
        (("Stack", "--id", "7"), "Stack.id: expected a UUID"),
        (("Stack", "--priority", "x"), "--priority"),
        (("Stack", "--priority", "3000000000"), "Stack.priority: expected a whole number"),
        (("Stack", "--delay", "9999d"), "delay: "),
        (("Stack", "--wait-timeout", "1s"), "--wait-timeout: goes with --wait"),
        (("Stack", "--unique-key", "k" * 300), "unique_key: "),
        ((), "Missing argument 'TYPE'"),
    ):
        done = towline("push", *arguments, *(() if "--queue" in arguments else ("-q", line.queue)))
        assert (done.code, done.out) == (2, ""), arguments
        assert message in done.err
        assert done.err.startswith("towline: ")
        assert done.err.count("\n") == 1
    assert not any(queue["queue"] == line.queue for queue in towline("queues", "--json").lines)
