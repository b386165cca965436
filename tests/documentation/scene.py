"""A folder with what the pages speak of, a broker, and our commands, run there."""

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from typer.testing import CliRunner

from tests.access.issuer import Issuer
from tests.cli.conftest import Command, Done
from tests.documentation.shell import Call
from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority
from tests.support.pages import ROOT, blocks
from tests.support.servers.ports import free_port
from tests.support.third_party import install
from towline import Client, Job, Registry, Worker
from towline_broker.cli import app

#: Where the pages have their files: below the folder of the scene.
_FOLDERS = re.compile(r"(?<![\w.])/(?=(?:var/lib|etc|run|backups)\b)")
#: Stores of which none is here: what is done to them is done to another one.
_SERVERS = re.compile(r"^(?:postgresql|mysql|redis)://.*")
_OF_THE_BROKER = """
stores = {{ fast = "memory:" }}
tls = {{ cert = "{folder}/broker.pem", key = "{folder}/broker.key" }}
"""
#: Of who types the commands, in the folder: as an operator has them.
_OF_THE_FOLDER = """
store = "sqlite:///jobs.db"
listen = "{address}"
http = {{ listen = "{http}" }}
tls = {{ cert = "broker.pem", key = "broker.key" }}
auth = {{ tokens = "tokens.json" }}
"""
#: The example of a driver, as if it was installed.
_SHELF = "from towline_shelf import open_shelf as open_store"

#: What the pages make copies of; it holds the job of the export that docs/backup.md shows.
STORES = (
    "sqlite:///jobs.db",
    "sqlite:////var/lib/towline/jobs.db",
    "file:////var/lib/towline/jobs",
    "file:////var/lib/towline/fast",
)
TOKENS = ("tokens.json", "/etc/towline/tokens.json")

registry = Registry()


class CountWords(Job, registry=registry):
    """As examples/node has it."""

    text: str

    def handle(self) -> int:
        return len(self.text.split())


class Scene:
    """As a context manager it has a broker, over TLS, with a job in the queue ``emails`` and a
    worker for the queue ``texts``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._resources = ExitStack()
        self._job = self._address = ""

    def __enter__(self) -> Self:
        with self._resources as resources:
            authority = Authority()
            self._lay_out(authority)
            settings = self.folder / "served.toml"
            http = f"127.0.0.1:{free_port()}"
            settings.write_text(_OF_THE_BROKER.format(folder=self.folder))
            store = f"sqlite:///{self.folder / 'served.db'}"
            options = ("--config", str(settings), "--http", http)
            broker = BrokerProcess(store, *options, folder=self.folder / "run")
            address = resources.enter_context(broker).address
            self._address = f"grpcs://{address}"
            (self.folder / "towline-broker.toml").write_text(
                _OF_THE_FOLDER.format(address=address, http=http)
            )
            client = Client(self._address, credentials=authority.credentials())
            resources.enter_context(client)
            self._job = client.dispatch("SendEmail", {"to": "a"}, queue="emails").id
            (self.folder / "run/towline").mkdir()
            health = self.folder / "run/towline/health"
            worker = Worker(client, queues=["texts"], registry=registry, health_file=health)
            worker.start()
            resources.callback(worker.stop, 0)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _lay_out(self, authority: Authority) -> None:
        for name in ("var/lib/towline", "etc/towline", "run", "backups", "deploy/compose/secrets"):
            (self.folder / name).mkdir(parents=True)
        authority.write(self.folder)
        (self.folder / "token").write_text("twl_none\n")
        for folder in (self.folder, self.folder / "etc/towline"):
            authority.issue().write(folder)
        # The file that is shipped, with what serves other machines.
        settings = (ROOT / "deploy/systemd/broker.toml").read_text()
        served = re.sub(r"^# (\[\w+\]|(?:cert|key|tokens) =)", r"\1", settings, flags=re.MULTILINE)
        served += f'\n[stores]\nfast = "{STORES[-1]}"\n'
        (self.folder / "etc/towline/broker.toml").write_text(self.here(served))
        authority.write(self.folder / "etc/towline", "clients-ca")
        Issuer().write_key_set(self.folder / "etc/towline/cluster-keys.json")
        install(self.folder, "shelf", _SHELF)
        (self.folder / "shown.jsonl").write_text(blocks("docs/backup.md", "json")[0])
        for words in (
            *(f"import --store {url} shown.jsonl" for url in STORES),
            *(f"token create --name us --admin --tokens {tokens}" for tokens in TOKENS),
        ):
            done = self.run(Call(words=["towline-broker", *words.split()]), pytest.MonkeyPatch())
            assert done.code == 0, done.err

    def run(self, call: Call, patch: pytest.MonkeyPatch, *, as_typed: bool = False) -> Done:
        """One of our commands, in this process; the folder is where it works. ``as_typed``: with
        the servers that it names."""
        words = [self.here(word) for word in call.words]
        if call.arguments[0] != "config" and not as_typed:
            words = [_SERVERS.sub("sqlite:///server.db", word) for word in words]
        variables = {name: self.here(value) for name, value in call.variables.items()}
        if "TOWLINE_CA" not in variables:
            variables |= {"TOWLINE_URL": self._address, "TOWLINE_CA": "ca.pem"}
        with patch.context() as patched:
            patched.chdir(self.folder)
            patched.syspath_prepend(self.folder / "packages")
            patched.syspath_prepend(ROOT / "examples/driver_shelf/src")
            for name in [name for name in os.environ if name.startswith("TOWLINE_")]:
                patched.delenv(name)
            for name, value in variables.items():
                patched.setenv(name, value)
            if call.program == "towline":
                return Command(patched)(*words[1:])
            done = CliRunner().invoke(app, words[1:], input="y\n")
        return Done(done.exit_code, done.stdout, done.stderr)

    def here(self, word: str) -> str:
        """A word that the pages write, as it is to be here."""
        if word == "ID":
            return self._job
        if word.startswith("grpcs://broker.internal"):
            return self._address
        return _FOLDERS.sub(f"{self.folder}/", word)
