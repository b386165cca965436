"""Nothing is silenced without a word: who reads it is told why, or does not meet it."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for source in ("broker/src", "client/src")
    for path in (ROOT / source).rglob("*.py")
    if "towline/v1" not in path.as_posix()  # generated
)

#: The check that is silenced, by its name; what follows is the reason.
SILENCED = re.compile(
    r"#\s*(?:ruff:\s*)?(?:noqa:?|type:\s*ignore)\s*(?P<what>\[[\w, -]+\]|[A-Z]+\d+)?"
)
#: Whose name is the reason: a package has no types.
SAYS_WHY = "[import-untyped]"
BROAD = {"Exception", "BaseException"}


def silenced_without_reason(path: Path) -> Iterator[str]:
    if not SILENCED.search(path.read_text()):
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            found = SILENCED.match(token.string) if token.type == tokenize.COMMENT else None
            if found is not None and not _has_reason(found, token.string):
                yield f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"


def _has_reason(found: re.Match[str], comment: str) -> bool:
    reason = comment[found.end() :].strip(" -#")
    return found["what"] == SAYS_WHY or bool(found["what"] and reason)


def caught_without_reason(path: Path) -> Iterator[str]:
    """Handlers of whatever error there is that end it there: it is neither raised again nor passed
    on nor logged, and nothing says why."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler) or not _is_broad(node.type):
            continue
        last = node.body[0].lineno
        if not any("#" in line for line in lines[node.lineno - 1 : last]) and not _goes_on(node):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {lines[node.lineno - 1].strip()}"


def _is_broad(caught: ast.expr | None) -> bool:
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(name is None or (isinstance(name, ast.Name) and name.id in BROAD) for name in names)


def _goes_on(handler: ast.ExceptHandler) -> bool:
    for node in (each for statement in handler.body for each in ast.walk(statement)):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Name) and node.id == handler.name:
            return True
        if isinstance(node, ast.Attribute) and node.attr == "exception":  # of a logger
            return True
    return False


def test_each_silenced_check_is_named_and_has_its_reason_beside_it() -> None:
    assert [each for path in SOURCES for each in silenced_without_reason(path)] == []


def test_an_error_of_any_kind_is_raised_again_passed_on_logged_or_ended_for_a_reason() -> None:
    assert [each for path in SOURCES for each in caught_without_reason(path)] == []


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("x = 1  # type: ignore\n", 1),
        ("x = 1  # type: ignore[misc]\n", 1),
        ("import x  # type: ignore[import-untyped]\n", 0),
        ("x = 1  # noqa\n", 1),
        ("x = 1  # noqa: S101\n", 1),
        ("x = 1  # noqa: S101 - a defect\n", 0),
        ("x = 1  # type: ignore[misc]  # a defect\n", 0),
        ("# ruff: noqa: S608 - constants\n", 0),
        ("try:\n    f()\nexcept Exception:\n    pass\n", 1),
        ("try:\n    f()\nexcept:\n    pass\n", 1),
        ("try:\n    f()\nexcept (OSError, BaseException) as error:\n    pass\n", 1),
        ("try:\n    f()\nexcept Exception:  # it matters to nobody\n    pass\n", 0),
        ("try:\n    f()\nexcept Exception:\n    g()\n    raise\n", 0),
        ("try:\n    f()\nexcept Exception as error:\n    g(error)\n", 0),
        ("try:\n    f()\nexcept Exception:\n    log.exception('f failed')\n", 0),
        ("try:\n    f()\nexcept OSError:\n    pass\n", 0),
    ],
)
def test_what_is_silenced_is_found(
    text: str, findings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(text)
    assert len([*silenced_without_reason(path), *caught_without_reason(path)]) == findings
