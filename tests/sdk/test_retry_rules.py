"""A job says by itself which failures are retried, and when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sdk.defining import define
from tests.support.broker_process import BrokerProcess
from towline import (
    Client,
    InvalidJob,
    Job,
    JobFailed,
    Registry,
    Retry,
    Worker,
    current_job,
    job,
)
from towline.worker import JobTimeout


@pytest.fixture
def registry() -> Registry:
    return Registry()


class TestRetries:
    def test_a_job_may_decide_about_its_retries(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            def next_retry_delay(self, attempt: int, error: BaseException) -> float | None:
                return attempt * 2.0 if isinstance(error, OSError) else None

            def should_retry(self, error: BaseException) -> bool:
                return not isinstance(error, KeyError)

        definition = registry.lookup("Mail")
        assert definition is not None
        mail = Mail()
        assert definition.next_retry_delay(mail, 3, OSError()) == timedelta(seconds=6)
        assert definition.next_retry_delay(mail, 3, ValueError()) is None
        assert definition.should_retry(mail, ValueError())
        assert not definition.should_retry(mail, KeyError())

    def test_by_default_its_policy_decides(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            pass

        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.next_retry_delay(Mail(), 1, OSError()) is None
        assert definition.should_retry(Mail(), OSError())

    @pytest.mark.parametrize(
        ("dead_on", "retry_on", "retried"),
        [
            ((), (), (ValueError, TimeoutError, OSError)),
            (ValueError, (), (TimeoutError, OSError)),
            ((), TimeoutError, (TimeoutError,)),
            ((), [OSError], (TimeoutError, OSError)),
            ((TimeoutError,), (OSError,), (OSError,)),
        ],
    )
    def test_the_types_of_errors_decide_and_dead_on_comes_first(
        self, dead_on: Any, retry_on: Any, retried: Any, registry: Registry
    ) -> None:
        type("Mail", (Job,), {"dead_on": dead_on, "retry_on": retry_on}, registry=registry)

        @job(registry=registry, dead_on=dead_on, retry_on=retry_on)
        def mail() -> None: ...

        for name in ("Mail", "mail"):
            definition = registry.lookup(name)
            assert definition is not None
            made = definition.job_class()
            for error in (ValueError, TimeoutError, OSError):
                assert definition.should_retry(made, error()) is (error in retried)

    def test_should_retry_comes_before_the_types_and_can_ask_them(self, registry: Registry) -> None:
        class Base(Job, abstract=True):
            dead_on = (LookupError,)

        class Mail(Base, registry=registry):
            def should_retry(self, error: BaseException) -> bool:
                return str(error) == "'once more'" or super().should_retry(error)

        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.should_retry(Mail(), KeyError("once more"))
        assert not definition.should_retry(Mail(), KeyError("x"))
        assert definition.should_retry(Mail(), ValueError())

    def test_a_timeout_of_the_job_is_a_timeout_error(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            retry_on = (TimeoutError,)

        assert Mail().should_retry(JobTimeout(5))
        assert not Mail().should_retry(ValueError())

    def test_functions_may_decide_by_functions(self, registry: Registry) -> None:
        @job(
            registry=registry,
            should_retry=lambda error: isinstance(error, OSError),
            next_retry_delay=lambda attempt, error: 10.0 * attempt,
        )
        def mail(to: str) -> None: ...

        definition = registry.lookup("mail")
        assert definition is not None
        made = mail.job("a")
        assert definition.should_retry(made, OSError())
        assert not definition.should_retry(made, KeyError())
        assert definition.next_retry_delay(made, 3, OSError()) == timedelta(seconds=30)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("should_retry=5", r"f\.should_retry: expected a function of \(error\), got 5"),
            ("should_retry=lambda: True", r"f\.should_retry: expected a function of \(error\)"),
            (
                "next_retry_delay=lambda attempt: 1",
                r"f\.next_retry_delay: expected a function of \(attempt, error\)",
            ),
        ],
    )
    def test_hooks_that_could_not_be_called_are_refused(
        self, option: str, message: str, registry: Registry
    ) -> None:
        with pytest.raises(InvalidJob, match=message):
            define(f"@job({option}, registry=registry)\ndef f(): ...\n", registry)

    def test_an_impossible_delay_is_refused(self, registry: Registry) -> None:
        with pytest.raises(InvalidJob, match=r"^Retry\.after: expected seconds"):
            Retry(after=-1)
        assert Retry(after=timedelta(minutes=1)).after == 60.0
        assert Retry().after is None


@pytest.mark.parametrize(
    ("options", "attempts", "reason"),
    [
        ({}, [(1, False), (2, False), (3, True)], "ATTEMPTS_EXHAUSTED"),
        ({"max_attempts": 1}, [(1, True)], "ATTEMPTS_EXHAUSTED"),
        ({"max_attempts": 5, "dead_on": OSError}, [(1, False)], "REJECTED"),
    ],
)
def test_a_job_has_three_attempts_unless_it_says_otherwise_and_knows_them(
    options: dict[str, Any], attempts: list[tuple[int, bool]], reason: str, registry: Registry
) -> None:
    seen: list[tuple[int, bool]] = []

    @job(registry=registry, backoff=0, **options)
    def fails() -> None:
        me = current_job()
        assert me.queue == "default"
        assert me.enqueued_at is not None
        assert abs(datetime.now(UTC) - me.enqueued_at) < timedelta(minutes=1)
        seen.append((me.attempt, me.is_last_attempt))
        raise ConnectionError

    with (
        BrokerProcess("memory:") as server,
        Worker(server.address, registry=registry),
        Client(server.address) as client,
        pytest.raises(JobFailed) as caught,
    ):
        client.dispatch(fails).result(timeout=30)
    assert seen == attempts
    assert caught.value.dead_reason == reason
