"""One life of a store: a process of its own that makes rounds of calls until it dies, and what has
to be there afterwards.

The process is forked, so it costs little, and it tells of each round and of each answer before it
does anything else. What it could not tell it may have done or not; all else must be as the model
says, in every state of every job, and in the answers to calls that are repeated.
"""

import asyncio
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.disks.rounds import QUEUES, Act, Rounds, normalized
from towline_broker.domain.errors import StoreFailed, StoreFull, StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.heard import Heard

#: A life that takes longer than so many seconds hangs.
LONGEST = 60.0
#: A call that is refused is made again so often.
TRIES = 3


Tell = Callable[..., None]


class Doubtful(Exception):
    """An answer came too late to count."""


class Wrong(AssertionError):
    """The store gave an answer that it must not give."""


@dataclass(slots=True)
class Told:
    """What a life has told of itself."""

    opened: bool = False
    closed: bool = False
    rounds: int = 0
    #: Of the last round: the calls that were answered, and those that were refused.
    answered: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    #: Why it ended, if the store has failed.
    failure: str | None = None
    #: It had begun to tidy up, and was not done.
    tidying: bool = False
    #: Its disk is no more.
    cut: bool = False
    status: int = 0
    refusals: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        what, _, rest = line.partition(" ")
        if what == "opened":
            self.opened = True
        elif what == "closed":
            self.closed = True
        elif what == "round":
            self.rounds += 1
            self.answered, self.refused = set(), set()
        elif what == "answered":
            self.answered.add(int(rest))
            self.refused.discard(int(rest))
        elif what == "refused":
            number, _, why = rest.partition(" ")
            self.refused.add(int(number))
            self.refusals.append(why)
        elif what in ("tidying", "tidy"):
            self.tidying = what == "tidying"
        elif what == "cut":
            self.cut = True
        elif what == "failed":
            self.failure = rest
        else:
            self.wrong.append(line)

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


class Life:
    """Forked by :meth:`begin`. The rounds go on from where the given ones are, in a copy."""

    def __init__(
        self,
        url: str,
        rounds: Rounds,
        count: int,
        prepare: Callable[[Tell], None],
        doubtful: Callable[[], bool] = lambda: False,
    ) -> None:
        """``prepare`` is called in the new process before the store is opened, with what tells.
        ``doubtful`` is asked at each answer: from the first that is, there are none any more."""
        self._url = url
        self._rounds = rounds
        self._count = count
        self._prepare = prepare
        self._doubtful = doubtful
        self._pid = self._tells = -1
        self.told = Told()
        self._heard = b""

    def begin(self) -> None:
        self._tells, told_to = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            # Whatever happens, nothing of the process that was forked may run here.
            try:
                os.close(self._tells)
                self._live(told_to)
            finally:
                os._exit(1)
        os.close(told_to)

    def heard(self, seconds: float) -> bool:
        """Waits for it to tell something; False once it is over, or after so many seconds."""
        readable, _, _ = select.select([self._tells], [], [], seconds)
        if not readable:
            return False
        heard = os.read(self._tells, 65536)
        *lines, self._heard = (self._heard + heard).split(b"\n")
        for line in lines:
            self.told.hear(line.decode())
        return bool(heard)

    def end(self, *, kill: bool = False) -> Told:
        """Waits until it is over, or ends it."""
        until = time.monotonic() + LONGEST
        if kill:
            os.kill(self._pid, signal.SIGKILL)
        while self.heard(until - time.monotonic()):
            pass
        if time.monotonic() >= until:
            os.kill(self._pid, signal.SIGKILL)
        os.close(self._tells)
        _, self.told.status = os.waitpid(self._pid, 0)
        if time.monotonic() >= until:
            raise Wrong(f"a life goes on for more than {LONGEST:g} s: {self.told}")
        if self.told.wrong:
            raise Wrong("\n".join(self.told.wrong))
        return self.told

    # --- in the process -----------------------------------------------------------------------

    def _live(self, told_to: int) -> None:
        def tell(*words: object) -> None:
            line = " ".join(map(str, words)).replace("\n", " ")
            os.write(told_to, f"{line}\n".encode())

        try:
            self._prepare(tell)
            asyncio.run(_live(self._url, self._rounds, self._count, tell, self._doubtful))
        except Doubtful:
            pass
        except BaseException as error:  # told, whatever it is: nobody else hears of it
            tell("broken", repr(error), traceback.format_exc())
        os._exit(0)


