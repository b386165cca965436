"""Fuzzing that is guided by what code an input reaches, with atheris:

    make fuzz-coverage TARGET=calls RUNS=1000000

Inputs are kept that reach what none before has reached, and are changed further, by their bytes
and by the fields of their messages. A crash or a hang ends it, and libFuzzer writes the input to a
file.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-untyped]  # requirements/fuzz.txt

with atheris.instrument_imports(include=["towline", "towline_broker"]):
    from tests.fuzz import journal, seeds
    from tests.fuzz.fuzzed_broker import METHODS, FuzzedBroker
    from tests.fuzz.mutation import MOST_BYTES, ByteMutator, MessageMutator
    from tests.fuzz.parsers import all_parsers
    from towline_broker.drivers.memory.driver import MemoryDriver
    from towline_broker.drivers.memory.engine import Engine

Mutate = Callable[[bytes, Random], bytes]
#: What to begin with, what to do with an input, and how to change one (None: as libFuzzer does).
Guided = tuple[Sequence[bytes], Callable[[bytes], object], Mutate | None]

#: Inputs that one broker gets; then a new one begins with nothing.
LIFE = 5_000
#: Calls between two steps of the clock.
ROUND = 200


class _Calls:
    """The first byte of an input names the method, the others are its request."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._paths = sorted(METHODS)
        self._broker: FuzzedBroker | None = None
        self._done = 0

    @property
    def seeds(self) -> list[bytes]:
        places = {path.rpartition("/")[2]: place for place, path in enumerate(self._paths)}
        return [
            bytes([places[method]]) + message.SerializeToString()
            for method, messages in seeds.requests().items()
            if method in places  # streams are not guided
            for message in messages
        ]

    def run(self, raw: bytes) -> None:
        if raw:
            self._loop.run_until_complete(self._call(raw))

    def mutate(self, raw: bytes, rng: Random) -> bytes:
        if not raw or rng.random() < 0.1:
            return ByteMutator(rng).mutate(raw or b"\0")
        kind = METHODS[self._path(raw)]
        return raw[:1] + MessageMutator(rng, [*seeds.IDS, *seeds.QUEUES]).mutate(raw[1:], kind)

    def _path(self, raw: bytes) -> str:
        return self._paths[raw[0] % len(self._paths)]

    async def _call(self, raw: bytes) -> None:
        if self._broker is None or self._done % LIFE == 0:
            if self._broker is not None:
                await self._broker.__aexit__()
            self._broker = await FuzzedBroker(MemoryDriver(Engine())).__aenter__()
        self._done += 1
        await self._broker.call(self._path(raw), raw[1:])
        if self._done % ROUND == 0:
            await self._broker.pass_time(1_100)


def _journal() -> Guided:
    folder = tempfile.TemporaryDirectory()
    directory = journal.Directory(Path(folder.name))
    good = [journal.segment(1, 1, journal.bodies())]

    def read(raw: bytes) -> None:
        folder  # noqa: B018 -- is removed when nothing refers to it any more
        directory.read([raw])

    return good, read, None


def _targets() -> dict[str, Guided]:
    calls = _Calls()
    targets: dict[str, Guided] = {"calls": (calls.seeds, calls.run, calls.mutate)}
    targets["journal bytes"] = _journal()
    for parser in all_parsers():
        targets[parser.name] = parser.seeds, parser.read, None
    return targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="calls", choices=sorted(_targets()))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    good, run, mutate = _targets()[options.target]
    corpus = Path(tempfile.mkdtemp(prefix="towline-fuzz-"))
    for number, raw in enumerate(good):
        (corpus / f"seed-{number}").write_bytes(raw)
    sys.stdout.write(f"seed {options.seed}, corpus {corpus}\n")
    arguments = [sys.argv[0], f"-runs={options.runs}", f"-seed={options.seed}", "-timeout=5"]
    arguments += [f"-max_len={MOST_BYTES}", "-rss_limit_mb=2048", str(corpus)]
    more = {}
    if mutate is not None:
        by_fields = mutate

        def custom_mutator(raw: bytes, most: int, seed: int) -> bytes:
            return by_fields(raw, Random(seed))[:most]

        more["custom_mutator"] = custom_mutator
    atheris.Setup(arguments, run, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
