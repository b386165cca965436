"""Testing what dispatches jobs and what runs them, without a server.

    from towline import testing

    with testing.broker() as towline:           # with pytest: the fixture `towline`
        sign_up("ada@example.org")              # the code under test, with a Client() of its own
        towline.assert_dispatched(SendEmail, to="ada@example.org")
        towline.worker().run_all()              # runs the jobs here and now

``broker`` is a whole broker in this process, with its clock in the test's hands. ``SyncBroker``
makes clients that run each job where it is dispatched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.lazy import loading_when_used

if TYPE_CHECKING:
    from towline.testing.dispatched import Dispatched
    from towline.testing.harness import Harness, broker
    from towline.testing.worker import InlineWorker, JobsFailed
    from towline.transport.sync import SyncBroker

__all__ = ["Dispatched", "Harness", "InlineWorker", "JobsFailed", "SyncBroker", "broker"]

_LOADED_WHEN_USED = {
    "Dispatched": "towline.testing.dispatched",
    "Harness": "towline.testing.harness",
    "InlineWorker": "towline.testing.worker",
    "JobsFailed": "towline.testing.worker",
    "SyncBroker": "towline.transport.sync",
    "broker": "towline.testing.harness",
}


__getattr__ = loading_when_used(__name__, _LOADED_WHEN_USED)


def __dir__() -> list[str]:
    return sorted(__all__)
