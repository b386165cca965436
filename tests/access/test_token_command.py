"""``towline-broker token``: what it prints, what it keeps, and how it refuses."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from towline_broker.cli import app
from towline_broker.server.identity.tokens_file import (
    Entry,
    digest_of,
    edited,
    new_token,
    read_entries,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def run(path: Path, *arguments: str, answer: str | None = None) -> Result:
    command = ["token", *arguments, "--tokens", str(path)]
    return CliRunner().invoke(app, command, input=answer)


def made(path: Path, name: str, *options: str) -> str:
    result = run(path, "create", "--name", name, *options)
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")


def test_a_token_is_printed_alone_and_once_and_its_hash_is_kept(path: Path) -> None:
    result = run(path, "create", "--name", "mailer", "--push", "emails.*", "--work", "*", "--admin")
    token = result.stdout.removesuffix("\n")
    assert token.startswith("twl_")
    assert len(token) == len("twl_") + 43
    assert token not in result.stderr
    content = path.read_text()
    assert token not in content
    assert token.removeprefix("twl_")[:8] not in content
    assert sha256(token.encode()).hexdigest() in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {entry.name for entry in path.parent.iterdir()} == {"tokens.json"}
    (entry,) = read_entries(path)
    assert entry.rights.model_dump() == {"push": ("emails.*",), "work": ("*",), "admin": ("*",)}


def test_who_could_read_the_file_can_read_it_when_it_was_changed(path: Path) -> None:
    """A broker that could not would go on with the tokens from before, revoked ones among them."""
    made(path, "mailer", "--push", "*")
    path.chmod(0o660)  # root's, say, and lent to the group of the broker
    made(path, "other", "--push", "*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_tokens_differ() -> None:
    assert len({new_token() for _ in range(100)}) == 100


def test_what_is_listed_tells_no_secret(path: Path) -> None:
    token = made(path, "mailer", "--push", "emails.*", "--expires", "90d")
    made(path, "operator", "--admin-of", "emails.*", "--admin-of", "bills")
    listed = run(path, "list").stdout
    assert "mailer" in listed
    assert "bills" in listed
    mailer, operator = json.loads(run(path, "list", "--json").stdout)
    assert mailer["push"] == ["emails.*"]
    assert operator["admin"] == ["emails.*", "bills"]
    left = datetime.fromisoformat(mailer["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    assert operator["expires_at"] is None
    for text in (listed, run(path, "list", "--json").stdout):
        assert token not in text
        assert digest_of(token).hex() not in text


def test_a_token_is_rotated_with_an_overlap(path: Path) -> None:
    old = made(path, "mailer", "--push", "emails.*")
    refused = run(path, "create", "--name", "mailer", "--push", "bills")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "--rotate" in refused.stderr
    new = made(path, "mailer", "--rotate", "--overlap", "1h")
    first, second = read_entries(path)
    assert (first.sha256, second.sha256) == (digest_of(old).hex(), digest_of(new).hex())
    assert first.rights == second.rights
    assert first.expires_at is not None
    assert timedelta(0) < first.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert second.expires_at is None
    assert run(path, "revoke", "mailer", "--id", first.sha256[:8], "--yes").exit_code == 0
    assert read_entries(path) == [second]


def test_a_rotated_token_lives_as_long_as_the_one_before_unless_told(path: Path) -> None:
    def life_of_last() -> timedelta:
        last = read_entries(path)[-1]
        assert last.expires_at is not None
        return last.expires_at - last.created_at

    made(path, "mailer", "--push", "emails.*", "--expires", "90d")
    made(path, "mailer", "--rotate")
    assert life_of_last() == timedelta(days=90)
    made(path, "mailer", "--rotate", "--expires", "30d")
    made(path, "mailer", "--rotate")
    assert life_of_last() == timedelta(days=30)


def test_a_token_is_revoked_if_that_is_meant(path: Path) -> None:
    made(path, "mailer", "--push", "emails.*")
    made(path, "other", "--work", "*")
    assert run(path, "revoke", "mailer", "--dry-run").exit_code == 0
    assert run(path, "revoke", "mailer", answer="n\n").exit_code == 1
    nobody = run(path, "revoke", "mailer", answer="")
    assert (nobody.exit_code, "add --yes" in nobody.stderr) == (2, True)
    assert len(read_entries(path)) == 2
    assert run(path, "revoke", "mailer", answer="y\n").exit_code == 0
    assert [entry.name for entry in read_entries(path)] == ["other"]
    unknown = run(path, "revoke", "mailer", "--yes")
    assert unknown.exit_code == 1
    assert "there is no token 'mailer'; there is other" in unknown.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "a b", "--push", "q"], "'a b' is no name of a token"),
        (["--name", "a", "--push", "no queue"], "'no queue' is no queue's name"),
        (["--name", "a", "--admin-of", "no queue"], "--admin-of"),
        (["--name", "a"], "it would be good for nothing"),
        (["--name", "a", "--push", "q", "--expires", "soon"], "'soon' is no length of time"),
        (["--name", "a", "--push", "q", "--expires", "0"], "expected 1s to"),
        (["--push", "q"], "--name"),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_nothing(
    path: Path, options: list[str], said: str
) -> None:
    result = run(path, "create", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.replace("\n", " ").split())
    assert not path.exists()


def test_a_name_that_is_not_known_cannot_be_rotated(path: Path) -> None:
    result = run(path, "create", "--name", "mailer", "--rotate", "--push", "q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert not path.exists()


def test_another_file_is_not_overwritten(path: Path) -> None:
    path.write_text('{"tokens": "mine"}')
    result = run(path, "create", "--name", "a", "--push", "q")
    assert (result.exit_code, result.stdout) == (74, "")
    assert f"{path} is no file of tokens" in result.stderr
    assert path.read_text() == '{"tokens": "mine"}'


def test_the_file_is_that_of_the_settings(path: Path, tmp_path: Path) -> None:
    settings = tmp_path / "broker.toml"
    settings.write_text(f'[auth]\ntokens = "{path}"\n')
    options = ["token", "create", "--name", "a", "--push", "q", "--config", str(settings)]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert len(read_entries(path)) == 1


def test_who_edits_at_the_same_time_undoes_nothing_of_others(path: Path) -> None:
    names = [f"name-{number}" for number in range(8)]
    made(path, "first", "--push", "q")
    link = path.parent / "link.json"
    link.symlink_to(path)

    def make(name: str) -> None:
        (first, *_) = read_entries(link)
        with edited(link) as entries:
            update = {"name": name, "sha256": digest_of(new_token()).hex()}
            entries.append(Entry.model_validate({**first.model_dump(), **update}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, names))
    assert {entry.name for entry in read_entries(path)} == {"first", *names}
    assert link.is_symlink()


def test_a_token_is_written_into_a_file_of_its_owner_alone(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "ci.token"
    before = os.umask(0)
    try:
        result = run(path, "create", "--name", "ci", "--push", "ci.jobs", "--out", str(out))
    finally:
        os.umask(before)
    assert (result.exit_code, result.stdout) == (0, "")
    token = out.read_text().removesuffix("\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert token not in result.stderr
    assert read_entries(path)[0].sha256 == digest_of(token).hex()


def test_no_token_is_made_if_its_file_is_taken_and_none_is_left_if_it_is_not_made(
    path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ci.token"
    out.write_text("another")
    taken = run(path, "create", "--name", "ci", "--push", "ci.jobs", "--out", str(out))
    assert taken.exit_code == 73
    assert "is there already" in taken.stderr
    assert (out.read_text(), path.exists()) == ("another", False)
    made(path, "mailer", "--push", "emails")
    out.unlink()
    refused = run(path, "create", "--name", "mailer", "--push", "x", "--out", str(out))
    assert refused.exit_code == 1
    assert not out.exists()
