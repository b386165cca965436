"""`towline queues`, `pause`, `resume`, `purge` and `drain`."""

import threading
import time

from tests.cli.conftest import Command, Line


def depth(towline: Command, line: Line) -> dict[str, int]:
    for queue in towline("queues", "--json").lines:
        if queue["queue"] == line.queue:
            found: dict[str, int] = queue["depth"]
            return found
    raise AssertionError(f"no queue {line.queue}")


def test_queues_shows_each_with_its_depth(towline: Command, line: Line) -> None:
    line.bury()
    line.push(3)
    line.push(2, delay=3600)
    line.reserve(1)
    assert depth(towline, line) == {"scheduled": 2, "ready": 2, "leased": 1, "dead": 1}
    [shown] = [row for row in towline("queues").out.splitlines() if line.queue in row]
    assert shown.split()[1:6] == ["2", "2", "1", "1", "open"]


def test_pause_and_resume_say_whether_they_changed_anything(towline: Command, line: Line) -> None:
    line.push()
    assert towline("pause", line.queue).out == f"{line.queue} is paused\n"
    assert towline("pause", line.queue).out == f"{line.queue} was paused already\n"
    assert "paused" in next(row for row in towline("queues").out.splitlines() if line.queue in row)
    assert towline("resume", line.queue, "--json").document == {
        "queue": line.queue,
        "paused": False,
        "changed": True,
    }
    assert towline("resume", line.queue).out == f"{line.queue} was not paused\n"


def test_an_unknown_queue_is_exit_code_1(towline: Command, line: Line) -> None:
    for command in ("pause", "resume", "purge", "drain"):
        done = towline(command, "no-such-queue")
        assert (done.code, done.out) == (1, ""), command
        assert "no-such-queue" in done.err
    assert towline("stats", "--queue", "no-such-queue").code == 1
    assert towline("pause", "no such queue").code == 2


def test_purge_asks_first(towline: Command, line: Line) -> None:
    line.push(3)
    refused = towline("purge", line.queue)
    assert refused.code == 2
    assert "Remove 3 waiting jobs" in refused.err
    assert "add --yes, or --dry-run" in refused.err
    dry = towline("purge", line.queue, "--dry-run")
    assert dry.out == f"3 waiting jobs would be removed from {line.queue}\n"
    assert depth(towline, line)["ready"] == 3


def test_purge_removes_what_waits_and_nothing_else(towline: Command, line: Line) -> None:
    line.bury()
    line.push(1, priority=1)
    line.reserve(1)
    line.push(2, delay=3600)
    line.push_batch(2300 - 2)
    done = towline("purge", line.queue, "--yes", "--json")
    assert done.document == {
        "queue": line.queue,
        "matched": 2300,
        "purged": 2300,
        "dry_run": False,
    }
    assert depth(towline, line) == {"scheduled": 0, "ready": 0, "leased": 1, "dead": 1}
    assert towline("purge", line.queue).out == f"0 waiting jobs removed from {line.queue}\n"


def test_drain_waits_until_the_queue_is_empty(towline: Command, line: Line) -> None:
    line.push(2)
    worked: list[float] = []

    def work() -> None:
        time.sleep(0.3)  # drain is to find the queue full, and empty some polls later
        worked.append(time.monotonic())
        line.succeed(2)

    helper = threading.Thread(target=work)
    helper.start()
    begun = time.monotonic()
    done = towline("drain", line.queue, "--wait-timeout", "30s", "--json")
    ended = time.monotonic()
    helper.join()
    assert done.code == 0
    assert done.document["empty"] is True
    assert ended > worked[0]
    assert 0 < done.document["seconds"] <= ended - begun


def test_drain_gives_up_in_time_and_says_why(towline: Command, line: Line) -> None:
    line.push(1, delay=3600)
    assert towline("drain", line.queue, "--ready-only").code == 0
    line.push(1)
    towline("pause", line.queue)
    done = towline("drain", line.queue, "--wait-timeout", "300ms")
    assert (done.code, done.out) == (4, "")
    assert "is paused: its jobs wait until: towline resume" in done.err
    assert "still has 2 jobs" in done.err
