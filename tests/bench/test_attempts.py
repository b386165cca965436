"""What a machine has not, or what breaks, ends nothing else that is measured."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import bench.__main__ as main
from bench.attempts import attempt, each_store
from bench.options import Options
from bench.report import page
from bench.results import Figure, Part, Results
from bench.servers.debian import Missing
from bench.stores import STORES, Measured
from bench.turns import by_turns

OPTIONS = Options(quick=True, stores=("memory", "mariadb", "sqlite", "file"), rounds=1)


def new_part() -> Part:
    return Part("streams", "abc1234", "2 cores", "today", quick=True)


def test_a_store_that_is_not_here_or_breaks_is_told_of_by_its_name_and_the_others_go_on() -> None:
    def measure(store: str, part: Part, options: Options) -> None:
        part.figures.append(Figure(store, "broker", "Push", "", "jobs/s", [1.0]))
        if store == "mariadb":
            pytest.skip("no mariadb on this machine")
        if store == "sqlite":
            raise OSError("the disk is full\nand more")

    part = new_part()
    each_store(part, OPTIONS, measure)
    assert [figure.run for figure in part.figures] == list(OPTIONS.stores)
    assert part.missing == ["mariadb: no mariadb on this machine"]
    assert part.failed == ["sqlite: OSError: the disk is full"]


def test_only_the_stores_of_a_part_are_measured_in_the_order_in_which_they_were_asked_for() -> None:
    measured = []
    each_store(new_part(), OPTIONS, lambda store, *_: measured.append(store), ("file", "memory"))
    assert measured == ["memory", "file"]


def test_a_part_goes_on_without_a_store_whose_starter_skips(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(folder: Path) -> AbstractContextManager[Measured]:
        pytest.skip("no such server on this machine")

    monkeypatch.setitem(STORES, "mariadb", absent)
    part = main.measure("streams", Options(quick=True, stores=("mariadb",), rounds=1))
    assert part.missing == ["mariadb: no such server on this machine"]
    assert "not measured: mariadb: no such server" in capsys.readouterr().out


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_whoever_stops_it_is_obeyed(error: type[BaseException]) -> None:
    with pytest.raises(error), attempt(new_part(), "memory"):
        raise error


def test_a_server_that_was_never_brought_is_missing_and_has_not_failed() -> None:
    def start(server: str) -> None:
        if server == "rabbitmq":
            raise Missing("no rabbitmq")
        pytest.fail("no redis server here: CI needs it")

    part = new_part()
    for server in ("rabbitmq", "redis"):
        with attempt(part, server):
            start(server)
    assert part.missing == ["rabbitmq: no rabbitmq"]
    assert part.failed == ["redis: Failed: no redis server here: CI needs it"]


async def test_one_that_breaks_in_its_turn_is_out_and_the_others_have_all_of_theirs() -> None:
    asked, told = [], []

    async def ask(who: str) -> str:
        asked.append(who)
        if who == "b" and asked.count("b") == 2:
            raise TimeoutError("stuck")
        return who

    works = {who: lambda who=who: ask(who) for who in "abc"}
    found = await by_turns(
        2, works, warm=False, out=lambda who, error: told.append(f"{who}: {error}")
    )
    assert found == {"a": ["a", "a"], "c": ["c", "c"]}
    assert told == ["b: stuck"]


def test_the_page_tells_what_failed() -> None:
    part = new_part()
    part.failed.append("sqlite: the disk is full")
    assert "Failed, and not measured: sqlite: the disk is full." in page.text(Results([part]), {})
