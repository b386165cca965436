"""Mistakes that people make in a configuration: each is refused, and docs/configuration.md shows
what was said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Mistake:
    """``file``: what stands in the file called ``name``, which is given as --config; without one
    there is none. ``dotenv``: what stands in .env. None of them holds a backslash-n that is not
    the end of a line."""

    file: str | bytes | None = None
    name: str = "broker.toml"
    variables: Mapping[str, str] = field(default_factory=dict)
    dotenv: str = ""
    options: Sequence[str] = ()

    @property
    def source(self) -> list[str]:
        """What was wrong, as lines to show."""
        lines = [] if self.name == "broker.toml" else [f"in {self.name}"]
        if isinstance(self.file, str):
            lines += self.file.splitlines()
        elif self.file is not None:
            lines.append(repr(self.file)[2:-1])
        lines += [f"{name}={value}" for name, value in self.variables.items()]
        if self.dotenv:
            lines += ["in .env", *self.dotenv.splitlines()]
        if self.options:
            lines.append(" ".join(self.options))
        return lines


def toml(text: str) -> Mistake:
    return Mistake(text)


def variable(name: str, value: str) -> Mistake:
    return Mistake(variables={name: value})


MISTAKES: Mapping[str, Sequence[Mistake]] = {
    "Types": [
        toml('processes = "two"'),
        toml("[limits]\nbatch = 1.5"),
        toml("[limits]\nbatch = [1, 2]"),
        toml('insecure = "maybe"'),
        toml("log_level = 3"),
        toml("listen = 7480"),
        toml("limits = 3"),
        toml('stores = "redis://:secret@cache"'),
        toml("[stores]\nfast = 5"),
        toml('queues = ["emails"]'),
        toml('[queues.emails]\nretry = "never"'),
        toml('[queues.emails.retry]\ndelays = ["10s", "soon"]'),
    ],
    "Units and bounds": [
        toml('drain_timeout = "soon"'),
        toml('drain_timeout = "10 parsecs"'),
        toml("drain_timeout = true"),
        toml('drain_timeout = "2h"'),
        toml('[limits]\nmin_lease = "-1s"'),
        toml('[limits]\npayload_bytes = "1 lot"'),
        toml('[limits]\npayload_bytes = "3GiB"'),
        toml("[limits]\nunique_key_bytes = 257"),
        toml("processes = 0"),
        toml("[core]\nmax_waiters = -1"),
        toml("[limits]\nretry_multiplier = nan"),
        toml('listen = "127.0.0.1"'),
        toml('listen = "127.0.0.1:74800"'),
        toml('listen = "::1:7480"'),
        toml('listen = "redis://:secret@cache:port"'),
        toml('drain_timeout = "redis://:secret@cache"'),
        toml('[queues.emails]\ndead_letter_retention = "for ever"'),
    ],
    "Names": [
        toml('listne = "127.0.0.1:7480"'),
        toml('log-level = "debug"'),
        toml('default_lease = "1m"'),
        toml("[limit]\nbatch = 5"),
        toml("[limits]\npaylod_bytes = 1024"),
        toml('log_level = "warn"'),
        toml('[queues.emails]\nstor = "fast"'),
        toml("[queues.emails.retry]\nattempts = 5"),
        toml("[queues.emails]\nmax_attempts = 5"),
        toml("[http]\nport = 7481"),
        toml('[queues."no spaces"]\npaused = true'),
        toml('[stores]\n"my:store" = "memory:"'),
        toml('[stores]\ndefault = "memory:"'),
    ],
    "What does not go together": [
        toml('[queues.emails]\nstore = "fats"\n[stores]\nfast = "redis://cache"'),
        toml('[queues.emails]\nstore = "fast"'),
        toml('[queues.emails]\nstore = "redis://:secret@cache"'),
        toml('store = "redis://:secret@h"\n[stores]\nfast = "redis://:secret@h"'),
        toml('[queues."a*x"]\npaused = true\n[queues."a*y*x"]\npaused = true\n[queues."a*z*x"]'),
        toml('[limits]\nmin_lease = "2h"\nmax_lease = "1h"'),
        toml('[limits]\npayload_bytes = "100MiB"'),
        toml('[core]\ndefault_lease = "13h"'),
        toml('[queues.emails]\nlease = "1d"'),
        toml('[queues.emails.retry]\ndelays = ["1s"]\ninitial = "1s"'),
        toml("processes = 4"),
        toml('listen = "0.0.0.0:7480"'),
    ],
    "Stores": [
        toml('store = ""'),
        toml('store = "jobs.db"'),
        toml('store = "mongodb://u:secret@h/jobs"'),
        toml('store = "sqlite:///jobs.db?sync=full"'),
        toml('store = "redis://:secret@h:port"'),
        toml('[stores]\nfast = "rediss://cache?tls=no"'),
    ],
    "Files": [
        Mistake(options=("--config", "nowhere.toml")),
        Mistake("listen = 1", name="broker.conf"),
        Mistake(b"store = '\xff'"),
        toml("store = "),
        toml('store = "redis://:secret@h'),
        toml("[limits]\nbatch = 1\n[limits]\npage = 1"),
        Mistake("limits:\n  batch: 1\n page: 2", name="broker.yaml"),
        Mistake("limits:\n\tbatch: 1", name="broker.yaml"),
        Mistake("limits: {batch: 1}\nlimits: {page: 1}", name="broker.yaml"),
        Mistake("- listen", name="broker.yaml"),
        Mistake('{"store": "memory:",}', name="broker.json"),
        Mistake('["store"]', name="broker.json"),
        Mistake("core:\n  max_waiters: none", name="broker.yaml"),
        Mistake('{"limits": {\n  "batch": 0\n}}', name="broker.json"),
    ],
    "Variables": [
        variable("TOWLINE_LOG_LEVEL", "loud"),
        variable("TOWLINE_STOER", "memory:"),
        variable("TOWLINE_LIMITS_BATCH", "10"),
        variable("TOWLINE_LIMITS__BACTH", "10"),
        variable("TOWLINE_LIMITS__BATCH", ""),
        variable("TOWLINE_LIMITS", "batch=10"),
        variable("TOWLINE_QUEUES", '{"emails": {"store": "fast"}}'),
        variable("TOWLINE_QUEUES__EMAILS__MAX_DEPTH", "lots"),
        variable("TOWLINE_STORES", '{"fast": "redis://:secret@h"'),
        variable("TOWLINE_CONFIG", "elsewhere.toml"),
        Mistake(dotenv="TOWLINE_CONFIG=elsewhere.toml"),
        Mistake(dotenv="TOWLINE_DRAIN_TIMEOUT=10x"),
        Mistake(dotenv="TOWLINE_LISTN=127.0.0.1:7480"),
        Mistake(dotenv="SECRET=5\nTOWLINE_LISTEN 127.0.0.1:7480"),
    ],
    "Options": [
        Mistake(options=("--listen", "nowhere")),
        Mistake(options=("--drain-timeout", "10x")),
        Mistake(options=("--processes", "1000")),
        Mistake(options=("--processes", "many")),
        Mistake(options=("--log-level", "loud")),
        Mistake(options=("--stor", "memory:")),
        Mistake(options=("--store", "memory:", "--store", "sqlite:///jobs.db")),
        Mistake(options=("--store", "fast=memory:", "--store", "fast=redis://:secret@h")),
        Mistake(options=("--store", "my store=memory:")),
        Mistake(options=("--tls-cert", "broker.pem")),
        Mistake(options=("--http", "7481")),
    ],
    "TLS, identities, guards, HTTP": [
        toml('[tls]\ncert = "nowhere.pem"\nkey = "nowhere.key"'),
        toml('[tls]\nclient_ca = "ca.pem"'),
        toml('[auth]\ntokens = "nowhere.json"'),
        toml('[auth.jwt]\nissuer = "https://id.example"'),
        toml('[auth.jwt]\nissuer = "i"\naudience = "a"\njwks_url = "http://id.example/keys"'),
        toml('[auth.jwt]\nissuer = "i"\naudience = "a"\nkey = "k.pem"\nalgorithms = ["HS256"]'),
        toml('[auth.subjects.web]\npush = ["emails"]'),
        toml('[auth.subjects.web]\npush = "emails"'),
        toml("[guards]\ncalls_per_second = -1"),
        toml('[http]\nlisten = "0.0.0.0:7481"'),
    ],
}
