"""What a driver owes the core.

A driver keeps jobs in one kind of store. It does what it is told, atomically, and decides nothing:
delays, retry decisions, limits on waiting and the meaning of an answer are the core's. It reads no
clock: ``now`` comes in, and never runs backwards from one call to the next. (Brokers that share a
store go by that store's clock, :meth:`PeerStore.time`, as well as it can be read from afar: ``now``
of one may lie some milliseconds behind that of another.) Its methods are called from one event
loop, many at a time, and must not block that loop.

What holds for every method that changes something:

* It is atomic: all of the described change takes place, or (when it raises) none. The counts of
  :meth:`QueueStore.counts` are part of the same change.
* When it returns, the change is as durable as ``capabilities.durability`` says.
* It may be cancelled by nobody: callers shield it.
* After the change, and never before, the driver tells its :class:`Listener` what came of it; of
  changes made through itself, before the method returns. (What is about to come of it may be told
  by ``jobs_coming``.) Of those that another broker makes in the same store it tells within
  milliseconds, unless ``capabilities.poll_interval`` says otherwise.

A :class:`LeaseRef` is compared as a whole: one that names another queue than the job's names no
lease. A time is past when it is not after ``now``.

What any method may raise: :class:`~towline_broker.domain.errors.StoreUnavailable` (effect
unknown), :class:`~towline_broker.domain.errors.StoreFailed` (the broker must end), and
:class:`~towline_broker.domain.errors.NotSupported` for what ``capabilities.missing`` names. Only
``push`` and ``receive`` may raise :class:`~towline_broker.domain.errors.StoreFull`: settling must
work on a full disk.
A cursor that the driver never gave raises InvalidField("page_token", …).

The shape follows the storage seams of OpenFGA (small composed interfaces, obligations in comments)
and River (parameter objects, declared capabilities).
"""

from towline_broker.drivers.interface.capabilities import Capabilities, Durability, Feature
from towline_broker.drivers.interface.dead_letters import (
    DeadFilter,
    DeadLetterStore,
    DeadQuery,
    DeadSelection,
)
from towline_broker.drivers.interface.driver import Driver
from towline_broker.drivers.interface.handled import Handled
from towline_broker.drivers.interface.jobs import (
    CancelOutcome,
    CancelRequest,
    JobQuery,
    JobStore,
    PushBatch,
    PushOutcome,
    PushResult,
)
from towline_broker.drivers.interface.leases import (
    AckBatch,
    AckItem,
    ExtendBatch,
    Extended,
    ExtendItem,
    LeaseStore,
    NackBatch,
    NackItem,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.interface.listener import Listener, tell
from towline_broker.drivers.interface.peers import PeerStore, SoleOwner
from towline_broker.drivers.interface.queues import PurgeRequest, QueueState, QueueStore
from towline_broker.drivers.interface.transfers import (
    Copy,
    CopyPage,
    Standing,
    Transfer,
    TransferStore,
)
from towline_broker.drivers.interface.upkeep import UpkeepStore

__all__ = [
    "AckBatch",
    "AckItem",
    "CancelOutcome",
    "CancelRequest",
    "Capabilities",
    "Copy",
    "CopyPage",
    "DeadFilter",
    "DeadLetterStore",
    "DeadQuery",
    "DeadSelection",
    "Driver",
    "Durability",
    "ExtendBatch",
    "ExtendItem",
    "Extended",
    "Feature",
    "Handled",
    "JobQuery",
    "JobStore",
    "LeaseStore",
    "Listener",
    "NackBatch",
    "NackItem",
    "PeerStore",
    "PurgeRequest",
    "PushBatch",
    "PushOutcome",
    "PushResult",
    "QueueState",
    "QueueStore",
    "ReserveRequest",
    "Settled",
    "SoleOwner",
    "Standing",
    "Transfer",
    "TransferStore",
    "UpkeepStore",
    "tell",
]
