"""`towline stats` and `towline workers`."""

from tests.cli.conftest import Command, Line


def test_stats_has_total_queues_types_and_the_broker(towline: Command, line: Line) -> None:
    line.push(3)
    line.succeed(2)
    done = towline("stats", "--queue", line.queue, "--json")
    assert done.code == 0
    stats = done.document
    assert stats.keys() == {"total", "queues", "types", "broker"}
    [queue] = stats["queues"]
    assert queue["queue"] == line.queue
    assert queue["depth"] == {"scheduled": 0, "ready": 1, "leased": 0, "dead": 0}
    assert stats["total"]["totals"]["pushed"] == 3
    assert stats["total"]["totals"]["completed"] == 2
    assert stats["total"]["success_rate"] == 1.0
    assert stats["total"]["processing"]["count"] == 2
    assert stats["total"]["processing"]["p95_seconds"] > 0
    assert stats["total"]["oldest_ready_age_seconds"] > 0
    assert [each["type"] for each in stats["types"]] == ["Stack"]
    assert stats["broker"]["driver"] == "sqlite"
    assert stats["broker"]["durability"] == "DURABLE"


def test_stats_for_people(towline: Command, line: Line) -> None:
    line.push(3)
    line.succeed()
    out = towline("stats").out
    assert "sqlite, durable" in out
    rows = {row.split()[0]: row.split() for row in out.splitlines() if row}
    assert rows[line.queue][1:8] == ["2", "0", "0", "0", "3", "1", "0"]
    assert rows["TYPE"][1:] == rows["QUEUE"][1:]
    assert rows["QUEUE"][:6] == ["QUEUE", "READY", "SCHEDULED", "LEASED", "DEAD", "PUSHED"]
    assert rows["Stack"][1:4] == rows["total"][1:4]


def test_reset_needs_a_yes(towline: Command, line: Line) -> None:
    line.push(1)
    assert towline("stats", "--reset").code == 2
    assert towline("stats", "--reset", "--yes", "--queue", line.queue).code == 2
    assert towline("stats", "--json").document["total"]["totals"]["pushed"] > 0
    after = towline("stats", "--reset", "--yes", "--json").document["total"]
    assert after["totals"]["pushed"] == 0
    assert after["depth"]["ready"] > 0


def test_workers_are_listed_and_told_to_stop(towline: Command, line: Line) -> None:
    worker = line.queue[-20:]
    line.push()
    line.reserve(worker_id=worker)

    def told() -> str:
        found = towline("workers", "list", "--json").lines
        [directive] = [each["directive"] for each in found if each["worker_id"] == worker]
        return str(directive)

    assert told() == "NONE"
    [row] = [row for row in towline("workers").out.splitlines() if worker in row]
    assert row.split()[:3] == [worker, line.queue, "1"]
    assert towline("workers", "stop", worker, "--quiet").code == 0
    assert told() == "QUIET"
    assert towline("workers", "stop", worker, "--resume").code == 0
    assert told() == "NONE"
    assert towline("workers", "stop", worker, "--json").document["directive"] == "STOP"
    assert told() == "STOP"


def test_wrong_use_of_workers_is_refused(towline: Command, line: Line) -> None:
    assert towline("workers", "stop", "no-such-worker").code == 1
    assert "--quiet, --resume" in towline("workers", "stop", "w", "--quiet", "--resume").err
    assert "behind 'stop'" in towline("workers", "--json", "stop", "w").err
