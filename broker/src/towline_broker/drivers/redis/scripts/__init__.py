"""The Lua scripts: one for each change and each question. A script is put together from the parts
it needs; what a script takes and answers is said at its beginning."""

from importlib.resources import files

from towline_broker.drivers.redis.link.interface import Script

_FOLDER = files(__name__)


def _read(name: str) -> str:
    return _FOLDER.joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _script(name: str, *parts: str, write: bool, repeatable: bool = False) -> Script:
    pieces = [_read(f"parts/{part}") for part in ("base", *parts)]
    return Script(name, "\n".join([*pieces, _read(name)]), write, repeatable)


_CHANGES = ("records", "changes", "memory")

PUSH = _script("push", *_CHANGES, "plain", "planning", write=True)
CHECK_PUSH = _script("check_push", *_CHANGES, "planning", write=False)
GET = _script("get", "records", write=False)
LIST_JOBS = _script("list_jobs", "records", "pages", write=False)
CANCEL = _script("cancel", *_CHANGES, write=True)

RESERVE = _script("reserve", *_CHANGES, "plain", write=True)
PROBE = _script("probe", "records", write=False)
LEASES = _script("leases", "records", write=False)
ACK = _script("ack", *_CHANGES, "plain", write=True)
NACK = _script("nack", *_CHANGES, write=True)
EXTEND = _script("extend", *_CHANGES, write=True)

PROMOTE = _script("promote", *_CHANGES, write=True)
EXPIRE = _script("expire", *_CHANGES, write=True)
EXPIRED_LEASES = _script("expired_leases", "records", write=False)
FORGET = _script("forget", *_CHANGES, write=True)
TIMES = _script("times", write=False)
NEXT_DUE = _script("next_due", write=False)

LIST_DEAD = _script("list_dead", "records", "dead", write=False)
FIND_DEAD = _script("find_dead", "records", "dead", write=False)
REQUEUE_DEAD = _script("requeue_dead", *_CHANGES, write=True)
DISCARD_DEAD = _script("discard_dead", *_CHANGES, write=True)

QUEUES = _script("queues", write=False)
SET_PAUSED = _script("set_paused", *_CHANGES, write=True)
PURGE = _script("purge", *_CHANGES, "waiting", write=True)
COUNTS = _script("counts", write=False)
OLDEST_READY = _script("oldest_ready", "records", write=False)
RESET_TOTALS = _script("reset_totals", write=True, repeatable=True)

SEAL = _script("seal", *_CHANGES, write=True, repeatable=True)
OUTGOING = _script("outgoing", "records", "waiting", "dead", "transfers", write=False)
COPIES = _script("copies", "records", "pages", "transfers", write=False)
RECEIVE = _script("receive", *_CHANGES, write=True)
DROP = _script("drop", *_CHANGES, write=True)
FORWARD = _script("forward", *_CHANGES, "dead", write=True, repeatable=True)

CHECK_JOBS = _script("check_jobs", "records", "pages", write=False)
CHECK_SIZES = _script("check_sizes", "records", write=False)

POST = _script("post", write=True, repeatable=True)
NOTICES = _script("notices", write=False)
