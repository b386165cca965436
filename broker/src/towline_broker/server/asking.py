"""How the process that looks after several brokers asks one of them: by the pipes between the two.

A question is one line: a word, and behind a space what there is to say to it. An answer is a line
with the number of its bytes, and those. Questions are answered one by one, in their order.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import BinaryIO

from towline_broker.domain.events import event

log = logging.getLogger("towline.broker")

#: Of a question: settings can be long.
MOST_BYTES = 16 << 20

#: Not a question, but the settings that hold from now on, as JSON; and its answer.
RELOAD = "reload"
TAKEN_OVER = b"taken over"

#: Is given what was said behind the word.
Answer = Callable[[str], Awaitable[bytes]]
#: By the word; nothing is no answer.
Answers = Mapping[str, Answer]


class Asked:
    """The end of who asks."""

    def __init__(self, told: asyncio.StreamWriter, said: asyncio.StreamReader) -> None:
        self._told = told
        self._said = said
        #: Goes on after its asker has lost patience, so that its answer is not taken for another's.
        self._exchange: asyncio.Task[bytes | None] | None = None

    async def ask(self, question: str, patience: float) -> bytes | None:
        """None: no answer within so many seconds, or nobody is there."""
        end = asyncio.get_running_loop().time() + patience
        while self._exchange is not None and not self._exchange.done():
            await asyncio.wait([self._exchange], timeout=_left(end))
            if not _left(end):
                return None
        mine = self._exchange = asyncio.create_task(self._exchanged(question))
        await asyncio.wait([mine], timeout=_left(end))
        return mine.result() if mine.done() else None

    async def _exchanged(self, question: str) -> bytes | None:
        try:
            self._told.write(question.encode() + b"\n")
            await self._told.drain()
            length = int(await self._said.readline())
            return await self._said.readexactly(length) or None
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return None


def _left(end: float) -> float:
    return max(0.0, end - asyncio.get_running_loop().time())


async def answer(answers: Answers, out: BinaryIO) -> None:
    """The end of who is asked: reads standard input until whoever asks is gone."""
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader(limit=MOST_BYTES)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
    )
    try:
        while line := await questions.readline():
            word, _, given = line.decode().strip().partition(" ")
            said = await _said(answers.get(word), given)
            # In a thread: a pipe takes 64 KiB, and whoever reads it may be slow.
            await asyncio.to_thread(_write, out, b"%d\n%b" % (len(said), said))
    except OSError:  # nobody reads any more
        pass
    finally:
        transport.close()


async def _said(give: Answer | None, given: str) -> bytes:
    """Nothing, where there is no answer."""
    try:
        return b"" if give is None else await give(given)
    except Exception:  # whoever asks is told nothing, and this broker has other things to do
        log.exception(
            "a question of the process that started this one is not answered",
            extra=event("question_defect"),
        )
        return b""


def _write(out: BinaryIO, data: bytes) -> None:
    out.write(data)
    out.flush()
