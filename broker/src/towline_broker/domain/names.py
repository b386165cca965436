"""What queues, types and jobs may be called, and patterns of such names."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)

#: Of a queue or a type.
is_name = _NAME.fullmatch
#: Of a job.
is_uuid = _UUID.fullmatch

NAME_FORM = "1 to 128 of A-Z a-z 0-9 . _ : -, beginning with a letter or digit"


def fits(pattern: str, name: str) -> bool:
    """Whether a name is one of those that a pattern stands for; each ``*`` of it stands for any
    text, also for none.

    Each part between stars is looked for where it comes first: no pattern takes long, whoever made
    it up.
    """
    first, *others = pattern.split("*")
    if not others:
        return name == first
    *middle, last = others
    end = len(name) - len(last)
    if not name.startswith(first) or not name.endswith(last) or end < len(first):
        return False
    at = len(first)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
