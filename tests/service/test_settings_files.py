"""A file of settings tells the line of each value, and why it cannot be read."""

from pathlib import Path

import pytest

from towline_broker.server.configuration.settings_file import read_file
from towline_broker.server.exits import ConfigError

TOML = '''# Settings
store = "memory:"
listen = """
127.0.0.1:\\
7480"""

[limits]   # bounds
# of lists
batch = 5
core.x = 1

[queues."a.*"]
store = "x"
retry = [
  1,

  # two
  2,
]
[queues]
b = {store = "y", lease = 3}
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("store",), 2),
        (("listen",), 3),
        (("limits",), 7),
        (("limits", "batch"), 9),
        (("limits", "core", "x"), 10),
        (("queues",), 12),
        (("queues", "a.*", "store"), 13),
        (("queues", "a.*", "retry"), 14),
        (("queues", "b", "lease"), 21),
    ],
)
def test_a_toml_file_tells_the_line_of_a_value(
    place: tuple[str, ...], line: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(TOML)
    assert read_file(path).line_of(place) == line


YAML = """\
# Settings
store: "memory:"
limits:
    batch: 5
    wait: >
        1m
queues: {"a.*":
  {store: x}, b: {}}
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("store",), 2),
        (("limits",), 3),
        (("limits", "wait"), 5),
        (("queues", "a.*"), 7),
        (("queues", "a.*", "store"), 8),
        (("queues", "b"), 8),
        (("queues", "c"), None),
    ],
)
def test_so_does_one_of_yaml(place: tuple[str, ...], line: int | None, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(YAML)
    assert read_file(path).line_of(place) == line


def test_so_does_one_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"store": "memory:",\n "limits": {\n  "batch": 1, "wait":\n 2}}')
    file = read_file(path)
    assert [file.line_of(("limits", name)) for name in ("batch", "wait")] == [3, 3]
    path.write_text('{\n\t"limits": {\n\t"batch": 1}}')
    assert read_file(path).line_of(("limits", "batch")) is None  # tabs are nothing for YAML


def test_the_line_is_found_soon_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("".join(f'[queues.q{number}]\nstore = "x"\n\n' for number in range(300)))
    assert read_file(path).line_of(("queues", "q250", "store")) == 752


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.toml", b"store = \xff", "it is not UTF-8 text"),
        ("a.json", b'{"a": 1, "a": 2}', "'a' stands in it twice"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.yaml", b"a: 1\nb: {c: 2, c: 3}", "'c' stands in it twice (at line 2)"),
        ("a.yaml", b"a: 2020-13-45", "month must be in 1..12"),
        ("a.yaml", b"store: 'redis://:secret@h", "quoted scalar"),
        ("a.json", b'{"store": "redis://:secret@h"', "line 1"),
        ("a.toml", b'store = "redis://:secret@h', "Unterminated string"),
        ("a.toml", b"#" * (5 << 20), "larger than 4 MiB"),
    ],
)
def test_why_a_file_cannot_be_read_is_told_and_nothing_of_what_it_holds(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    told = str(caught.value)
    assert str(path) in told
    assert reason in told
    assert "secret" not in told
    assert "\n" not in told


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").mkdir()
    with pytest.raises(ConfigError, match=r"a\.toml: Is a directory"):
        read_file(tmp_path / "a.toml")
