"""What is to be reached, and whether it is: always by figures of one run, measured by turns."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.results import Results

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
#: The best of these is what one worker process can do.
POOLS = ("Towline, threads", "Towline, async", "Towline, process pool of 2")
LIBRARIES = {
    ("Celery, threads", "Celery, prefork of 2"): 5,
    ("Dramatiq, threads",): 4,
    ("taskiq, Redis streams",): 4,
    ("RQ", "RQ, SimpleWorker"): 20,
}
LARGE = {"waiting": "1,000,000", "queues": "10,000", "workers": "10,000"}


@dataclass(frozen=True)
class Goal:
    what: str
    goal: float
    figure: float
    unit: str = ""
    most: bool = False
    """The goal is the most that it may be, not the least."""

    @property
    def met(self) -> bool:
        return self.figure <= self.goal if self.most else self.figure >= self.goal

    def cells(self) -> list[str]:
        sign = "≤" if self.most else "≥"
        return [
            self.what,
            f"{sign} {_number(self.goal)}{self.unit}",
            f"{_number(self.figure)}{self.unit}",
            "met" if self.met else "**not met**",
        ]


def goals(results: Results) -> list[Goal]:
    """Those of which there are figures."""
    ways = (
        *(_shares, _of_streams, _of_bare, _rates, _brokers),
        *(_libraries, _dispatch, _latency, _scale, _room),
    )
    return [goal for way in ways for goal in way(results)]


def median(
    results: Results, part: str, run: str, who: str, what: str, shape: str = ""
) -> float | None:
    figure = results.find(part, run, who, what, shape)
    return figure.median if figure else None


def share(results: Results, part: str, store: str, what: str, shape: str, of: str) -> float | None:
    here = median(results, part, store, "broker", what, shape)
    there = median(results, part, store, of, what, shape)
    return here / there if here and there else None


def _shares(results: Results) -> Iterator[Goal]:
    for shape, told, least_of in (
        (FEW, "1 job a call, 64 clients", ONE_CALL),
        (MANY, "100 jobs a call, 8 clients", HUNDRED),
    ):
        for store, least in least_of.items():
            for what, goal in zip((PUSH, WORK), least, strict=True):
                name = f"{NAMES[store]}: {what}, share of the echo, {told}"
                found = share(results, "calls", store, what, shape, "echo")
                if (what, shape) == (WORK, FEW):
                    # Held against calls that bring a job each, as Push does.
                    name += " (two calls a job: about 0.50 is the most)"
                    here = median(results, "calls", store, "broker", WORK, shape)
                    there = median(results, "calls", store, "echo", PUSH, shape)
                    found = here / there if here and there else None
                if found:
                    yield Goal(name, goal, found)


def _of_streams(results: Results) -> Iterator[Goal]:
    for store, least in STREAMS.items():
        for what, goal in zip(("PushStream", "Work"), least, strict=True):
            found = share(results, "streams", store, what, "1 x 8", "echo")
            if found:
                name = f"{NAMES[store]}: {what}, share of the echo, 1 job a message, 8 clients"
                yield Goal(name, goal, found)


def _of_bare(results: Results) -> Iterator[Goal]:
    for store in OF_BARE:
        for what in (PUSH, WORK):
            if found := share(results, "calls", store, what, MANY, "bare"):
                yield Goal(f"{NAMES[store]}: {what}, share of the bare store", 0.60, found)


def _rates(results: Results) -> Iterator[Goal]:
    for store, least in RATES.items():
        echo = median(results, "calls", store, "echo", PUSH, MANY)
        for what, goal in zip((PUSH, WORK), least, strict=True):
            found = median(results, "calls", store, "broker", what, MANY)
            if found and echo:
                name = f"{NAMES[store]}: {what}, jobs/s where the echo carries {ECHO:,}"
                yield Goal(name, goal, found * ECHO / echo)


def _brokers(results: Results) -> Iterator[Goal]:
    asked = [("Towline, file", other, 2) for other in (*RABBITS, *SYNCED)]
    asked += [("Towline, SQLite", other, 1) for other in RABBITS]
    asked += [("Towline, SQLite", other, 4) for other in SYNCED]
    asked += [("Towline, file", "Redis streams, durable", 1)]
    for ours, other, times in asked:
        for what in ("Push", "Drain"):
            here = median(results, "brokers", "brokers", ours, what, MANY)
            there = median(results, "brokers", "brokers", other, what, MANY)
            if here and there:
                yield Goal(f"{ours}: {what} in bulk, against {other}", times, here / there, " x")


def _libraries(results: Results) -> Iterator[Goal]:
    best = _best(results, POOLS)
    for names, times in LIBRARIES.items():
        theirs = _best(results, names)
        if best and theirs:
            name = f"No-op jobs, one worker process, against {names[0].partition(',')[0]}"
            yield Goal(name, times, best / theirs, " x")


def _best(results: Results, names: tuple[str, ...]) -> float | None:
    found = [median(results, "libraries", "libraries", name, "No-op jobs") for name in names]
    return max((rate for rate in found if rate), default=None)


def _dispatch(results: Results) -> Iterator[Goal]:
    for callers, times in ((1, 2), (32, 10)):
        shape = f"1 x {callers}"
        theirs = median(results, "brokers", "brokers", THREADED_RABBIT, "One at a time", shape)
        for store in ("file", "SQLite"):
            who = f"Towline SDK, {store}"
            ours = median(results, "brokers", "brokers", who, "One at a time", shape)
            if ours and theirs:
                name = f"{who}: dispatch, callers: {callers}, against {THREADED_RABBIT}"
                yield Goal(name, times, ours / theirs, " x")


def _latency(results: Results) -> Iterator[Goal]:
    for cut, most in (("p50", 1.2), ("p99", 4.0)):
        what = f"Push to start, {cut}"
        if found := median(results, "start", "sqlite", "raw client", what, "alone"):
            yield Goal(f"SQLite: {what}, on an idle worker", most, found, " ms", most=True)
        ours = median(results, "brokers", "brokers", "Towline, SQLite", what, "idle")
        theirs = median(results, "brokers", "brokers", RABBITS[0], what, "idle")
        if ours and theirs:
            name = f"SQLite: {what}, of what {RABBITS[0]} takes"
            yield Goal(name, 1.0, ours / theirs, " x", most=True)


def _scale(results: Results) -> Iterator[Goal]:
    for kind, large in LARGE.items():
        for store, factor in factors(results, kind, large).items():
            yield Goal(f"{NAMES[store]}: cost with {large} {kind}", 2.0, factor, " x", most=True)


def factors(results: Results, kind: str, large: str) -> dict[str, float]:
    """What a hundred jobs cost from Push to Ack, as a multiple of the cost with the fewest."""
    part = results.part("scale")
    costs: dict[str, dict[str, float]] = {}
    for figure in part.figures if part else []:
        if figure.who == kind:
            of_store = costs.setdefault(figure.run, {})
            of_store[figure.shape] = of_store.get(figure.shape, 0.0) + figure.median
    return {
        store: found[large] / next(iter(found.values()))
        for store, found in costs.items()
        if large in found
    }


def _room(results: Results) -> Iterator[Goal]:
    part = results.part("room")
    for figure in part.figures if part else []:
        if figure.run in ("memory", "file") and figure.what == "Memory":
            name = f"{NAMES[figure.run]}: memory of a waiting job of 250 bytes"
            yield Goal(name, 1_024, figure.median, " bytes", most=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
