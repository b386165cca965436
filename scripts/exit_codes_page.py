"""Write docs/exit-codes.md: what each command's exit codes mean, as their help texts say it.

Run by ``make exits-docs`` after a change of them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from towline.cli.exits import Exit
from towline_broker import cli
from towline_broker.commands import (
    backup,
    check,
    config,
    doctor,
    export,
    health,
    import_,
    journal,
    move,
    schema,
    token,
)
from towline_broker.commands.helping import told
from towline_broker.server.exits import Codes, ExitCode

PAGE = Path(__file__).resolve().parent.parent / "docs" / "exit-codes.md"

HEAD = """\
# Exit codes

What the two commands end with. This page is written by `make exits-docs` from the same tables as
their help texts, and a test holds it to them.
"""

BROKER = """\
## `towline-broker`

After sysexits.h, where it has one. What a supervisor should do about those of `serve`:
[operations.md](operations.md#exit-codes).
"""

CLIENT = """\
## `towline`

The same for all of its commands.
"""

#: By command of towline-broker.
CODES: Mapping[str, Codes] = {
    "serve": cli.SERVE_CODES,
    "move": move.CODES,
    "backup": backup.CODES,
    "check": check.CODES,
    "export": export.CODES,
    "import": import_.CODES,
    "health": health.CODES,
    "doctor": doctor.CODES,
    "config check": config.CODES,
    "config show": config.CODES,
    "config schema": config.SCHEMA_CODES,
    "journal check": journal.CHECK_CODES,
    "journal cat": journal.CAT_CODES,
    "schema current": schema.CODES,
    "schema upgrade": schema.CODES,
    "schema sql": schema.CODES,
    "token create": token.CREATE_CODES,
    "token list": token.LIST_CODES,
    "token revoke": token.REVOKE_CODES,
}


def page() -> str:
    every = told(dict.fromkeys(ExitCode, ""))
    parts = [HEAD, CLIENT, *_table({str(int(code)): code.meaning for code in Exit}), ""]
    parts += [BROKER, *_table(every)]
    by_codes: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for command, codes in CODES.items():
        by_codes.setdefault(tuple(told(codes).items()), []).append(f"`{command}`")
    for rows, commands in by_codes.items():
        parts += ["", f"### {', '.join(commands)}", "", *_table(dict(rows))]
    return "\n".join(parts) + "\n"


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    yield from ("| code | |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in rows.items())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
