"""Write docs/dependencies.md: what Towline depends on, in which version, by which licence.

Run by ``make licences`` after a dependency was added or its version changed.
"""

import sys
from collections.abc import Iterable, Iterator

from scripts.dependencies import ROOT, Package, Unknown, closure, direct, notes, package, pinned

PAGE = ROOT / "docs" / "dependencies.md"

HEAD = """\
# Dependencies and their licences

Towline is licensed under Apache-2.0. This page is written by `make licences`, from the metadata of
what `constraints.txt` pins, as installed on Linux; a test holds it true. *Admitted* is what the
distribution asks for, *tested* the version that every test runs with. That the lowest versions
admitted do, too, is seen before a release by `make floors`, which installs all of them at the same
time and runs tests of everything that they are used for. Licences are
[SPDX](https://spdx.org/licenses/) expressions, as the packages declare them; a wheel with compiled
parts may hold further libraries, named in the licence files that it carries.

`make dist` writes a bill of materials for each distribution beside its wheel (CycloneDX 1.6,
`dist/*.cdx.json`).
"""

COPYLEFT = """
## Licences that ask for more

All others on this page are permissive: they ask that their text and notices go along with copies,
which their own wheels do. These ask for more. None is needed to run a broker or the SDK, and none
hinders that Towline is Apache-2.0.

"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def asked_by(project: str) -> Iterator[tuple[str, ...]]:
    """A row for each direct dependency. Raises Unknown where nothing says what it is for."""
    for each in sorted(direct(project), key=lambda each: (each.extra, each.key)):
        if each.key in ("towline", "towline-broker"):
            continue
        found = package(each.requirement.name)
        why = notes().why.get(each.key)
        if why is None:
            raise Unknown(
                f"{found.name}: say what it is used for, in [why] of requirements/dependencies.toml"
            )
        extra = f"`{each.extra}`" if each.extra else ""
        admitted = str(each.requirement.specifier) or "any"
        yield found.name, extra, admitted, found.version, found.licence, why


def page() -> str:
    """The text of the page."""
    brought = {**closure("towline"), **closure("towline-broker")}
    for project in ("towline", "towline-broker"):
        for key, each in closure(project).items():
            brought[key].brought_by |= each.brought_by
    asked = {each.key for project in ("towline", "towline-broker") for each in direct(project)}
    ours = {"towline", "towline-broker"}
    indirect = [each for key, each in sorted(brought.items()) if key not in asked | ours]
    others = [package(name) for name in sorted(pinned()) if name not in brought]
    lines = [HEAD]
    head = ("package", "extra", "admitted", "tested", "licence", "used for")
    for title, project in (
        ("The SDK, `towline`", "towline"),
        ("The broker, `towline-broker`", "towline-broker"),
    ):
        lines += [f"## {title}", ""]
        if project == "towline-broker":
            lines += ["And `towline` itself, for the contract's messages.", ""]
        lines += [*table(head, asked_by(project)), ""]
    lines += ["## What those bring", ""]
    lines += table(
        ("package", "tested", "licence", "brought by"),
        (
            (
                each.name,
                each.version,
                each.licence,
                ", ".join(sorted(each.brought_by, key=str.lower)),
            )
            for each in indirect
        ),
    )
    lines += [
        "",
        "## In development only",
        "",
        "Tests, checks and builds; none of it is handed out.",
        "",
    ]
    lines += table(
        ("package", "version", "licence"),
        ((each.name, each.version, each.licence) for each in others),
    )
    return "\n".join(lines) + "\n" + copyleft([*brought.values(), *others])


def copyleft(all_of_them: list[Package]) -> str:
    """What licences that ask for more ask of Towline. Raises Unknown where nobody has judged it."""
    found = sorted((each for each in all_of_them if each.is_copyleft), key=lambda each: each.key)
    if missing := [each.name for each in found if each.key not in notes().copyleft]:
        raise Unknown(
            f"{', '.join(missing)}: not a permissive licence; judge what it asks of Towline, in "
            "[copyleft] of requirements/dependencies.toml"
        )
    rows = ((each.name, each.licence, notes().copyleft[each.key]) for each in found)
    return COPYLEFT + "\n".join(table(("package", "licence", "what follows"), rows)) + "\n"


def main() -> None:
    try:
        text = page()
    except Unknown as error:
        sys.exit(f"licences: {error}")
    PAGE.write_text(text, encoding="utf-8")
    print(f"licences: wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
