"""Ids of jobs: UUIDs of version 7, which sort by the time they were made."""

import os
import threading
import time

from towline.forks import in_forked_children

# RFC 9562: 48 bits of milliseconds, 4 of version, 12 "rand_a", 2 of variant, 62 "rand_b". rand_a
# and rand_b are one number here, which counts up within a millisecond (the RFC's method 2).
_VERSION = 7 << 76
_VARIANT = 2 << 62
_RANDOM_BITS = 74
_RANDOM_BYTES = 10
# Drawn for so many ids at once: asking the kernel each time gives up the GIL each time.
_DRAW = 256

_lock = threading.Lock()
_last_millisecond = 0
_last_random = 0
_drawn = b""
_used = 0


def uuid7() -> str:
    """Return a new id in canonical form.

    Of two ids made one after the other in this process the later is always the greater, also when
    the clock is set back.
    """
    global _last_millisecond, _last_random, _drawn, _used
    millisecond = time.time_ns() // 1_000_000
    with _lock:
        if _used == len(_drawn):
            _drawn, _used = os.urandom(_DRAW * _RANDOM_BYTES), 0
        fresh = int.from_bytes(_drawn[_used : _used + _RANDOM_BYTES], "big")
        _used += _RANDOM_BYTES
        if millisecond > _last_millisecond:
            _last_millisecond = millisecond
            # The top bit stays free, so that counting up has room.
            _last_random = fresh & ((1 << (_RANDOM_BITS - 1)) - 1)
        else:
            _last_random += 1 + (fresh & 0xFFFFFFFF)
            if _last_random >> _RANDOM_BITS:
                _last_millisecond += 1
                _last_random &= (1 << (_RANDOM_BITS - 1)) - 1
        millisecond, random = _last_millisecond, _last_random
    value = millisecond << 80 | _VERSION | (random >> 62) << 64 | _VARIANT | random & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _after_fork() -> None:
    # A child that inherited a held lock would wait for ever, and one that inherited the counter
    # or what was drawn could repeat what its parent makes.
    global _lock, _last_random, _drawn, _used
    _lock = threading.Lock()
    _drawn, _used = b"", 0
    fresh = int.from_bytes(os.urandom(_RANDOM_BYTES), "big")
    _last_random = fresh & ((1 << (_RANDOM_BITS - 1)) - 1)


in_forked_children(_after_fork)
