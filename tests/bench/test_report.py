"""What make bench has found is kept, judged and shown as it is."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import messages
from bench.parts import PARTS
from bench.parts.scale import STORES_HERE
from bench.report import page, reasons
from bench.report.bounds import Bound, bound
from bench.report.charts import write_charts
from bench.report.flames import write_flames
from bench.report.goals import NAMES, SCALED, Goal, factors, goals
from bench.report.tables import TABLES, of_part
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
    assert factors(results, "file", "queues") == {"1": 1.0, "10,000": 2.5}


def test_a_ratio_is_the_median_of_those_of_each_round() -> None:
    # The machine was three times as slow in the second round, for both.
    ours, theirs = (
        figure("broker", "Push", 60.0, 10.0, 50.0),
        figure("echo", "Push", 90.0, 30.0, 60),
    )
    assert ours.ratios(theirs) == pytest.approx([2 / 3, 1 / 3, 5 / 6])
    assert ours.against(theirs) == pytest.approx(2 / 3)
    assert ours.against(figure("echo", "Push", 200.0, 100.0)) == pytest.approx(1 / 3), "no pairs"


def test_goals_and_tables_take_ratios_by_round() -> None:
    shape = "100 x 8"
    rates = {"broker": (60.0, 10.0, 50.0), "echo": (90.0, 30.0, 60.0), "bare": (60.0, 20.0, 25.0)}
    calls = part("calls", *(figure(who, "Push", *each, shape=shape) for who, each in rates.items()))
    results = Results([calls])
    assert ".67 | 1.00 |" in of_part(results, calls)
    (shown,) = [
        goal.figure
        for goal in goals(results)
        if goal.what.startswith("file: Push, share of the e") and "100 jobs" in goal.what
    ]
    assert shown == pytest.approx(2 / 3)


def test_a_goal_that_nobody_has_measured_is_told_as_such() -> None:
    nothing = goals(Results())
    assert len(nothing) > 50
    assert {goal.cells()[3] for goal in nothing} == {"not measured"}
    assert not any(goal.met for goal in nothing)


def test_every_goal_of_what_was_kept_has_one_row(results: Results) -> None:
    names = [goal.what for goal in goals(results)]
    assert len(names) == len(set(names))
    assert names == [goal.what for goal in goals(Results())]
    assert set(SCALED) == set(STORES_HERE)


def test_reserve_and_ack_of_one_job_is_held_against_one_call_and_against_two() -> None:
    shape = "1 x 64"
    calls = part(
        "calls",
        figure("broker", "Reserve + Ack", 30.0, shape=shape),
        figure("echo", "Reserve + Ack", 50.0, shape=shape),
        figure("echo", "Push", 100.0, shape=shape),
    )
    found = [goal for goal in goals(Results([calls])) if goal.figure is not None]
    assert [(goal.figure, goal.met) for goal in found] == [(0.3, False), (0.6, True)]
    assert "the echo's Push, a call for each job" in found[0].what
    assert "the echo's own Reserve + Ack" in found[1].what
    table = of_part(Results([calls]), calls)
    assert "share of the echo's same calls" in table
    assert "| file | Reserve + Ack | 1 x 64 | 0.60 |" in table


def test_libraries_are_held_against_as_many_processes_of_ours() -> None:
    rates = {
        "Towline, threads": 100.0,
        "Towline, process pool of 2": 60.0,
        "Towline, 2 processes with threads": 180.0,
        "Celery, threads": 10.0,
        "Celery, prefork of 2": 20.0,
    }
    found = part(
        "libraries",
        *(figure(who, "No-op jobs", rate, run="libraries") for who, rate in rates.items()),
    )
    results = Results([found])
    lines = of_part(results, found).splitlines()
    assert "| Celery, threads | 1 | 10.0 x |" in "\n".join(lines)
    assert "| Celery, prefork of 2 | 2 | 9.0 x |" in "\n".join(lines)
    shown = {goal.what: goal.figure for goal in goals(results) if goal.figure is not None}
    assert shown == {
        "No-op jobs, one process, against Celery, threads": 10.0,
        "No-op jobs, process pool of 2, against Celery, prefork of 2": 3.0,
    }


def test_a_goal_that_is_missed_names_the_decision_that_tells_why() -> None:
    found = Goal("a", 1.0, 0.5, why="0051")
    assert found.cells()[4] == "why: [0051](decisions/0051-a-call-with-one-job.md)"
    assert Goal("a", 1.0, 2.0, why="0051").cells()[4] == "", "it is met"
    assert Goal("a", 1.0, 0.5).cells()[4] == "", "no decision tells"
    for goal in goals(Results()):
        assert goal.why in reasons.link(goal.why), goal


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


def test_the_profile_tells_which_share_the_processor_allows() -> None:
    shape = "1 x 64"
    took = {
        "empty server": 30.0,
        "its clients": 20.0,
        "whole broker": 60.0,
        "clients of the broker": 25.0,
        "server of the store": 15.0,
        "broker under py-spy": 90.0,
        "of it ours": 75.0,
    }
    figures = [figure(who, "Push", each, run="redis", shape=shape) for who, each in took.items()]
    found = part("profile", *figures)
    assert bound(found, "redis", "Push", shape) == Bound(ours=50, share=0.5, alone=1.0)
    assert bound(part("profile", *figures[1:]), "redis", "Push", shape) is None
    assert "| *share of the echo, by the processor* | 0.50 |" in of_part(Results([found]), found)


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
