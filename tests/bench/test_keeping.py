"""What is kept of measurements: whole parts, of a commit."""

from pathlib import Path

import pytest

import bench.__main__ as main
from bench.keeping import refusal
from bench.report import page
from bench.results import Figure, Part, Results


def new_part(*stores: str, failed: str = "", quick: bool = False, commit: str = "abc1234") -> Part:
    figures = [Figure(store, "broker", "Push", "1 x 8", "jobs/s", [1.0, 2.0]) for store in stores]
    part = Part("calls", commit, "2 cores", "today", quick, figures, asked="--only calls")
    part.failed.extend([failed] if failed else [])
    return part


def test_a_part_that_failed_half_way_does_not_take_the_place_of_one_that_has_more() -> None:
    whole = new_part("file", "sqlite")
    broken = new_part("file", failed="sqlite: stuck")
    assert "has more of sqlite" in refusal(broken, whole)
    assert refusal(broken, new_part("file")) == "", "it has all that is kept"
    assert refusal(broken, None) == "", "better than none"
    assert refusal(broken, new_part("sqlite", quick=True)) == "", "a quick one tells less"
    assert refusal(new_part("file"), whole) == "", "what the machine has not is no failure"


def test_a_contestant_that_failed_is_named() -> None:
    def brokers(*names: str) -> Part:
        figures = [Figure("brokers", name, "Push", "", "jobs/s", [1.0]) for name in names]
        return Part("brokers", "abc1234", "", "", quick=False, figures=figures, failed=["NATS"])

    assert refusal(brokers("Towline"), brokers("Towline", "NATS")).endswith("has more of NATS")


def test_a_part_without_figures_or_of_a_tree_with_changes_is_not_kept() -> None:
    assert refusal(new_part(), None) == "nothing was measured"
    assert "since the last commit" in refusal(new_part("file", commit="abc1234 with changes"), None)


def test_what_is_not_kept_is_said_and_the_kept_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Results] = []
    monkeypatch.setattr(main, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(page, "write", written.append)
    kept, whole = Results(), new_part("file", "sqlite")
    main.keep(whole, kept)
    main.keep(new_part("file", failed="sqlite: stuck"), kept)
    assert list(Results.load(tmp_path / "results.jsonl")) == [whole]
    assert len(written) == 1
    assert "calls is not kept: something failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ([], True),
        (["--quick", "--write"], True),
        (["--store", "file", "--write"], True),
        (["--quick"], False),
        (["--store", "file"], False),
        (["--no-write"], False),
    ],
)
def test_with_changes_that_are_not_committed_only_what_is_not_kept_is_measured(
    words: list[str],
    refused: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = []

    def measure(name: str, *_: object) -> Part:
        measured.append(name)
        return new_part("file")

    monkeypatch.setattr(main, "changed_files", lambda: [" M bench/turns.py"])
    monkeypatch.setattr(main, "measure", measure)
    monkeypatch.setattr(main, "keep", None)
    if refused:
        with pytest.raises(SystemExit, match="2"):
            main.main(["--only", "calls", *words])
        told = capsys.readouterr().err
        assert " M bench/turns.py" in told
        assert "--no-write" in told
    else:
        assert main.main(["--only", "calls", *words]) == 0
    assert measured == ([] if refused else ["calls"])


def test_a_section_says_how_it_was_asked_for_its_rounds_and_its_stores() -> None:
    part = new_part("file", "redis", quick=True)
    text = page.text(Results([part]), {})
    assert '\n    make bench ARGS="--only calls"\n' in text
    assert "Rounds: 2; stores: file, redis. Commit abc1234" in text
    assert "A quick run" in text
    assert "not kept" not in text


def test_how_a_part_was_asked_for_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measure(name: str, options: object, how: str) -> Part:
        asked.append(how)
        return new_part("file")

    monkeypatch.setattr(main, "measure", measure)
    main.main(["--only", "calls", "--store", "file", "--store", "redis", "--rounds", "3"])
    assert asked == ["--only calls --store file --store redis --rounds 3"]
    main.main(["--only", "calls", "--only", "room", "--quick"])
    assert asked[1:] == ["--only calls --quick", "--only room --quick"]


def test_a_part_that_was_kept_before_is_still_read(tmp_path: Path) -> None:
    place = tmp_path / "results.jsonl"
    place.write_text(
        '{"name": "calls", "commit": "1bca1b0", "machine": "2 cores", "when": "today",'
        ' "quick": false, "figures": [], "missing": ["no MariaDB"]}\n'
    )
    (old,) = Results.load(place)
    assert (old.missing, old.failed, old.asked) == (["no MariaDB"], [], "")
    assert "options it was asked for was not kept" in page.text(Results([old]), {})
