"""Cables between machines lose what they are told to lose, without a word."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.namespaces import Cable, Machine, Traffic
from tests.support.servers.process import wait_until

#: Long enough to see that nothing comes.
SILENCE = 0.3
SECONDS = 10.0

#: Answers each datagram to the port it is given, and prints what it heard.
_ANSWERER = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as heard:
    heard.bind((sys.argv[1], 0))
    print(heard.getsockname()[1], flush=True)
    while True:
        data, sender = heard.recvfrom(100)
        print(data.decode(), flush=True)
        heard.sendto(data, sender)
"""


class Other:
    """A process on the other machine."""

    def __init__(self, cable: Cable, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._heard = process.stdout
        self._there = (cable.there, int(self._heard.readline()))
        self._ours = socket.socket(type=socket.SOCK_DGRAM)
        self._ours.bind((cable.here, 0))

    def close(self) -> None:
        self._ours.close()

    def say(self, word: str) -> None:
        self._ours.sendto(word.encode(), self._there)

    def answers(self) -> str | None:
        self._ours.settimeout(SILENCE)
        try:
            return self._ours.recv(100).decode()
        except TimeoutError:
            return None

    def heard(self) -> str:
        return self._heard.readline().strip()


@contextmanager
def other_end(machine: Machine, cable: Cable) -> Iterator[Other]:
    command = [*machine.run_by, sys.executable, "-c", _ANSWERER, cable.there]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        other = Other(cable, process)
        try:
            yield other
        finally:
            other.close()
            process.kill()


def no_way(machine: Machine, cable: Cable) -> bool:
    """The other machine knows of none to here."""
    command = [*machine.run_by, "ip", "route", "get", cable.here]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    return "unreachable" in done.stderr


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


def test_a_cable_loses_what_it_is_told_to_lose(machine: Machine) -> None:
    cable = machine.cable()
    with other_end(machine, cable) as other:
        other.say("whole")
        assert (other.heard(), other.answers()) == ("whole", "whole")
        cable.part(Traffic.TO_HERE)
        other.say("no answer")
        assert (other.heard(), other.answers()) == ("no answer", None)
        cable.part(Traffic.TO_THERE)
        other.say("never heard")
        assert other.answers() is None
        cable.part()
        other.say("never heard")
        assert other.answers() is None
        cable.mend()
        other.say("mended")
        assert (other.heard(), other.answers()) == ("mended", "mended")


def test_a_cable_that_was_unplugged_works_when_it_is_plugged_in(machine: Machine) -> None:
    cable = machine.cable()
    with other_end(machine, cable) as other:
        cable.unplug()
        other.say("never heard")
        assert other.answers() is None
        assert no_way(machine, cable)
        cable.plug()
        assert not no_way(machine, cable)
        other.say("plugged")
        assert (other.heard(), other.answers()) == ("plugged", "plugged")


def test_one_cable_is_cut_and_the_other_is_not(machine: Machine) -> None:
    cut, whole = machine.cable(), machine.cable()
    cut.part()
    with other_end(machine, whole) as other:
        other.say("whole")
        assert (other.heard(), other.answers()) == ("whole", "whole")


def test_a_connection_outlives_a_short_cut(machine: Machine) -> None:
    cable = machine.cable()
    with socket.create_server((cable.here, 0)) as server:
        host, port = server.getsockname()
        program = (
            "import socket, sys\n"
            "with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:\n"
            "    while data := connection.recv(100): connection.sendall(data)\n"
        )
        command = [*machine.run_by, sys.executable, "-c", program, host, str(port)]
        with subprocess.Popen(command) as process:
            server.settimeout(SECONDS)
            connection, _ = server.accept()
            with connection:
                cable.part()
                connection.sendall(b"late")
                connection.settimeout(SILENCE)
                with pytest.raises(TimeoutError):
                    connection.recv(100)
                delayed = machine.under_way()
                cable.mend()
                connection.settimeout(SECONDS)
                assert connection.recv(100) == b"late"
                wait_until(lambda: not machine.under_way(), "all is confirmed")
            assert process.wait(SECONDS) == 0
            assert delayed
