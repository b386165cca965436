"""Which test takes which block of the documentation.

Whoever writes a block of a new kind, or a first one on a page, says here what runs it.
"""

from fnmatch import fnmatch
from typing import NamedTuple

from tests.support.pages import ROOT, Block, blocks_of, pages


class Taker(NamedTuple):
    """A file of tests, and its blocks: those of these pages, languages and titles (patterns)."""

    test: str
    languages: tuple[str, ...]
    pages: str = "*"
    titles: str = ""

    def takes(self, block: Block) -> bool:
        return (
            block.language in self.languages
            and fnmatch(block.page, self.pages)
            and fnmatch(block.title, self.titles)
        )


OPERATIONS, DRIVERS = "docs/operations.md", "docs/writing-a-driver.md"

#: The first that takes a block has it; the narrower ones stand before the wider.
TAKERS = (
    # Pages that are followed to the letter, or written by a test.
    Taker(
        "tests/workspace/test_getting_started.py",
        ("python", "sh", "text"),
        "docs/getting-started.md",
        "*",
    ),
    Taker("tests/workspace/test_contract_page.py", ("text",), "docs/contract.md"),
    Taker("tests/service/test_tracing.py", ("text",), "docs/tracing.md"),
    Taker("tests/observability/test_page.py", ("text",), "docs/observability.md"),
    Taker("tests/service/test_request_logs.py", ("json",), "docs/logs.md"),
    Taker("tests/service/test_waiting_for_stores.py", ("text",), OPERATIONS),
    Taker("tests/service/test_doctor.py", ("text",), "docs/running.md"),
    Taker("tests/cli/test_top.py", ("text",), "docs/commands.md"),
    # Programs.
    Taker("tests/sdk/test_pytest_plugin.py", ("python", "toml", "text"), "docs/testing.md"),
    Taker("tests/sdk/test_middleware_docs.py", ("python", "text"), "docs/middleware.md"),
    Taker("tests/service/test_security_page.py", ("python",), "docs/security.md"),
    Taker("tests/sdk/test_on_commit_django.py", ("python",), "docs/dispatch.md", "Django"),
    Taker("tests/documentation/test_driver_page.py", ("python", "toml"), DRIVERS),
    Taker("tests/documentation/test_excerpts.py", ("python",), titles="examples/*"),
    Taker("tests/documentation/test_programs.py", ("python",), titles="app/*.py"),
    Taker("tests/documentation/test_programs.py", ("python",)),
    Taker(
        "tests/documentation/test_foreign_code.py",
        ("python", "ruby", "php", "dart"),
        "docs/coming-from.md",
        "*",
    ),
    # Commands, and what they print.
    Taker("tests/documentation/test_commands.py", ("sh", "cron")),
    Taker("tests/documentation/test_output.py", ("console", "text")),
    # Settings and other data.
    Taker("tests/cli/test_docs.py", ("toml",), "docs/commands.md"),
    Taker("tests/documentation/test_driver_page.py", ("toml",), "CONTRIBUTING.md"),
    Taker("tests/documentation/test_settings.py", ("toml",)),
    Taker("tests/documentation/test_settings.py", ("yaml", "json"), "docs/configuration.md"),
    Taker("tests/documentation/test_servers.py", ("ini", "conf", "redis")),
    Taker("tests/documentation/test_servers.py", ("json",), OPERATIONS),
    Taker("tests/documentation/test_servers.py", ("yaml",), "docs/workers.md"),
    Taker("tests/observability/test_prometheus.py", ("yaml",), "docs/observability.md"),
    Taker("tests/access/test_jwt.py", ("json",), "docs/security.md"),
    Taker("tests/documentation/test_output.py", ("json",), "docs/backup.md"),
    Taker("tests/faults/test_rolling_behind_balancers.py", ("nginx", "haproxy"), OPERATIONS),
)


def taker_of(block: Block) -> Taker | None:
    return next((taker for taker in TAKERS if taker.takes(block)), None)


def taken_by(file: str) -> list[Block]:
    """The blocks that this file of tests (its ``__file__``) has to take, page by page."""
    return [
        block
        for page in pages()
        for block in blocks_of(page)
        if (taker := taker_of(block)) and ROOT / taker.test == ROOT / file
    ]
