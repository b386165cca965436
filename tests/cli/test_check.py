"""`towline check`: exit code 1 and the reason where a limit is passed, 0 where all is well."""

import pytest

from tests.cli.conftest import Command, Line


def test_without_limits_it_asks_whether_the_broker_answers(towline: Command, line: Line) -> None:
    line.push(1)
    done = towline("check")
    assert (done.code, done.out) == (0, "all is well\n")
    done = towline("check", "--url", "127.0.0.1:1")
    assert done.code == 3
    assert "no broker can be reached" in done.err


def test_everything_within_its_limits_is_well(towline: Command, line: Line) -> None:
    line.push(3)
    line.succeed()
    limits = ("--max-ready", "2", "--max-age", "1h", "--max-dead", "0", "--max-running", "1h",
              "--min-success", "1", "--min-workers", "0")  # fmt: skip
    assert towline("check", "--queue", line.queue, *limits).code == 0


@pytest.mark.parametrize(
    ("option", "limit", "what"),
    [
        ("--max-ready", "1", "ready"),
        ("--max-age", "0s", "age of the oldest"),
        ("--max-dead", "0", "dead"),
        ("--max-running", "0s", "running"),
        ("--min-success", "0.9", "success"),
        ("--min-workers", "99", "workers"),
    ],
)
def test_each_limit_that_is_passed_is_told(
    towline: Command, line: Line, option: str, limit: str, what: str
) -> None:
    line.bury(1)
    line.push(3)
    line.reserve(1)
    done = towline("check", "--queue", line.queue, option, limit, "--json")
    assert done.code == 1
    assert not done.document["ok"]
    assert [each["check"] for each in done.document["problems"]] == [what]
    done = towline("check", "--queue", line.queue, option, limit)
    assert done.code == 1
    assert what in done.out


def test_a_paused_queue_with_jobs_is_a_problem(towline: Command, line: Line) -> None:
    line.push(1)
    towline("pause", line.queue)
    done = towline("check", "--queue", line.queue, "--max-dead", "0")
    assert done.code == 1
    assert "paused" in done.out
