"""Names of queues, from Towline's letters to those that SQS allows, and back.

SQS takes letters, digits, ``-`` and ``_``, 80 at most. The underscore begins what it does not take:
``.`` is ``_p`` (point), ``:`` is ``_c`` (colon), ``_`` itself is ``_u``. No queue of Towline
therefore ends in ``_dead``, which marks the companion that holds its dead jobs.
"""

import re

from towline_broker.domain.errors import NotSupported
from towline_broker.drivers.sqs.url import Options

MOST_LETTERS = 80
DEAD = "_dead"
FIFO = ".fifo"

_ESCAPES = {".": "_p", ":": "_c", "_": "_u"}
_LETTERS = {escape: letter for letter, escape in _ESCAPES.items()}
_ESCAPED = re.compile(r"(?:[A-Za-z0-9-]|_[pcu])+", re.ASCII)


def to_sqs(queue: str, options: Options, *, dead: bool = False) -> str:
    """Raises NotSupported if SQS allows no name of that length."""
    escaped = "".join(_ESCAPES.get(letter, letter) for letter in queue)
    longest = f"{options.prefix}{escaped}{DEAD}{FIFO if options.fifo else ''}"
    if len(longest) > MOST_LETTERS:
        raise NotSupported(
            "sqs",
            f"a queue with a name as long as {queue!r}",
            f"SQS allows {MOST_LETTERS} letters, and this one would need {len(longest)}",
        )
    return f"{options.prefix}{escaped}{DEAD if dead else ''}{FIFO if options.fifo else ''}"


def from_sqs(name: str, options: Options) -> tuple[str, bool] | None:
    """The queue, and whether this is its companion for dead jobs. None: not one of ours."""
    if not name.startswith(options.prefix) or name.endswith(FIFO) != options.fifo:
        return None
    rest = name.removeprefix(options.prefix).removesuffix(FIFO)
    dead = rest.endswith(DEAD)
    rest = rest.removesuffix(DEAD)
    if not _ESCAPED.fullmatch(rest):
        return None
    return re.sub(r"_[pcu]", lambda escape: _LETTERS[escape[0]], rest), dead
