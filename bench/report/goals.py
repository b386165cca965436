"""What is to be reached, and whether it is: always by figures of one run, measured by turns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report import reasons
from bench.results import Figure, Results, added_up

#: Rates that are goals hold where the empty echo carries so many jobs a second.
ECHO = 400_000
FEW, MANY = "1 x 64", "100 x 8"
PUSH, WORK = "Push", "Reserve + Ack"
NAMES = {
    "memory": "memory",
    "file": "file",
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "redis": "Redis, `always`",
    "redis-everysec": "Redis, `everysec`",
    "valkey": "Valkey, `always`",
    "redis-cluster": "Redis Cluster, `everysec`",
}
ONE_CALL = {
    **dict.fromkeys(("memory", "file", "sqlite"), (0.80, 0.45)),
    **dict.fromkeys(("redis", "postgresql"), (0.70, 0.35)),
}
HUNDRED = {
    "memory": (0.80, 0.45),
    "file": (0.50, 0.30),
    "sqlite": (0.30, 0.10),
    "redis": (0.35, 0.20),
    "postgresql": (0.28, 0.12),
}
STREAMS = {"memory": (0.80, 0.75), "file": (0.55, 0.45), "sqlite": (0.45, 0.40)}
OF_BARE = ("sqlite", "postgresql", "redis")
RATES = {"sqlite": (60_000, 40_000), "file": (100_000, 70_000), "memory": (150_000, 90_000)}
RABBITS = ("RabbitMQ classic, durable", "RabbitMQ quorum, durable")
#: Publishes as the SDK dispatches: from threads, each waiting for its confirm.
THREADED_RABBITS = ("RabbitMQ classic, by threads", "RabbitMQ quorum, by threads")
THREADED_RABBIT = THREADED_RABBITS[0]
SYNCED = ("NATS JetStream, durable", "beanstalkd, durable")
#: What runs jobs in two processes; all else does in one.
TWO_PROCESSES = (
    "Towline, process pool of 2",
    "Towline, 2 processes with threads",
    "Towline, 2 processes, async",
    "Celery, prefork of 2",
)
#: Whose jobs run in one process: the faster of them counts.
ONE_PROCESS = ("Towline, threads", "Towline, async")
ONE_POOL = ("Towline, process pool of 2",)
#: What is held against what, both with as many processes that run jobs.
LIBRARIES: Sequence[tuple[str, Sequence[str], str, Sequence[str], float]] = (
    ("one process", ONE_PROCESS, "Celery, threads", ("Celery, threads",), 5),
    ("process pool of 2", ONE_POOL, "Celery, prefork of 2", ("Celery, prefork of 2",), 5),
    ("one process", ONE_PROCESS, "Dramatiq, threads", ("Dramatiq, threads",), 4),
    ("one process", ONE_PROCESS, "taskiq", ("taskiq, Redis streams",), 4),
    ("one process", ONE_PROCESS, "the faster worker of RQ", ("RQ", "RQ, SimpleWorker"), 20),
)
LARGE = {"waiting": "1,000,000", "queues": "10,000", "workers": "10,000"}
SCALED = ("memory", "file", "sqlite", "postgresql", "redis")
IN_MEMORY = ("memory", "file")


@dataclass(frozen=True)
class Goal:
    what: str
    goal: float
    figure: float | None
    """None if it was not measured."""
    unit: str = ""
    most: bool = False
    """The goal is the most that it may be, not the least."""
    why: str = ""
    """The number of the decision that tells what it would take, if one does."""

    @property
    def met(self) -> bool:
        if self.figure is None:
            return False
        return self.figure <= self.goal if self.most else self.figure >= self.goal

    def cells(self) -> list[str]:
        sign = "≤" if self.most else "≥"
        goal = f"{sign} {_number(self.goal)}{self.unit}"
        if self.figure is None:
            return [self.what, goal, "", "not measured", ""]
        figure = f"{_number(self.figure)}{self.unit}"
        if self.met:
            return [self.what, goal, figure, "met", ""]
        return [self.what, goal, figure, "**not met**", reasons.link(self.why)]


def goals(results: Results) -> list[Goal]:
    """All of them, whether there are figures or not."""
    ways = (
        *(_shares, _of_streams, _of_bare, _rates, _brokers),
        *(_libraries, _dispatch, _latency, _scale, _room),
    )
    return [goal for way in ways for goal in way(results)]


def against(here: Figure | None, there: Figure | None) -> float | None:
    return here.against(there) if here and there else None


def share(results: Results, part: str, store: str, what: str, shape: str, of: str) -> float | None:
    here = results.find(part, store, "broker", what, shape)
    return against(here, results.find(part, store, of, what, shape))


def _shares(results: Results) -> Iterator[Goal]:
    for store, (push, work) in ONE_CALL.items():
        told = "1 job a call, 64 clients"
        name, why = NAMES[store], reasons.ONE_CALL
        found = share(results, "calls", store, PUSH, FEW, "echo")
        yield Goal(f"{name}: Push, share of the echo, {told}", push, found, why=why[store, PUSH])
        # Two readings of one goal: a job takes the broker two calls here. The first is the
        # stricter, for half of the echo's rate is the most that anybody could reach.
        whole = results.find("calls", store, "broker", WORK, FEW)
        one_call = against(whole, results.find("calls", store, "echo", PUSH, FEW))
        same_calls = share(results, "calls", store, WORK, FEW, "echo")
        for reading, figure in (
            ("Push, a call for each job where the broker needs two", one_call),
            ("own Reserve + Ack, two calls for each job as well", same_calls),
        ):
            what = f"{name}: Reserve + Ack, share of the echo's {reading}, {told}"
            yield Goal(what, work, figure, why=why[store, WORK])
    for store, least in HUNDRED.items():
        for verb, goal in zip((PUSH, WORK), least, strict=True):
            what = f"{NAMES[store]}: {verb}, share of the echo, 100 jobs a call, 8 clients"
            found = share(results, "calls", store, verb, MANY, "echo")
            yield Goal(what, goal, found, why=reasons.HUNDRED[store])


def _of_streams(results: Results) -> Iterator[Goal]:
    for store, least in STREAMS.items():
        for verb, goal in zip(("PushStream", "Work"), least, strict=True):
            found = share(results, "streams", store, verb, "1 x 8", "echo")
            what = f"{NAMES[store]}: {verb}, share of the echo, 1 job a message, 8 clients"
            yield Goal(what, goal, found, why=reasons.STREAMS[store, verb])


def _of_bare(results: Results) -> Iterator[Goal]:
    for store in OF_BARE:
        for verb in (PUSH, WORK):
            found = share(results, "calls", store, verb, MANY, "bare")
            what = f"{NAMES[store]}: {verb}, share of the bare store, 100 jobs a call, 8 clients"
            yield Goal(what, 0.60, found, why=reasons.BARE[store])


def _rates(results: Results) -> Iterator[Goal]:
    for store, least in RATES.items():
        echo = results.find("calls", store, "echo", PUSH, MANY)
        for verb, goal in zip((PUSH, WORK), least, strict=True):
            found = against(results.find("calls", store, "broker", verb, MANY), echo)
            what = f"{NAMES[store]}: {verb}, jobs/s where the echo's Push carries {ECHO:,}"
            figure = None if found is None else found * ECHO
            yield Goal(what, goal, figure, why=reasons.HUNDRED[store])


def _brokers(results: Results) -> Iterator[Goal]:
    asked = [("Towline, file", other, 2) for other in (*RABBITS, *SYNCED)]
    asked += [("Towline, SQLite", other, 1) for other in RABBITS]
    asked += [("Towline, SQLite", other, 4) for other in SYNCED]
    asked += [("Towline, file", "Redis streams, durable", 1)]
    for ours, other, times in asked:
        for verb in ("Push", "Drain"):
            here = results.find("brokers", "brokers", ours, verb, MANY)
            there = results.find("brokers", "brokers", other, verb, MANY)
            what = f"{ours}: {verb} in bulk, against {other}"
            yield Goal(what, times, against(here, there), " x", why=reasons.BOUND)


def _libraries(results: Results) -> Iterator[Goal]:
    for told, ours, library, theirs, times in LIBRARIES:
        found = against(_fastest(results, ours), _fastest(results, theirs))
        yield Goal(f"No-op jobs, {told}, against {library}", times, found, " x", why=reasons.BOUND)


def _fastest(results: Results, names: Sequence[str]) -> Figure | None:
    found = [results.find("libraries", "libraries", name, "No-op jobs") for name in names]
    return max((one for one in found if one), key=lambda one: one.median, default=None)


def _dispatch(results: Results) -> Iterator[Goal]:
    for callers, times in ((1, 2), (32, 10)):
        shape = f"1 x {callers}"
        theirs = results.find("brokers", "brokers", THREADED_RABBIT, "One at a time", shape)
        for store in ("file", "SQLite"):
            who = f"Towline SDK, {store}"
            ours = results.find("brokers", "brokers", who, "One at a time", shape)
            what = f"{who}: dispatch, callers: {callers}, against {THREADED_RABBIT}"
            yield Goal(what, times, against(ours, theirs), " x", why=reasons.DISPATCH)


def _latency(results: Results) -> Iterator[Goal]:
    for cut, most in (("p50", 1.2), ("p99", 4.0)):
        what = f"Push to start, {cut}"
        why = reasons.STARTING[cut]
        idle = results.find("start", "sqlite", "raw client", what, "alone")
        found = idle.median if idle else None
        yield Goal(f"SQLite: {what}, on an idle worker", most, found, " ms", most=True, why=why)
        ours = results.find("brokers", "brokers", "Towline, SQLite", what, "idle")
        theirs = results.find("brokers", "brokers", RABBITS[0], what, "idle")
        name = f"SQLite: {what}, of what {RABBITS[0]} takes"
        yield Goal(name, 1.0, against(ours, theirs), " x", most=True, why=why)


def _scale(results: Results) -> Iterator[Goal]:
    for kind, large in LARGE.items():
        for store in SCALED:
            found = factors(results, store, kind).get(large)
            what = f"{NAMES[store]}: cost with {large} {kind}"
            yield Goal(what, 2.0, found, " x", most=True, why=reasons.BOUND)


def factors(results: Results, store: str, kind: str) -> dict[str, float]:
    """What a hundred jobs cost from Push to Ack beside each number of others, as a multiple of
    the cost beside the fewest, which come first."""
    part = results.part("scale")
    verbs: dict[str, list[Figure]] = {}
    for figure in part.figures if part else []:
        if (figure.run, figure.who) == (store, kind):
            verbs.setdefault(figure.shape, []).append(figure)
    costs = {shape: added_up(found) for shape, found in verbs.items()}
    return {shape: cost.against(next(iter(costs.values()))) for shape, cost in costs.items()}


def _room(results: Results) -> Iterator[Goal]:
    part = results.part("room")
    for store in IN_MEMORY:
        # Its shape is how many jobs there were.
        found = [
            figure.median
            for figure in (part.figures if part else [])
            if (figure.run, figure.what) == (store, "Memory")
        ]
        what = f"{NAMES[store]}: memory of a waiting job of 250 bytes"
        yield Goal(what, 1_024, found[0] if found else None, " bytes", most=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
