"""docs/exit-codes.md, and what operations.md says of a broker's, tell what the help texts tell."""

import re
from pathlib import Path

from scripts import exit_codes_page
from tests.cli.test_broker_help import LEAVES, helped
from towline_broker.commands.helping import told

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_page_is_what_make_exits_docs_writes() -> None:
    assert exit_codes_page.PAGE.read_text(encoding="utf-8") == exit_codes_page.page(), (
        "run: make exits-docs"
    )


def test_every_command_is_there_with_the_codes_of_its_help() -> None:
    assert set(exit_codes_page.CODES) == {" ".join(path) for path in LEAVES}
    for path in LEAVES:
        block = helped(*path).partition("\n  Exit codes:\n")[2].partition("\n\n")[0]
        codes = re.findall(r"^    (\d+)  ?\s*\S", block, re.M)
        assert codes == list(told(exit_codes_page.CODES[" ".join(path)])), path


def test_operators_are_told_what_to_do_about_each_end_of_a_broker() -> None:
    section = OPERATIONS.read_text().partition("## Exit codes\n")[2].partition("\n## ")[0]
    first = re.findall(r"^\| ([\d, ]+) \|", section, re.M)
    named = [code for cell in first for code in cell.split(", ")]
    assert named == list(told(exit_codes_page.CODES["serve"]))
