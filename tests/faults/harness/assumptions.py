"""What the checker takes for granted of clients, brokers and stores."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assumptions:
    """All in seconds."""

    #: How long after its client gave up a call may still take effect.
    late: float = 10.0
    #: How long a client waits for an answer at most: one that was killed has not written it down.
    patience: float = 10.0
    #: How much later than its Push every broker of the store knows of a job; None: the order is not
    #: judged (SQS, or a store that lost what it had acknowledged).
    order_slack: float | None = 0.0
    #: How long the claim of a broker that is gone may keep others from its jobs, for a store that
    #: locks them; None: the store has no such locks.
    locks: float | None = None
    #: How long a claim that comes to nothing, as after a deadlock, may keep others from its jobs,
    #: for such a store: these leave that much later than jobs behind them.
    undone: float = 0.0
    #: How long ids and tokens are remembered.
    settle_memory: float = 600.0


#: Of one broker on a durable store.
STRICT = Assumptions()
