"""``towline-broker token``: makes bearer tokens, lists and revokes them.

It edits the file that brokers name in ``auth.tokens``; they take a change over at once.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from towline_broker.commands import options
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.loading import settings_of
from towline_broker.commands.telling import confirm, fail, say
from towline_broker.domain.time import DAY, SECOND, Micros, to_seconds
from towline_broker.domain.words import many
from towline_broker.drivers.disk import PRIVATE
from towline_broker.server.configuration.auth_settings import RightsSettings
from towline_broker.server.configuration.quantities import span
from towline_broker.server.exits import Codes, ExitCode
from towline_broker.server.identity.tokens_file import (
    Entry,
    UnreadableTokens,
    check_name,
    digest_of,
    edited,
    new_token,
    read_entries,
)

app = typer.Typer(
    name="token",
    help="Bearer tokens: who may call a broker, and what they may do there.",
    short_help="Make, list and revoke bearer tokens.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples(
        "towline-broker token create --name mailer --push 'emails.*'", "towline-broker token list"
    ),
)

CREATE_HELP = """Make a token, and print it: it is shown this once, for the file keeps only its
SHA-256.

PATTERN is the name of a queue, in which * stands for any text; its option can be repeated. Nothing
but the token goes to standard output, and with --out nothing at all.
"""

CREATE_CODES: Codes = {
    ExitCode.OK: "done",
    ExitCode.NO: "there is no such token, or there is one of that name",
    ExitCode.NOT_WRITTEN: "the file of --out is there already, or cannot be written",
    ExitCode.STORE_FAILED: "the file of tokens cannot be read or written",
    ExitCode.CONFIG: "",
    ExitCode.INTERRUPTED: "",
}
LIST_CODES = {
    code: CREATE_CODES[code] for code in (ExitCode.OK, ExitCode.STORE_FAILED, ExitCode.CONFIG)
}
REVOKE_CODES: Codes = LIST_CODES | {
    ExitCode.NO: "there is no such token, or you said no",
    ExitCode.INTERRUPTED: "",
}

LIST_HELP = "List the tokens: their names, rights and times. The file does not know the tokens."
REVOKE_HELP = (
    "End the tokens of a name: their next call is refused, and a call that waits for jobs ends."
)

LONGEST = span(1 * SECOND, 100 * 366 * DAY)
OVERLAP = span(0, 366 * DAY)

Tokens = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The file of tokens.  [default: auth.tokens of the settings]"
    ),
]
Queues = list[str] | None
Parsed = TypeVar("Parsed")


def _queues(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="PATTERN", help=what)
    return option


@app.command(
    help=with_codes(CREATE_HELP, CREATE_CODES),
    short_help="Make a token, and print it.",
    epilog=examples(
        "towline-broker token create --name mailer --push 'emails.*' --work emails.in",
        "towline-broker token create --name operator --admin --expires 90d",
        "towline-broker token create --name mailer --rotate --tokens tokens.json",
        "towline-broker token create --name ci --push ci.jobs --out ci.token",
    ),
)
def create(
    name: Annotated[str, typer.Option(metavar="NAME", help="Whose it is; logs show it.")],
    push: Annotated[Queues, _queues("May push jobs there, follow and cancel them.")] = None,
    work: Annotated[Queues, _queues("May reserve jobs from there, and settle them.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="May look into every queue, and decide about it.")
    ] = False,
    admin_of: Annotated[Queues, _queues("The same, for these queues only.")] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Good for so long, such as 90d.  [default: for ever]"
        ),
    ] = None,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            help="A new token in place of those of this name, with their rights, and good for as "
            "long as they were made for, unless others are given.",
        ),
    ] = False,
    overlap: Annotated[
        str,
        typer.Option(metavar="DURATION", help="With --rotate: how long the old ones stay good."),
    ] = "1d",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the token into this new file, for its owner alone, and print nothing.",
        ),
    ] = None,
    tokens: Tokens = None,
    config: options.Config = None,
) -> None:
    _said("--name", check_name, name)
    given = _rights(push, work, [*(["*"] if admin else []), *(admin_of or ())])
    lifetime = None if expires is None else _said("--expires", LONGEST, expires)
    both = _said("--overlap", OVERLAP, overlap)
    path = _path(tokens, config)
    now = datetime.now(UTC).replace(microsecond=0)
    token = new_token()
    # Into its file first: a token that nobody has does no harm there.
    with _kept(token, out), _editing(path) as entries:
        rights = _rights_of_new(name, given, entries, rotate=rotate)
        before = [each for each in entries if each.name == name]
        ends = now + _delta(lifetime) if lifetime is not None else _as_long_as(before, now)
        entries[:] = [_ending(each, now, both) if each.name == name else each for each in entries]
        digest = digest_of(token).hex()
        made = Entry(name=name, sha256=digest, rights=rights, created_at=now, expires_at=ends)
        entries.append(made)
    say(f"{name}: {_described(made.rights)}; {_until(made, now)}; in {path}")
    if out is not None:
        say(f"The token is in {out}, and nowhere else. Clients take it from TOWLINE_TOKEN_FILE.")
        return
    typer.echo(token)
    say("It is not shown again. Clients take it from TOWLINE_TOKEN.")


@app.command(
    name="list",
    help=with_codes(LIST_HELP, LIST_CODES),
    short_help="List the tokens: their names, rights and times.",
    epilog=examples(
        "towline-broker token list", "towline-broker token list --tokens tokens.json --json"
    ),
)
def list_tokens(
    as_json: options.Json = False,
    tokens: Tokens = None,
    config: options.Config = None,
) -> None:
    entries = _read(_path(tokens, config))
    now = datetime.now(UTC)
    if as_json:
        typer.echo(json.dumps([_told(entry, now) for entry in entries], indent=2))
        return
    table = Table("name", "id", "push", "work", "admin", "made", "good", box=box.SIMPLE)
    for entry in entries:
        rights = entry.rights
        table.add_row(
            *(entry.name, _id(entry)),
            *(" ".join(queues) or "-" for queues in (rights.push, rights.work, rights.admin)),
            *(entry.created_at.date().isoformat(), _until(entry, now).removeprefix("good ")),
        )
    Console(highlight=False, soft_wrap=True).print(table)


@app.command(
    help=with_codes(REVOKE_HELP, REVOKE_CODES),
    short_help="End the tokens of a name.",
    epilog=examples(
        "towline-broker token revoke mailer",
        "towline-broker token revoke mailer --id 3f0b6d21 --yes",
    ),
)
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As it was made.")],
    only: Annotated[
        str | None, typer.Option("--id", help="Of several of this name, the one of this id.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would end; change nothing.")
    ] = False,
    yes: options.Yes = False,
    tokens: Tokens = None,
    config: options.Config = None,
) -> None:
    path = _path(tokens, config)

    def meant(entries: Sequence[Entry]) -> list[Entry]:
        found = [each for each in entries if each.name == name and only in (None, _id(each))]
        if not found:
            which = "" if only is None else " of this id"
            fail(f"there is no token {name!r}{which}{_known(entries)}", ExitCode.NO)
        return found

    found = meant(_read(path))
    for entry in found:
        say(f"{name} ({_id(entry)}): {_described(entry.rights)}")
    if dry_run:
        return
    if not yes:
        confirm("End it?" if len(found) == 1 else "End them?")
    with _editing(path) as entries:
        ending = meant(entries)
        entries[:] = [entry for entry in entries if entry not in ending]
    say(f"revoked: {many(len(ending), 'token')} of name {name}")


def _rights(push: Queues, work: Queues, admin: Sequence[str]) -> RightsSettings | None:
    """None: none are given."""
    if not (push or work or admin):
        return None
    try:
        return RightsSettings(push=tuple(push or ()), work=tuple(work or ()), admin=tuple(admin))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = str(first["msg"]).removeprefix("Value error, ")
        option = f"--{first['loc'][0]}".replace("--admin", "--admin-of")
        raise typer.BadParameter(what, param_hint=f"'{option}'") from None


def _rights_of_new(
    name: str, given: RightsSettings | None, entries: Sequence[Entry], *, rotate: bool
) -> RightsSettings:
    same = [entry for entry in entries if entry.name == name]
    if same and not rotate:
        fail(
            f"there is a token {name!r} already: --rotate makes a new one in its place, "
            f"'towline-broker token revoke {name}' ends it",
            ExitCode.NO,
        )
    if rotate and not same:
        fail(f"there is no token {name!r} to be rotated{_known(entries)}", ExitCode.NO)
    if given is not None:
        return given
    if same:
        return same[-1].rights
    raise typer.BadParameter(
        "it would be good for nothing: say what it is for with --push, --work, --admin or "
        "--admin-of"
    )


def _as_long_as(before: Sequence[Entry], now: datetime) -> datetime | None:
    """A token that was to expire is not followed by one that never does."""
    if not before or before[-1].expires_at is None:
        return None
    return now + (before[-1].expires_at - before[-1].created_at)


def _ending(entry: Entry, now: datetime, overlap: Micros) -> Entry:
    end = now + _delta(overlap)
    if entry.expires_at is not None and entry.expires_at <= end:
        return entry
    return entry.model_copy(update={"expires_at": end})


def _path(tokens: Path | None, config: Path | None) -> Path:
    if tokens is not None:
        return tokens
    settings = settings_of(config)
    if settings.auth.tokens is None:
        raise typer.BadParameter(
            "which file? Name it here, or as auth.tokens in the settings of the broker",
            param_hint="'--tokens'",
        )
    return settings.auth.tokens


@contextmanager
def _kept(token: str, out: Path | None) -> Iterator[None]:
    """In the file while what belongs to it is done, and after that unless it failed. Its mode does
    not depend on the umask, and the file must be new: others may have opened one that is there."""
    if out is None:
        yield
        return
    try:
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    except FileExistsError:
        fail(f"--out: {out} is there already; name another file", ExitCode.NOT_WRITTEN)
    except OSError as error:
        fail(f"--out: {out} cannot be written: {error.strerror}", ExitCode.NOT_WRITTEN)
    try:
        _write(token, out, file)
        yield
    except BaseException:  # an interruption, too, must leave no token behind
        out.unlink(missing_ok=True)
        raise


def _write(token: str, out: Path, file: int) -> None:
    try:
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(f"{token}\n")
    except OSError as error:
        fail(f"--out: {out} cannot be written: {error.strerror}", ExitCode.NOT_WRITTEN)


@contextmanager
def _editing(path: Path) -> Iterator[list[Entry]]:
    try:
        with edited(path) as entries:
            yield entries
    except UnreadableTokens as error:
        fail(str(error), ExitCode.STORE_FAILED)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", ExitCode.STORE_FAILED)


def _read(path: Path) -> list[Entry]:
    try:
        return read_entries(path)
    except UnreadableTokens as error:
        fail(str(error), ExitCode.STORE_FAILED)


def _said(option: str, parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


def _known(entries: Sequence[Entry]) -> str:
    names = sorted({entry.name for entry in entries})
    return f"; there is {', '.join(names)}" if names else "; there is none"


def _delta(micros: Micros) -> timedelta:
    return timedelta(seconds=to_seconds(micros))


def _id(entry: Entry) -> str:
    """Tells tokens of one name apart; nothing follows from it."""
    return entry.sha256[:8]


def _described(rights: RightsSettings) -> str:
    given = {"push": rights.push, "work": rights.work, "admin": rights.admin}
    return ", ".join(f"{right} {' '.join(queues)}" for right, queues in given.items() if queues)


def _until(entry: Entry, now: datetime) -> str:
    if entry.expires_at is None:
        return "good until revoked"
    if entry.has_expired(now):
        return f"expired {_moment(entry.expires_at)}"
    return f"good until {_moment(entry.expires_at)}"


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _told(entry: Entry, now: datetime) -> dict[str, object]:
    return {
        "name": entry.name,
        "id": _id(entry),
        **entry.rights.model_dump(mode="json"),
        "created_at": entry.created_at.isoformat(),
        "expires_at": None if entry.expires_at is None else entry.expires_at.isoformat(),
        "expired": entry.has_expired(now),
    }
