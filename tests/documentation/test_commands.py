"""The commands of each page are commands, and ours do what they are said to do.

Ours are run: against a broker, or on stores, in a folder that has what the pages speak of. Those
that stay until they are stopped are read, with all their settings. What else is typed has to be
known here, and be a script.
"""

import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.documentation.scene import Scene
from tests.documentation.shell import Call, calls
from tests.documentation.takers import taken_by
from tests.support.pages import ROOT, Block, pages
from towline.cli.app import build
from towline_broker.cli import app

BLOCKS = taken_by(__file__)
OURS: dict[str, Any] = {"towline": get_command(build()), "towline-broker": get_command(app)}

#: Programs of the reader's machine: that a line with them is one for a shell is all that is asked.
#: Tests in tests/packaging look at those for containers, clusters and systemd, the examples are
#: run in tests/examples and tests/interop, `openssl` and `buf` in tests/service and tests/interop.
OTHERS = [
    ".", "buf", "cat", "cp", "curl", "docker", "echo", "export", "flask", "gunicorn", "install",
    "jq", "kubectl", "make-secrets", "mkdir", "mv", "node", "npm", "openssl", "printf", "pytest",
    "sort", "systemctl", "systemd-sysusers", "uniq", "uvicorn",
]  # fmt: skip
#: They run what follows as another user.
WRAPPERS = ("runuser", "systemd-run")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_commands_of_a_block_are_commands(
    block: Block, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = block.text
    if block.language == "cron":
        text = re.sub(r"^(\S+ ){5} *", "", text).replace("\\%", "%")
    read = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert read.stderr == ""
    for call in calls(text):
        if call.program in WRAPPERS:
            ours = next(n for n, word in enumerate(call.words) if word.endswith("/towline-broker"))
            call = Call(call.variables, call.words[ours:])
        if call.program in OURS:
            run(call, scene, monkeypatch)
        elif call.program not in OTHERS:
            assert call.program in CHECKS, f"what is {call.program!r}? see {Path(__file__).name}"
            CHECKS[call.program](call)


def run(call: Call, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    command = call.arguments[0] if call.arguments else ""
    if command in ("worker", "top"):
        settings = {"module": "app.jobs"}  # as a file may have it
        OURS["towline"].commands[command].make_context(
            command, call.arguments[1:], default_map=settings
        )
        return
    if command == "serve":
        words = [call.program, "config", "check", *call.arguments[1:]]
        call = Call(call.variables, words)
    if any(name.endswith("_COMPLETE") for name in call.variables):
        assert call.words in (["towline"], ["towline-broker"])
        return
    done = scene.run(call, monkeypatch)
    # How the machine of the test is, and how long its jobs wait, is its own affair.
    answers = (0, 1) if command in ("doctor", "check") else (0,)
    assert done.code in answers, f"{call}\n{done.out}\n{done.err}"


# --- programs that are about ours -----------------------------------------------------------------


def installs(call: Call) -> None:
    """``pip install``: the extras of ours that it names are there."""
    assert call.arguments[0] == "install"
    for word in call.arguments[1:]:
        for folder, extras in re.findall(r"(towline(?:[-_]broker)?)[^\[]*\[([\w,]+)\]", word):
            project = ROOT / ("client" if folder == "towline" else "broker") / "pyproject.toml"
            offered = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
            assert set(extras.split(",")) <= set(offered), word
        if word.startswith("./"):
            assert (ROOT / word.partition("[")[0]).exists()


def makes(call: Call) -> None:
    """``make``: the target is there, and what runs it knows the options of ``ARGS``."""
    target, variables = "help", {}
    for word in call.arguments:
        name, equals, value = word.partition("=")
        if equals:
            variables[name] = value
        else:
            target = word
    rule = re.search(rf"^{target}:(.*\n(?:\t.*\n)*)", (ROOT / "Makefile").read_text(), re.M)
    assert rule, f"no target {target}"
    assert all(f"${name}" in rule[1] or f"$({name})" in rule[1] for name in variables)
    module = re.search(r"-m ((?:bench|tests)[\w.]*)", rule[1])
    if module and "ARGS" in variables:
        knows_options(module[1], variables["ARGS"].split())


def runs_module(call: Call) -> None:
    """``python -m`` and ``manage.py``."""
    match call.arguments:
        case ["-m", "venv", *_]:
            pass
        case ["-m", name, *words]:
            knows_options(name, words)
        case ["manage.py", *_]:
            pass  # tests/examples/test_django_app.py
        case _:
            raise AssertionError(call)


def knows_options(module: str, words: list[str]) -> None:
    path = Path(*module.split("."))
    found = [path.with_suffix(".py"), path / "__main__.py", "examples" / path.with_suffix(".py")]
    source = next(ROOT / each for each in found if (ROOT / each).is_file())
    text = "".join(each.read_text() for each in source.parent.glob("*.py"))
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in text, f"{module} knows no {word}"


def reads_django_options(call: Call) -> None:
    from towline.contrib.django.management.commands.towline_worker import Command

    Command().create_parser("manage.py", call.arguments[0]).parse_args(call.arguments[1:])


CHECKS: dict[str, Callable[[Call], None]] = {
    "pip": installs,
    "make": makes,
    "python": runs_module,
    "python3": runs_module,
    "manage.py": reads_django_options,
}


# --- commands within sentences --------------------------------------------------------------------

WITHIN = re.compile(r"`((?:towline|towline-broker) [^`\n…]+)`")


@pytest.mark.parametrize("page", [page for page in pages() if page != "CHANGELOG.md"])
def test_every_command_in_a_sentence_has_the_options_that_are_named(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for call in [call for found in WITHIN.findall(text) for call in calls(found)]:
        command = OURS.get(call.program)
        for word in call.arguments:
            name = word.partition("=")[0]
            if command is None:
                continue
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
            elif re.fullmatch(r"--?[a-z][a-z-]*", name):
                known = {option for each in command.params for option in each.opts}
                assert name in {*known, "--help", "--install-completion"}, call
