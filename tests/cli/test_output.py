"""What came from a broker cannot write to the terminal by itself, and pipes get plain lines."""

import json

import pytest

from towline.cli import output
from towline.cli.exits import UsageError
from towline.cli.formats import span
from towline.cli.job_views import opaque, readable


def test_control_characters_are_escaped() -> None:
    assert output.clean("a\x1b[2Jb\tc\nd\x07") == "a\\x1b[2Jb\\tc d\\x07"
    assert output.clean("Überfall 🚢") == "Überfall 🚢"


def test_a_pipe_gets_aligned_text_without_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (output.Column("QUEUE"), output.number("READY"), output.Column("WHY", shrinks=True))
    output.table(columns, [["mail", "7", "x" * 300], ["b", "1,000", "\x1b[31m"]])
    assert capsys.readouterr().out.splitlines() == [
        "QUEUE  READY  WHY",
        "mail       7  " + "x" * 300,
        "b      1,000  \\x1b[31m",
    ]


def test_a_pipe_gets_json_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"a": [1, None], "b": "ä"})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"a": [1, None], "b": "ä"}


def test_without_a_terminal_a_question_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(UsageError, match="--yes"):
        output.confirm("Remove 3 jobs?", yes=False)
    output.confirm("Remove 3 jobs?", yes=True)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0.00012, "120 us"),
        (0.0125, "12.5 ms"),
        (3.21, "3.21 s"),
        (59.99, "60 s"),
        (61, "1m01s"),
        (7500, "2h05m"),
        (200_000, "2d07h"),
    ],
)
def test_durations_are_written_for_people(seconds: float | None, expected: str) -> None:
    assert span(seconds) == expected


def test_a_payload_is_shown_as_what_it_is() -> None:
    assert opaque("payload", b'{"a":1}', "application/json; charset=utf-8") == {
        "payload": {"a": 1},
        "payload_base64": None,
    }
    assert opaque("payload", b"\xff", "image/png")["payload_base64"] == "/w=="
    assert opaque("payload", b"{", "application/json")["payload_base64"] == "ew=="
    assert opaque("payload", b"", "") == {"payload": None, "payload_base64": None}
    assert readable(b"plain", "text/plain") == "plain"
    assert readable(b"\xff\x00", "image/png").startswith("2 bytes of image/png")
    assert json.loads(readable(b'{"a":1}', "application/json")) == {"a": 1}
