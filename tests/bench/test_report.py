"""What make bench has found is kept, judged and shown as it is."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import messages
from bench.parts import PARTS
from bench.report import page
from bench.report.charts import write_charts
from bench.report.flames import write_flames
from bench.report.goals import NAMES, factors, goals
from bench.report.tables import TABLES
from bench.results import Figure, Part, Results
from bench.stores import STORES
from bench.turns import by_turns
from towline.v1.queue_service_pb2 import PushRequest


def figure(who: str, what: str, *rounds: float, run: str = "file", shape: str = "") -> Figure:
    return Figure(run, who, what, shape, "jobs/s", list(rounds))


def part(name: str, *figures: Figure) -> Part:
    return Part(name, "abc1234", "2 cores", "today", quick=False, figures=list(figures))


@pytest.fixture
def results() -> Results:
    shape = "100 x 8"
    return Results(
        [
            part(
                "calls",
                figure("broker", "Push", 50.0, 60.0, 70.0, shape=shape),
                figure("echo", "Push", 100.0, 100.0, 100.0, shape=shape),
                figure("broker", "Reserve + Ack", 20.0, shape=shape),
                figure("echo", "Reserve + Ack", 100.0, shape=shape),
            ),
            part(
                "brokers",
                figure("Towline, file", "Push", 300.0, run="brokers", shape=shape),
                figure("beanstalkd, durable", "Push", 100.0, run="brokers", shape=shape),
            ),
            part(
                "start",
                figure("raw client", "Push to start, p50", 0.9, run="sqlite", shape="alone"),
            ),
            part(
                "scale",
                figure("queues", "Push", 1.0, shape="1"),
                figure("queues", "Ack", 1.0, shape="1"),
                figure("queues", "Push", 2.0, shape="10,000"),
                figure("queues", "Ack", 3.0, shape="10,000"),
            ),
        ]
    )


async def test_what_is_compared_is_asked_by_turns() -> None:
    asked = []

    async def ask(who: str) -> int:
        asked.append(who)
        return len(asked)

    found = await by_turns(2, {"a": lambda: ask("a"), "b": lambda: ask("b")})
    assert "".join(asked) == "ababab"
    assert found == {"a": [3, 5], "b": [4, 6]}, "the first round warms up"


def test_results_are_read_as_they_were_kept(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "kept" / "results.jsonl")
    assert list(Results.load(tmp_path / "kept" / "results.jsonl")) == list(results)
    assert list(Results.load(tmp_path / "none.jsonl")) == []


def test_goals_are_met_or_not_by_medians_of_the_same_run(results: Results) -> None:
    found = {goal.what: (goal.figure, goal.met) for goal in goals(results)}
    told = "share of the echo, 100 jobs a call, 8 clients"
    assert found[f"file: Push, {told}"] == (0.6, True)
    assert found[f"file: Reserve + Ack, {told}"] == (0.2, False)
    assert found["Towline, file: Push in bulk, against beanstalkd, durable"] == (3.0, True)
    assert found["SQLite: Push to start, p50, on an idle worker"] == (0.9, True)
    assert found["file: cost with 10,000 queues"] == (2.5, False), "at most twice"
    assert factors(results, "queues", "10,000") == {"file": 2.5}


def test_the_page_is_written_where_it_has_a_place_for_it(results: Results, tmp_path: Path) -> None:
    there = tmp_path / "page.md"
    there.write_text(f"before\n{page.BEGIN}\nof an earlier run\n{page.END}\nafter\n")
    page.write(results, there)
    first = there.read_text()
    page.write(results, there)
    assert there.read_text() == first
    assert first.startswith("before\n")
    assert first.endswith(f"{page.END}\nafter\n")
    assert "of an earlier run" not in first
    assert "| file | Push | 100 x 8 | 0.60 |" in first
    assert "abc1234" in first
    there.write_text("no place")
    with pytest.raises(ValueError, match="needs two lines"):
        page.write(results, there)


def test_dispatch_is_shown_beside_every_client_of_rabbitmq() -> None:
    def rate(who: str, jobs: float) -> Figure:
        return figure(who, "One at a time", jobs, run="brokers", shape="1 x 32")

    ours = rate("Towline SDK, file", 60.0)
    theirs = (rate("RabbitMQ quorum, by threads", 30.0), rate("RabbitMQ classic, durable", 80.0))
    found = part("brokers", ours, *theirs)
    told = TABLES["brokers"](Results([found]), found)
    assert "| Towline SDK, file | 32 |  | 2.00 | 0.75 |  |" in told


def test_charts_are_images(results: Results, tmp_path: Path) -> None:
    written = write_charts(results, NAMES, tmp_path)
    assert set(written) == {"calls", "brokers"}
    write_flames(tmp_path / "flames.svg", "a & b", ["f (x.py:1);g (y.py:2) 3", "f (x.py:9) 1"])
    for name in ("flames.svg", *written["calls"], *written["brokers"]):
        assert ET.parse(tmp_path / name).getroot().tag.endswith("svg")
    assert "g (y.py): 75.0%" in (tmp_path / "flames.svg").read_text()


def test_every_part_and_store_has_its_name_on_the_page() -> None:
    assert set(PARTS) == set(TABLES) == set(page.TITLES)
    assert set(NAMES) == set(STORES)


def test_jobs_that_are_pushed_all_have_ids_of_their_own() -> None:
    makers = [messages.Pushes(100, 10) for _ in range(20)]
    jobs = [
        job
        for maker in makers
        for _ in range(2)
        for job in PushRequest.FromString(maker.next()).jobs
    ]
    assert len({job.id for job in jobs}) == len(jobs) == 4_000
    assert {len(job.id) for job in jobs} == {36}
