"""What pages show of what is printed, stored or thrown is so; and drawings use the words that there
are."""

import re
import struct
from itertools import pairwise

import pytest

from tests.documentation.scene import Scene
from tests.documentation.shell import calls
from tests.support.pages import blocks
from towline import InvalidJob, Job, Registry
from towline.v1.job_pb2 import JobState
from towline_broker.drivers.acknowledged import sealed
from towline_broker.drivers.file import mark, segments
from towline_broker.drivers.registry import check_kind

#: Lines that are shown are printed, but for numbers; where the page has an ellipsis there is more.
NUMBER = re.compile(r"\d[\d,.]*")


def printed(page: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command of the block prints the lines that follow it, up to the next one."""
    (text,) = blocks(page, "console")
    first, *_ = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    command, *lines = first.splitlines()
    [call] = calls(command)
    done = scene.run(call, monkeypatch, as_typed=True)
    assert done.code == 0, done.err
    said = [like(line) for line in (done.out + done.err).splitlines()]
    places = [said.index(like(line)) for line in lines if line != "..."]
    assert all(before < after for before, after in pairwise(places))
    assert "..." in lines or len(said) == len(lines)


def like(line: str) -> str:
    return NUMBER.sub("0", line).strip()


@pytest.mark.parametrize("page", ["docs/commands.md", "docs/configuration.md"])
def test_a_command_prints_what_is_shown(
    page: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(page, scene, monkeypatch)


def test_check_says_what_is_shown(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("docs/backup.md", "console")
    command, line = text.splitlines()
    [call] = calls(command.removeprefix("$ "))
    said = scene.run(call, monkeypatch).err
    assert like(said).startswith(like(line.partition(" jobs:")[0]))


def test_the_export_that_is_shown_goes_in_and_comes_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = blocks("docs/backup.md", "json")
    (scene.folder / "in.jsonl").write_text(shown)
    for words in ("import in.jsonl", "export out.jsonl"):
        [call] = calls(f"towline-broker {words} --store sqlite:///exported.db")
        assert scene.run(call, monkeypatch).code == 0
    found = (scene.folder / "out.jsonl").read_text().splitlines()
    assert len(found) == 4
    assert found[2] == shown.splitlines()[2]


def test_an_option_of_elsewhere_is_answered_so() -> None:
    (shown,) = blocks("docs/coming-from.md", "text")
    with pytest.raises(InvalidJob) as raised:
        type("SendEmail", (Job,), {"max_retries": 3}, registry=Registry())
    assert f"InvalidJob: {raised.value}\n" == shown


def test_urls_of_postgresql_may_look_so() -> None:
    (shown,) = blocks("docs/postgresql.md", "text")
    url = shown.strip().replace("option=value&option=value", "lanes=2&timeout=3")
    assert check_kind(url)


SIZES = {"u32": 4, "u64": 8, "8 bytes": 8, '"TWLJOURN"': 8, '"TWLF"': 4, '"TWLA"': 4, "body": 0}


def size_of(line: str) -> int:
    fields = [field.strip() for field in line.partition("  ")[2].split("|")]
    kinds = [next(kind for kind in SIZES if field.endswith(kind)) for field in fields]
    return sum(SIZES[kind] for kind in kinds)


def test_files_of_a_journal_are_laid_out_so() -> None:
    layout, mark_of = blocks("docs/file-store.md", "text")
    header, frame = layout.splitlines()
    assert size_of(header) == segments.HEADER_SIZE
    assert size_of(frame) == segments.FRAME_SIZE
    number = struct.unpack_from("<Q", segments.Header(7, 1, 99, b"s" * 8, b"t" * 8).encode(), 16)
    assert number == (7,)
    assert size_of(mark_of) == len(sealed(mark._CONTENT.pack(1)))


def test_drawings_name_states_and_services_that_there_are() -> None:
    states = {name.removeprefix("JOB_STATE_") for name in JobState.keys()}  # noqa: SIM118 -- no dict
    (life,) = blocks("docs/concepts.md", "text")
    drawn = set(re.findall(r"[A-Z]{4,}", life))
    assert drawn == states - {"UNSPECIFIED"}
    (parts,) = blocks("README.md", "text")
    from towline.v1 import admin_service_pb2_grpc, dead_letter_service_pb2_grpc
    from towline.v1 import queue_service_pb2_grpc as queues

    modules = (admin_service_pb2_grpc, dead_letter_service_pb2_grpc, queues)
    names = {name for module in modules for name in vars(module)}
    for service in re.findall(r"\w+Service", parts):
        assert f"{service}Stub" in names
    for call in ("Push", "Reserve", "Heartbeat", "Ack", "Nack"):
        assert call in parts
        assert hasattr(queues.QueueServiceServicer, call)
