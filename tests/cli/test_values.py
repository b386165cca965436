"""What people type is understood, or refused by the name of its option."""

import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from towline.cli import values
from towline.cli.exits import UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("90", 90),
        ("0", 0),
        (" 5M ", 300),
    ],
)
def test_durations_are_read(text: str, expected: float) -> None:
    assert values.seconds(text, "--delay") == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "soon", "-5s", "5 s", "s", "5x", "1h-3m", "nan", "inf", "1e9"]
)
def test_what_is_no_duration_is_refused_by_the_name_of_the_option(text: str) -> None:
    with pytest.raises(UsageError, match=r"--delay: .*1h30m"):
        values.seconds(text, "--delay")


def test_a_duration_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--delay: .*longer than can be counted"):
        values.seconds("9" * 30 + "d", "--delay")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", NOW - timedelta(hours=1)),
        ("2026-02-01T00:00:00+00:00", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-02-01T01:00+01:00", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-02-01", datetime(2026, 2, 1).astimezone()),
    ],
)
def test_moments_are_read(text: str, expected: datetime) -> None:
    assert values.moment(text, "--since", NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "5000000d"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--since: "):
        values.moment(text, "--since", NOW)


def test_json_comes_from_the_argument_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"to": "ä@b.c"}'
    file = tmp_path / "arguments.json"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n")  # as some editors write it
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert values.json_argument(text) == text.encode()
    assert values.json_argument(f"@{file}") == text.encode()
    assert values.json_argument("-") == text.encode()


def test_broken_json_is_refused_with_its_position(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^JSON: .*line 1, column 8.*expecting value"):
        values.json_argument('{"to": }')
    file = tmp_path / "arguments.json"
    file.write_text('{\n  "to" 1\n}')
    with pytest.raises(UsageError, match=r"arguments\.json: .*line 2, column 8"):
        values.json_argument(f"@{file}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("NaN", "NaN is no JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ("@/no/such/file", "cannot read '/no/such/file': No such file"),
        ("\udcff{}", "byte 1 is not UTF-8"),
    ],
)
def test_unusable_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        values.json_argument(text)


def test_queues_come_in_strict_order_or_with_weights() -> None:
    assert values.weighted_queues(["b", "a"]) == ["b", "a"]
    assert values.weighted_queues(["b=3", "a=1"]) == {"b": 3, "a": 1}


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        (["a=3", "b"], "'b' has none"),
        (["a", "a"], "'a' is named twice"),
        (["a=0"], "at least 1"),
        (["a=x"], "at least 1"),
        (["a="], "at least 1"),
    ],
)
def test_impossible_weights_are_refused(queues: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"--queue: .*{message}"):
        values.weighted_queues(queues)


def test_ids_come_from_arguments_or_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert values.ids_argument(["b", "a", "b"]) == ["b", "a"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo  three\n"))
    assert values.ids_argument(["-"]) == ["one", "two", "three"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(UsageError, match="standard input holds none"):
        values.ids_argument(["-"])
