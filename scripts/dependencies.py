"""What the two distributions depend on, as installed here: versions, licences, who brings whom.

Read by scripts/licences.py (a page) and scripts/sbom.py (bills of materials). The requirements of
Towline itself are those of its pyproject.toml files, those of others stand in their metadata; what
a requirement asks for on other systems or versions of Python only is left out.
"""

import re
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from license_expression import get_spdx_licensing  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = {"towline": ROOT / "client", "towline-broker": ROOT / "broker"}

#: Licences that ask for no more than that their text, and notices, go with what is handed out.
PERMISSIVE = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "ISC", "MIT", "MIT-0"),
    *("PSF-2.0", "Unlicense", "Zlib"),
}
#: What classifiers and the free field "License" of older metadata say, in words of SPDX.
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
_SPDX = get_spdx_licensing()


class Unknown(Exception):
    """Something has to be written down first; the message says what and where."""


@dataclass(frozen=True)
class Notes:
    """requirements/dependencies.toml."""

    why: Mapping[NormalizedName, str]
    licences: Mapping[NormalizedName, str]
    copyleft: Mapping[NormalizedName, str]


@cache
def notes() -> Notes:
    text = (ROOT / "requirements" / "dependencies.toml").read_text()
    return Notes(
        **{
            table: {canonicalize_name(name): value for name, value in values.items()}
            for table, values in tomllib.loads(text).items()
        }
    )


@dataclass
class Package:
    """One that is installed. ``brought_by``: the names of those that ask for it."""

    name: str
    version: str
    licence: str
    brought_by: set[str] = field(default_factory=set)

    @cached_property
    def key(self) -> NormalizedName:
        return canonicalize_name(self.name)

    @property
    def is_copyleft(self) -> bool:
        """Whether no choice of its licences is a permissive one."""
        return not _permits(_SPDX.parse(self.licence))


def _permits(licence: object) -> bool:
    parts = getattr(licence, "args", ())
    if not parts:
        return str(licence) in PERMISSIVE
    chosen = any if type(licence) is _SPDX.OR else all
    return chosen(_permits(part) for part in parts)


@cache
def installed(name: NormalizedName) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise Unknown(f"{name} is not installed here: make install") from None


def package(name: str) -> Package:
    found = installed(canonicalize_name(name))
    return Package(found.name, found.version, licence_of(found))


def licence_of(found: Distribution) -> str:
    """As an SPDX expression. Raises Unknown if it can be had neither from the metadata nor from
    our notes."""
    data = found.metadata
    said: list[str | None] = [
        notes().licences.get(canonicalize_name(found.name)),
        *(data.get_all("License-Expression") or []),
        *(_first_line(text) for text in data.get_all("License") or []),
        *(SPELLINGS.get(text) for text in data.get_all("Classifier") or []),
    ]
    for text in said:
        if text and not _SPDX.validate(text).errors:
            return text
    raise Unknown(
        f"{found.name}: what its licence is cannot be read from its metadata; look it up, and add "
        "it to [licences] in requirements/dependencies.toml"
    )


def _first_line(text: str) -> str:
    """Some put the whole licence there."""
    line = text.partition("\n")[0]
    return SPELLINGS.get(line, line)


@dataclass(frozen=True)
class Direct:
    """A requirement in a pyproject.toml. ``extra`` "" is for everybody."""

    requirement: Requirement
    extra: str

    @property
    def key(self) -> NormalizedName:
        return canonicalize_name(self.requirement.name)


def direct(project: str) -> list[Direct]:
    """What a distribution of ours asks for, extras that only name other extras left out."""
    table = tomllib.loads((PROJECTS[project] / "pyproject.toml").read_text())["project"]
    groups = {"": table["dependencies"], **table.get("optional-dependencies", {})}
    asked = [Direct(Requirement(text), extra) for extra, texts in groups.items() for text in texts]
    return [each for each in asked if each.key != project]


def closure(project: str, without: frozenset[str] = frozenset()) -> dict[NormalizedName, Package]:
    """All that a distribution of ours brings, whatever its extras but those in ``without``."""
    found: dict[NormalizedName, Package] = {}
    asked = deque(
        (each.requirement, project) for each in direct(project) if each.extra not in without
    )
    done: set[tuple[NormalizedName, str]] = set()
    while asked:
        requirement, asker = asked.popleft()
        key = canonicalize_name(requirement.name)
        if key not in found:
            found[key] = package(requirement.name)
        found[key].brought_by.add(asker)
        for extra in ("", *sorted(requirement.extras)):
            if (key, extra) not in done:
                done.add((key, extra))
                asked.extend((each, found[key].name) for each in required(key, extra))
    return found


def required(name: NormalizedName, extra: str) -> Iterator[Requirement]:
    """What an installed package asks for here, for this extra ("": for everybody)."""
    if name in PROJECTS:
        yield from (each.requirement for each in direct(name) if each.extra == extra)
        return
    for text in installed(name).requires or []:
        requirement = Requirement(text)
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({"extra": extra}) and (
            not extra or not requirement.marker.evaluate({"extra": ""})
        ):
            yield requirement


def pinned() -> dict[NormalizedName, str]:
    """The versions in constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = (re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}
