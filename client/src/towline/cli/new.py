"""`towline new`: files to begin with."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from towline.cli import output
from towline.cli.exits import UsageError
from towline.cli.loading import LEFT_OUT
from towline.cli.options import examples
from towline.errors import InvalidJob
from towline.jobs import RESERVED_NAMES
from towline.options import POLICY_NAMES, check_name

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Write files to begin with.",
    epilog=examples("towline new job SendWelcomeEmail to:str"),
)


@dataclass(frozen=True)
class _Type:
    """A type that a field may be given, an example of a value, and where both come from."""

    annotation: str
    example: str
    source: str = ""


_TYPES = {
    "str": _Type("str", '"text"'),
    "int": _Type("int", "1"),
    "float": _Type("float", "1.5"),
    "bool": _Type("bool", "True"),
    "bytes": _Type("bytes", 'b"bytes"'),
    "date": _Type("date", "date(2026, 1, 31)", "from datetime import date"),
    "datetime": _Type(
        "datetime", "datetime(2026, 1, 31, tzinfo=UTC)", "from datetime import UTC, datetime"
    ),
    "timedelta": _Type("timedelta", "timedelta(minutes=5)", "from datetime import timedelta"),
    "Decimal": _Type("Decimal", 'Decimal("9.99")', "from decimal import Decimal"),
    "UUID": _Type("UUID", "UUID(int=1)", "from uuid import UUID"),
    "list[str]": _Type("list[str]", '["text"]'),
    "list[int]": _Type("list[int]", "[1]"),
}

_IMPORTED = frozenset({"Client", "Job", "current_job", "job"}) | frozenset(
    re.findall(r"\w+", " ".join(of.source.partition(" import ")[2] for of in _TYPES.values()))
)
"""Names that the written files use for something else."""

_PATH = re.compile(r"[^\W\d]\w*(/[^\W\d]\w*)*")


@app.command(
    "job",
    epilog=examples(
        "towline new job SendWelcomeEmail to:str",
        "towline new job ImportOrders path:str --queue imports --folder app/jobs",
        "towline new job build_report month:date --function",
    ),
)
def new_job(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the class, or of the function: SendEmail.")
    ],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME:TYPE",
            show_default=False,
            help=f"What it works on. TYPE: {', '.join(_TYPES)}.",
        ),
    ] = None,
    folder: Annotated[
        str, typer.Option("--folder", metavar="DIR", help="The package that it goes into.")
    ] = "jobs",
    tests: Annotated[
        str, typer.Option("--tests", metavar="DIR", help="Where its test goes.")
    ] = "tests",
    queue: Annotated[
        str, typer.Option("--queue", "-q", metavar="QUEUE", help="The line that it waits in.")
    ] = "default",
    function: Annotated[
        bool, typer.Option("--function", help="A function with @job instead of a class.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that exist.")] = False,
) -> None:
    """Write a job and its test.

    The test needs pytest and no broker. Run the jobs of the package with: towline worker jobs
    """
    job = _Job(
        name=_name(name, function=function),
        fields=_fields(fields or ()),
        queue=_queue(queue),
        folder=_folder(folder),
        function=function,
    )
    files = {
        Path(folder, f"{job.module}.py"): job.source(),
        Path(tests, f"test_{job.module}.py"): job.test(),
    }
    standing = [str(path) for path in files if path.exists()]
    if standing and not force:
        raise UsageError(
            f"{' and '.join(standing)}: exists already; nothing was written. Choose another NAME, "
            "or add --force"
        )
    for package in _packages(Path(folder)):
        if not package.exists():
            files[package] = ""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        output.say(f"wrote {path}")
    output.note(f"test it with: python -m pytest {Path(tests, f'test_{job.module}.py')}")
    output.note(f"run it with: towline worker {job.folder.replace('/', '.')}")


@dataclass(frozen=True)
class _Job:
    name: str
    fields: tuple[tuple[str, _Type], ...]
    queue: str
    folder: str
    function: bool

    @property
    def module(self) -> str:
        """Of a name that can be imported, and that a worker does not take for a test."""
        name = _snake(self.name)
        return f"job_{name}" if keyword.iskeyword(name) or LEFT_OUT.match(name) else name

    @property
    def called(self) -> str:
        return _called(self.name, function=self.function)

    def source(self) -> str:
        lines = [*_imports(self.fields, annotations=True)]
        lines += ["from towline import current_job, job" if self.function else
                  "from towline import Job, current_job"]  # fmt: skip
        lines += ["", ""]
        if self.function:
            parameters = ", ".join(f"{name}: {of.annotation}" for name, of in self.fields)
            lines += [
                f'@job(queue="{self.queue}")',
                f"def {self.called}({parameters}) -> None:",
                f'    """What {self.called} does."""',
                '    current_job().logger.info("at work")',
            ]
        else:
            lines += [
                f"class {self.called}(Job):",
                f'    """What {self.called} does."""',
                "",
                f'    queue = "{self.queue}"',
                "    max_attempts = 3",
                *(["", *(f"    {name}: {of.annotation}" for name, of in self.fields)]
                  if self.fields else []),
                "",
                "    def handle(self) -> None:",
                '        current_job().logger.info("at work")',
            ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def test(self) -> str:
        arguments = ", ".join(f"{name}={of.example}" for name, of in self.fields)
        made = f"{self.called}.job({arguments})" if self.function else f"{self.called}({arguments})"
        place = self.folder.replace("/", ".")
        lines = [
            *_imports(self.fields, annotations=False),
            "from towline import Client",
            "",
            f"from {place}.{self.module} import {self.called}",
            "",
            "",
            f"def test_{self.module}_succeeds() -> None:",
            '    with Client("sync://") as client:  # runs the job at once, here',
            f"        handle = client.dispatch({made})",
            "        assert handle.result() is None",
        ]
        return "\n".join(lines) + "\n"


def _imports(fields: Sequence[tuple[str, _Type]], *, annotations: bool) -> list[str]:
    sources = {of.source for _, of in fields if of.source}
    if annotations:  # UTC is needed by examples only
        sources = {source.replace("UTC, ", "") for source in sources}
    names: dict[str, set[str]] = {}
    for source in sources:
        module, _, imported = source.removeprefix("from ").partition(" import ")
        names.setdefault(module, set()).update(imported.split(", "))
    lines = [
        f"from {module} import {', '.join(sorted(of))}" for module, of in sorted(names.items())
    ]
    return [*lines, ""] if lines else []


def _called(name: str, *, function: bool) -> str:
    return _snake(name) if function else _camel(name)


def _name(text: str, *, function: bool) -> str:
    try:
        check_name(text, "NAME")
    except InvalidJob as error:
        raise UsageError(str(error)) from None
    called = _called(text, function=function)
    if any(not name.isidentifier() or keyword.iskeyword(name) for name in (text, called)):
        raise UsageError(f"NAME: {text!r} cannot be the name of a class or function in Python")
    if called in _IMPORTED:
        raise UsageError(f"NAME: {called!r} has a meaning already in what would be written")
    return text


def _fields(texts: Sequence[str]) -> tuple[tuple[str, _Type], ...]:
    found: dict[str, _Type] = {}
    for text in texts:
        name, of = _field(text)
        if name in found:
            raise UsageError(f"NAME:TYPE: {name!r} is given twice")
        found[name] = of
    return tuple(found.items())


def _field(text: str) -> tuple[str, _Type]:
    name, colon, kind = text.partition(":")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"NAME:TYPE: {name!r} in {text!r} cannot be the name of a field")
    if name in POLICY_NAMES or name in RESERVED_NAMES:
        raise UsageError(f"NAME:TYPE: a field cannot be called {name!r}, which every job has")
    if (kind or "str") not in _TYPES:
        raise UsageError(f"NAME:TYPE: {kind!r} in {text!r} is none of {', '.join(_TYPES)}")
    return name, _TYPES[kind if colon else "str"]


def _queue(text: str) -> str:
    try:
        return check_name(text, "--queue")
    except InvalidJob as error:
        raise UsageError(str(error)) from None


def _folder(text: str) -> str:
    if not _PATH.fullmatch(text.rstrip("/")):
        raise UsageError(
            f"--folder: expected a package below this folder, as app/jobs, got {text!r}"
        )
    return text.rstrip("/")


def _packages(folder: Path) -> list[Path]:
    """The files that make a package of the folder and of those above it."""
    return [part / "__init__.py" for part in (folder, *folder.parents) if part.name]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
