"""Bytes that no good client would send, for a moment each. `make fuzz` goes on for longer."""

import os
import subprocess
import sys
from random import Random

import pytest

from tests.faults.harness.figures import seed
from tests.fuzz.calls import CallsTarget
from tests.fuzz.parsers import ParserTarget
from tests.fuzz.running import all_targets
from tests.fuzz.targets import Found, Target

TARGETS = all_targets()
SEED = seed()
EPOCHS = int(os.environ.get("TOWLINE_FUZZ_EPOCHS", "1"))


def share(target: Target) -> int:
    """So many messages take about half a second."""
    if isinstance(target, CallsTarget):
        return 3_000 if target.name == "calls" else 300
    return 5_000 if isinstance(target, ParserTarget) else 500


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_bad_bytes_do_no_harm(target: Target) -> None:
    sys.stdout.write(f"seed {SEED}\n")
    for epoch in range(EPOCHS):
        rng = Random(f"{SEED}/{target.name}/{epoch}")
        try:
            answers = target.epoch(rng, share(target))
        except AssertionError as error:
            again = f"TOWLINE_SEED={SEED} pytest tests/fuzz/test_fuzz.py -k '{target.name}'"
            raise AssertionError(f"{error}\n  again: {again}") from error
        # Good ones are among them, or nothing behind the first check would be met.
        assert len(answers) > 1


def test_the_messages_are_shared_out_to_processes() -> None:
    options = ("--messages", "300", "--seed", "1", "--processes", "2")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert " 0 found" in done.stdout


class _Picky(ParserTarget):
    def __init__(self) -> None:
        super().__init__("picky", [b"abcdef"], self._take)

    @staticmethod
    def _take(raw: bytes) -> str:
        if raw[:1] == b"\xff":
            raise KeyError("a defect")
        return "read"


def test_what_a_parser_must_not_raise_is_found() -> None:
    with pytest.raises(Found, match=r"picky: KeyError: 'a defect'\n  input: ff"):
        _Picky().epoch(Random(1), 100_000)