async def _live(
    url: str, rounds: Rounds, count: int, tell: Tell, doubtful: Callable[[], bool]
) -> None:
    driver = create_driver(url)
    try:
        await driver.open(rounds.now, Heard())
        tell("opened")
        for _ in range(count):
            acts = await rounds.next()
            expected = [normalized(await act.call(rounds.model)) for act in acts]
            tell("round", rounds.number)
            answers = await asyncio.gather(
                *(_make(driver, number, act, tell, doubtful) for number, act in enumerate(acts)),
                return_exceptions=True,
            )
            for act, answer, should in zip(acts, answers, expected, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                if (answer := normalized(answer)) != should:
                    tell("wrong", rounds.number, act.name, answer, "and not", should)
    except StoreRefused as error:
        tell("failed", error)
        return
    except StoreFailed as error:
        tell("failed", error)
        await _stays_failed(driver, tell)
    except (StoreFull, StoreUnavailable):
        pass  # told already
    try:
        await driver.close()
    except StoreFailed as error:
        tell("failed", error)
    else:
        tell("closed")


async def _make(
    driver: Driver, number: int, act: Act, tell: Tell, doubtful: Callable[[], bool]
) -> object:
    for left in range(TRIES - 1, -1, -1):
        try:
            answer = await act.call(driver)
        except (StoreFull, StoreUnavailable) as error:
            tell("refused", number, type(error).__name__, act.name, error)
            if not left:
                raise
        else:
            if doubtful():
                raise Doubtful
            tell("answered", number)
            return answer
    raise AssertionError("not reached")


async def _stays_failed(driver: Driver, tell: Tell) -> None:
    """Nothing is answered any more."""
    try:
        await driver.queues()
    except (StoreFailed, StoreUnavailable):
        return
    tell("wrong", "a store that has failed answers")


# --- afterwards -----------------------------------------------------------------------------------


async def judge(url: str, rounds: Rounds, told: Told, *, more: int = 0) -> None:
    """Opens the store and compares it with the model, which then stands as the store does. With
    ``more``, makes so many more rounds on it, and compares what it is once it was closed."""
    acts: list[Act] = []
    for number in range(1, told.rounds + 1):
        acts = await rounds.next()
        if number < told.rounds:
            await _apply(rounds, acts)
    done = [act for number, act in enumerate(acts) if number in told.answered]
    open_ended = {n: act for n, act in enumerate(acts) if n not in told.answered}
    await _apply(rounds, done)
    driver = create_driver(url)
    await driver.open(rounds.now, Heard())
    try:
        for number, act in open_ended.items():
            await _settle(rounds, driver, act, refused=number in told.refused)
        await compare(rounds, driver)
        for _ in range(more):
            for act in await rounds.next():
                should, answer = await act.call(rounds.model), await act.call(driver)
                if normalized(answer) != normalized(should):
                    raise Wrong(f"{act.name} afterwards: {answer}, and not {should}")
    finally:
        await driver.close()
    if more:
        driver = create_driver(url)
        await driver.open(rounds.now, Heard())
        try:
            await compare(rounds, driver)
        finally:
            await driver.close()


async def _apply(rounds: Rounds, acts: list[Act], *, answered: bool = True) -> None:
    for act in acts:
        await act.call(rounds.model)
        if answered:
            rounds.answered[act.name] += act.items


async def _settle(rounds: Rounds, driver: Driver, act: Act, *, refused: bool) -> None:
    """What was not answered has happened as a whole, unless it was refused, or not at all."""
    if without := await _difference(rounds, driver, act):
        await _apply(rounds, [act], answered=False)
        if having := await _difference(rounds, driver, act):
            raise Wrong(
                f"{act.name} of {act.queue} by half: without it {without}; with it {having}"
            )
        if refused:
            raise Wrong(f"{act.name} of {act.queue} was refused, and done")


async def _difference(rounds: Rounds, driver: Driver, act: Act | None = None) -> str:
    """Empty if the store stands as the model does, as far as the act is concerned."""
    queue = None if act is None else act.queue
    for each in QUEUES if queue is None else (queue,):
        is_ = await rounds.portrait(driver, each)
        should = await rounds.portrait(rounds.model, each)
        for part, one in is_.items():
            if one != should[part]:
                return (
                    f"{part} of {each}: {_only(one, should[part])}, not {_only(should[part], one)}"
                )
    if queue is not None:
        return ""
    # That settled jobs were forgotten shows nowhere else.
    again, as_before = await rounds.repeated(driver), await rounds.repeated(rounds.model)
    return "" if again == as_before else f"repeated calls: {again}\n  and not {as_before}"


def _only(one: object, other: object) -> object:
    """What it has and the other has not."""
    if isinstance(one, list) and isinstance(other, list):
        return [each for each in one if each not in other]
    return one


async def compare(rounds: Rounds, driver: Driver) -> None:
    """Raises Wrong unless the store stands as the model does."""
    if difference := await _difference(rounds, driver):
        raise Wrong(f"round {rounds.number}: {difference}")
